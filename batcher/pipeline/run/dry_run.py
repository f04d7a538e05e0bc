"""Everything but sending: what a run would do, and at most for how much."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from batcher.messages.request import BadRow
from batcher.pipeline.engine.rater import Rater
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.check import hidden_rows, left_out_notes, reading_notes
from batcher.rows.read.reader import read_rows
from batcher.rows.read.source import SourceFile

_EXAMPLES = 5
_TOOLS = b'"tools"'


@dataclass(slots=True, kw_only=True)
class Inspection:
    """What the inputs hold. `cost_high` is pico-USD of one attempt of each bounded request.

    `in_legs` is the part of it for requests that may go on in further legs.
    `unbounded` requests have no ceiling: no price, no max_tokens, or tools without a limit.
    `examples` are the first bad rows, with the name of their source. `not_sent` are columns
    that stay here, `repeated_fields` lines that name a field twice, `hidden` sentences about
    rows that stray quotes hide, `unpriced` about models with no price or an end; `read_as`
    says what is special about how inputs are read.
    """

    requests: int = 0
    bad_rows: int = 0
    cost_high: int = 0
    in_legs: int = 0
    unbounded: int = 0
    first_body: bytes | None = None
    models: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    examples: list[tuple[str, BadRow]] = field(default_factory=list)
    not_sent: list[str] = field(default_factory=list)
    repeated_fields: int = 0
    blank_lines: int = 0
    hidden: list[str] = field(default_factory=list)
    unpriced: list[str] = field(default_factory=list)
    read_as: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every row that the inputs hold would be sent."""
        return not (self.bad_rows or self.hidden)


def may_take_legs(body: bytes) -> bool:
    """Whether a request has tools, after whose use an answer goes on in a further leg."""
    return _TOOLS in body


def inspect(
    files: Sequence[SourceFile], builder: RequestBuilder, rater: Rater, now_us: int
) -> Inspection:
    """Read, render and check every row; nothing is opened, sent or recorded."""
    found = Inspection()
    for file in files:
        hidden = hidden_rows(file)
        if hidden is not None:
            found.hidden.append(hidden.words)
        for batch in read_rows(file, source_id=0, builder=builder, rows=AllBut(RowRanges())):
            found.blank_lines += len(batch.blank_rows)
            for item in batch.items:
                if isinstance(item, BadRow):
                    _count_bad(found, file.name, item)
                    continue
                found.requests += 1
                found.models[item.model] = found.models.get(item.model, 0) + 1
                found.first_body = found.first_body or item.body
                bound = rater.ceiling(item, now_us)
                found.unbounded += bound is None
                found.cost_high += bound or 0
                found.in_legs += (bound or 0) if may_take_legs(item.body) else 0
    if rater.price_list is not None:
        book, prices = rater.book, rater.price_list
        words = [book.no_price_words(prices, name) for name in found.models]
        words += [book.retirement_words(prices, name, now_us) for name in found.models]
        found.unpriced = sorted(filter(None, words))
    notes = reading_notes(files) + left_out_notes(files, builder)
    found.read_as = [*notes, *builder.translator.sentences]
    found.not_sent = builder.names.not_sent
    found.repeated_fields = builder.repeated_rows
    return found


def _count_bad(found: Inspection, name: str, row: BadRow) -> None:
    found.bad_rows += 1
    found.reasons[row.reason] = found.reasons.get(row.reason, 0) + 1
    if len(found.examples) < _EXAMPLES:
        found.examples.append((name, row))

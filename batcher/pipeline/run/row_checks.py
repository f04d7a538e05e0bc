"""Whether rows are fit to be sent: what a dry run finds, and when bad ones end a run.

That is `--max-bad`: a wrong file stops the run before its good rows are paid for.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from batcher.errors import ConfigurationError, TooManyBadRows
from batcher.messages.request import BadRow, Request
from batcher.pipeline.engine.rater import Rater
from batcher.rows.batch import Reason
from batcher.rows.build.field_names import MISNAMED_SHARE
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.check import hidden_rows, left_out_notes, reading_notes
from batcher.rows.read.reader import read_rows
from batcher.rows.read.source import SourceFile

_EXAMPLES = 5
_TOOLS = b'"tools"'
WINDOW_ROWS: Final = 10_000  # are read before the first one is sent
WINDOW_BYTES: Final = 64 * 2**20  # or fewer, when their bodies are this large together
LEAST_ROWS: Final = 1_000  # of fewer rows a share says nothing, unless they are all there are
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:[.][0-9]{1,9})?)\s*%")
Rows = list[Request | BadRow]


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
        words += rater.retirements(found.models, now_us)
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


@dataclass(frozen=True, slots=True)
class BadLimit:
    """At most `rows` rows may be bad, or at most `share` of those read; the other is `None`."""

    rows: int | None = None
    share: Fraction | None = None

    def __str__(self) -> str:
        if self.share is None:
            return f"{self.rows}"
        return f"{float(self.share * 100):g}%"

    def allows(self, bad: int, rows: int) -> bool:
        """Whether so many of `rows` may be bad."""
        if self.share is None:
            return self.rows is None or bad <= self.rows
        return bad <= self.share * rows


def bad_limit(value: str | int | None) -> BadLimit | None:
    """What a setting such as `100` or `1%` means; raises `ConfigurationError`."""
    if value is None:
        return None
    words = str(value).strip()
    if _NUMBER.fullmatch(words):
        return BadLimit(rows=int(words))
    percent = _PERCENT.fullmatch(words)
    if percent and Fraction(percent[1]) <= 100:
        return BadLimit(share=Fraction(percent[1]) / 100)
    raise ConfigurationError(f"max_bad is {words!r:.40}; write a number of rows, or like 1%")


class BadGate:
    """Keeps the first rows back until enough were read to judge them; all methods block not.

    `bad` and `rows` are what earlier invocations found in the same inputs.
    """

    def __init__(self, limit: BadLimit, *, bad: int, rows: int) -> None:
        self._limit = limit
        self._bad = bad
        self._rows = rows
        self._held: list[Rows] = []
        self._held_rows = 0
        self._held_bytes = 0
        self._open = False

    def admit(self, items: Rows) -> Iterator[Rows]:
        """What of `items`, and of rows kept back before, may go on.

        Raises `TooManyBadRows` when there are too many, after the bad ones went on, so that
        they are recorded.
        """
        self._count(items)
        self._held.append(items)
        if not self._open:
            self._held_rows += len(items)
            self._held_bytes += sum(len(i.body) for i in items if isinstance(i, Request))
            full = self._held_rows >= WINDOW_ROWS or self._held_bytes >= WINDOW_BYTES
            if not (full or self._too_many()):
                return
        yield from self._release()

    def end(self) -> Iterator[Rows]:
        """Like `admit`: the inputs are at their end, so however few they are, they count."""
        yield from self._release(all_read=True)

    def _count(self, items: Sequence[Request | BadRow]) -> None:
        self._rows += len(items)
        self._bad += sum(isinstance(item, BadRow) for item in items)

    def _too_many(self, *, all_read: bool = False) -> bool:
        if self._limit.share is not None and not all_read and self._rows < LEAST_ROWS:
            return False
        return not self._limit.allows(self._bad, self._rows)

    def _release(self, *, all_read: bool = False) -> Iterator[Rows]:
        held, self._held = self._held, []
        if self._too_many(all_read=all_read):
            yield from filter(None, map(_bad_of, held))
            raise TooManyBadRows(
                f"{self._bad:,} of the {self._rows:,} rows read so far are unusable, more than"
                f" --max-bad {self._limit} allows: see them with batcher export --failures,"
                " mend them, and type the same command again"
            )
        self._open = True
        yield from held


class MisnamedRows:
    """Ends a run whose input has a wrong name in more than 1 % of its rows."""

    def __init__(self) -> None:
        self._rows = self._misnamed = 0

    def count(self, items: Rows) -> None:
        """Raise `ConfigurationError` when these are too many, of all that were read."""
        misnamed = [i for i in _bad_of(items) if i.reason == Reason.MISNAMED_FIELD]
        self._rows += len(items)
        self._misnamed += len(misnamed)
        most = MISNAMED_SHARE * max(self._rows, LEAST_ROWS)
        if misnamed and self._misnamed > most:
            raise ConfigurationError(
                f"{self._misnamed:,} of the first {self._rows:,} rows have a column that would"
                f" not be sent, so no more are sent: row {misnamed[-1].row_number:,}:"
                f" {misnamed[-1].message}"
            )


def _bad_of(items: Rows) -> list[BadRow]:
    return [item for item in items if isinstance(item, BadRow)]

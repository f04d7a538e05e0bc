"""A ledger, as a program reads it; its answers have the fields of the view `v_answers`."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import msgspec

from batcher.clock import SystemClock
from batcher.config.files import database_url
from batcher.errors import UsageError
from batcher.report.export.answers import answers_of_run
from batcher.report.ledgers import ledger_to_read, narrowed
from batcher.report.query import ReportQuery, query_of
from batcher.report.render.formats import as_records
from batcher.report.summary import summarise
from batcher.report.views.catalogue import TOP, look, view_named
from batcher.rows.out.typed import arrow_table

if TYPE_CHECKING:
    import pyarrow as pa


class RowAnswer(msgspec.Struct, frozen=True):
    """A row's current final answer, as `v_answers` has it; docs/database.md says what is what.

    `content` is the list of content blocks, `answered_at` an aware moment, `cost_usd` exact;
    `None` stands for what is not known.
    """

    run_id: int
    invocation_id: int
    job: str | None
    endpoint: str | None
    lane: str | None
    source: str
    row_number: int
    custom_id: str | None
    attempt_uid: str | None
    request_id: int | None
    final: int
    state: str
    leg: int
    requested_model: str | None
    model: str | None
    message_id: str | None
    stop_reason: str | None
    stop_sequence: str | None
    stop_details: str | None
    text: str
    text_repaired: int
    content: Any
    valid: int | None
    invalid_reason: str | None
    input_tokens: int | None
    cache_write_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    cache_read_tokens: int | None
    output_tokens: int | None
    thinking_tokens: int | None
    web_search_requests: int | None
    service_tier: str | None
    inference_geo: str | None
    speed: str | None
    attempts: int
    legs: int
    latency_ms: int | None
    first_token_ms: int | None
    answered_at: datetime
    cost_pico_usd: int | None
    cost_status: str | None
    provider_reported_cost: str | None
    paid_by_attempt_uid: str | None
    trust: str | None
    cost_usd: Decimal | None
    cost_low_pico_usd: int | None
    cost_high_pico_usd: int | None
    container_id: str | None
    thinking: str | None
    cost_low_usd: Decimal | None
    cost_high_usd: Decimal | None
    workspace_id: str | None
    key_fingerprint: str | None


def as_answers(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[RowAnswer]:
    """The rows of `v_answers`, whose columns are `names`, as objects."""
    fields = RowAnswer.__struct_fields__
    in_order, content = itemgetter(*map(names.index, fields)), fields.index("content")
    for row in rows:
        cells = list(in_order(row))
        cells[content] = _decoded(cells[content])
        yield RowAnswer(*cells)


_decoded: Final = msgspec.json.Decoder().decode


class ReportWindow(TypedDict, total=False):
    """Which part of a ledger is reported; see the options of `batcher report`."""

    since: str | None
    until: str | None
    last: str | None
    tz: str
    run: int | None
    rating: int | None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger at `database`: a SQLite file, or the URL of a PostgreSQL database.

    `None` is the one that commands would read: `BATCHER_DATABASE`, that of a config.toml, or
    `batcher.db` in the current folder. Nothing is held open between two calls, and nothing is
    ever changed. What is asked for raises the errors of `batcher.errors`.
    """

    database: str | os.PathLike[str] | None = None

    def report(
        self,
        by: str | Sequence[str] = (),
        *,
        view: str | None = None,
        top: int | None = None,
        **when: Unpack[ReportWindow],
    ) -> list[dict[str, str | int | Decimal | None]]:
        """What was used and what it cost: a dict per line of `batcher report`.

        `by` is a word or several, by model where there is none; `view` one of the other looks,
        `top` the number of rows of the view `top`. `since`, `until`, `last`, `tz`, `run` and
        `rating` are the options of the command. The names are those of its CSV, amounts exact
        decimals; `None` is what is not known.
        """
        query = _query(by, when)
        with ledger_to_read(self._url) as engine:
            query = narrowed(engine, query, when.get("last"))
            if view is None:
                return as_records(summarise([engine], query))
            return as_records(look([engine], query, view_named(view), top=top or TOP))

    def answers(self, run: int | None = None) -> Iterator[RowAnswer]:
        """The final answers of a run in input order, a bounded number in memory.

        `run` is its number; `None`: the only one there is.
        """
        with ledger_to_read(self._url) as engine:
            columns, pages = answers_of_run(engine, run)
            names = [column.name for column in columns]
            for page in pages:
                yield from as_answers(names, page)

    def to_arrow(self, run: int | None = None) -> "pa.Table":
        """The same as a table of Arrow: tokens int64, amounts decimal(38, 12), JSON as text."""
        with ledger_to_read(self._url) as engine:
            return arrow_table(*answers_of_run(engine, run))

    def to_pandas(self, run: int | None = None) -> Any:  # noqa: ANN401 - a DataFrame of pandas, which we do not require
        """The same as a DataFrame of pandas, which has to be installed."""
        return self.to_arrow(run).to_pandas(integer_object_nulls=True)

    @property
    def _url(self) -> str:
        named = None if self.database is None else os.fspath(self.database)
        return database_url(named)


_EVERYTHING: Final[ReportWindow] = {
    "since": None, "until": None, "last": None, "tz": "UTC", "run": None, "rating": None,
}  # fmt: skip


def _query(by: str | Sequence[str], window: ReportWindow) -> ReportQuery:
    for name in window.keys() - _EVERYTHING.keys():
        known = ", ".join(("by", "view", "top", *_EVERYTHING))
        raise UsageError(f"report() takes no {name}: it takes {known}")
    words = (by,) if isinstance(by, str) else tuple(by)
    return query_of({**_EVERYTHING, **window, "by": words}, SystemClock().now_us())

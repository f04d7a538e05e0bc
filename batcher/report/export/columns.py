"""The columns of exports: those of the stable views, with their types, and filters over them.

A type follows from a column's name, so that both databases and every release agree: SQLite has
no decimals and no times, and what a column happens to hold tells nothing.
"""

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast

import msgspec
from sqlalchemy import ColumnClause, Connection, Engine, column, func, select, table, text

from batcher.errors import UsageError
from batcher.ledger.connect import reading
from batcher.pricing.money import DECIMALS
from batcher.report.export.rows import read_sources
from batcher.rows.out.typed import CellKind, TypedColumn

# What people and programs may depend on; see docs/database.md.
STABLE_VIEWS: Final = (
    "v_answers", "v_texts", "v_answers_all", "v_attempts", "v_charges", "v_failures",
    "v_cost_by_model_day", "v_batches",
)  # fmt: skip
_PAGE_ROWS: Final = 1_000
_USD: Final = "_usd"
_PICO_USD: Final = "_pico_usd"
_ENDINGS: Final = {
    _PICO_USD: CellKind.INTEGER,
    _USD: CellKind.MONEY,
    "_at": CellKind.TIME,
    "_tokens": CellKind.INTEGER,
    "_requests": CellKind.INTEGER,
    "_ms": CellKind.INTEGER,
}
_KINDS: Final = {
    **dict.fromkeys(
        ("run_id", "invocation_id", "row_number", "byte_offset", "request_id", "final", "leg",
         "legs", "attempt", "attempts", "requests", "line", "quantity", "rate", "amount",
         "rating", "http_status", "in_doubt_unbounded", "text_repaired", "valid", "succeeded",
         "errored", "expired", "canceled", "transient", "batch_number"),
        CellKind.INTEGER,
    ),
    "content": CellKind.JSON,
    "day": CellKind.DAY,
}  # fmt: skip
_UNIT: Final = Decimal(1).scaleb(-DECIMALS)

Page = Sequence[tuple[Any, ...]]


_FORM: Final = re.compile(r"\s*(.+?)\s*(!=|<=|>=|==?|<|>|~)\s*(.*?)\s*", re.DOTALL)
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def kind_of(name: str) -> CellKind:
    """What a column of that name holds in every stable view that has it."""
    if name in _KINDS:
        return _KINDS[name]
    return next((kind for end, kind in _ENDINGS.items() if name.endswith(end)), CellKind.TEXT)


def view_columns(connection: Connection, view: str) -> tuple[TypedColumn, ...]:
    """The columns of a stable view, in its order."""
    found = connection.execute(select(text("*")).select_from(table(view)).limit(0))
    return tuple(TypedColumn(name, kind_of(name)) for name in found.keys())  # noqa: SIM118 - a result


def read_view(
    connection: Connection, view: str, columns: Sequence[TypedColumn]
) -> Iterator[Page]:
    """All of a view, as the connection's transaction sees it."""
    options = {"yield_per": _PAGE_ROWS}
    named: list[ColumnClause[Any]] = [column(each.name) for each in columns]
    statement = select(*named).select_from(table(view, *named))
    converted = converter(columns)
    for page in connection.execute(statement, execution_options=options).partitions():
        yield list(map(converted, page))


def answers_of(engine: Engine, run_id: int) -> tuple[tuple[TypedColumn, ...], Iterator[Page]]:
    """The columns of `v_answers`, and those of a run's answers in input order.

    No transaction stays open between two pages. Raises `UsageError` for an unknown run.
    """
    names = dict.fromkeys(source.name for source in read_sources(engine, run_id))
    with reading(engine) as connection:
        columns = view_columns(connection, "v_answers")
    pages = (page for name in names for page in _of_source(engine, run_id, name, columns))
    return columns, pages


def numbered_answers(
    engine: Engine, run_id: int, source: str, names: Sequence[str]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Row number and the columns `names` of the answers to one input, in order."""
    columns = [TypedColumn(name, kind_of(name)) for name in ("row_number", *names)]
    for page in _of_source(engine, run_id, source, columns):
        yield from ((row[0], row[1:]) for row in page)


def _of_source(
    engine: Engine, run_id: int, source: str, columns: Sequence[TypedColumn]
) -> Iterator[Page]:
    """By row numbers, which both databases have an index for."""
    names = {*(each.name for each in columns), "run_id", "source"}
    view = table("v_answers", *map(column, names))
    chosen = [view.c[each.name] for each in columns]
    number, mine = view.c.row_number, (view.c.run_id == run_id, view.c.source == source)
    ends = select(func.min(number), func.max(number)).where(*mine)
    with reading(engine) as connection:
        first, last = connection.execute(ends).one()
    converted = converter(columns)
    for after in range((first or 1) - 1, last or 0, _PAGE_ROWS):
        until = after + _PAGE_ROWS
        page = select(*chosen).where(*mine, number > after, number <= until).order_by(number)
        with reading(engine) as connection:
            found = list(map(converted, connection.execute(page).all()))
        if found:
            yield found


def converter(columns: Sequence[TypedColumn]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Makes the cells of a row what their kinds say, with every digit of an amount."""
    names = {each.name: place for place, each in enumerate(columns)}
    changes = [
        change
        for place, each in enumerate(columns)
        if (change := _change_of(each, place, names)) is not None
    ]

    def convert(row: Sequence[Any]) -> tuple[Any, ...]:
        cells = list(row)
        for place, source, change in changes:
            value = row[source]
            cells[place] = None if value is None else change(value)
        return tuple(cells)

    return convert


_Change = tuple[int, int, Callable[[Any], Any]]  # of which cell, from which one, and how


def _change_of(each: TypedColumn, place: int, names: Mapping[str, int]) -> _Change | None:
    """Of an amount the one in pico-USD counts: beside it SQLite has a floating-point number."""
    exact = names.get(f"{each.name.removesuffix(_USD)}{_PICO_USD}")
    match each.kind:
        case CellKind.MONEY if exact is not None:
            return place, exact, _from_pico
        case CellKind.MONEY:
            return place, place, _amount
        case CellKind.TIME:
            return place, place, _moment
        case CellKind.DAY:
            return place, place, _day
        case CellKind.INTEGER:
            return place, place, int
        case _:
            return None


def _from_pico(value: int) -> Decimal:
    return Decimal(value).scaleb(-DECIMALS)


def _amount(value: Any) -> Decimal:  # noqa: ANN401 - a float or a Decimal
    return Decimal(value).quantize(_UNIT)


def _moment(value: Any) -> datetime:  # noqa: ANN401 - a text or a time
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return cast("datetime", moment).astimezone(UTC)


def _day(value: Any) -> date:  # noqa: ANN401 - a text or a date
    return date.fromisoformat(value) if isinstance(value, str) else cast("date", value)


@dataclass(frozen=True, slots=True)
class Filter:
    """One comparison; `~` asks whether the text holds the value, in whatever case.

    Numbers are compared as numbers, everything else as text. A cell that is empty is equal to
    the empty value, and neither more nor less than any other.
    """

    words: str
    column: str
    comparison: str
    value: str

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is wanted."""
        cell = _text(row.get(self.column))
        if self.comparison == "~":
            return self.value.lower() in cell.lower()
        if self.comparison in {"=", "!="} and not (cell and self.value):
            return _COMPARE[self.comparison](cell, self.value)
        one, other = _number(cell), _number(self.value)
        if one is not None and other is not None:
            return _COMPARE[self.comparison](one, other)
        return bool(cell) and _COMPARE[self.comparison](cell, self.value)


def parse_filters(words: Iterable[str]) -> tuple[Filter, ...]:
    """The filters that are written as `column=value`; raises `UsageError` for other words."""
    return tuple(map(_parsed, words))


def _parsed(words: str) -> Filter:
    match = _FORM.fullmatch(words)
    if match is None:
        raise UsageError(
            f"--where {words!r}: write a column, one of = != < <= > >= ~, and a value, like"
            " 'output_tokens>500'"
        )
    column, comparison, value = match.groups()
    return Filter(words, column, "=" if comparison == "==" else comparison, value)


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, msgspec.Raw):
        return bytes(cell).decode()
    return msgspec.json.encode(cell).decode()


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None

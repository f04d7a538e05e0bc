"""One price file, read and checked by itself: TOML, or CSV with the same fields as columns."""

import csv
import io
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from hashlib import sha256
from pathlib import PurePath
from typing import Any, Final

from batcher.errors import ConfigurationError
from batcher.pricing.book.fields import Fields
from batcher.pricing.meters import METERS
from batcher.pricing.rate.rates import STANDARD, TERMS, RatePeriod

FORMAT: Final = 1
DEFAULT_LIST: Final = "anthropic"

_FILE_FIELDS: Final = frozenset(
    {"format", "version", "published", "source", "extends", "round"}
    | {"lists", "aliases", "context_tokens", "rates"}
)
_LIST_FIELDS: Final = frozenset({"currency", "based_on", "factor", "source", "note"})
RATE_FIELDS: Final = (
    *("list", "model", "terms", "prompt_tokens_above", "valid_from", "valid_until"),
    *(*METERS, "batch_factor", "geographies", "source", "note"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTerms:
    """What a file says about a price list as a whole.

    `factor` multiplies what the list takes over from `based_on`, or from the same list of the
    extended book; `None` leaves it. `currency` `None` takes over the currency as well.
    """

    currency: str | None
    based_on: str | None
    factor: Fraction | None
    source: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One file. `extends` says whether it stands on the shipped book or alone."""

    version: str
    published: date | None
    source: str
    extends: bool
    rounds: bool
    lists: Mapping[str, ListTerms]
    aliases: Mapping[str, str]
    context_tokens: Mapping[str, int]
    periods: tuple[RatePeriod, ...]


def parse_toml(text: str, name: str) -> Layer:
    """The file's layer; raises `ConfigurationError` naming file, block, model and field."""
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ConfigurationError(f"{name}: not readable as TOML: {exc}") from exc
    fields = Fields(values, name, _FILE_FIELDS)
    if fields.integer("format", FORMAT) != FORMAT:
        raise fields.wrong("format", f"is not {FORMAT}; a newer program wrote this file")
    rounds = fields.flag("round", default=False)
    source = fields.text("source", "")
    blocks = fields.tables("rates")
    return Layer(
        version=fields.text("version"),
        published=fields.day("published", None),
        source=source,
        extends=fields.choice("extends", ("shipped", "nothing"), "shipped") == "shipped",
        rounds=rounds,
        lists={
            key: _list_terms(key, part, name) for key, part in fields.table("lists").items()
        },
        aliases=fields.texts("aliases"),
        context_tokens=fields.counts("context_tokens"),
        periods=tuple(
            _period(block, f"{name}: rates block {index}", rounds=rounds, source=source)
            for index, block in enumerate(blocks, 1)
        ),
    )


def parse_csv(text: str, name: str) -> Layer:
    """A layer from CSV whose columns are `RATE_FIELDS`, model and valid_from at least.

    Extends the shipped book; the version is `csv-` and the beginning of the text's sha256.
    A column `currency` gives the currency of the line's list. Empty cells are absent fields.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    currencies: dict[str, str] = {}
    try:
        periods = tuple(_csv_period(rows, row, currencies, name) for row in rows)
    except csv.Error as exc:
        raise ConfigurationError(f"{name}: line {rows.line_num}: not CSV: {exc}") from exc
    if not periods:
        raise ConfigurationError(f"{name}: the CSV has no line with a price")
    return Layer(
        version=f"csv-{sha256(text.encode()).hexdigest()[:12]}",
        published=None,
        source=PurePath(name).name,  # a price file elsewhere is the same price file
        extends=True,
        rounds=False,
        lists={key: ListTerms(currency=value, based_on=None, factor=None, source="", note="")
               for key, value in currencies.items()},
        aliases={},
        context_tokens={},
        periods=periods,
    )  # fmt: skip


def _csv_period(
    rows: "csv.DictReader[str]", row: dict[str, Any], currencies: dict[str, str], name: str
) -> RatePeriod:
    where = f"{name}: line {rows.line_num}"
    missing = {"model", "valid_from"} - set(rows.fieldnames or ())
    if missing:
        raise ConfigurationError(f"{name}: the CSV has no column {min(missing)}")
    if None in row or None in row.values():
        raise ConfigurationError(f"{where}: the cells are not as many as the columns")
    values = {key: cell.strip() for key, cell in row.items() if cell.strip()}
    _note_currency(currencies, values, where)
    return _period(_typed(values, where), where, rounds=False, source=PurePath(name).name)


def _note_currency(currencies: dict[str, str], values: dict[str, Any], where: str) -> None:
    currency = values.pop("currency", None)
    if currency is None:
        return
    name = values.get("list", DEFAULT_LIST)
    checked = Fields({"currency": currency}, where, _LIST_FIELDS).currency("currency")
    if currencies.setdefault(name, checked or "") != checked:
        raise ConfigurationError(f"{where}: price list {name} has two currencies")


def _typed(values: dict[str, Any], where: str) -> dict[str, Any]:
    """CSV cells as the TOML parser would give them."""
    for name in ("valid_from", "valid_until"):
        if name in values:
            values[name] = _csv_day(values[name], f"{where}: {name}")
    if "prompt_tokens_above" in values:
        cell = values["prompt_tokens_above"]
        if not (cell.isascii() and cell.isdigit()):
            raise ConfigurationError(f"{where}: prompt_tokens_above is {cell!r}, not a number")
        values["prompt_tokens_above"] = int(cell)
    if "geographies" in values:
        parts = [part.partition("=") for part in values["geographies"].split(";")]
        values["geographies"] = {key.strip(): factor.strip() for key, _, factor in parts}
    return values


def _csv_day(cell: str, where: str) -> date:
    try:
        return date.fromisoformat(cell)
    except ValueError as exc:
        raise ConfigurationError(f"{where} is {cell!r}, not a day such as 2026-11-21") from exc


def _list_terms(name: str, values: object, file: str) -> ListTerms:
    fields = Fields(values, f"{file}: price list {name}", _LIST_FIELDS)
    return ListTerms(
        currency=fields.currency("currency"),
        based_on=fields.text("based_on", "") or None,
        factor=fields.positive("factor", None),
        source=fields.text("source", ""),
        note=fields.text("note", ""),
    )


def _period(values: object, where: str, *, rounds: bool, source: str) -> RatePeriod:
    if isinstance(values, dict) and isinstance(values.get("model"), str):
        where = f"{where} ({values['model']})"
    fields = Fields(values, where, frozenset(RATE_FIELDS))
    terms = fields.choice("terms", TERMS, STANDARD)
    period = RatePeriod(
        price_list=fields.text("list", DEFAULT_LIST),
        model=fields.text("model"),
        terms=terms,
        prompt_tokens_above=fields.integer("prompt_tokens_above", 0),
        valid_from=fields.required_day("valid_from"),
        valid_until=fields.day("valid_until", None),
        rates=fields.rates(),
        batch_factor=fields.positive("batch_factor", None),
        geographies=fields.factors("geographies"),
        rounds=rounds,
        source=fields.text("source", "") or source,
        note=fields.text("note", ""),
    )
    if period.valid_until and period.valid_until < period.valid_from:
        raise fields.wrong("valid_until", "is before valid_from")
    if period.batch_factor is not None and terms != STANDARD:
        raise fields.wrong("batch_factor", f"makes no sense for terms {terms}")
    if not any(rate is not None for rate in period.rates):
        raise fields.wrong("input", "is missing, and so is every other price")
    return period

"""One price file, read and checked by itself: TOML, or CSV with the same fields as columns."""

import csv
import io
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise
from pathlib import PurePath
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from batcher.errors import ConfigurationError, plain_words
from batcher.pricing.money import METERS, exact_rate, parse_decimal
from batcher.pricing.rate.rates import STANDARD, TERMS, RatePeriod

FORMAT: Final = 1
DEFAULT_LIST: Final = "anthropic"

T = TypeVar("T")

_CURRENCY: Final = re.compile(r"[A-Z][A-Z0-9_]{1,31}")
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class ListTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file says about a price list as a whole.

    `factor` multiplies what the list takes over from `based_on`, or from the same list of the
    extended book; `None` leaves it. `currency` `None` takes over the currency as well.
    """

    currency: str | None = None
    based_on: str | None = None
    factor: Fraction | None = None
    source: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.currency is not None and not _CURRENCY.fullmatch(self.currency):
            words = f"currency is {self.currency!r:.40}, not a name such as USD or CRUN_CREDIT"
            raise ValueError(words)
        _refuse_zero(factor=self.factor)


class VolumeTier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The factor of a month that costs more than `above`, in the list's currency.

    It is that of the whole month, or, in a marginal discount, of the part above alone.
    """

    above: Fraction
    factor: Fraction

    def __post_init__(self) -> None:
        _refuse_zero(factor=self.factor)


class Discount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `[[discounts]]` block: what a list's taken-over prices are multiplied by, when.

    Both days are included, `valid_until` `None` is open. `meters` are those that it touches.
    With `tiers` there is no `factor`, and nothing is multiplied before a month is settled.
    """

    price_list: str = msgspec.field(name="list", default=DEFAULT_LIST)
    factor: Fraction | None = None
    valid_from: date
    valid_until: date | None = None
    meters: tuple[str, ...] = METERS
    tiers: tuple[VolumeTier, ...] = ()
    marginal: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.marginal and not self.tiers:
            raise ValueError("marginal says how tiers are meant, and there are none")
        if (self.factor is None) == (not self.tiers):
            raise ValueError("give a factor, or tiers")
        if any(one.above >= other.above for one, other in pairwise(self.tiers)):
            raise ValueError("tiers: each is above a larger amount than the one before")
        unknown = sorted(set(self.meters) - set(METERS))
        if unknown or not self.meters:
            raise ValueError(f"meters are some of {', '.join(METERS)}")
        if self.valid_until and self.valid_until < self.valid_from:
            raise ValueError("valid_until is before valid_from")
        _refuse_zero(factor=self.factor)

    def meets(self, other: "Discount") -> bool:
        """Whether both touch a meter of a list on some day."""
        return (
            self.price_list == other.price_list
            and not set(self.meters).isdisjoint(other.meters)
            and self.valid_from <= (other.valid_until or date.max)
            and other.valid_from <= (self.valid_until or date.max)
        )


class _RateBlock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `[[rates]]` block as written: prices per million tokens or thousand searches."""

    price_list: str = msgspec.field(name="list", default=DEFAULT_LIST)
    model: str
    terms: str = STANDARD
    prompt_tokens_above: _Count = 0
    valid_from: date
    valid_until: date | None = None
    input: Fraction | None = None
    cache_write_5m: Fraction | None = None
    cache_write_1h: Fraction | None = None
    cache_read: Fraction | None = None
    output: Fraction | None = None
    web_search: Fraction | None = None
    batch_factor: Fraction | None = None
    geographies: dict[str, Fraction] = {}
    source: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not (self.model and self.price_list):
            raise ValueError("model or list is empty")
        if self.terms not in TERMS:
            raise ValueError(f"terms is {self.terms!r:.40}, not one of {', '.join(TERMS)}")
        if self.valid_until and self.valid_until < self.valid_from:
            raise ValueError("valid_until is before valid_from")
        if self.batch_factor is not None and self.terms != STANDARD:
            raise ValueError(f"batch_factor makes no sense for terms {self.terms}")
        if all(getattr(self, meter) is None for meter in METERS):
            raise ValueError("input is missing, and so is every other price")
        _refuse_zero(batch_factor=self.batch_factor, **self.geographies)

    def period(self, *, rounds: bool, source: str) -> RatePeriod:
        """The block in pico-units per token or search; `source` where it names none itself."""
        one, two, three, four, five, six = (
            None if (price := getattr(self, name)) is None else exact_rate(price, meter)
            for meter, name in enumerate(METERS)
        )
        return RatePeriod(
            price_list=self.price_list,
            model=self.model,
            terms=self.terms,
            prompt_tokens_above=self.prompt_tokens_above,
            valid_from=self.valid_from,
            valid_until=self.valid_until,
            rates=(one, two, three, four, five, six),
            batch_factor=self.batch_factor,
            geographies=tuple(sorted(self.geographies.items())),
            rounds=rounds,
            source=self.source or source,
            note=self.note,
        )


class _PriceFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole file as written; its lists and blocks are read one by one, to name them."""

    format: int = FORMAT
    version: Annotated[str, msgspec.Meta(min_length=1)]
    published: date | None = None
    source: str = ""
    extends: Literal["shipped", "nothing"] = "shipped"
    round: bool = False
    lists: dict[str, Any] = {}
    aliases: dict[str, str] = {}
    context_tokens: dict[str, _Count] = {}
    rates: list[Any] = []
    discounts: list[Any] = []


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
    discounts: tuple[Discount, ...] = ()


def parse_toml(text: str, name: str) -> Layer:
    """The file's layer; raises `ConfigurationError` naming file, block, model and field."""
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ConfigurationError(f"{name}: not readable as TOML: {exc}") from exc
    if values.get("format", FORMAT) != FORMAT:
        raise ConfigurationError(f"{name}: format is not {FORMAT}; a newer program wrote it")
    file = _read(values, _PriceFile, name)
    blocks = enumerate(file.rates, 1)
    return Layer(
        version=file.version,
        published=file.published,
        source=file.source,
        extends=file.extends == "shipped",
        rounds=file.round,
        lists={key: _read(terms, ListTerms, f"{name}: price list {key}")
               for key, terms in file.lists.items()},
        aliases=file.aliases,
        context_tokens=file.context_tokens,
        periods=tuple(
            _block(block, f"{name}: rates block {number}").period(
                rounds=file.round, source=file.source
            )
            for number, block in blocks
        ),
        discounts=tuple(
            _discount(block, f"{name}: discounts block {number}", rounds=file.round)
            for number, block in enumerate(file.discounts, 1)
        ),
    )  # fmt: skip


def _discount(block: object, where: str, *, rounds: bool) -> Discount:
    found = _read(block, Discount, where)
    if found.marginal and not rounds:
        words = "marginal tiers need round = true: their one factor makes finer prices"
        raise ConfigurationError(f"{where}: {words}")
    return found


def parse_csv(text: str, name: str) -> Layer:
    """A layer from CSV whose columns are fields of a rate, model and valid_from at least.

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
        lists={key: ListTerms(currency=value) for key, value in currencies.items()},
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
    if "geographies" in values:
        parts = [part.partition("=") for part in values["geographies"].split(";")]
        values["geographies"] = {key.strip(): factor.strip() for key, _, factor in parts}
    return _block(values, where).period(rounds=False, source=PurePath(name).name)


def _note_currency(currencies: dict[str, str], values: dict[str, Any], where: str) -> None:
    currency = values.pop("currency", None)
    if currency is None:
        return
    name = values.get("list", DEFAULT_LIST)
    _read({"currency": currency}, ListTerms, where)
    if currencies.setdefault(name, currency) != currency:
        raise ConfigurationError(f"{where}: price list {name} has two currencies")


def _block(values: object, where: str) -> _RateBlock:
    if isinstance(values, dict) and isinstance(values.get("model"), str):
        where = f"{where} ({values['model']})"
    return _read(values, _RateBlock, where)


def _read(values: object, kind: type[T], where: str) -> T:
    """A table of the file, or a line of CSV, in which numbers and days are text."""
    if _holds_nul(values):
        raise ConfigurationError(f"{where}: a text holds a NUL character")
    try:
        return msgspec.convert(values, kind, strict=False, dec_hook=_exact)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"{where}: {plain_words(str(exc))}") from exc


def _holds_nul(value: object) -> bool:
    """Whether a text in `value` holds what no database column can."""
    if isinstance(value, dict):
        return any(map(_holds_nul, (*value, *value.values())))
    return isinstance(value, str) and "\0" in value


def _exact(_kind: type, value: object) -> Fraction:
    # A TOML number with a point has already lost its digits, so prices are text.
    if not isinstance(value, str):
        raise ValueError(f'write prices in quotes, such as "12.50", not {value!r:.40}')  # noqa: TRY004 - msgspec takes it for a wrong value
    number = parse_decimal(value)
    if number < 0:
        raise ValueError("is below zero")
    return number


def _refuse_zero(**factors: Fraction | None) -> None:
    for name, factor in factors.items():
        if factor == 0:
            raise ValueError(f"{name} is not above zero")

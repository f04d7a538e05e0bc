"""Typed access to the fields of a price file, with errors that name file, block and field."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from fractions import Fraction
from typing import Any, Final

from batcher.errors import ConfigurationError
from batcher.pricing.meters import METERS, ExactRates
from batcher.pricing.money import parse_decimal, parse_rate

_CURRENCY: Final = re.compile(r"[A-Z][A-Z0-9_]{1,31}")


class Fields:
    """One table of a price file; every reader raises `ConfigurationError` for a wrong type."""

    def __init__(self, values: object, where: str, known: frozenset[str]) -> None:
        self.where = where
        if not isinstance(values, dict):
            raise ConfigurationError(f"{where}: is not a table of fields")
        self._values: Mapping[str, Any] = values
        for name in self._values:
            if name not in known:
                raise self.wrong(name, "is no field of a price file")

    def wrong(self, name: str, what: str) -> ConfigurationError:
        """The error to raise for the field `name`."""
        return ConfigurationError(f"{self.where}: {name} {what}")

    def text(self, name: str, default: str | None = None) -> str:
        """Text; required when there is no default."""
        value = self._values.get(name, default)
        if value is None:
            raise self.wrong(name, "is missing")
        if not isinstance(value, str) or "\0" in value or (default is None and not value):
            raise self.wrong(name, f"is {value!r:.40}, not text in quotes")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """One of `choices`."""
        value = self.text(name, default)
        if value not in choices:
            raise self.wrong(name, f"is {value!r:.40}, not one of {', '.join(choices)}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, f"is {value!r:.40}, not true or false")
        return value

    def integer(self, name: str, default: int) -> int:
        """A whole number from 0 to 10^9."""
        value = self._values.get(name, default)
        if type(value) is not int or not 0 <= value <= 10**9:
            raise self.wrong(name, f"is {value!r:.40}, not a whole number from 0 to 10^9")
        return value

    def day(self, name: str, default: date | None) -> date | None:
        """A day, written without quotes in TOML."""
        if name not in self._values:
            return default
        value = self._values[name]
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self.wrong(name, f"is {value!r:.40}, not a day such as 2026-11-21")
        return value

    def required_day(self, name: str) -> date:
        """See `day`; missing is wrong."""
        value = self.day(name, None)
        if value is None:
            raise self.wrong(name, "is missing")
        return value

    def currency(self, name: str) -> str | None:
        """USD, or a name of one's own in capitals; `None` when absent."""
        value = self.text(name, "")
        if value and not _CURRENCY.fullmatch(value):
            raise self.wrong(name, f"is {value!r:.40}, not a name such as USD or CRUN_CREDIT")
        return value or None

    def positive(self, name: str, default: Fraction | None) -> Fraction | None:
        """A decimal above zero, in quotes."""
        if name not in self._values:
            return default
        value = self._decimal(name, self._values[name])
        if value <= 0:
            raise self.wrong(name, "is not above zero")
        return value

    def factors(self, name: str) -> tuple[tuple[str, Fraction], ...]:
        """A table of positive decimals in quotes, sorted by key."""
        table = Fields(self.table(name), f"{self.where}: {name}", frozenset(self.table(name)))
        pairs = [(key, table.positive(key, None)) for key in sorted(self.table(name))]
        return tuple((key, factor) for key, factor in pairs if factor is not None)

    def rates(self) -> ExactRates:
        """The six meters' prices, published per million tokens or thousand searches."""
        one, two, three, four, five, six = (
            self._rate(name, meter) for meter, name in enumerate(METERS)
        )
        return one, two, three, four, five, six

    def table(self, name: str) -> Mapping[str, Any]:
        """A table, empty when absent."""
        value = self._values.get(name, {})
        if not isinstance(value, dict):
            raise self.wrong(name, "is not a table")
        return value

    def tables(self, name: str) -> list[Any]:
        """A list of tables, empty when absent."""
        value = self._values.get(name, [])
        if not isinstance(value, list):
            raise self.wrong(name, f"is not a list; write [[{name}]]")
        return value

    def texts(self, name: str) -> dict[str, str]:
        """A table of texts."""
        table = Fields(self.table(name), f"{self.where}: {name}", frozenset(self.table(name)))
        return {key: table.text(key) for key in self.table(name)}

    def counts(self, name: str) -> dict[str, int]:
        """A table of whole numbers."""
        table = Fields(self.table(name), f"{self.where}: {name}", frozenset(self.table(name)))
        return {key: table.integer(key, 0) for key in self.table(name)}

    def _rate(self, name: str, meter: int) -> Fraction | None:
        if name not in self._values:
            return None
        if self._decimal(name, self._values[name]) < 0:
            raise self.wrong(name, "is below zero")
        return parse_rate(self._values[name], meter)

    def _decimal(self, name: str, value: object) -> Fraction:
        # A TOML number with a point has already lost its digits, so prices are text.
        if not isinstance(value, str):
            raise self.wrong(name, f'is {value!r:.40}; write prices in quotes, such as "12.50"')
        try:
            return parse_decimal(value)
        except ValueError as exc:
            raise self.wrong(name, f"is wrong: {exc}") from exc

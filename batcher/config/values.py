"""What a setting's text means, and what is wrong with one, in words that help."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, time, timedelta, tzinfo
from fractions import Fraction
from typing import Final

import msgspec
from msgspec import inspect

from batcher.clock import microseconds, moment_of
from batcher.errors import ConfigurationError, did_you_mean, plain_words
from batcher.pricing.book.book import MOST_DAYS
from batcher.pricing.money import LARGEST_AMOUNT, parse_usd

_LONGEST_LAPSE: Final = 30 * 86_400.0
_SIZES: Final = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def seconds(text: str) -> float:
    """`90`, `90s`, `15m`, `2h` or `1h30m` in seconds; raises `ConfigurationError`."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not text.strip() or match is None:
        raise ConfigurationError(f"{text!r} is no duration; write 90s, 15m, 2h or 1h30m")
    hours, minutes, rest = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest or 0)


def deadline(text: str, now_us: int, zone: tzinfo | None) -> tuple[int, str]:
    """The moment that `06:00` or `8h` means, microseconds UTC, and what people call it.

    A time of day is one in `zone`, `None`: of this machine; one that has passed is tomorrow's.
    Raises `ConfigurationError`.
    """
    now = moment_of(now_us).astimezone(zone)
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", text.strip())
    if match is None:
        at, note = now + timedelta(seconds=_lapse(text)), ""
    else:
        day, note = now.date(), ""
        of_day = time(int(match[1]), int(match[2]), int(match[3] or 0))
        at = _local(datetime.combine(day, of_day), zone)
        if at <= now:
            at = _local(datetime.combine(day + timedelta(days=1), of_day), zone)
            note = f": {text.strip()} has passed today, so it is tomorrow's"
    shown = f"{at.astimezone(zone):%Y-%m-%d %H:%M} {at.astimezone(zone).tzname()}"
    return microseconds(at), shown + note


def _local(wall: datetime, zone: tzinfo | None) -> datetime:
    """With its zone; a wall time without one is this machine's."""
    return wall.astimezone() if zone is None else wall.replace(tzinfo=zone)


def _lapse(text: str) -> float:
    try:
        lapse = seconds(text)
    except ConfigurationError:
        lapse = 0.0
    if not 0 < lapse <= _LONGEST_LAPSE:
        raise ConfigurationError(
            f"deadline is {text!r}; write a time of day, like 06:00, or from now, like 8h"
        )
    return lapse


def size_bytes(name: str, value: str | int | None) -> int | None:
    """`200 MB`, `1.5GB` or a number of bytes; raises `ConfigurationError`."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?b)?", str(value).strip().lower())
    if match is None:
        raise ConfigurationError(f"{name} is {value!r}; write a size, like 200 MB, or 0")
    return (
        int(Fraction(match[1]) * _SIZES[match[2] or ""]) if match[2] != "b" else int(match[1])
    )


def pico_usd(name: str, amount: str | int | None) -> int | None:
    """A cap in pico-USD from a setting such as `"12.50"`; raises `ConfigurationError`."""
    if amount is None:
        return None
    try:
        pico = parse_usd(str(amount).strip().removeprefix("$"))
    except ValueError as exc:
        raise ConfigurationError(f"{name} is {amount!r}; write US dollars, like 12.50") from exc
    if not 0 < pico <= LARGEST_AMOUNT:
        raise ConfigurationError(
            f"{name} is {amount!r}; it must be above 0 and below 9 million"
        )
    return pico


def checked_days(value: int | None) -> int:
    """`price_book_max_age_days`; raises `ConfigurationError` for less than 0."""
    if value is not None and value < 0:
        raise ConfigurationError(
            f"price_book_max_age_days is {value}; write days, or 0 for no warning"
        )
    return MOST_DAYS if value is None else value


LONGEST_NAME: Final = 200  # characters of a job's or a tag's name
LONGEST_TAG: Final = 1_000  # characters of a tag's value
MOST_TAGS: Final = 100


def checked_text(what: str, text: str, most: int = LONGEST_NAME) -> str:
    """`text`, if every database can hold it as a key; raises `ConfigurationError` if not."""
    if len(text) > most:
        raise ConfigurationError(
            f"{what} has {len(text):,} characters ({text:.40}...); {most:,} is the most"
        )
    if "\0" in text or any("\ud800" <= each <= "\udfff" for each in text):
        raise ConfigurationError(f"{what} {text!r} holds bytes that are no text; type it again")
    return text


def checked_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    """`tags`, if they are few and short; raises `ConfigurationError` if not."""
    if len(tags) > MOST_TAGS:
        raise ConfigurationError(f"there are {len(tags):,} tags; {MOST_TAGS} is the most")
    for name, value in tags.items():
        checked_text("the name of a tag", name)
        checked_text(f"the tag {name}", value, LONGEST_TAG)
    return tags


def lease_seconds(value: str) -> float:
    """A lease of at least a second; raises `ConfigurationError`."""
    lease = seconds(value)
    if lease < 1:
        raise ConfigurationError(f"lease is {value!r}; it must be at least 1s")
    return lease


_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_WORD = re.compile(r"Invalid enum value (.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)


def explained(error: msgspec.ValidationError, kind: type, prefix: str = "") -> str:
    """One sentence; `kind` is what was read, `prefix` stands before the name of a variable."""
    message = str(error)
    if unknown := _UNKNOWN.fullmatch(message):
        name, where = unknown[1], unknown[2] or ""
        return plain_words(message, prefix) + did_you_mean(name, _fields(kind, where))
    if word := _WORD.fullmatch(message):
        where = word[2] or ""
        value, known = word[1].strip("'"), list(_words(kind, where))
        shown = f"{prefix}{where.upper()} ({where})" if prefix else where
        allowed = " or ".join(filter(None, [", ".join(known[:-1]), *known[-1:]]))
        return f"{shown} is {value!r}, not {allowed}{did_you_mean(value, known)}"
    return plain_words(message, prefix)


def _fields(kind: type, where: str) -> list[str]:
    """The names that the table at `where` may have."""
    return [
        field.encode_name
        for each in _at(kind, where)
        if isinstance(each, inspect.StructType)
        for field in each.fields
    ]


def _words(kind: type, where: str) -> Iterator[str]:
    """The words that the setting at `where` may be."""
    for each in _at(kind, where):
        if isinstance(each, inspect.EnumType):
            yield from (str(word.value) for word in each.cls)
        elif isinstance(each, inspect.LiteralType):
            yield from map(str, each.values)


def _at(kind: type, where: str) -> list[inspect.Type]:
    """The types that may stand at a path of msgspec's, like `endpoints[...].auth`."""
    types = _alternatives(inspect.type_info(kind))
    for part in re.findall(r"\w+|\[\.\.\.\]", where):
        types = [inside for each in types for inside in _inside(each, part)]
    return types


def _inside(outer: inspect.Type, part: str) -> list[inspect.Type]:
    if isinstance(outer, inspect.DictType) and part == "[...]":
        return _alternatives(outer.value_type)
    if isinstance(outer, inspect.StructType):
        return [
            inside
            for field in outer.fields
            if field.encode_name == part
            for inside in _alternatives(field.type)
        ]
    return []


def _alternatives(outer: inspect.Type) -> list[inspect.Type]:
    return list(outer.types) if isinstance(outer, inspect.UnionType) else [outer]

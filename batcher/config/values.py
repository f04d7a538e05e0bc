"""What a setting's text means: durations, sizes, money, days, the times of a schedule.

And what is wrong with one, in words that help.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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


# `[schedule] cron`: five fields, understood as cron and Kubernetes do, or refused.
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
_LONGEST: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SHORT: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_PART: Final = re.compile(r"(\*|[0-9a-z]{1,9})(?:-([0-9a-z]{1,9}))?(?:/([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    first: int
    last: int
    words: Sequence[str] = ()  # the first one stands for `first`


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """When a job is started: the numbers of each field in order, empty for any.

    Weekdays count from Sunday, 0. Where days and weekdays are given, one of both is enough.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @property
    def text(self) -> str:
        """The five fields in numbers only, which every reader of cron expressions takes."""
        fields = (self.minutes, self.hours, self.days, self.months, self.weekdays)
        return " ".join(",".join(map(str, each)) or "*" for each in fields)

    def calendar(self, zone: str | None) -> list[str]:
        """The same as systemd's `OnCalendar`; several lines where one of them is enough."""
        months = _joined(self.months)
        clock = f"{_joined(self.hours)}:{_joined(self.minutes)}:00{f' {zone}' if zone else ''}"
        week = ",".join(_DAYS[day].capitalize() for day in self.weekdays)
        of_month = f"*-{months}-{_joined(self.days)} {clock}"
        of_week = f"{week} *-{months}-* {clock}"
        if not week:
            return [of_month]
        return [of_month, of_week] if self.days else [of_week]


def parse_cron(text: str) -> Cron:
    """The five fields of `text`; raises `ConfigurationError` that names what is wrong."""
    given = text.strip().lower()
    words = _SHORT.get(given, given).split()
    if len(words) != len(_FIELDS):
        raise _wrong(text, "has not five fields: minute, hour, day, month, day of the week")
    minutes, hours, days, months, weekdays = (
        tuple(sorted(set(_numbers(text, field, word))))
        for field, word in zip(_FIELDS, words, strict=True)
    )
    if days and weekdays and "*" in words[2] + words[4]:
        raise _wrong(text, "has a * with a step beside the other kind of day, which cron and"
                     " Kubernetes understand differently: list the days")  # fmt: skip
    if days and not weekdays and not _is_ever(days, months):
        raise _wrong(text, "names a day that no month has")
    return Cron(
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=tuple(sorted({day % 7 for day in weekdays})),
    )


def _numbers(text: str, field: _Field, word: str) -> Iterator[int]:
    if word == "*":
        return
    for part in word.split(","):
        match = _PART.fullmatch(part)
        if match is None or (match[3] and not (match[2] or match[1] == "*")):
            raise _wrong(text, f"has the {field.name} {part!r}, which is no number, range or"
                         " list, with a step after a range or * at most")  # fmt: skip
        yield from _range(text, field, match)


def _range(text: str, field: _Field, match: re.Match[str]) -> range:
    first, last, step = match.groups()
    if first == "*":
        low, high = field.first, min(field.last, 6) if field.words is _DAYS else field.last
    else:
        low = _number(text, field, first)
        high = _number(text, field, last) if last else low
    if low > high or int(step or 1) < 1 or (first == "*" and last):
        raise _wrong(text, f"has the {field.name} {match[0]!r}, which is no range forward")
    return range(low, high + 1, int(step or 1))


def _number(text: str, field: _Field, word: str) -> int:
    if word in field.words:
        return field.first + field.words.index(word)
    if not word.isdecimal() or not field.first <= int(word) <= field.last:
        raise _wrong(
            text, f"has the {field.name} {word!r}, not from {field.first} to {field.last}"
        )
    return int(word)


def _is_ever(days: Sequence[int], months: Sequence[int]) -> bool:
    return any(min(days) <= _LONGEST[month - 1] for month in months or range(1, 13))


def _joined(numbers: Sequence[int]) -> str:
    return ",".join(f"{number:02d}" for number in numbers) or "*"


def _wrong(text: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"[schedule] cron {text!r:.80} {what}")


_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_WORD = re.compile(r"Invalid enum value (.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)


def explained(error: msgspec.ValidationError, kind: type, prefix: str = "") -> str:
    """One sentence; `kind` is what was read, `prefix` stands before the name of a variable."""
    message = str(error)
    if unknown := _UNKNOWN.fullmatch(message):
        name, where = unknown[1], unknown[2] or ""
        others = [each for each in _fields(kind, where) if each != name]  # as in other blocks
        meant = _right_place(kind, name) or did_you_mean(name, others)
        return plain_words(message, prefix) + meant
    if word := _WORD.fullmatch(message):
        where = word[2] or ""
        value, known = word[1].strip("'"), list(_words(kind, where))
        shown = f"{prefix}{where.upper()} ({where})" if prefix else where
        allowed = " or ".join(filter(None, [", ".join(known[:-1]), *known[-1:]]))
        return f"{shown} is {value!r}, not {allowed}{did_you_mean(value, known)}"
    return plain_words(message, prefix)


def _right_place(kind: type, name: str) -> str:
    """Where a setting stands that somebody wrote into another table, if anywhere."""
    top = _fields(kind, "")
    if name in top:
        return f"; {name} stands at the top of the file, above the first [table]"
    tables = [f"[{table}]" for table in top if name in _fields(kind, table)]
    return f"; {name} stands in {' or '.join(tables)}" if tables else ""


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
    if isinstance(outer, inspect.VarTupleType) and (part == "[...]" or part.isdigit()):
        return _alternatives(outer.item_type)
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

"""`[schedule] cron`: five fields, understood as cron and Kubernetes do, or refused."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from batcher.errors import ConfigurationError

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

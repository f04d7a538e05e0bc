"""UTC days and months, as prices count them: from moments in microseconds since 1970."""

from datetime import date, timedelta
from typing import Final

MICROSECONDS_PER_DAY: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()


def utc_day(moment_us: int) -> date:
    """The UTC date of a moment in microseconds since 1970."""
    return calendar_day(moment_us // MICROSECONDS_PER_DAY)


def calendar_day(day: int) -> date:
    """The date of a day counted from 1970-01-01."""
    return date.fromordinal(_EPOCH + day)


def moment_of_day(day: str) -> int:
    """The first microsecond of an ISO day; raises `ValueError` for anything else."""
    return _first_microsecond(date.fromisoformat(day))


def month_window(month: str) -> tuple[int, int]:
    """The first microsecond of `2026-10` and that of the month after.

    Raises `ValueError` for anything else.
    """
    if len(month) != len("2026-10"):
        raise ValueError(f"{month!r:.20} is no month such as 2026-10")
    first = date.fromisoformat(f"{month}-01")
    following = (first + timedelta(days=31)).replace(day=1)
    return _first_microsecond(first), _first_microsecond(following)


def _first_microsecond(day: date) -> int:
    return (day.toordinal() - _EPOCH) * MICROSECONDS_PER_DAY

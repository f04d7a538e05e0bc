"""Days and months of prices, in UTC."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def moment_of_day(day: str) -> int:
    """The first microsecond of an ISO day; raises `ValueError` for anything else."""
    return _microseconds(date.fromisoformat(day))


def month_window(month: str) -> tuple[int, int]:
    """The first microsecond of `2026-10` and that of the month after.

    Raises `ValueError` for anything else.
    """
    if len(month) != len("2026-10"):
        raise ValueError(f"{month!r:.20} is no month such as 2026-10")
    first = date.fromisoformat(f"{month}-01")
    following = (first + timedelta(days=31)).replace(day=1)
    return _microseconds(first), _microseconds(following)


def _microseconds(day: date) -> int:
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - _EPOCH) // _MICROSECOND

"""What a report is asked for: dimensions, a window of time, a time zone, a run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from batcher.clock import microseconds, moment_of
from batcher.errors import UsageError, did_you_mean

_TAG_PREFIX: Final = "tag:"


class Kind(StrEnum):
    """What a report can be broken down by; `TAG` goes with a tag's name."""

    MODEL = "model"
    REQUESTED_MODEL = "requested_model"
    STOP_REASON = "stop_reason"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    RUN = "run"
    INVOCATION = "invocation"
    JOB = "job"
    ENDPOINT = "endpoint"
    LANE = "lane"
    WORKSPACE = "workspace"
    SOURCE = "source"
    TAG = "tag"

    @property
    def is_time(self) -> bool:
        """Whether it is a bucket of time."""
        return self in {Kind.HOUR, Kind.DAY, Kind.WEEK, Kind.MONTH}

    @property
    def is_number(self) -> bool:
        """Whether it is a number of one database, that means something else in another."""
        return self in {Kind.RUN, Kind.INVOCATION}


@dataclass(frozen=True, slots=True)
class Dimension:
    """One way to break a report down; `tag` is the tag's name, empty for all other kinds."""

    kind: Kind
    tag: str = ""

    @property
    def name(self) -> str:
        """The word that `--by` takes: `model`, `day`, `tag:team`."""
        return f"{_TAG_PREFIX}{self.tag}" if self.kind is Kind.TAG else self.kind.value


BY_MODEL: Final = (Dimension(Kind.MODEL),)


class Period(StrEnum):
    """The last whole calendar period before now."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


LAST_RUN: Final = "run"  # of `--last`: no window, but what the latest processes sent
_LONGEST_DAYS: Final = 36_500
_MICROSECOND: Final = timedelta(microseconds=1)
_QUARTER_HOUR_US: Final = timedelta(minutes=15) // _MICROSECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """What to sum, and by what.

    `since` (inclusive) and `until` (exclusive) are microseconds UTC of the sending; `None` is
    open. `run` is a run_id, `None` for all; of it count `first_invocation` and later ones.
    `rating` asks for the ledger as it was when that rating was complete, `None` for now.
    `timezone` is an IANA name; it cuts the buckets.
    """

    by: tuple[Dimension, ...] = BY_MODEL
    since: int | None = None
    until: int | None = None
    run: int | None = None
    first_invocation: int | None = None
    timezone: str = "UTC"
    rating: int | None = None


def parse_dimension(word: str) -> Dimension:
    """The dimension that `word` names; raises `UsageError` with the list of all otherwise."""
    if word.startswith(_TAG_PREFIX) and len(word) > len(_TAG_PREFIX):
        return Dimension(Kind.TAG, word.removeprefix(_TAG_PREFIX))
    try:
        kind = Kind(word)
    except ValueError:
        kind = Kind.TAG
    if kind is Kind.TAG:
        words = [each.value for each in Kind if each is not Kind.TAG]
        raise UsageError(
            f"--by {word!r} is not known: use one of {', '.join(words)} or tag:NAME"
            f"{did_you_mean(word, words)}"
        )
    return Dimension(kind)


def parse_dimensions(words: tuple[str, ...]) -> tuple[Dimension, ...]:
    """Each of `words` once, in order; by model when there is none."""
    return tuple(dict.fromkeys(parse_dimension(word) for word in words)) or BY_MODEL


def query_of(asked: Mapping[str, Any], now_us: int) -> ReportQuery:
    """The query that options of `batcher report` by their names ask for: `by`, `since`, ….

    Raises `UsageError` for what is not known, or excludes each other.
    """
    zone = time_zone(asked["tz"])
    since, until, last = asked["since"], asked["until"], asked["last"]
    first = None if since is None else parse_moment(since, zone)
    end = None if until is None else parse_moment(until, zone)
    if last is not None:
        if since is not None or until is not None:
            raise UsageError(
                "--last already says from when to when: leave out --since and --until"
            )
        if last != LAST_RUN:
            first, end = last_window(last, now_us, zone)
        elif asked["run"] is not None:
            raise UsageError("--last run and --run ID are two runs: leave one out")
    if first is not None and end is not None and first >= end:
        raise UsageError(f"nothing is sent from {since} on and before {until}: swap them")
    return ReportQuery(
        by=parse_dimensions(asked["by"]),
        since=first,
        until=end,
        run=asked["run"],
        timezone=asked["tz"],
        rating=asked["rating"],
    )


def time_zone(name: str, said_by: str = "--tz") -> tzinfo:
    """The time zone; raises `UsageError` when this machine does not know it."""
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as exc:  # ZoneInfoNotFoundError is a KeyError
        raise UsageError(
            f"{said_by} {name!r} is no time zone known here: write a name such as Europe/Paris"
        ) from exc


def parse_moment(word: str, zone: tzinfo) -> int:
    """Microseconds UTC of an ISO date or date and time, read in `zone` unless it says its own.

    Raises `UsageError` for anything else.
    """
    try:
        moment = datetime.fromisoformat(word)
    except ValueError as exc:
        raise UsageError(
            f"{word!r} is no date: write 2026-01-31 or 2026-01-31T06:00:00+01:00"
        ) from exc
    return microseconds(moment if moment.tzinfo else moment.replace(tzinfo=zone))


def last_window(word: str, now_us: int, zone: tzinfo) -> tuple[int, int | None]:
    """Since and until of `day`, `week` or `month`, see `last_period`, or of `24h` and `7d`.

    Hours and days end now, and begin with a quarter of an hour: so far back sums are kept.
    Raises `UsageError` for anything else.
    """
    span = re.fullmatch(r"([1-9][0-9]{0,5})([hd])", word)
    days = int(span[1]) / (24 if span[2] == "h" else 1) if span else 0
    if span and days <= _LONGEST_DAYS:
        since = now_us - timedelta(days=days) // _MICROSECOND
        return since - since % _QUARTER_HOUR_US, None
    words = [LAST_RUN, *map(str, Period)]
    if word not in words:
        raise UsageError(
            f"--last {word!r:.40} is not known: use {', '.join(words)}, or like 24h and 7d"
            f"{did_you_mean(word, words)}"
        )
    return last_period(Period(word), now_us, zone)


def last_period(period: Period, now_us: int, zone: tzinfo) -> tuple[int, int]:
    """Since and until of the whole day, ISO week or month before the one of `now_us`."""
    today = moment_of(now_us).astimezone(zone).date()
    until = _first_day(period, today)
    since = _first_day(period, until - timedelta(days=1))
    return _midnight(since, zone), _midnight(until, zone)


def _first_day(period: Period, day: date) -> date:
    match period:
        case Period.DAY:
            return day
        case Period.WEEK:
            return day - timedelta(days=day.weekday())
        case Period.MONTH:
            return day.replace(day=1)


def _midnight(day: date, zone: tzinfo) -> int:
    return microseconds(datetime(day.year, day.month, day.day, tzinfo=zone))

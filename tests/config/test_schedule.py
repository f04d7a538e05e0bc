import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.config.values import Cron, parse_cron
from batcher.errors import ConfigurationError

BASE = datetime(2026, 2, 27, 23, 59, tzinfo=UTC)


def matches(cron: Cron, moment: datetime) -> bool:
    """As the manual of cron says it."""
    fields = ((cron.minutes, moment.minute), (cron.hours, moment.hour),
              (cron.months, moment.month))  # fmt: skip
    if not all(not allowed or value in allowed for allowed, value in fields):
        return False
    days = [(cron.days, moment.day), (cron.weekdays, moment.isoweekday() % 7)]
    given_ = [value in allowed for allowed, value in days if allowed]
    return any(given_) or not given_


def elapses(cron: Cron, count: int) -> list[datetime]:
    moment, found = BASE, []
    while len(found) < count:
        moment += timedelta(minutes=1)
        if matches(cron, moment):
            found.append(moment)
    return found


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("17 2 * * *", "17 2 * * *"),
        ("*/20 0-6/3 1,15 jan-mar/2 *", "0,20,40 0,3,6 1,15 1,3 *"),
        ("0 0 * * sun", "0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * * MON,7", "0 0 * * 0,1"),
        (" @weekly ", "0 0 * * 0"),
        ("0 0 1 * 1", "0 0 1 * 1"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 * * */2", "0 0 * * 0,2,4,6"),
    ],
)
def test_an_expression_in_numbers(text, numbers):
    assert parse_cron(text).text == numbers
    assert parse_cron(parse_cron(text).text) == parse_cron(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has not five fields"),
        ("17 2 * * * root", "has not five fields"),
        ("@reboot", "has not five fields"),
        ("60 2 * * *", "the minute '60', not from 0 to 59"),
        ("0 24 * * *", "the hour '24'"),
        ("0 0 0 * *", "the day of the month '0'"),
        ("0 0 * 13 *", "the month '13'"),
        ("0 0 * * 8", "the day of the week '8'"),
        ("0 0 * * fun", "the day of the week 'fun'"),
        ("5-1 0 * * *", "no range forward"),
        ("5/10 0 * * *", "a step after a range or \\*"),
        ("*/0 0 * * *", "no range forward"),
        ("1,,2 0 * * *", "no number, range or list"),
        pytest.param(f"*/{'9' * 5000} 0 * * *", "no number, range or list", id="long step"),
        pytest.param(f"{'0' * 5000}1 0 * * *", "no number, range or list", id="long number"),
        ("H 2 * * *", "the minute 'h'"),
        ("0 0 L * *", "the day of the month 'l'"),
        ("0 0 30 2 *", "a day that no month has"),
        ("0 0 31 4,6 *", "a day that no month has"),
        ("0 0 */2 * 1", "understand differently"),
        ("0 0 1 * */2", "understand differently"),
    ],
)
def test_what_cannot_be_expressed_is_named(text, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        parse_cron(text)


@pytest.mark.parametrize(
    "text",
    ["17 2 * * *", "*/20 0-6/3 * * *", "0 3 1,15 * mon", "5 4 * * 0", "0 0 29 2 *", "@hourly"],
)
def test_systemd_wakes_when_cron_does(text):
    """Held against systemd's own reading, where it is installed."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    cron, found = parse_cron(text), set()
    for line in cron.calendar("UTC"):
        said = subprocess.run(
            [program, "calendar", "--iterations=3", f"--base-time={BASE:%F %T} UTC", line],
            capture_output=True, text=True, check=True, env={"LC_ALL": "C", "TZ": "UTC"},
        ).stdout  # fmt: skip
        for day, clock in re.findall(r"(?:elapse|#\d+): \w+ (\S+) (\S+) UTC", said):
            found.add(datetime.fromisoformat(f"{day}T{clock}+00:00"))
    if text != "0 0 29 2 *":  # the next ones are years away
        assert sorted(found)[:3] == elapses(cron, 3)
    assert all(matches(cron, moment) for moment in found)


FIELD = st.sampled_from(["*", "1", "2-4", "*/3", "1-6/2", "5,1"])


@given(st.tuples(*[FIELD] * 5).map(" ".join))
def test_every_reader_of_the_numbers_reads_the_same(text):
    try:
        cron = parse_cron(text)
    except ConfigurationError:
        return
    assert parse_cron(cron.text) == cron
    assert all(re.fullmatch(r"[\w,* :-]+", line) for line in cron.calendar(None))

"""A run names what limits it, and the option that it names helps."""

import asyncio
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import Engine, event

from batcher.cli.run.summary import closing_lines
from batcher.monitoring.progress_text import limit_json, limit_lines, limit_words
from batcher.pacing.limits import Expected, Limit, QuotaLimits, QuotaUse
from batcher.pacing.pacer import Pacer
from batcher.pipeline.engine.decide import cut_off
from batcher.pipeline.engine.pace import Pace
from batcher.pipeline.engine.tally import LimitGauge, LocalLimit, quota_option
from batcher.pipeline.engine.work import Work
from batcher.pipeline.progress import BindingLimit, Progress
from batcher.rows.build.requests import RequestBuilder
from batcher.wiring import json_summary
from tests.making_runs import MODEL, SETTINGS, FakeLane, FastClock, answered, refused, rows
from tests.transport.servers import attempt as some_attempt

UNLIMITED = QuotaLimits()


class SlowReader(RequestBuilder):
    """Takes its time for each row, like a slow disk."""

    def build(self, *args):
        time.sleep(0.004)
        return super().build(*args)


@contextmanager
def slow_commits():
    """Every transaction takes a while longer, like on a slow disk."""

    def wait(_):
        time.sleep(0.08)

    event.listen(Engine, "commit", wait)
    try:
        yield
    finally:
        event.remove(Engine, "commit", wait)


def slow_server() -> FakeLane:
    async def script(_):
        await asyncio.sleep(0.04)
        return answered()

    return FakeLane(script)


def speed(ended) -> float:
    assert ended.exit_code == 0
    return ended.progress.answered / ended.seconds


def gauge(
    pacer: Pacer, limits: QuotaLimits = UNLIMITED, **facts
) -> tuple[LimitGauge, Progress]:
    progress = Progress(**facts)
    return LimitGauge(progress, pacer, limits), progress


# --- Whole runs: each limit provoked, its option changed


@pytest.mark.parametrize(
    ("limit", "option", "tight", "wide"),
    [
        (Limit.REQUESTS, "--rpm", {"requests": 300}, {"requests": 3_000}),
        (Limit.INPUT_TOKENS, "--itpm", {"input_tokens": 3_000}, {"input_tokens": 30_000}),
        (Limit.OUTPUT_TOKENS, "--otpm", {"output_tokens": 1_500}, {"output_tokens": 15_000}),
    ],
)
def test_a_quota_that_binds_is_named_and_its_option_helps(case, limit, option, tight, wide):
    case.write(rows(100))
    case = case.limit(concurrency=32, quota=QuotaLimits(**tight))
    ended = case.run(FakeLane(), FastClock(factor=20))
    assert ended.progress.binding_limit.name == limit
    assert ended.progress.binding_limit.option == option
    case = replace(case, key="wide", name="wide").limit(quota=QuotaLimits(**wide))
    assert speed(case.run(FakeLane(), FastClock(factor=20))) > 1.5 * speed(ended)


def test_a_slow_server_makes_concurrency_the_limit(case):
    case.write(rows(60))
    ended = case.limit(concurrency=2).run(slow_server(), FastClock())
    assert ended.progress.binding_limit.name == Limit.CONCURRENCY
    assert ended.progress.binding_limit.option == "--concurrency"
    case = replace(case, key="wide", name="wide").limit(concurrency=16)
    assert speed(case.run(slow_server(), FastClock())) > 1.5 * speed(ended)


def test_a_slow_database_is_named_and_a_faster_one_helps(case):
    case.write(rows(48))
    with slow_commits():
        ended = case.limit(concurrency=4).run(FakeLane(), FastClock())
    assert ended.progress.binding_limit.name == LocalLimit.DATABASE
    assert ended.progress.binding_limit.option == "--database"
    case = replace(case, key="fast", name="fast").limit(concurrency=4)
    assert speed(case.run(FakeLane(), FastClock())) > 1.5 * speed(ended)


def test_a_slow_reader_is_named_and_a_faster_input_helps(case):
    case.write(rows(300))
    case = case.limit(concurrency=64)  # so that few commits do
    ended = case.run(FakeLane(), FastClock(), builder=SlowReader(SETTINGS))
    assert ended.progress.binding_limit.name == LocalLimit.READER
    assert ended.progress.binding_limit.option == "INPUT"
    fast = replace(case, key="fast", name="fast").run(FakeLane(), FastClock())
    assert speed(fast) > 1.5 * speed(ended)


def test_fewer_rows_than_may_be_in_flight_are_limited_by_nothing(case):
    case.write(rows(30))
    clock = FastClock()
    began = clock.monotonic()

    async def script(_):
        await clock.sleep(10 + 3 * (clock.monotonic() - began))  # longer than reading took
        return answered()

    ended = case.limit(concurrency=64).run(FakeLane(script), clock)
    assert ended.progress.binding_limit is None
    assert "limited by" not in " ".join(closing_lines(case.job(), ended, None))


def test_the_end_of_a_run_tells_its_limit_in_words_and_as_json(case):
    case.write(rows(60))
    case = case.limit(quota=QuotaLimits(requests=300))
    ended = case.run(FakeLane(), FastClock(factor=20))
    words = "\n".join(closing_lines(case.job(), ended, None))
    assert "limited by requests per minute for" in words
    assert "a higher --rpm would raise it" in words
    assert "of 300 requests per minute" in words
    told = json_summary(case.job(), ended, None, None)
    assert (told["binding_limit"], told["binding_option"]) == (Limit.REQUESTS, "--rpm")
    assert told["quota_used"][0]["per_minute"] == 300
    assert "recorded" not in told


def test_every_429_is_counted(case):
    case.write(rows(20))
    busy = refused(429, headers={"retry-after": "1"})
    lane = FakeLane(lambda attempt: busy if attempt.number == 1 else answered())
    ended = case.run(lane, FastClock())
    assert ended.progress.pauses == sum(attempt.number == 1 for attempt in lane.sent)
    assert f"{ended.progress.pauses} answers with status 429 came back" in "\n".join(
        limit_lines(ended.progress)
    )


# --- One look


def test_requests_that_wait_for_the_ledger_make_the_database_the_limit():
    looking, progress = gauge(Pacer(UNLIMITED, 8, 0.0), in_flight=8, sent=20, recorded=15)
    looking.sample(1.0, unsent_rows=5, input_ended=False)
    assert progress.binding_limit_now == BindingLimit(LocalLimit.DATABASE, "--database", 1.0)


def test_without_rows_the_reader_is_the_limit_only_until_the_input_ends():
    looking, progress = gauge(Pacer(UNLIMITED, 8, 0.0), in_flight=3, sent=3, recorded=3)
    looking.sample(1.0, unsent_rows=0, input_ended=False)
    assert progress.binding_limit_now == BindingLimit(LocalLimit.READER, "INPUT", 1.0)
    looking.sample(1.3, unsent_rows=0, input_ended=True)
    assert progress.binding_limit_now is None


def test_what_did_most_of_the_time_is_the_limit_of_the_run():
    looking, progress = gauge(Pacer(UNLIMITED, 8, 0.0), in_flight=8, sent=20, recorded=20)
    for moment in range(3):
        looking.sample(float(moment), unsent_rows=5, input_ended=False)
    progress.in_flight = 2
    looking.sample(3.0, unsent_rows=0, input_ended=False)
    looking.end(4.0)
    assert progress.binding_limit == BindingLimit(Limit.CONCURRENCY, "--concurrency", 0.75)
    assert progress.binding_limit_now is None


def test_an_overloaded_server_is_not_blamed_on_the_option():
    pacer = Pacer(UNLIMITED, 8, 0.0)
    for _ in range(30):
        pacer.concurrency.bad(1.0)
    looking, progress = gauge(pacer, in_flight=8, sent=8, recorded=8)
    looking.sample(2.0, unsent_rows=5, input_ended=False)
    looking.end(3.0)
    assert progress.binding_limit == BindingLimit(Limit.CONCURRENCY, None, 1.0)
    assert "the server is overloaded" in limit_lines(progress)[0]


def test_what_was_cut_off_at_the_end_does_not_make_the_server_overloaded():
    """Ctrl-C cuts off what is in flight; before that, the option was what limited the run."""
    pacer = Pacer(UNLIMITED, 8, 0.0)
    looking, progress = gauge(pacer, in_flight=8, sent=20, recorded=20)
    looking.sample(1.0, unsent_rows=5, input_ended=False)
    for _ in range(30):
        pacer.concurrency.bad(2.0)
    for moment in range(3, 9):
        looking.sample(float(moment), unsent_rows=5, input_ended=False, draining=True)
    looking.end(9.0)
    assert progress.binding_limit == BindingLimit(Limit.CONCURRENCY, "--concurrency", 1.0)


def test_attempts_that_we_cut_off_say_nothing_of_the_server():
    clock = FastClock()
    pacer = Pacer(QuotaLimits(requests=10**9), 8, clock.monotonic())
    pace = Pace(pacer, clock)
    attempt = some_attempt()
    for _ in range(40):
        work = Work(request=attempt.request)
        work.reservation = pacer.sent(MODEL, Expected(0.0, 0.0), clock.monotonic())
        pace.end(work, cut_off(attempt, 2, sent=True))
    assert not pacer.concurrency.is_cut


def test_a_server_that_is_away_is_the_limit_and_not_the_database():
    outage = "endpoint local does not answer"
    looking, progress = gauge(
        Pacer(UNLIMITED, 1, 0.0), in_flight=1, sent=20, recorded=19, outage=outage
    )
    looking.sample(1.0, unsent_rows=5, input_ended=False)
    looking.end(2.0)
    assert progress.binding_limit == BindingLimit(Limit.SERVER, None, 1.0)
    assert limit_lines(progress) == [
        "limited by a server that did not answer for 100 % of the time: no option would"
        " raise it"
    ]


def test_an_overloaded_server_is_not_blamed_on_the_database():
    pacer = Pacer(UNLIMITED, 8, 0.0)
    for moment in (1.0, 7.0, 13.0, 19.0, 25.0, 31.0):
        for _ in range(30):
            pacer.concurrency.bad(moment)
    looking, progress = gauge(pacer, in_flight=1, sent=20, recorded=19)
    looking.sample(32.0, unsent_rows=5, input_ended=False)
    assert progress.binding_limit_now == BindingLimit(Limit.CONCURRENCY, None, 1.0)


def test_answers_that_are_long_in_coming_at_the_end_are_no_unused_quota():
    """Else the end tells a quota that limited the run, and was used to a third."""
    pacer = Pacer(QuotaLimits(requests=300), 128, 0.0)
    for second in range(21):
        for _ in range(5):
            pacer.may_send(MODEL, Expected(0, 0), float(second))
            pacer.sent(MODEL, Expected(0, 0), float(second))
    (use,) = pacer.quota_used(60.0)
    assert use.used == pytest.approx(1.05)  # with the burst of the first second


@pytest.mark.parametrize(
    ("limits", "per_minute", "option"),
    [
        (QuotaLimits(requests=300), 300, "--rpm"),
        (QuotaLimits(requests=300), 100, None),
        (QuotaLimits(requests=300, share=0.5), 100, "--quota-share"),
        (QuotaLimits(share=0.5), 1_000, "--quota-share"),
        (UNLIMITED, 1_000, None),
    ],
)
def test_no_option_is_named_that_would_not_help(limits, per_minute, option):
    uses = [QuotaUse("model", Limit.REQUESTS, per_minute, 0.98)]
    assert quota_option(Limit.REQUESTS, limits, uses) == option


def test_progress_names_limit_quota_refusals_and_option():
    progress = Progress(
        pauses=3,
        binding_limit_now=BindingLimit(Limit.REQUESTS, "--rpm", 1.0),
        quota_used=[QuotaUse("model", Limit.REQUESTS, 300, 0.984)],
    )
    assert limit_words(progress) == (
        "limited by requests per minute, 98 % used, 3 answers with status 429 (--rpm)"
    )


def test_of_many_quotas_the_fullest_are_shown_and_all_are_in_the_json():
    uses = [QuotaUse(f"model-{n}", Limit.REQUESTS, 300, n / 100) for n in range(50)]
    progress = Progress(quota_used=uses)
    lines = limit_lines(progress)
    assert lines[0] == "quota of model-49 used: 49 % of 300 requests per minute"
    assert len(lines) == 5
    assert len(limit_json(progress)["quota_used"]) == 50


def test_nothing_known_is_nothing_said():
    assert limit_words(Progress()) == ""
    assert limit_lines(Progress()) == []
    assert limit_json(Progress())["binding_limit"] is None

"""The ways that rows can go: what each costs, and which is the cheapest."""

from datetime import UTC, datetime

import pytest

from batcher.estimate.census import Inputs
from batcher.estimate.expected_cost import ModelForecast, Tariff
from batcher.estimate.ways import WayCounts, WayTerms, other_models, ways
from batcher.ledger.money.estimates import EndpointTimes
from batcher.messages.request import Request
from batcher.pacing.limits import QuotaLimits
from batcher.pipeline.engine.rater import Rater
from batcher.pricing.book.book import load_shipped

NOW = int(datetime(2026, 11, 30, tzinfo=UTC).timestamp()) * 10**6
MODEL = "claude-haiku-4-5"  # 1 USD in, 5 out; a write for five minutes 1.25, a read 0.10
RATER = Rater(load_shipped(), "anthropic")
IN, OUT = 10**6, 5 * 10**6  # pico-USD a token


def asking(words, system="", model=MODEL, **others):
    body = f'{{"system":"{system}","messages":"{words}"}}'.encode()
    return Request(
        source_id=1,
        row_number=1,
        byte_offset=0,
        custom_id=None,
        params_hash=f"{words:<16}"[:16].encode(),
        model=model,
        max_tokens=100,
        body=body,
        **others,
    )


def compared(requests, tokens_in, tokens_out, **terms):
    counts = WayCounts(Inputs(files=(), builder=None, rater=RATER, now_us=NOW))
    for request in requests:
        counts.add(request)
    forecasts = {
        model: ModelForecast(
            model=model,
            requests=load.rows,
            input_tokens=tokens_in * load.rows,
            output_tokens=None if tokens_out is None else tokens_out * load.rows,
            input_method="measured",
            priced=True,
        )
        for model, load in counts.every.items()
    }
    given = {"has_batches": True, "times": EndpointTimes(), "quota": QuotaLimits()} | terms
    return ways(
        counts,
        WayTerms(models=forecasts, tariff=Tariff(RATER, NOW), concurrency=10, **given),
    )


def by_name(found):
    return {(way.lane, way.once, way.cached, way.model): way for way in found}


def test_a_batch_costs_half_and_equal_rows_are_paid_once():
    found = compared([asking(n % 3) for n in range(6)], 100, 20)
    one = 100 * IN + 20 * OUT
    told = {(way.lane, way.once): (way.requests, way.expected) for way in found}
    assert told == {
        ("batch", True): (3, 3 * one // 2),
        ("live", True): (3, 3 * one),
        ("batch", False): (6, 3 * one),
        ("live", False): (6, 6 * one),
    }
    assert [way.expected for way in found] == sorted(way.expected for way in found)
    ways_ = by_name(found)
    live, batch = ways_["live", False, False, ""], ways_["batch", False, False, ""]
    assert live.ceiling == 2 * batch.ceiling > 0


def test_without_batches_none_are_offered():
    found = compared([asking(1)], 100, 20, has_batches=False)
    assert {way.lane for way in found} == {"live"}


def test_without_an_output_the_ceiling_sorts():
    found = compared([asking(n % 2) for n in range(4)], 100, None)
    assert [way.expected for way in found] == [None] * 4
    assert [way.ceiling for way in found] == sorted(way.ceiling for way in found)


@pytest.mark.parametrize("rows", [2, 3, 50])
def test_a_shared_prefix_is_written_once_and_read_by_the_others(rows):
    system = "s" * 80_000
    requests = [asking(n, system) for n in range(rows)]
    body_bytes = sum(len(request.body) for request in requests)
    found = by_name(compared(requests, 20_000, 10))
    shared = 20_000 * (len(system) + len('""null')) * rows // body_bytes
    full = rows * (20_000 * IN + 10 * OUT)
    saved = (rows - 1) * shared * IN * 9 // 10 - shared * IN // 4
    assert found["live", False, True, ""].expected == full - saved
    saved -= shared * IN * 3 // 4  # an hour costs twice the input, five minutes 1.25
    if saved > 0:
        assert found["batch", False, True, ""].expected == (full - saved) // 2
    else:
        assert ("batch", False, True, "") not in found


@pytest.mark.parametrize(
    "requests",
    [
        [asking("long " * 9_000, "short") for _ in range(9)],  # below what every model caches
        [asking(1, "s" * 80_000)],  # a write that is never read costs more
        [asking(n, f"{n}" + "s" * 80_000) for n in range(9)],
        [asking('","cache_control":{},"x":"', "s" * 80_000)] * 9,  # it caches already
    ],
)
def test_no_cache_is_offered_where_it_saves_nothing_or_cannot_be_told(requests):
    assert not any(way.cached for way in compared(requests, 20_000, 10))


def test_other_models_are_priced_for_the_same_tokens():
    others = other_models(RATER, NOW)
    assert "claude-sonnet-5-5" in others
    found = by_name(compared([asking(1)], 100, 20, others=("claude-opus-5", MODEL)))
    dearer = found["batch", False, False, "claude-opus-5"]
    assert dearer.expected == (100 * 5 * 10**6 + 20 * 25 * 10**6) // 2
    assert ("batch", False, False, MODEL) not in found
    mixed = [asking(1), asking(2, model="claude-opus-5")]
    assert not any(way.model for way in compared(mixed, 100, 20, others=others))


def test_the_time_is_that_of_the_scarcest_quota_or_of_what_was_seen():
    rows = [asking(n) for n in range(120)]
    quota = QuotaLimits(requests=60, input_tokens=6_000, output_tokens=10**6)
    found = by_name(compared(rows, 100, 20, quota=quota))
    assert found["live", False, False, ""].seconds == 120
    assert found["batch", False, False, ""].seconds is None
    assert found["batch", False, False, ""].most_seconds == 86_400
    slower = QuotaLimits(requests=60, share=0.5)
    times = EndpointTimes(latency_us=30_000_000, batch_seconds=(900, 60, 300))
    found = by_name(compared(rows, 100, 20, quota=slower, times=times))
    assert found["live", False, False, ""].seconds == 360  # 120 rows, 30 s each, 10 at once
    assert found["batch", False, False, ""].seconds == 300

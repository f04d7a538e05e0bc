"""From census and sampled answers to the parts of an estimate, without any server."""

import json
import random
from collections import Counter

import pytest

from batcher.clock import seeded
from batcher.estimate.census import Cell, Census, Ticket, draw, size_class
from batcher.estimate.expected_cost import (
    Method,
    Seen,
    Tariff,
    measured_rates,
    parts_of,
    seen_answers,
)
from batcher.estimate.interval import Stratum, expect_total
from batcher.estimate.tokens import guessed_rate, measured_rate
from batcher.ledger.money.estimates import SampledAnswer
from batcher.pipeline.engine.rater import Rater
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings
from tests.making_runs import BOOK

NOW = 1_790_000_000_000_000
TARIFF = Tariff(Rater(BOOK, "anthropic"), NOW)
SONNET, HAIKU = "claude-sonnet-4-6", "claude-haiku-4-5"
RATES = {SONNET: (3_000_000, 15_000_000), HAIKU: (1_000_000, 5_000_000)}  # pico-USD per token
JOBS = 80


def job(seed, rows=1_000, pilot=30, both=False):
    """(census without the pilot's rows, what they showed, what the others will cost)."""
    chance = random.Random(seed)
    made = []
    for number in range(1, rows + 1):
        model = HAIKU if both and number % 3 == 0 else SONNET
        size = int(chance.lognormvariate(6, 1)) + 90
        tokens_in = round(size / 4 * chance.uniform(0.8, 1.2))
        tokens_out = min(int(chance.lognormvariate(5, 0.8) * (2 if size > 600 else 1)), 4_096)
        price_in, price_out = RATES[model]
        cost = tokens_in * price_in + tokens_out * price_out
        made.append(Seen(
            place=("rows", number), model=model, body_bytes=size, input_tokens=tokens_in,
            output_tokens=tokens_out, cost=cost,
        ))  # fmt: skip
    chosen = draw(census_of(made, chance).cells, pilot)["rows"]
    sample = [row for row in made if row.place[1] in chosen]
    left = [row for row in made if row.place[1] not in chosen]
    return census_of(left, chance), sample, sum(row.cost for row in left)


def census_of(rows, chance):
    census = Census(requests=len(rows), models=dict(Counter(row.model for row in rows)))
    for row in rows:
        cell = census.cells.setdefault((row.model, size_class(row.body_bytes)), Cell())
        cell.rows += 1
        cell.body_bytes += row.body_bytes
        ticket = Ticket(chance.random(), *row.place)
        cell.tickets.append((-ticket.chance, ticket))
    return census


def expected(census, sample, method=Method.PILOT):
    rates = measured_rates(sample)
    spare = next(iter(rates.values()))
    parts = parts_of(census, sample, method, dict.fromkeys(RATES, spare) | rates, TARIFF)
    strata = [Stratum(rows=rows, values=values) for rows, values in parts.strata]
    return parts, expect_total(
        strata, seeded("x"), fixed=parts.fixed, margin=parts.margin, ceiling=None
    )


@pytest.mark.parametrize("both", [False, True])
def test_a_pilot_tells_the_cost_of_nine_jobs_in_ten(both):
    held = 0
    for seed in range(JOBS):
        census, sample, cost = job(seed, both=both)
        parts, found = expected(census, sample)
        assert parts.sampled == 30
        held += found.low <= cost <= found.high
    assert held >= JOBS * 85 // 100


def test_every_row_is_predicted_by_one_stratum():
    census, sample, _ = job(1, both=True)
    parts, _ = expected(census, sample)
    assert sum(rows for rows, _ in parts.strata) == census.requests
    assert sum(len(values) for _, values in parts.strata) == len(sample)
    assert all(len(values) >= 8 for _, values in parts.strata)


def test_a_token_rate_that_is_wrong_hardly_moves_a_pilot():
    census, sample, cost = job(3)
    wrong = measured_rate(SONNET, [(row.body_bytes, row.input_tokens * 2) for row in sample])
    parts = parts_of(census, sample, Method.PILOT, {SONNET: wrong}, TARIFF)
    strata = [Stratum(rows=rows, values=values) for rows, values in parts.strata]
    right = expected(census, sample)[1].expected
    assert (
        abs(expect_total(strata, seeded("x"), fixed=parts.fixed).expected - right) < cost / 20
    )


def test_history_says_nothing_of_a_model_it_does_not_hold():
    census, sample, _ = job(1, both=True)
    parts, _ = expected(census, [row for row in sample if row.model == SONNET], Method.HISTORY)
    assert parts.method is Method.CEILING
    assert HAIKU in parts.reason


def answer(usage, **fields):
    known = {
        "source": "rows", "row_number": 1, "own": True, "requested_model": SONNET,
        "model": SONNET, "stop_reason": "end_turn", "content_is_empty": False,
    }  # fmt: skip
    return SampledAnswer(**known | fields, usages=usage)


def test_what_a_cache_saved_lowers_the_value_of_a_row():
    cached = '{"input_tokens":10,"cache_read_input_tokens":990,"output_tokens":100}'
    plain = '{"input_tokens":1000,"output_tokens":100}'
    rows = [seen_answers([answer((usage,))], {}, TARIFF)[0] for usage in (cached, plain)]
    assert [row.input_tokens for row in rows] == [1000, 1000]
    assert rows[1].cost - rows[0].cost == 990 * (3_000_000 - 300_000)


def test_an_answer_costs_what_the_jobs_lane_makes_of_it():
    """Whether it came live or in a batch: a history of batches halved what live rows cost."""
    live = '{"input_tokens":1000,"output_tokens":100,"service_tier":"standard"}'
    batched = '{"input_tokens":1000,"output_tokens":100,"service_tier":"batch"}'
    packed = Tariff(Rater(BOOK, "anthropic", in_batches=True), NOW)
    costs = [
        [row.cost for row in seen_answers([answer((live,)), answer((batched,))], {}, tariff)]
        for tariff in (TARIFF, packed)
    ]
    assert costs == [[4_500_000_000] * 2, [2_250_000_000] * 2]
    assert packed.input_cost(SONNET, 1000) == 1_500_000_000


def test_what_a_run_cached_on_purpose_is_no_saving_of_the_rows():
    """Rows that all read one prefix made the estimate of another run nothing at all."""
    read = '{"input_tokens":10,"cache_read_input_tokens":990,"output_tokens":100}'
    plain = '{"input_tokens":1000,"output_tokens":100}'
    cached = answer((read,), was_cached_on_purpose=True)
    assert seen_answers([cached], {}, TARIFF) == seen_answers([answer((plain,))], {}, TARIFF)


def test_all_legs_of_a_request_count():
    legs = ('{"input_tokens":10,"output_tokens":1}', '{"input_tokens":30,"output_tokens":2}')
    (row,) = seen_answers([answer(legs)], {("rows", 1): 160}, TARIFF)
    assert (row.input_tokens, row.output_tokens, row.body_bytes) == (40, 3, 160)


@pytest.mark.parametrize("usage", [None, "null", "{}", '{"input_tokens":-1}', "no JSON"])
def test_an_answer_without_usage_says_nothing(usage):
    assert seen_answers([answer((usage,))], {}, TARIFF) == []


def test_an_answer_without_a_price_has_no_cost_and_is_not_free():
    usage = ('{"input_tokens":1,"output_tokens":1}',)
    (row,) = seen_answers([answer(usage, model="unheard-of")], {}, TARIFF)
    assert row.cost is None


@pytest.mark.parametrize(
    ("model", "text", "low", "high"),
    [
        (SONNET, "The quick brown fox jumps over the lazy dog. " * 40, 380, 500),
        ("claude-opus-5-5", "The quick brown fox jumps over the lazy dog. " * 40, 540, 680),
        (SONNET, "快速的棕色狐狸" * 100, 650, 800),
        (SONNET, "0123456789" * 100, 400, 600),
    ],
)
def test_a_guess_goes_by_script_and_tokenizer(model, text, low, high):
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
    rate = guessed_rate(model, [request_of(body)])
    assert low <= rate.of(rate.body_bytes) <= high


def test_a_picture_counts_as_a_picture_and_not_by_its_bytes():
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 400_000}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
    body = {"model": SONNET, "messages": [{"role": "user", "content": content}]}
    rate = guessed_rate(SONNET, [request_of(body | {"max_tokens": 9})])
    assert 1_500 < rate.of(rate.body_bytes) < 2_000


def request_of(body):
    made = RequestBuilder(RequestSettings()).build(json.dumps(body).encode(), 1, 1, 0)
    assert made.body
    return made

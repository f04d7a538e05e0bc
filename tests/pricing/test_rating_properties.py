"""Rating adds up, whatever the numbers."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from batcher.pricing.book.book import load_shipped
from batcher.pricing.money import METERS
from batcher.pricing.rate.rating import ChargeStatus, rate
from tests.pricing.answers import DAY, NOVEMBER, answer

BOOK = load_shipped()
MODELS = BOOK.lists["anthropic"].models()

counts = st.none() | st.integers(0, 10**7)
known = st.integers(0, 10**7)
models = st.sampled_from([*MODELS, "claude-unknown"])
days = st.integers(-600, 30).map(lambda day: NOVEMBER + day * DAY)


@st.composite
def usages(draw):
    five, hour = draw(known), draw(known)
    return {
        "input_tokens": draw(known),
        "output_tokens": draw(known),
        "cache_creation_input_tokens": five + hour,
        "cache_creation": {
            "ephemeral_5m_input_tokens": five,
            "ephemeral_1h_input_tokens": hour,
        },
        "cache_read_input_tokens": draw(counts),
        "service_tier": draw(st.sampled_from([None, "standard", "batch", "priority"])),
        "speed": draw(st.sampled_from([None, "standard", "fast"])),
        "inference_geo": draw(st.sampled_from([None, "global", "us"])),
    }


def charges(usage, model, at=NOVEMBER):
    return rate(answer(usage, model), requested_model=model, price_list="anthropic",
                sent_at=at, book=BOOK)  # fmt: skip


@given(usages(), models, days)
def test_the_total_is_the_sum_of_quantity_times_rate(usage, model, at):
    (found,) = charges(usage, model, at)
    if found.status is ChargeStatus.UNPRICED:
        assert found.total is None
        assert found.reason
        return
    parts = [
        (quantity or 0) * Fraction(price or 0)
        for quantity, price in zip(found.quantities, found.rates.rates, strict=True)
    ]
    assert list(found.amounts) == parts
    assert found.total == sum(parts)


@given(usages(), models)
def test_a_charge_has_one_value_per_meter_and_all_are_integers(usage, model):
    (found,) = charges(usage, model)
    assert len(found.quantities) == len(found.amounts) == len(METERS)
    assert all(type(amount) in {int, type(None)} for amount in found.amounts)


@given(usages(), st.sampled_from([m for m in MODELS if m != "claude-haiku-5-5"]))
def test_twice_the_tokens_cost_twice_as_much(usage, model):
    double = {k: 2 * v if type(v) is int else v for k, v in usage.items()}
    double["cache_creation"] = {k: 2 * v for k, v in usage["cache_creation"].items()}
    (one,), (two,) = charges(usage, model), charges(double, model)
    assert (one.total is None) == (two.total is None)
    assert two.total == (one.total and 2 * one.total)


@given(st.lists(st.tuples(known, known, st.sampled_from(MODELS)), min_size=1), st.randoms())
def test_the_order_of_iterations_does_not_change_the_bill(steps, random):
    iterations = [
        {"type": "message", "input_tokens": i, "output_tokens": o, "model": m}
        for i, o, m in steps
    ]
    mixed = random.sample(iterations, len(iterations))
    totals = [
        sum(c.total for c in charges({"input_tokens": 1, "output_tokens": 1, "iterations": its},
                                     "claude-opus-5"))
        for its in (iterations, mixed)
    ]  # fmt: skip
    assert totals[0] == totals[1]


@given(usages(), models, days)
def test_the_same_answer_has_the_same_charges_again(usage, model, at):
    first = charges(usage, model, at)
    BOOK.resolutions.clear()
    assert charges(usage, model, at) == first
    assert hash(first[0].rates) == hash(charges(usage, model, at)[0].rates)

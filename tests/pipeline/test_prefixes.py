"""Which row goes first, which wait, and for how long: decided on a clock of the test's own."""

import json
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.messages.prefix import read_prompt
from batcher.messages.request import Request
from batcher.pipeline.batches.admission import PackedPrefixes
from batcher.pipeline.engine.prefixes import Prefixes, rows_that_save
from batcher.pipeline.engine.work import Work
from tests.making_runs import MODEL, answered, refused

RATES = (300, 375, 600, 30)
RULES = "rule {} " + "of the house " * 1_400
WRITTEN = {"input_tokens": 9, "output_tokens": 5, "cache_creation_input_tokens": 4_000}
NOTHING = {"input_tokens": 9, "output_tokens": 5}


def work(prefix, number, ttl=None):
    """With `ttl` the row has a breakpoint of its own."""
    block = {"type": "text", "text": RULES.format(prefix)}
    own = [block | {"cache_control": {"type": "ephemeral", "ttl": ttl}}] if ttl else None
    body = {
        "model": MODEL,
        "max_tokens": 9,
        "system": own or RULES.format(prefix),
        "messages": [{"role": "user", "content": "hi"}],
    }
    return Work(
        request=Request(
            source_id=1,
            row_number=number,
            byte_offset=0,
            custom_id=None,
            params_hash=b"",
            model=MODEL,
            max_tokens=9,
            body=json.dumps(body).encode(),
        )
    )


class Gate:
    """Prefixes, and rows that were read."""

    def __init__(self, *prefixes):
        self.gate = Prefixes(lambda _: RATES)
        self.works = [work(prefix, number) for number, prefix in enumerate(prefixes, 1)]
        for each in self.works:
            self.gate.add(each)

    def go(self, now):
        """Those that may go now, the first of one more prefix among them."""
        waiting = [w for w in self.works if self.gate.admits(w, now)]
        return waiting or [w for w in self.gate.begin() if self.gate.admits(w, now)]

    def sent(self, *works):
        for each in works:
            self.gate.left(each)
            self.works.remove(each)


def test_one_goes_and_the_others_follow_its_answer():
    shop = Gate("a", "a", "a")
    (first,) = shop.go(0.0)
    shop.sent(first)
    assert shop.gate.waiting == 2
    released = shop.gate.report(first, answered(usage=WRITTEN), 1.0)
    assert released == shop.works
    assert all(shop.gate.admits(each, 2.0) for each in released)
    assert [each.cached.note for each in released] == ["5m", "5m"]


def test_what_is_read_lives_on_and_what_went_cold_is_written_by_one():
    shop = Gate(*"aaaaaaaa")
    (first,) = shop.go(0.0)
    shop.sent(first)
    others = list(shop.gate.report(first, answered(usage=WRITTEN), 1.0))
    assert shop.gate.admits(others.pop(), 200.0)
    assert shop.gate.admits(others.pop(), 450.0)
    shop.works = others
    (again,) = shop.go(800.0)
    assert again.cached.cuts
    assert shop.gate.waiting == len(others) - 1


def test_rows_that_came_back_unanswered_leave_the_way_to_the_next():
    shop = Gate("a", "a", "a")
    (first,) = shop.go(0.0)
    shop.sent(first)
    released = list(shop.gate.report(first, refused(529), 1.0))
    shop.works = released
    (second,) = shop.go(1.0)
    assert second in released
    assert [w for w in [first] if shop.gate.admits(w, 1.0)] == []


def test_one_that_goes_after_all_not_lets_the_others_go():
    shop = Gate("a", "a")
    (first,) = shop.go(0.0)
    assert list(shop.gate.withdraw(first)) == [w for w in shop.works if w is not first]


def test_a_server_that_cached_nothing_is_asked_no_more():
    shop = Gate("a", "a", "a")
    (first,) = shop.go(0.0)
    shop.sent(first)
    released = shop.gate.report(first, answered(usage=NOTHING), 1.0)
    assert [shop.gate.admits(each, 1.0) for each in released] == [True, True]
    assert {each.cached.note for each in released} == {"too_short"}


def test_long_answers_ask_for_an_hour_and_an_hour_for_three_rows():
    shop = Gate("a", "a", *"bbb", *"cc")
    (first,) = shop.go(0.0)
    shop.sent(first)
    assert first.cached.note == "5m"
    shop.gate.report(first, answered(usage=WRITTEN), 250.0)
    later = shop.go(400.0)
    notes = {each.cached.note for each in later}
    assert notes <= {"alone", "1h"}
    assert "5m" not in notes


# --- In batches

HOUR_US = 3_600 * 10**6


def key_of(prefix):
    return read_prompt(work(prefix, 1).request.body).cuts[0].key


def led_by(prefixes, written=(), now=0):
    """The numbers of the rows that go ahead, from 1."""
    gate = PackedPrefixes(lambda _: RATES, dict(written), leading=True)
    works = [work(prefix, number) for number, prefix in enumerate(prefixes, 1)]
    led = [each for each in works if gate.admits(each, now)]
    assert all(each.cached.note == "1h" and each.cached.cuts for each in led)
    return [each.request.row_number for each in led]


def test_in_batches_the_row_that_makes_a_prefix_worth_it_goes_ahead():
    assert led_by("abacabbcbcd") == [5, 7, 10]


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abcde"), max_size=20))
def test_one_row_goes_ahead_for_each_prefix_that_saves_and_for_no_other(prefixes):
    led = [prefixes[number - 1] for number in led_by(prefixes)]
    assert sorted(led) == sorted({each for each in prefixes if prefixes.count(each) >= 3})


def test_what_is_in_the_cache_or_out_to_be_written_is_not_begun_again():
    now = 5 * HOUR_US
    known = {key_of("a"): now + 1, key_of("b"): None, key_of("c"): 0, key_of("d"): now - 1}
    assert led_by("aaabbbcccdddeee", known.items(), now) == [12, 15]


def test_the_others_have_breakpoints_where_the_cache_has_what_they_begin_with():
    now = 5 * HOUR_US
    known = {key_of("a"): now + 1, key_of("b"): None, key_of("c"): 0, key_of("d"): now}
    gate = PackedPrefixes(lambda _: RATES, known, leading=False)
    works = [work(prefix, number) for number, prefix in enumerate("abcde", 1)]
    assert all(gate.admits(each, now) for each in works)
    notes = ["1h", "late", "too_short", "late", "alone"]
    assert [each.cached.note for each in works] == notes
    assert [len(each.cached.cuts) for each in works] == [1, 0, 0, 0, 0]


def test_five_minutes_of_the_rows_own_are_no_hour_in_batches():
    """The note said an hour, and a row went ahead for an entry that was over too soon."""
    for ttl, led in (("1h", [3]), ("5m", [])):
        gate = PackedPrefixes(lambda _: RATES, {}, leading=True)
        works = [work("a", number, ttl) for number in range(1, 5)]
        assert [each.request.row_number for each in works if gate.admits(each, 0)] == led
        key = read_prompt(works[0].request.body).cuts[0].key
        gate = PackedPrefixes(lambda _: RATES, {key: HOUR_US}, leading=False)
        assert gate.admits(works[0], 0)
        assert works[0].cached.note == ("1h" if ttl == "1h" else "late")


def test_the_note_is_the_lifetime_of_the_rows_own_breakpoint():
    shop = Gate()
    shop.works = [work("a", number, "1h") for number in (1, 2)]
    for each in shop.works:
        shop.gate.add(each)
    (first,) = shop.go(0.0)
    assert (first.cached.note, len(first.cached.cuts)) == ("1h", 1)


def test_without_rates_no_row_of_a_batch_goes_ahead():
    gate = PackedPrefixes(lambda _: None, {}, leading=True)
    assert not any(gate.admits(work("a", number), 0) for number in range(1, 9))


# --- Against every schedule there is, for small jobs


def cost(order, groups, lives):
    """Of sending rows in that order, a step apart, each with a breakpoint."""
    total, last = 0, {}
    for step, row in enumerate(order):
        group = groups[row]
        warm = group in last and step - last[group] < lives
        total += RATES[3] if warm else RATES[1]
        last[group] = step
    return total


def cheapest(groups, lives):
    """The least that any order and any choice of what to cache costs: each way is tried."""
    best = None
    for order in permutations(range(len(groups))):
        cached = cost(order, groups, lives)
        best = cached if best is None else min(best, cached)
    alone = {g for g in groups if groups.count(g) < 2}
    return best - sum(RATES[1] - RATES[0] for _ in alone)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.integers(2, 6))
def test_no_schedule_is_cheaper_one_row_at_a_time(groups, lives):
    step = 285.0 / lives  # of five minutes, less the margin
    shop = Gate(*groups)
    now, total, warm = 0.0, 0, {}
    ready, parked = list(shop.works), 0
    while ready or shop.gate.waiting:
        each = ready.pop(0) if ready else None
        if each is None:
            ready = list(shop.gate.begin())
            parked += 1
            assert parked < 50
            continue
        if not shop.gate.admits(each, now):
            continue
        shop.gate.left(each)
        cached = bool(each.cached.cuts)
        key = each.cached.prefix
        is_read = cached and now - warm.get(key, -1e9) < 300.0
        total += RATES[3] if is_read else RATES[1] if cached else RATES[0]
        if cached:
            warm[key] = now
        now += step
        ready += shop.gate.report(each, answered(usage=WRITTEN), now)
    assert total <= cheapest(groups, lives)


@pytest.mark.parametrize(
    ("rates", "lifetime", "rows"),
    [
        (RATES, "5m", 2),
        (RATES, "1h", 3),
        ((400, 500, 800, 20), "1h", 3),
        ((100, 300, 500, 50), "5m", 6),
        ((100, 125, 200, 100), "5m", float("inf")),
    ],
)
def test_so_many_rows_save(rates, lifetime, rows):
    assert rows_that_save(rates, lifetime) == rows
    plain, five, hour, read = rates
    written = hour if lifetime == "1h" else five
    if rows < 100:
        assert written + (rows - 1) * read < rows * plain
        assert written + (rows - 2) * read >= (rows - 1) * plain

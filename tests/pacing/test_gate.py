"""The gate that a 429 shuts for everybody."""

from hypothesis import given
from hypothesis import strategies as st

from batcher.pacing.pool import Gate

SECONDS = st.floats(0, 1e6)
CHANCES = st.floats(0, 1, exclude_max=True)


def test_a_gate_is_open_until_a_refusal_comes():
    assert Gate().is_open(0)


def test_the_servers_moment_is_obeyed_exactly():
    gate = Gate()
    gate.pause(100, 2, chance=0.9)
    assert (gate.is_open(101.999), gate.is_open(102)) == (False, True)


def test_a_later_refusal_never_shortens_the_pause():
    gate = Gate()
    gate.pause(100, 60, chance=0)
    gate.pause(101, 1, chance=0)
    gate.pause(101, None, chance=0)
    assert (gate.shut_until, gate.pauses) == (160, 3)


def test_unexplained_refusals_double_the_pause_until_an_answer_comes():
    gate, lengths, now = Gate(), [], 0.0
    for _ in range(8):
        gate.pause(now, None, chance=0.5)
        lengths.append(gate.shut_until - now)
        now = gate.shut_until
    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60]
    gate.answered()
    gate.pause(now, None, chance=0.5)
    assert gate.shut_until - now == 1


def test_refusals_of_what_was_under_way_are_one_refusal():
    gate = Gate()
    for _ in range(100):
        gate.pause(0, None, chance=0.5)
    assert gate.shut_until == 1


@given(st.lists(st.tuples(SECONDS, st.none() | SECONDS, CHANCES), min_size=1))
def test_nobody_is_ever_let_through_before_a_moment_that_a_server_named(refusals):
    gate, named = Gate(), 0.0
    for now, wait, chance in sorted(refusals, key=lambda refusal: refusal[0]):
        gate.pause(now, wait, chance)
        named = max(named, 0 if wait is None else now + wait)
        assert gate.shut_until >= named
    assert gate.is_open(gate.shut_until)

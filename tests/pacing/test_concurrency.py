"""The cap gives way to overload, and to nothing else."""

from batcher.pacing.backoff import Concurrency


def with_cap(cap: int) -> Concurrency:
    """At a server whose quotas are known."""
    concurrency = Concurrency(cap)
    concurrency.release()
    return concurrency


def overloaded(concurrency: Concurrency, seconds: int, bad: int = 5, good: int = 0) -> None:
    for second in range(seconds):
        for _ in range(bad):
            concurrency.bad(float(second))
        for _ in range(good):
            concurrency.good(float(second))


def test_the_users_cap_holds_while_all_is_well():
    concurrency = with_cap(100)
    for second in range(100):
        concurrency.good(float(second))
    assert concurrency.allowed == 100
    assert not concurrency.is_cut


def test_a_few_failures_change_nothing():
    concurrency = with_cap(100)
    overloaded(concurrency, 3)
    assert concurrency.allowed == 100


def test_one_failure_in_twenty_changes_nothing():
    concurrency = with_cap(100)
    overloaded(concurrency, 60, bad=1, good=19)
    assert concurrency.allowed == 100


def test_overload_cuts_every_five_seconds():
    concurrency = with_cap(100)
    overloaded(concurrency, 10)
    assert concurrency.allowed == 49
    assert concurrency.is_cut


def test_at_least_one_request_is_always_allowed():
    concurrency = with_cap(3)
    overloaded(concurrency, 200)
    assert concurrency.allowed == 1


def test_successes_bring_the_cap_back_and_no_further():
    concurrency = with_cap(100)
    overloaded(concurrency, 20)
    for _ in range(1_000):
        concurrency.good(100.0)
    assert concurrency.allowed == 100


def test_old_failures_are_forgotten():
    concurrency = with_cap(100)
    overloaded(concurrency, 3, bad=6)
    concurrency.bad(60.0)
    concurrency.bad(60.0)
    assert concurrency.allowed == 100

"""What a server forgot after a failover is still known, as far back as the memory goes."""

from msgspec.structs import replace

from batcher.ledger.write.records import Intent, Settlement
from batcher.ledger.write.writer import Recent
from tests.ledger.test_writer import attempt, settlement
from tests.making_runs import answered


def numbers(settlements: list[Settlement]) -> list[int]:
    return [each.attempt.attempt_id for each in settlements]


def test_what_was_committed_after_a_transaction_is_known_in_order():
    recent = Recent()
    for number in range(1, 6):
        again = Intent(attempt=attempt(number + 10))
        recent.add(number, [settlement(2 * number), again, settlement(2 * number + 1)])
    assert numbers(recent.after(3)) == [8, 9, 10, 11]
    assert recent.after(5) == []
    assert recent.reaches(0)


def test_the_oldest_are_dropped_and_that_is_known():
    recent = Recent()
    for number in range(1, 5_001):
        recent.add(number, [settlement(number)])
    assert numbers(recent.after(0)) == list(range(4_489, 5_001))
    assert recent.reaches(4_488)
    assert not recent.reaches(4_487)


def test_large_answers_are_not_hoarded():
    recent, large = Recent(), settlement(1, answered("x" * 2**20))
    for number in range(1, 41):
        recent.add(number, [large])
    kept = len(recent.after(0))
    assert 5 <= kept < 16
    assert not recent.reaches(40 - kept - 1)
    assert recent.reaches(40 - kept)


def test_the_bytes_of_requests_are_not_kept():
    recent, small = Recent(), settlement(1)
    request = replace(small.attempt.request, body=b"x" * 2**20)
    large = replace(small, attempt=replace(small.attempt, request=request, body=request.body))
    for number in range(1, 41):
        recent.add(number, [large])
    (*_, last) = recent.after(0)
    assert recent.reaches(0)
    assert last.attempt.body == last.attempt.request.body == b""
    assert replace(last, attempt=small.attempt) == small
    assert last.attempt == replace(
        small.attempt, body=b"", request=replace(small.attempt.request, body=b"")
    )


def test_what_is_no_settlement_costs_nothing():
    recent = Recent()
    recent.add(1, [Intent(attempt=attempt(1))])
    assert recent.after(0) == []
    assert recent.reaches(0)

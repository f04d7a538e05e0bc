"""What a server forgot after a failover is still known, as far back as the memory goes."""

import msgspec

from batcher.ledger.recent import Recent
from batcher.ledger.records import Intent, Settlement
from tests.ledger.test_writer import attempt, settlement


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
    assert numbers(recent.after(0)) == list(range(3_977, 5_001))
    assert recent.reaches(3_976)
    assert not recent.reaches(3_975)


def test_large_bodies_are_not_hoarded():
    recent, large = Recent(), msgspec.structs.replace(attempt(1), body=b"x" * 2**20)
    for number in range(1, 41):
        recent.add(number, [msgspec.structs.replace(settlement(1), attempt=large)])
    assert len(recent.after(0)) == 15
    assert not recent.reaches(24)
    assert recent.reaches(25)


def test_what_is_no_settlement_costs_nothing():
    recent = Recent()
    recent.add(1, [Intent(attempt=attempt(1))])
    assert recent.after(0) == []
    assert recent.reaches(0)

"""A cap holds whatever several workers do in whatever order, killed ones among them.

Each step is one of the real moves of a run: open a scope, reserve and send, settle, tell, end,
die. After each of them the ledger's own sums stay within the cap, and `verify` finds nothing.
"""

from collections import deque
from concurrent.futures import Future

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from batcher.ledger import runs
from batcher.ledger.connect import reading, writing
from batcher.ledger.money import budget as ledger_budget
from batcher.ledger.money.spending import spending
from batcher.ledger.verify.findings import Findings
from batcher.ledger.verify.totals import budgets_agree
from batcher.pipeline.engine.attempts import Budget, Cap, Wallet
from tests.ledger.settling import NOON, RunLedger

CAP = 10_000
MONTH = "month:2026-11"
WORKERS = 3

STEPS = st.lists(
    st.tuples(
        st.integers(0, WORKERS - 1),
        st.sampled_from(["send"] * 4 + ["settle"] * 3 + ["tell", "lose", "end", "kill"]),
        st.integers(1, CAP // 4),
    ),
    max_size=40,
)


class AtOnce:
    """A writer whose calls are durable when they return."""

    def __init__(self, engine):
        self._engine = engine

    def call(self, work):
        done = Future()
        with writing(self._engine) as connection:
            done.set_result(work(connection))
        return done


class Worker:
    """One process of a run of its own, under the month's cap."""

    def __init__(self, ledger, number):
        self.ledger, self.key = ledger, f"run {number}"
        ledger.next_run(self.key)
        self.scope, self.source_id = ledger.scope, ledger.source_id
        invocation_id = self.scope.invocation_id
        with writing(ledger.engine) as connection:
            runs.recover(
                connection, invocation_id=invocation_id, run_id=self.scope.run_id, now_us=NOON
            )
            state = ledger_budget.open_scope(
                connection, MONTH, cap=CAP, invocation_id=invocation_id
            )
        wallet = Wallet(Cap(scope=MONTH, cap=CAP, words="the cap"), state.settled)
        writer = AtOnce(ledger.engine)
        self.budget = Budget(
            [wallet], invocation_id, writer, call_soon=lambda call: call(), wake=lambda: None
        )
        self.open = deque()

    def write(self, *records):
        self.ledger.scope, self.ledger.source_id = self.scope, self.source_id
        self.ledger.write(*records)

    def send(self, bound):
        """Reserve, then open; a first refusal asks for a slice that is there at once."""
        if not (self.budget.reserve(bound) or self.budget.reserve(bound)):
            return
        self.ledger.scope, self.ledger.source_id = self.scope, self.source_id
        attempt = self.ledger.attempt(cost_high=bound)
        self.write(self.ledger.answered(attempt=attempt)[:1])
        self.open.append(attempt)

    def settle(self, cost):
        """The oldest attempt is answered and cost that much of its bound at most."""
        if not self.open:
            return
        attempt = self.open.popleft()
        cost %= attempt.cost_high + 1
        _, settled = self.ledger.answered(attempt=attempt)
        (charge,) = settled.charges
        charge = replace(charge, total=cost)
        self.write([replace(settled, charges=(charge,))])
        self.budget.settle(attempt.cost_high, cost)

    def lose(self, _):
        """The oldest attempt ends in doubt: its bound counts."""
        if not self.open:
            return
        attempt = self.open.popleft()
        (_, settled) = self.ledger.unknown()
        settled = replace(settled, attempt=attempt, cost_high=attempt.cost_high)
        self.write([settled])
        self.budget.settle(attempt.cost_high, attempt.cost_high)

    def tell(self, _):
        self.budget.tell()

    def end(self, _):
        while self.open:
            self.lose(0)
        self.budget.tell(everything=True)
        with writing(self.ledger.engine) as connection:
            runs.end_invocation(
                connection, self.scope.invocation_id, ended_at=NOON, exit_code=0
            )


def check(ledger):
    findings = Findings()
    with reading(ledger.engine) as connection:
        total = sum(spending(connection, MONTH).values())
        budgets_agree(connection, findings)
    assert total <= CAP
    assert [each.text for each in findings.some] == []


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_a_cap_holds_under_any_interleaving_of_workers(postgres_url, steps):
    ledger = RunLedger(postgres_url)
    with writing(ledger.engine) as connection:
        for table in ("budget_slices", "budgets", "charges", "answers", "rollups", "attempts"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    living = {}
    try:
        for number, move, amount in steps:
            if number not in living:
                living[number] = Worker(ledger, number)
            if move == "kill":
                del living[number]
            else:
                getattr(living[number], move)(amount)
            if move == "end":
                del living[number]
            check(ledger)
    finally:
        ledger.engine.dispose()


@pytest.mark.parametrize("cost", [0, 7, 2_500])
def test_a_dead_worker_leaves_its_open_bounds_until_its_run_goes_on(postgres_url, cost):
    ledger = RunLedger(postgres_url)
    worker = Worker(ledger, 1)
    for _ in range(3):
        worker.send(2_500)
    worker.settle(cost)
    other = Worker(ledger, 2)
    other.send(CAP - 3 * 2_500 + 1)
    assert not other.open  # the dead one's bounds are in the way
    Worker(ledger, 1)
    with reading(ledger.engine) as connection:
        state = ledger_budget.state(connection, MONTH)
    assert state.settled == cost + 2 * 2_500
    check(ledger)
    ledger.engine.dispose()

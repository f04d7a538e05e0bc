"""A cap on money cannot be passed, by any order of events, nor by any number of workers."""

import asyncio
import itertools
import random
import threading

import msgspec
import pytest

from batcher.ledger.connect import open_engine, writing
from batcher.ledger.money import budget as ledger
from batcher.pipeline.engine.attempts import Budget, Cap, Wallet
from batcher.pricing.money import parse_usd
from tests.bill import cost_pico_usd
from tests.making_runs import (
    Case,
    FakeLane,
    answered,
    endpoint_of,
    photograph,
    row,
    rows,
    simulating,
    unknown,
)


def capped(case, usd):
    return case.limit(max_cost=parse_usd(usd))


def spent(case):
    """Everything the ledger says it may have cost: charges, and doubt at its upper bound."""
    ((charged,),) = case.ask("SELECT COALESCE(SUM(amount_pico_usd), 0) FROM v_charges")
    ((doubt,),) = case.ask(
        "SELECT COALESCE(SUM(cost_high_pico_usd), 0) FROM v_attempts"
        " WHERE state IN ('unknown', 'partial', 'unusable', 'open')"
    )
    return int(charged) + int(doubt)


def test_a_cap_stops_the_run_with_77_and_a_higher_one_continues(tmp_path, database_url):
    with simulating() as simulator:
        case = Case(folder=tmp_path, database=database_url, endpoint=endpoint_of(simulator))
        case.write(rows(60))
        ended = capped(case, "0.03").run()
        assert (ended.exit_code, ended.rows_left) == (77, True)
        assert 0 < spent(case) <= parse_usd("0.03")
        assert sum(map(cost_pico_usd, map(msgspec.to_builtins, simulator.bill))) == spent(case)
        assert capped(case, "5").run().exit_code == 0
        assert len(case.texts()) == 60


def test_the_same_cap_again_sends_nothing(tmp_path, sqlite_url):
    case = capped(Case(folder=tmp_path, database=sqlite_url), "0.01")
    case.write(rows(120))
    assert case.run(FakeLane()).exit_code == 77
    again = FakeLane()
    assert case.run(again).exit_code == 77
    assert again.sent == []


def test_doubt_counts_at_its_upper_bound(tmp_path, sqlite_url):
    case = capped(Case(folder=tmp_path, database=sqlite_url), "0.05")
    case.write(rows(200))
    second = itertools.cycle((False, True))  # every attempt in doubt would be an outage
    lane = FakeLane(lambda _: unknown() if next(second) else answered())
    assert case.run(lane).exit_code == 77
    assert 0 < spent(case) <= parse_usd("0.05")


def test_what_has_no_bound_is_not_sent_under_a_cap(tmp_path, sqlite_url):
    case = capped(Case(folder=tmp_path, database=sqlite_url), "5")
    case.write([row("a", model="claude-of-tomorrow"), *rows(3)])
    lane = FakeLane()
    ended = case.run(lane)
    assert ended.exit_code == 65
    assert case.ask("SELECT kind, reason FROM v_failures") == [("quarantined", "NO_BOUND")]
    assert len(lane.sent) == 3


@pytest.mark.parametrize("seed", range(5))
def test_the_cap_holds_under_any_interleaving(tmp_path, sqlite_url, seed):
    chance = random.Random(seed)
    case = capped(Case(folder=tmp_path, database=sqlite_url), "0.04").limit(concurrency=16)
    case.write(rows(120))

    async def answer(attempt):
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        tokens = chance.randrange(1, 257)
        usage = {"input_tokens": 10, "output_tokens": tokens}
        return unknown() if chance.random() < 0.1 else answered(usage=usage)

    assert case.run(FakeLane(answer)).exit_code in {0, 77}
    assert spent(case) <= parse_usd("0.04")


def test_a_killed_worker_leaves_its_worst_case_behind(tmp_path, sqlite_url):
    """The copy is what a kill leaves: attempts open, a slice granted."""
    case = capped(Case(folder=tmp_path, database=sqlite_url), "0.05")
    case.write(rows(200))
    copy = tmp_path / "killed.db"

    async def answer(attempt):
        if len(lane.sent) == 8 and not copy.exists():
            photograph(sqlite_url.removeprefix("sqlite:///"), copy)
        return answered()

    lane = FakeLane(answer)
    case.run(lane)
    killed = capped(Case(folder=tmp_path, database=str(copy)), "0.05")
    killed.write(rows(400))
    assert killed.run(FakeLane()).exit_code == 77
    assert killed.one("SELECT COUNT(*) FROM v_attempts WHERE state = 'unknown'") > 0
    assert 0 < spent(killed) <= parse_usd("0.05")
    ((granted, settled),) = killed.ask("SELECT granted, settled FROM budgets")
    assert (granted, settled) == (0, spent(killed))


def test_a_month_is_capped_over_several_runs(tmp_path, sqlite_url):
    first = Case(folder=tmp_path, database=sqlite_url).limit(max_cost_month=parse_usd("0.02"))
    first.write(rows(5))
    assert first.run(FakeLane()).exit_code == 0
    second = Case(
        folder=tmp_path, database=sqlite_url, key="other", inputs=("more.jsonl",)
    ).limit(max_cost_month=parse_usd("0.02"))
    second.write(rows(300), name="more.jsonl")
    assert second.run(FakeLane()).exit_code == 77
    assert spent(second) <= parse_usd("0.02")


def test_workers_side_by_side_are_never_granted_more_than_the_cap(database_url):
    """Grants are conditional updates of one row: four threads ask until nobody gets more."""
    engine = open_engine(database_url)
    with writing(engine) as connection:
        runs = _invocations(connection, 4)
        for number in runs:
            ledger.open_scope(connection, "month:2026-11", cap=1_000, invocation_id=number)
    granted = dict.fromkeys(runs, 0)

    def ask(number):
        while True:
            with writing(engine) as connection:
                if not ledger.grant(connection, "month:2026-11", number, 7):
                    return
            granted[number] += 7

    threads = [threading.Thread(target=ask, args=(number,)) for number in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted.values()) == 1_000 // 7 * 7
    with writing(engine) as connection:
        assert ledger.state(connection, "month:2026-11").granted == sum(granted.values())
    engine.dispose()


def _invocations(connection, count):
    """That many living invocations of as many runs."""
    from batcher.ledger import runs

    start = runs.InvocationStart(
        started_at=0, host="h", pid=1, os_user="u", version="0", command="c", endpoint="e",
        base_url="b", lane="live", simulated=False, price_list=None, settings_digest="d",
        token="", options={}, tags={},
    )  # fmt: skip
    return [
        runs.start_invocation(connection, runs.open_run(connection, f"run {n}", None, 0), start)
        for n in range(count)
    ]


def test_a_reservation_takes_from_all_scopes_or_from_none():
    wallets = [Wallet(Cap(scope=s, cap=100, words=s), 0) for s in ("run:1", "month:2026-11")]
    wallets[0].granted, wallets[1].granted = 50, 10
    budget = Budget(wallets, 1, None, call_soon=lambda call: call(), wake=lambda: None)
    budget.refused = wallets[1].cap
    assert not budget.reserve(20)
    assert [wallet.reserved for wallet in wallets] == [0, 0]
    assert budget.reserve(10)
    assert [wallet.free for wallet in wallets] == [40, 0]
    budget.settle(10, 4)
    assert [wallet.free for wallet in wallets] == [46, 6]

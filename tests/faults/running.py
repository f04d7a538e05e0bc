"""Runs that meet faults on the wire: those that stop a run alone, all others side by side."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batcher.pacing.backoff import BreakerPolicy
from batcher.pipeline.job import RunLimits
from batcher.transport.endpoint import Endpoint
from tests.e2e.invariants import check_after_crash, open_books
from tests.faults.kinds import End, Order, WireFault
from tests.faults.serving import faulty, serving
from tests.making_runs import AT_ONCE, Case, FakeLane, FastClock, row, simulating

# Many rows fail side by side, and the server is there.
PATIENT = BreakerPolicy(trips_after=10**6, trips_after_seconds=1e6, suspects_after=10**6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the ledger holds of one row. `attempts`: state, error type, low, high; in order."""

    attempts: list[tuple[str, str | None, int, int | None]]
    end: End


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """A run and what became of each fault's row, by the fault's id."""

    exit: int
    error: str
    found: dict[str, Found]
    neighbours: list[Found]


def group_of(fault: WireFault) -> str:
    """Faults of one group meet one run."""
    alone = fault.id if fault.follows.end is End.TO_DO else ""
    return f"{type(fault.cause).__name__} {sorted(fault.endpoint.items())} {alone}"


def meet(folder: Path, database: str, faults: Sequence[WireFault]) -> Met:
    """One run whose rows meet these faults, checked as a whole; see `check_nothing_lost`."""
    case = Case(
        folder=folder,
        database=database,
        limits=RunLimits(concurrency=16, retry=AT_ONCE, breaker=PATIENT),
    )
    numbered = list(enumerate(faults, 2))
    prompts = [_prompt(number, fault) for number, fault in numbered]
    listed = ["first", *prompts, "last"]
    case.write(row(prompt, f"id-{n}") for n, prompt in enumerate(listed, 1))
    ended = _run(case, faults, {"rows.jsonl": len(listed)})
    found = [_found(case, number) for number in range(1, len(listed) + 1)]
    met = Met(
        exit=ended.exit_code,
        error=ended.error,
        found={fault.id: found[number - 1] for number, fault in numbered},
        neighbours=[found[0], found[-1]],
    )
    check_nothing_lost(case, len(listed))
    return met


def _prompt(number: int, fault: WireFault) -> str:
    if not isinstance(fault.cause, Order):
        return faulty(number)
    again = "" if fault.times is None else f"*{fault.times}"
    return f"{fault.cause.prompt.replace('{n}', again)} row {number}"


def _run(case: Case, faults: Sequence[WireFault], inputs: dict[str, int]) -> Any:
    fields = faults[0].endpoint
    if isinstance(faults[0].cause, Order):
        with simulating() as simulator:
            case.endpoint = _endpoint(simulator.base_url, **fields)
            ended = case.run(clock=FastClock())
        bill = [json.loads(line) for line in simulator._bill.text().splitlines()]
        check_after_crash(open_books(case.database, bill), inputs)
        return ended
    wanted = {n: (fault.cause.answer, fault.times) for n, fault in enumerate(faults, 2)}
    with serving(wanted) as server:
        case.endpoint = _endpoint(server.url, **fields)
        ended = case.run(clock=FastClock())
    _check_seen(case, server.uids)
    return ended


def _endpoint(url: str, **fields: Any) -> Endpoint:
    return Endpoint(name="simulator", base_url=url, price_list="anthropic", **fields)


def _check_seen(case: Case, uids: list[str]) -> None:
    """Whatever arrived is in the ledger, and nothing arrived twice."""
    known = {uid for (uid,) in case.ask("SELECT attempt_uid FROM v_attempts")}
    assert set(uids) <= known
    assert len(set(uids)) == len(uids)


def _found(case: Case, number: int) -> Found:
    attempts = case.ask(
        "SELECT state, error_type, cost_low_pico_usd, cost_high_pico_usd"
        " FROM v_attempts WHERE row_number = :n ORDER BY attempt",
        n=number,
    )
    kinds = case.ask(
        "SELECT kind FROM v_failures WHERE row_number = :n"
        " UNION ALL SELECT 'answered' FROM v_answers WHERE row_number = :n",
        n=number,
    )
    assert len(kinds) <= 1, "a row is in two places"
    return Found(attempts=attempts, end=End(kinds[0][0]) if kinds else End.TO_DO)


def check_nothing_lost(case: Case, rows: int) -> None:
    """Once all faults are gone, the same command answers every row."""
    case.release()
    assert case.run(FakeLane(), FastClock()).exit_code == 0
    assert [number for number, _ in case.texts()] == list(range(1, rows + 1))

"""How every run stands: its rows, what is in doubt, its last process, how to go on."""

import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median

import msgspec
from sqlalchemy import Connection, Engine

from batcher.clock import SystemClock
from batcher.errors import UsageError
from batcher.ledger.batches.store import StoredBatch, batches_out
from batcher.ledger.connect import reading
from batcher.ledger.owner.lock import is_process_of
from batcher.ledger.owner.sharing import Member, claims_of, members
from batcher.report import run_state
from batcher.report.figures import ReportLine
from batcher.report.request import COMMONEST, FailureGroup, read_failure_groups


class Life(StrEnum):
    """What became of a process.

    `FAILED`: the database failed it, so its end is not in there, and its last outcomes wait in
    a lifeboat. `UNKNOWN` runs or died on a machine that is not this one.
    """

    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    DIED = "died"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastInvocation:
    """The latest process of a run, one that is running if there is one.

    Moments are microseconds UTC; `None`: no end is recorded, or there is no deadline.
    `also_running` counts the other processes of this machine that do the run at present.
    """

    invocation_id: int
    started_at: int
    ended_at: int | None
    exit_code: int | None
    life: Life
    host: str
    pid: int
    os_user: str
    endpoint: str
    command: str
    deadline_at: int | None = None
    also_running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One of the processes that do a run together at present.

    Its lease ends in `lease_seconds`, if it says nothing meanwhile: one below 0 is followed by
    the others. `rows` are those of its shards, `per_second` are its answers since it began.
    `is_behind`: it is silent, or makes less than half of what is usual among them.
    """

    invocation_id: int
    host: str
    pid: int
    started_at: int
    lease_seconds: float
    shards: int
    shards_done: int
    rows: int
    in_flight: int
    answered: int
    per_second: float
    is_behind: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """One run. `rows` and `to_do` are `None` while an input has not been read to its end.

    `inputs` are the names of its files. `failed` includes `failed_transient` ones, which the
    next invocation tries again. `money` is what it cost, and what of that is assumed, in doubt,
    perhaps billed or without a price. `reasons` are the commonest of rows without an answer.
    `last` is `None` when no process ever started. `workers` do it together now, `limited_by` is
    the quota or the pause that they wait for, empty where they wait for none. `batches` are
    those not collected. `late_rows` were answered after the deadline, `missed`: so they were,
    or it has passed and some are to do.
    """

    run_id: int
    key: str
    job: str | None
    inputs: tuple[str, ...]
    rows: int | None
    answered: int
    failed: int
    failed_transient: int
    quarantined: int
    held: int
    to_do: int | None
    money: ReportLine
    reasons: tuple[FailureGroup, ...]
    last: LastInvocation | None
    workers: tuple[Worker, ...] = ()
    limited_by: str = ""
    batches: tuple[StoredBatch, ...] = ()
    late_rows: int = 0
    missed: bool = False

    @property
    def nodes(self) -> int:
        """On how many machines the workers are."""
        return len({worker.host for worker in self.workers})

    @property
    def advice(self) -> tuple[str, ...]:
        """What to type to go on, one sentence each; empty when there is nothing to do."""
        last, advice = self.last, []
        if last is not None and last.life is not Life.RUNNING and self._has_more():
            advice.append(f"To go on, type the same command again: {last.command}")
        given_up = self.failed - self.failed_transient + self.held
        if given_up:
            advice.append("`batcher retry` makes failed and held rows work to do again.")
        return tuple(advice)

    def _has_more(self) -> bool:
        if self.last is None or self.last.life is not Life.ENDED:
            return True
        left = self.to_do is None or self.to_do > 0 or self.failed_transient > 0
        return left and self.last.exit_code != 0


def read_status(
    engine: Engine, run_id: int | None = None, lifeboats: Collection[int] = ()
) -> tuple[RunStatus, ...]:
    """Every run, or the one asked for, in the order they were begun; one moment of all.

    `lifeboats` are the invocations whose last outcomes wait in one.

    Raises `UsageError` when there is no such run.
    """
    with reading(engine) as connection:
        found = run_state.read_runs(connection, run_id)
        if run_id is not None and not found:
            raise UsageError(f"there is no run {run_id} here: `batcher status` lists all runs")
        return tuple(_status(connection, run, lifeboats) for run in found)


def deadline_missed_unseen(engine: Engine, key: str) -> int | None:
    """The deadline that passed while rows of the run were to do and no process did it any more.

    `None`: there is none, or whoever ended the run has told.
    """
    with reading(engine) as connection:
        found = [run for run in run_state.read_runs(connection, None) if run.key == key]
        for status in (_status(connection, run, ()) for run in found):
            if status.missed and status.last and status.to_do != 0:
                return status.last.deadline_at
    return None


def _status(
    connection: Connection, run: run_state.RecordedRun, lifeboats: Collection[int]
) -> RunStatus:
    files = run_state.read_files(connection, run.run_id)
    failures = run_state.read_failures(connection, run.run_id)
    answered = run_state.count_answered(connection, run.run_id)
    latest = run_state.read_latest(connection, run.run_id)
    unfollowed = [process for process in latest if not process.clean]
    running = [process for process in unfollowed if _life(connection, process) is Life.RUNNING]
    last = next(iter([*running, *latest]), None)
    failed, transient = failures.get("failed", (0, 0))
    quarantined, held = (failures.get(kind, (0, 0))[0] for kind in ("quarantined", "held"))
    rows = sum(files.values()) if files and None not in files.values() else None  # type: ignore[arg-type] # no None is left
    settled = answered + failed + quarantined + held
    workers = _workers(connection, run.key)
    to_do = None if rows is None else max(rows - settled, 0)
    told = (
        None
        if last is None
        else _last(connection, last, lifeboats, also_running=len(running[1:]))
    )
    deadline = told.deadline_at if told else None
    late = 0 if deadline is None else run_state.count_late(connection, run.run_id, deadline)
    over = deadline is not None and deadline < SystemClock().now_us()
    return RunStatus(
        run_id=run.run_id,
        key=run.key,
        job=run.job,
        inputs=tuple(files),
        rows=rows,
        answered=answered,
        failed=failed,
        failed_transient=transient,
        quarantined=quarantined,
        held=held,
        to_do=to_do,
        money=run_state.read_money(connection, run.run_id),
        reasons=tuple(read_failure_groups(connection, 1, run=run.run_id, groups=COMMONEST)),
        batches=tuple(batches_out(connection, run.run_id)),
        last=told,
        late_rows=late,
        missed=late > 0 or (over and to_do != 0),
        workers=workers,
        limited_by=_limit(connection, workers),
    )


def _workers(connection: Connection, run_key: str) -> tuple[Worker, ...]:
    found = [_worker(connection, member) for member in members(connection, run_key)]
    usual = median([worker.per_second for worker in found]) if len(found) > 1 else 0
    return tuple(
        replace(each, is_behind=each.lease_seconds < 0 or each.per_second < usual / 2)
        for each in found
    )


def _limit(connection: Connection, workers: Sequence[Worker]) -> str:
    """What the workers wait for, in words, as far as they told each other."""
    if not workers:
        return ""
    claims = claims_of(connection, [worker.invocation_id for worker in workers])
    pause = max((claim.paused_seconds for claim in claims), default=0.0)
    if pause:
        return f"a pause that the server asked for, {pause:,.0f} s more"
    # Who waits for a quota wants all of it.
    wanted = sorted({claim.model_class for claim in claims if claim.demand >= 1})
    return f"the quota of {' and '.join(wanted)}" if wanted else ""


def _worker(connection: Connection, member: Member) -> Worker:
    process = run_state.read_process(connection, member.invocation_id)
    answered = run_state.answered_by(connection, member.invocation_id)
    seconds = max(SystemClock().now_us() - process.started_at, 1) / 1_000_000
    return Worker(
        invocation_id=member.invocation_id,
        host=process.host,
        pid=process.pid,
        started_at=process.started_at,
        lease_seconds=member.lease_seconds,
        shards=member.shards,
        shards_done=member.shards_done,
        rows=member.rows,
        in_flight=run_state.open_attempts_of(connection, member.invocation_id),
        answered=answered,
        per_second=round(answered / seconds, 1),
    )


def _last(
    connection: Connection,
    row: run_state.Process,
    lifeboats: Collection[int],
    *,
    also_running: int,
) -> LastInvocation:
    life = _life(connection, row)
    if life not in {Life.RUNNING, Life.ENDED} and row.invocation_id in lifeboats:
        life = Life.FAILED
    return LastInvocation(
        invocation_id=row.invocation_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        life=life,
        host=row.host,
        pid=row.pid,
        os_user=row.os_user,
        endpoint=row.endpoint,
        command=row.command,
        deadline_at=msgspec.json.decode(row.options).get("deadline_us"),
        also_running=also_running,
    )


def _life(connection: Connection, row: run_state.Process) -> Life:
    if row.ended_at is not None:
        return Life.ENDED
    if row.host != socket.gethostname():
        return Life.UNKNOWN
    if not _is_alive(row.pid):
        return Life.DIED
    same = is_process_of(connection, row.invocation_id, row.pid)
    if same is None:
        return Life.UNKNOWN
    return Life.RUNNING if same else Life.DIED


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # somebody else's process
    return True

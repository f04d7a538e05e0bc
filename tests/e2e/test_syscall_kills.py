"""Kills at the n-th system call: before every step of the commit protocol, not at random.

strace delivers SIGKILL when a call begins, so the call does not happen: everything before it
did, and nothing after it. The campaign kills where it has killed least often.
"""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.campaign import Campaign
from tests.e2e.commit_steps import CALLS, steps_of
from tests.e2e.crashes import CrashingRun, fault_options
from tests.e2e.inputs import QUICK, varied_rows, write_jsonl
from tests.e2e.invariants import check_at_the_end, check_everything, open_books
from tests.e2e.processes import Folder, Simulator
from tests.e2e.system_calls import need_strace, read_calls, strace

KILLS = 300
TIMES_EACH = 5
NOT_KILLED = "not killed, it made fewer calls"
REPORT_EVERY = 10  # the report's own sums are compared after every tenth kill
# What a campaign may not leave out, whatever SQLite's version calls between these. The first
# thread that makes so many calls is killed: the writer syncs more often than the main thread,
# whose syncs when the file is closed are out of reach. They change nothing that a kill leaves
# behind, and cut power looks at them.
PROTOCOL = {
    *("lock: open", "lock: write", "lock: clear"),
    *("database: make", "database: open", "journal: write", "journal: sync"),
    *("log: open", "log: write", "log: sync", "index: open", "index: cut", "folder: sync"),
    *("schema: frame", "schema: sync", "start: frame", "start: sync"),
    *("intent: first frame", "intent: frame", "intent: sync", "intent: unlock"),
    *("request: connect", "request: send", "answer: read"),
    *("settlement: frame", "settlement: sync", "settlement: unlock"),
    *("checkpoint: sync the log", "checkpoint: write", "checkpoint: sync"),
    *("end: frame", "end: sync"),
    *("close: write", "index: remove", "log: remove"),
}


def test_kills_at_chosen_system_calls_lose_nothing(folder, simulate):
    need_strace()
    # Enough rows for all of the kills, also when each commit takes four rows at once.
    run = _run(folder, simulate(*fault_options()), rows=80, concurrency=4)
    log = folder.path / "calls.log"
    for name, number in (("pwrite64", 60), ("fdatasync", 9), ("fdatasync", 6), ("write", 14)):
        assert run.kill_through(_killing(log, name, number)), (name, number)

    assert run.finish().code in {0, 65}

    check_everything(folder, run.database, run.simulator, run.inputs)


def test_a_call_in_which_the_process_is_killed_does_not_happen(folder):
    need_strace()
    log, said = folder.path / "calls.log", folder.path / "said"
    with said.open("w") as output:
        folder.start("--version", through=_killing(log, "write", 1), stdout=output).wait()

    (written,) = [call for call in read_calls(log) if call.name == "write"]
    assert written.returned is None
    assert said.read_text() == ""


@pytest.mark.campaign
def test_a_campaign_of_kills_at_system_calls_loses_nothing(folder, simulate, pytestconfig):
    need_strace()
    campaign = Campaign("syscall-kills", pytestconfig)
    scenes = list(_scenes(folder, simulate))
    steps = {target.step for scene in scenes for target in scene.targets}
    assert steps >= PROTOCOL, "no call is known for some step"
    results = campaign.results()
    while campaign.has_time() and not _is_enough(results):
        number = len(results)
        scene, target = _next(scenes, results, random.Random(number))
        scene.restore()
        hit = scene.kill(target)
        scene.finish(with_report=number % REPORT_EVERY == 0)
        campaign.add(number=number, scene=scene.name, wanted=target.step, step=hit)
        results = campaign.results()
    hits = Counter(result["step"] for result in results)
    told = ", ".join(f"{step} {times}" for step, times in sorted(hits.items()))
    campaign.tell(f"{_kills(hits)} kills, no violation ({told})")


@dataclass(frozen=True, slots=True)
class Target:
    """The `number`-th call named `name`, which is `step` when nothing disturbs the run."""

    step: str
    name: str
    number: int


@dataclass(slots=True)
class Scene:
    """A state of both books from which a command starts again and again."""

    name: str
    run: CrashingRun
    saved: Path
    bill: bytes
    targets: list[Target]
    requests: int  # of a run that is not killed

    def restore(self) -> None:
        """Put everything back, the bill in place: the simulator has it open."""
        shutil.rmtree(self.run.folder.path)
        shutil.copytree(self.saved, self.run.folder.path)
        self.run.simulator.bill_path.write_bytes(self.bill)

    def kill(self, target: Target) -> str:
        """Kill the run there and look into both books; the step that was hit."""
        log = self.run.folder.path / "calls.log"
        if not self.run.kill_through(_killing(log, target.name, target.number)):
            return NOT_KILLED
        calls = read_calls(log)
        steps = steps_of(calls, Path(self.run.database), self.requests)
        (hit,) = [
            step
            for call, step in zip(calls, steps, strict=True)
            if (call.name, call.number) == (target.name, target.number)
        ]
        return hit or "between steps"

    def finish(self, *, with_report: bool) -> None:
        """The same command to its end, and everything checked."""
        run = self.run
        ended = run.finish()
        while ended.code == 69:  # the few rows that were left met errors only
            ended = run.finish()
        assert ended.code in {0, 65}, ended.err
        if with_report:
            check_everything(run.folder, run.database, run.simulator, run.inputs)
        else:
            check_at_the_end(open_books(run.database, run.simulator.bill()), run.inputs)


def _scenes(folder: Folder, simulate) -> Iterator[Scene]:
    """Nothing yet; a log that becomes full; a finished run whose file grew; a killed run; and
    one whose intents and settlements are written apart, as many answers are errors.

    Those without chance, one request after the other, make the same calls again and again.
    """
    calm = simulate("--latency-ms", "0")
    yield _scene("new", _run(folder, calm, rows=2, concurrency=1))

    run = _run(folder, calm, rows=230, concurrency=1)
    assert run.kill_after(80)  # the rest is more than SQLite leaves in the log
    yield _scene("long", run)

    _clear(run)
    quick = QUICK.replace("0.2", "0.01").replace("0.02", "0.01")
    (folder.path / "config.toml").write_text(quick)
    failing = simulate("--latency-ms", "0", "--fault", "500=0.4", "--seed", "3")
    run = _run(folder, failing, rows=16, concurrency=1)
    yield _scene("failing", run)

    _clear(run)
    faulty = simulate("--latency-ms", "0-10", "--seed", "7", *fault_options())
    (folder.path / "config.toml").write_text(QUICK)
    _run(folder, faulty, rows=8, concurrency=4).finish()
    yield _scene("grown", _run(folder, faulty, rows=20, concurrency=4))

    _clear(run)
    run = _run(folder, faulty, rows=30, concurrency=4)
    assert run.kill_after(8)
    yield _scene("killed", run)


def _clear(run: CrashingRun) -> None:
    for path in run.folder.path.glob("batcher.db*"):
        path.unlink()
    run.simulator.bill_path.write_bytes(b"")


def _run(folder: Folder, simulator: Simulator, *, rows: int, concurrency: int) -> CrashingRun:
    write_jsonl(folder.path / "rows.jsonl", varied_rows(rows, seed=4))
    return CrashingRun(
        folder=folder,
        simulator=simulator,
        database=str(folder.path / "batcher.db"),
        inputs={"rows.jsonl": rows},
        concurrency=concurrency,
    )


def _scene(name: str, run: CrashingRun) -> Scene:
    """Save the state as it is, then let the run end once to learn what it calls."""
    path = run.folder.path
    saved = path.with_name(f"saved-{name}")
    shutil.copytree(path, saved)
    scene = Scene(name, run, saved, run.simulator.bill_path.read_bytes(), [], 0)
    log = path / "calls.log"
    assert not run.kill_through(strace(log, CALLS))
    calls = read_calls(log)
    scene.requests = sum(
        call.texts[:1] != [] and call.texts[0][:4] == b"POST" for call in calls
    )
    steps = steps_of(calls, Path(run.database), scene.requests)
    seen: set[tuple[str, int]] = set()
    for call, step in zip(calls, steps, strict=True):
        if step and (call.name, call.number) not in seen:
            scene.targets.append(Target(step, call.name, call.number))
        seen.add((call.name, call.number))
    scene.restore()
    return scene


def _next(
    scenes: list[Scene], results: list[dict[str, str]], chance: random.Random
) -> tuple[Scene, Target]:
    """A target whose step was hit least often.

    No two runs make quite the same calls: a step that was missed is also looked for beside its
    place in the undisturbed run, and the sooner others have their turn.
    """
    hits = Counter(result["step"] for result in results)
    missed = Counter(result["wanted"] for result in results if _is_miss(result))
    known = [(scene, target) for scene in scenes for target in scene.targets]
    if min(hits[step] for step in PROTOCOL) < TIMES_EACH:
        known = [found for found in known if found[1].step in PROTOCOL]
    weights = {
        target.step: hits[target.step] + min(missed[target.step] // 2, 2) for _, target in known
    }
    least = min(weights.values())
    step = chance.choice(sorted(step for step, weight in weights.items() if weight == least))
    found = [(scene, target) for scene, target in known if target.step == step]
    quick = [(scene, target) for scene, target in found if scene.name != "long"]
    scene, target = chance.choice(quick or found)
    off = chance.choice([0, 0, min(missed[step], 3)])
    number = max(1, target.number + chance.randint(-off, off))
    return scene, Target(target.step, target.name, number)


def _is_miss(result: dict[str, str]) -> bool:
    return result["wanted"] != result["step"]


def _kills(hits: Counter[str]) -> int:
    return hits.total() - hits[NOT_KILLED]


def _is_enough(results: list[dict[str, str]]) -> bool:
    hits = Counter(result["step"] for result in results)
    return _kills(hits) >= KILLS and min(hits[step] for step in PROTOCOL) >= TIMES_EACH


def _killing(log: Path, name: str, number: int) -> tuple[str, ...]:
    """Follow all calls of the protocol and kill when a thread makes the `number`-th `name`."""
    return strace(log, CALLS, "-e", f"inject={name}:signal=SIGKILL:when={number}")

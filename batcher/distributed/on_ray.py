"""`batcher run --on ray`: Ray places workers, which join one run, and starts anew what dies.

This process begins the run, shows it and says how it ended, but does none of its rows. Each
worker is an actor that holds a process of its own, the same as one of `--processes`: what a
row becomes, who may send it and what it cost, nothing of that knows Ray.
"""

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from batcher.clock import SystemClock
from batcher.config.files import environment_of, set_unless_set
from batcher.errors import BatcherError, ConfigurationError
from batcher.pipeline.job import Job, Services, SignalWays
from batcher.pipeline.progress import Ended, Observer, Progress
from batcher.wiring.child import failed, start_process
from batcher.wiring.process import OwnProcess, Process
from batcher.wiring.processes import Team, part_of, run_with

_LOOK_SECONDS: Final = 0.3
_PATIENCE_SECONDS: Final = 10.0  # for an answer of an actor; one that moves takes longer
_STORE_BYTES: Final = 100_000_000  # of a local cluster, for objects: nothing large is passed
_FIRST_WAIT_SECONDS: Final = 1.0  # before a process that was killed is followed by another
_LONGEST_WAIT_SECONDS: Final = 60.0
_GOES_WELL_SECONDS: Final = 60.0  # after that a death is not one of a series


def run_on_ray(
    job: Job,
    observer: Observer,
    before: Callable[[Services], None] | None = None,
    signals: SignalWays = SignalWays(),  # noqa: B008 - frozen
    process: Process = OwnProcess(),  # noqa: B008 - has no state
) -> Ended:
    """Do `job` by workers on the cluster of RAY_ADDRESS, or on a local one made for it.

    Concurrency is that of each worker, the limit that of all. Raises `ConfigurationError` where
    there is no Ray, or no cluster.
    """
    command_uid = SystemClock().token()
    alone = replace(
        job,
        join=True,
        on=None,
        output=None,
        base=job.base.absolute(),
        command_uid=command_uid,
    )
    cluster = _Cluster(job.workers)

    def connected(services: Services) -> None:
        if before is not None:
            before(services)
        cluster.connect()

    team = Team(lambda: cluster.place(alone), observer, leads_only=True)
    first = replace(alone, limits=replace(job.limits, row_limit=0))
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # Ray tells of deaths
        try:
            return run_with(team, first, connected, signals, process)
        finally:
            cluster.leave()


class _Cluster:
    """The connection to Ray, and the workers on it; used by one run."""

    def __init__(self, workers: int | None) -> None:
        self._workers = workers
        self._address = environment_of(["RAY_ADDRESS"]).get("RAY_ADDRESS", "")
        self._folder: Path | None = None
        self._ray: Any = None
        self._first_end = threading.Event()
        self._problem: Exception | None = None
        self._is_ready, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._stay, daemon=True)

    def connect(self) -> None:
        """Join the cluster, or start one; raises `ConfigurationError`."""
        if self._address.startswith("ray://"):
            raise ConfigurationError(
                "RAY_ADDRESS names Ray's client port, which is not made for long runs: start"
                " the command on the cluster with `ray job submit`"
            )
        self._thread.start()
        self._is_ready.wait()
        if self._problem is not None:
            self.leave()
            raise ConfigurationError(self._words(self._problem)) from self._problem

    def _stay(self) -> None:
        """Hold the connection: Ray takes over the main thread's signals, and dies with ours."""
        try:
            self._init()
        except Exception as exc:  # noqa: BLE001 - whatever Ray raises
            self._problem = exc
        self._is_ready.set()
        self._is_over.wait()
        if self._ray is not None:
            self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _init(self) -> None:
        options: dict[str, Any] = {"address": self._address}
        if not self._address:
            self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
            set_unless_set("RAY_AUTH_MODE", "token")  # else one stays in the home
            set_unless_set("RAY_AUTH_TOKEN", secrets.token_hex(32))
            set_unless_set("RAY_USAGE_STATS_ENABLED", "0")
            options = {
                "address": "local",
                "num_cpus": self._workers or 1,
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
                "_node_ip_address": "127.0.0.1",
                "_temp_dir": str(self._folder),
            }
        import ray  # noqa: PLC0415 - seldom needed, and heavy

        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
        self._ray = ray

    def _words(self, problem: Exception) -> str:
        if isinstance(problem, ImportError):
            return "--on ray needs the extra `ray`: pip install 'messages-batcher[ray]'"
        where = f"the Ray cluster at {self._address}" if self._address else "a local Ray"
        words = " ".join(str(problem).split())[:300]
        return f"{where} cannot be used: {words or type(problem).__name__}"

    def place(self, job: Job) -> Sequence["_PlacedWorker"]:
        """The workers, each doing its part of `job` from when Ray has a place for it."""
        count = self._workers or self._nodes()
        limit = job.limits.row_limit
        shares = [job] * count
        if limit is not None:
            parts = [part_of(limit, number, count) for number in range(count)]
            shares = [
                replace(job, limits=replace(job.limits, row_limit=part))
                for part in parts
                if part
            ]
        actor = self._ray.remote(
            num_cpus=1, max_restarts=0 if limit else -1, scheduling_strategy="SPREAD"
        )(RayWorker)
        return [_PlacedWorker(self._ray, actor, share, self._first_end) for share in shares]

    def _nodes(self) -> int:
        nodes = [each for each in self._ray.nodes() if each["Alive"]]
        fit = [each for each in nodes if each["Resources"].get("CPU", 0) >= 1]
        return max(len(fit), 1)

    def leave(self) -> None:
        """End what was started for this run, and leave nothing behind."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()


@dataclass(frozen=True, slots=True)
class Look:
    """How far a worker is. `life` tells one actor from the next that took its place.

    `progress` is that of its process and of those that it followed. `end` is only there when
    `is_over`, and not even then for a process that was killed.
    """

    life: str
    progress: Sequence[Progress]
    is_over: bool
    end: Ended | None


class _PlacedWorker:
    """See `Other`: an actor somewhere, looked at from a thread of its own.

    `over` is set when the first worker has ended by itself: those that Ray has no place for are
    not waited for then.
    """

    def __init__(self, ray: Any, actor: Any, job: Job, over: threading.Event) -> None:  # noqa: ANN401
        self._ray, self._job, self._over = ray, job, over
        self._actor = actor.remote(job, str(Path.cwd()))
        self._told: list[int] = []
        self._life = ""
        self._earlier: list[Progress] = []
        self._now: list[Progress] = []
        self._end: Ended | None = None
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def progress(self) -> Sequence[Progress]:
        """See `Other.progress`."""
        return [*self._earlier, *self._now]

    def tell(self, number: signal.Signals) -> None:
        """See `Other.tell`; who takes the actor's place is told, too."""
        self._told.append(number)
        with suppress(Exception):  # it is gone, or moves
            self._actor.tell.remote(int(number))

    def wait(self, seconds: float | None = None) -> bool:
        """See `Other.wait`."""
        return self._has_ended.wait(seconds)

    def kill(self) -> None:
        """See `Other.kill`."""
        with suppress(Exception):
            self._ray.kill(self._actor)
        self._has_ended.set()

    def close(self) -> None:
        """See `Other.close`."""
        self.kill()
        self._thread.join(_PATIENCE_SECONDS)

    def end(self) -> Ended | None:
        """See `Other.end`."""
        return self._end

    def _watch(self) -> None:
        try:
            while not self._has_ended.wait(_LOOK_SECONDS):
                self._look()
        except Exception as exc:  # noqa: BLE001 - whatever Ray raises
            words = " ".join(str(exc).split())[:300]
            if self._job.limits.row_limit is None:
                code = BatcherError.exit_code
                self._end = failed(code, f"a worker on Ray was lost: {words}", Progress())
        finally:
            self._has_ended.set()

    def _look(self) -> None:
        errors = self._ray.exceptions
        try:
            look: Look = self._ray.get(self._actor.look.remote(), timeout=_PATIENCE_SECONDS)
        except (errors.GetTimeoutError, errors.ActorUnavailableError):
            if not self._life and (self._over.is_set() or self._told):
                self._has_ended.set()  # Ray has found no place for it
            return
        except errors.ActorDiedError:
            if self._job.limits.row_limit is None and not self._told:
                raise
            self._has_ended.set()
            return
        self._see(look)

    def _see(self, look: Look) -> None:
        if look.life != self._life:
            self._earlier += map(still, self._now)
            for number in self._told if self._life else ():
                self._actor.tell.remote(int(number))
        self._life, self._now = look.life, list(look.progress)
        if look.is_over:
            self._end = look.end
            self._over.set()
            self._has_ended.set()


class RayWorker:
    """Starts the process when it is made, and another where that one is killed.

    Under a `--limit` there is no other: nobody knows how much of it is used up.
    """

    def __init__(self, job: Job, folder: str) -> None:
        self._job, self._folder = job, folder
        self._clock = SystemClock()
        self._life = f"{socket.gethostname()}:{os.getpid()}"
        self._earlier: list[Progress] = []
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._is_told = False
        self._begin()

    def look(self) -> Look:
        """How far it is, now."""
        if self._was_killed() and self._clock.monotonic() >= self._again_at():
            self._earlier.append(still(self._child.said))
            self._begin()
        is_over = self._has_ended() and not self._was_killed()
        if is_over:
            self._child.close()
        progress = [*self._earlier, self._child.said]
        return Look(self._life, progress, is_over, self._child.end() if is_over else None)

    def tell(self, number: int) -> None:
        """A signal that the driver got."""
        self._is_told = True
        self._child.tell(signal.Signals(number))

    def _begin(self) -> None:
        self._begun_at = self._clock.monotonic()
        self._died_at: float | None = None
        self._child = start_process(self._job, self._folder)

    def _has_ended(self) -> bool:
        return self._child.process.poll() is not None

    def _was_killed(self) -> bool:
        """Whether another process shall follow this one."""
        may_follow = not self._is_told and self._job.limits.row_limit is None
        return may_follow and self._has_ended() and self._child.process.returncode < 0

    def _again_at(self) -> float:
        if self._died_at is None:
            self._died_at = self._clock.monotonic()
            if self._died_at - self._begun_at > _GOES_WELL_SECONDS:
                self._wait_seconds = _FIRST_WAIT_SECONDS
            else:
                self._wait_seconds = min(self._wait_seconds * 2, _LONGEST_WAIT_SECONDS)
        return self._died_at + self._wait_seconds / 2


def still(progress: Progress) -> Progress:
    """What is left of one that is gone: nothing of it is under way."""
    return replace(progress, in_flight=0, cap_reserved=0, money_wait="", database_wait="")

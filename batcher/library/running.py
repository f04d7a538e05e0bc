"""`batcher.run`: the rows of a program, sent by the same run that the command begins.

Ctrl-C while a run works in a thread of its own is heard without touching anybody's handlers.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, Unpack, cast

from batcher import wiring
from batcher.errors import Busy, ConfigurationError, UsageError, did_you_mean
from batcher.estimate.look_ahead import look_ahead
from batcher.library.ledgers import Ledger, RowAnswer
from batcher.monitoring.monitors import Monitors
from batcher.pipeline.job import Job, Services, SignalWays
from batcher.pipeline.progress import Ended, Resent, Started
from batcher.rows.read.spool import is_table, spool_rows, spool_table

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
Hear = Callable[[signal.Signals], object]


class Interrupts:
    """What the caller's KeyboardInterrupts become for the run: a drain, then an abort."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hear: Hear | None = None
        self._waiting = 0
        self._has_begun = False

    def begin(self) -> None:
        """The run is about to send: from here on it is awaited. Raises if it is to end."""
        with self._lock:
            if self._waiting:
                raise Busy("interrupted before anything was sent")
            self._has_begun = True

    def told(self, hear: Hear) -> None:
        """Whoever hears of them from now on; see `SignalWays.told`."""
        with self._lock:
            self._hear = hear
            for _ in range(self._waiting):
                hear(signal.SIGINT)
            self._waiting = 0

    def tell(self) -> bool:
        """Pass one on; whether the run may be awaited, since it will end soon."""
        with self._lock:
            if self._hear is None:
                self._waiting += 1
            else:
                with suppress(RuntimeError):  # its loop is closed: it ends already
                    self._hear(signal.SIGINT)
            return self._has_begun


def in_own_thread(work: Callable[[], T], interrupts: Interrupts) -> T:
    """What `work` gives or raises, done where no event loop runs yet.

    A first KeyboardInterrupt lets the run end in order, a second one cuts off what is in
    flight; it is raised again when all is recorded.
    """
    done: Future[T] = Future()

    def do() -> None:
        try:
            done.set_result(work())
        except BaseException as exc:  # noqa: BLE001 - raised where it was asked for
            done.set_exception(exc)

    threading.Thread(target=do, name="batcher", daemon=True).start()
    pressed = False
    while not done.done():
        try:
            wait([done])
        except KeyboardInterrupt:
            pressed = True
            if not interrupts.tell():
                raise
    if pressed:
        raise KeyboardInterrupt
    return done.result()


Name = str | os.PathLike[str]


class RunOptions(TypedDict, total=False):
    """The options of `batcher run` with underscores; `batcher help run` says what each does."""

    job: Name
    endpoint: str
    name: str
    base_url: str
    model: str
    max_tokens: int
    system: str
    prompt: str
    config: Name
    date: str
    tag: Mapping[str, str]
    no_preflight: bool
    concurrency: int
    rpm: int
    itpm: int
    otpm: int
    quota_share: float
    limit: int
    max_runtime: str
    max_cost: str | float
    prices: Name
    strict: bool
    dedup: bool
    max_bad: str | int
    on_unknown: Literal["retry", "hold", "fail"]
    on_truncate: str
    fallback: Sequence[str]
    fallback_after: str
    fallback_on_doubt: bool
    on_invalid: str
    if_running: Literal["fail", "skip", "wait"]
    accept_change: bool
    again: bool
    yes: bool
    force: bool
    output: Name
    store: Literal["full", "answer", "usage"]
    log_file: Name
    log_format: Literal["text", "json"]
    metrics_file: Name
    ping_url: str
    processes: int
    join: bool
    lane: Literal["live", "batch", "auto"]
    deadline: str
    deadline_pays: bool
    tz: str
    no_wait: bool
    cancel: bool
    database: Name


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Run:
    """How one invocation of a run ended, and the way to its answers.

    `exit_code` and `summary` are those of `batcher run --json`: 0, all rows are done; 65, some
    have no answer; anything else, rows are left, and the same call goes on. `error` says why in
    a sentence, empty for 0. `notes` is what the command would have said before and meanwhile.
    """

    run_id: int
    invocation_id: int
    exit_code: int
    error: str
    summary: Mapping[str, Any]
    notes: Sequence[str]
    ledger: Ledger

    def __repr__(self) -> str:
        """One line, as a notebook shows it."""
        told = self.summary
        end = f"exit code {self.exit_code}: {self.error}" if self.error else "all rows are done"
        return (
            f"<Run {self.run_id}: {told['sent']:,} sent, {told['answered']:,} answered,"
            f" ${told['cost_usd']}; {end}>"
        )

    def answers(self) -> Iterator[RowAnswer]:
        """Its final answers in input order, of all invocations; see `Ledger.answers`."""
        return self.ledger.answers(self.run_id)

    def to_arrow(self) -> "pa.Table":
        """See `Ledger.to_arrow`."""
        return self.ledger.to_arrow(self.run_id)

    def to_pandas(self) -> Any:  # noqa: ANN401 - a DataFrame of pandas, which we do not require
        """See `Ledger.to_pandas`."""
        return self.ledger.to_pandas(self.run_id)


def run(rows_or_path: Name | Iterable[Any] | None = None, **options: Unpack[RunOptions]) -> Run:
    """Send the rows that are still to do, and return when all is recorded.

    `rows_or_path` is the name of an input or a list of names, as on the command line; or rows:
    dicts, a DataFrame, a table of Arrow or whatever hands its columns on as Arrow. Rows are
    kept in a file beside the database, so that a later call with the same rows goes on with the
    same run, and pays for no answer twice. `None`: the inputs of the `job`.

    It works in a thread of its own, also where an event loop runs, and changes nothing of the
    process. Ctrl-C lets what is in flight end, a second one cuts it off; `KeyboardInterrupt`
    follows when all is recorded.

    Raises:
        BatcherError: nothing was sent; its kinds, each with an `exit_code`, are those of
            `batcher.errors`. What goes wrong later is told by the `Run`.
    """
    given = _checked(options)
    typed = _asked(rows_or_path, given)
    interrupts = Interrupts()
    work = partial(_watched, typed, interrupts, assume_yes=bool(given.get("yes")))
    return in_own_thread(work, interrupts)


def _watched(typed: wiring.Asked, interrupts: Interrupts, *, assume_yes: bool) -> Run:
    made: list[Run] = []

    def do(monitors: Monitors) -> int:
        made.append(_run(wiring.resolve(typed), monitors, interrupts, assume_yes=assume_yes))
        return made[0].exit_code

    wiring.watched(typed, do, process=wiring.SharedProcess())
    return made[0]


def _run(job: Job, monitors: Monitors, interrupts: Interrupts, *, assume_yes: bool) -> Run:
    wiring.check_together(job, pilot=False)
    if job.on is not None:
        raise ConfigurationError(f"on = {job.on!r} is for the command: type {job.command}")
    notes = list(job.endpoint.sentences)
    listener = _Listener(notes, assume_yes=assume_yes)

    def before(services: Services) -> None:
        look_ahead(job, services, notes.append, None, assume_yes=assume_yes)
        interrupts.begin()

    ended = wiring.run(
        job,
        monitors.beside(listener),
        before,
        signals=SignalWays(told=interrupts.told),
        process=wiring.SharedProcess(),
    )
    written, ended = wiring.output_of(job, ended, listener.start, notes.append)
    return _made(job, ended, listener, written)


def _made(job: Job, ended: Ended, listener: "_Listener", written: int | None) -> Run:
    start = listener.start
    if start is None:
        raise AssertionError("a run that ended has begun")
    return Run(
        run_id=start.run_id,
        invocation_id=start.invocation_id,
        exit_code=ended.exit_code,
        error=ended.cause,
        summary=wiring.json_summary(job, ended, start, written),
        notes=tuple(listener.notes),
        ledger=Ledger(_absolute(job.database)),
    )


def _absolute(database: str) -> str:
    """The same ledger from whatever folder the program changes to."""
    return database if "://" in database else str(Path(database).absolute())


class _Listener:
    """See `Observer`: shows nothing, keeps what was said."""

    def __init__(self, notes: list[str], *, assume_yes: bool) -> None:
        self.notes = notes
        self.start: Started | None = None
        self._assume_yes = assume_yes

    def started(self, event: Started) -> None:
        """See `Observer.started`."""
        self.start = event.after(self.start)
        self.notes += [event.price_note, *event.notes]

    def ended(self, event: Ended) -> None:
        """See `Observer.ended`: the `Run` tells it."""

    def noted(self, sentence: str) -> None:
        """See `Observer.noted`."""
        self.notes.append(sentence)

    def waiting(self, reason: str) -> None:
        """See `Observer.waiting`."""
        self.notes.append(reason)

    def draining(self, reason: str) -> None:
        """See `Observer.draining`."""
        self.notes.append(f"{reason}: nothing more is sent, waiting for what is in flight")

    def confirm_resend(self, resent: Resent) -> bool:  # noqa: ARG002 - nobody is asked
        """See `Observer.confirm_resend`."""
        return self._assume_yes


# What of the options is no setting, or has another name there.
_RENAMED: Final = {"tag": "tags"}
_APART: Final = ("job", "config", "accept_change", "yes", "force", "no_preflight")


def _checked(options: RunOptions) -> dict[str, Any]:
    """Those that were given, file names as text; raises `UsageError` for an unknown one."""
    known = RunOptions.__annotations__
    for name in options:
        if name not in known:
            raise UsageError(f"run() takes no {name}{did_you_mean(name, known)}")
    return {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in options.items()
        if value is not None
    }


def _asked(rows_or_path: object, given: Mapping[str, Any]) -> wiring.Asked:
    """What the command would be asked with these options and rows."""
    settings = {
        _RENAMED.get(name, name): str(value)
        if isinstance(value, float) and name == "max_cost"
        else value
        for name, value in given.items()
        if name not in _APART
    }
    if isinstance(alone := given.get("fallback"), str):
        settings["fallback"] = (alone,)  # which is a sequence of letters, too
    if given.get("no_preflight"):
        settings["preflight"] = False
    job_path = Path(given["job"]) if "job" in given else None
    names = _names(rows_or_path)
    typed = wiring.asked(
        names or (),
        job_path,
        given.get("config"),
        accept_change=bool(given.get("accept_change") or given.get("yes")),
        force=bool(given.get("force")),
        options=settings,
    )
    if names is None:
        folder = wiring.spool_folder(wiring.place_of(typed)[0])
        names = (str(_spooled(rows_or_path, folder)),)
    arguments = ["run", *names, *_arguments(given)]
    return replace(typed, inputs=names or typed.inputs, command=wiring.command_of(arguments))


def _names(rows_or_path: object) -> tuple[str, ...] | None:
    """Names of inputs, none for a job's own; `None` for rows."""
    match rows_or_path:
        case None:
            return ()
        case str() | os.PathLike():
            return (os.fspath(rows_or_path),)
        case [str() | os.PathLike(), *_]:
            return tuple(os.fspath(each) for each in cast("Sequence[Name]", rows_or_path))
        case _:
            return None


def _spooled(rows: object, folder: Path) -> Path:
    if is_table(rows):
        return spool_table(folder, rows)
    if not isinstance(rows, Iterable) or isinstance(rows, Mapping | bytes):
        raise UsageError(
            f"{type(rows).__name__} is nothing that has rows: give names of files, dicts, a"
            " DataFrame or a table of Arrow"
        )
    return spool_rows(folder, cast("Iterable[Mapping[str, Any]]", rows))


def _arguments(given: Mapping[str, Any]) -> Iterator[str]:
    """The options as they would be typed: what continues the run is a command, too."""
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            for key, each in value.items():
                yield from (option, f"{key}={each}")
        elif isinstance(value, list | tuple):
            for each in value:
                yield from (option, str(each))
        elif value is True:
            yield option
        elif value is not False:
            yield from (option, str(value))

"""One more process of a run: how it is started and heard, and what it does itself."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from batcher.errors import BatcherError
from batcher.pipeline.job import HEARD, Job, SignalWays
from batcher.pipeline.progress import Ended, Progress, Resent, Started
from batcher.wiring.ready import run_here

_TELL_SECONDS: Final = 0.2


@dataclass(slots=True)
class ChildProcess:
    """See `Other`: a process of this machine, and what it said last."""

    process: "subprocess.Popen[bytes]"
    said: Progress = field(default_factory=Progress)
    ended: Ended | None = None
    listener: threading.Thread | None = None

    @property
    def progress(self) -> Sequence[Progress]:
        """See `Other.progress`."""
        return (self.said,)

    def tell(self, number: signal.Signals) -> None:
        """See `Other.tell`."""
        if self.process.stdin:
            with suppress(OSError, ValueError):  # it has ended
                self.process.stdin.write(bytes([number]))
                self.process.stdin.flush()

    def wait(self, seconds: float | None = None) -> bool:
        """See `Other.wait`."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """See `Other.kill`."""
        self.process.kill()

    def close(self) -> None:
        """See `Other.close`."""
        with suppress(OSError):
            if self.process.stdin:
                self.process.stdin.close()
        if self.listener:
            self.listener.join()

    def end(self) -> Ended | None:
        """See `Other.end`."""
        code = self.process.returncode
        if self.ended is not None or code < 0:
            return self.ended
        words = f"process {self.process.pid} of this run ended with code {code}"
        return failed(BatcherError.exit_code, words, self.said)

    def listen(self) -> None:
        """Hear what it says, until it has ended."""
        pipe = self.process.stdout
        while pipe is not None:
            try:
                message = pickle.load(pipe)  # noqa: S301 - from a child of ours
            except (EOFError, OSError, pickle.UnpicklingError):
                pipe.close()
                return
            if isinstance(message, Ended):
                self.ended, self.said = message, message.progress
            else:
                self.said = message


def failed(code: int, words: str, progress: Progress) -> Ended:
    """The end of a worker that could not say it itself."""
    return Ended(
        exit_code=code, error=words, rows_left=True, seconds=0, progress=progress, last=False
    )


def start_process(job: Job, folder: str | None = None) -> ChildProcess:
    """A process of this machine that does `job`, in `folder` if there is such a one."""
    # The same interpreter with the same places to import from, whatever folder it is in.
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; from batcher.wiring.child import work; work()"
    )
    # It is born deaf, and hears of signals from us: a service manager sends them to all.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    try:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd=folder if folder and Path(folder).is_dir() else None,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    with suppress(OSError):  # it ended at once, and says why itself
        if process.stdin is not None:
            process.stdin.write(pickle.dumps(job))
            process.stdin.flush()
    child = ChildProcess(process)
    child.listener = threading.Thread(target=child.listen, daemon=True)
    child.listener.start()
    return child


# --- In the other processes


def work() -> None:
    """Do the part that standard input tells of; what comes of it goes to standard output."""
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may get between
    turn_deaf()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    asked = os.fdopen(0, "rb", closefd=False)
    job: Job = pickle.load(asked)  # noqa: S301 - from the process that started us
    teller = _Teller(told)
    try:
        ended = run_here(job, teller, signals=SignalWays(told=partial(_hear, asked)))
    except BatcherError as exc:
        ended = failed(exc.exit_code, str(exc), Progress())
    teller.end(ended)
    sys.exit(ended.exit_code)


def turn_deaf() -> None:
    """Signals do nothing to us from now on, and to programs that we start what they did."""
    for number in HEARD:
        if signal.getsignal(number) is not signal.SIG_IGN:  # which is handed on
            signal.signal(number, lambda *_: None)


def _hear(asked: IO[bytes], heard: Callable[[signal.Signals], object]) -> None:
    """Call `heard` with each signal that the parent tells of, and with its end, as SIGTERM."""

    def listen() -> None:
        with suppress(RuntimeError):  # our part of the run is over
            while number := asked.read(1):
                heard(signal.Signals(number[0]))
            heard(signal.SIGTERM)

    threading.Thread(target=listen, daemon=True).start()


class _Teller:
    """See `Observer`: tells the parent."""

    def __init__(self, told: IO[bytes]) -> None:
        self._told = told
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def started(self, event: Started) -> None:
        """See `Observer.started`."""
        self._thread = threading.Thread(target=self._tell, args=(event.progress,), daemon=True)
        self._thread.start()

    def ended(self, event: Ended) -> None:
        """See `Observer.ended`; `end` says it."""

    def draining(self, reason: str) -> None:
        """See `Observer.draining`; the parent says it."""

    def noted(self, sentence: str) -> None:
        """See `Observer.noted`; the sum says it at the end."""

    def waiting(self, reason: str) -> None:
        """See `Observer.waiting`."""

    def confirm_resend(self, resent: Resent) -> bool:  # noqa: ARG002 - the parent has asked
        """See `Observer.confirm_resend`."""
        return False

    def end(self, ended: Ended) -> None:
        """The last that is told."""
        self._over.set()
        if self._thread:
            self._thread.join()
        self._say(ended)

    def _tell(self, progress: Progress) -> None:
        while not self._over.wait(_TELL_SECONDS):
            self._say(progress)

    def _say(self, message: Any) -> None:  # noqa: ANN401 - Progress or Ended
        try:
            self._told.write(pickle.dumps(message))
            self._told.flush()
        except (OSError, RuntimeError):  # the parent is gone, or it changed meanwhile
            return

"""`batcher` in processes that are forked from one which has imported the program before.

Most of what a short command costs is its imports, and the suite types hundreds of commands. A
forked process has its own folder, environment, streams and end, like one that was started anew.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
Stream = IO[bytes] | int | None

START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["tests.e2e.forked", "tests.e2e.warmed"])


class Forked:
    """A process of `batcher`; what is given means what it means for `Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        stdout: Stream,
        stderr: Stream,
        stdin: Stream = subprocess.DEVNULL,
    ) -> None:
        self.args = ["batcher", *arguments]
        self._threads: list[threading.Thread] = []
        self._heard: dict[IO[bytes], bytes] = {}
        self.stdin, read = _input(stdin)
        self.stdout, out = _stream(stdout)
        self.stderr, messages = _stream(stderr)
        theirs = (read, out, messages)
        given = (self.args, str(folder), dict(environment), theirs)
        self._process = START.Process(target=_be_batcher, args=given)
        self._process.start()
        for stream in theirs:
            stream.close()
        self.pid, self.sentinel = self._process.pid, self._process.sentinel

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        if not wait([self.sentinel], timeout):
            raise subprocess.TimeoutExpired(self.args, timeout)
        self._process.join()
        return self._process.exitcode

    def communicate(
        self, given: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes | None, bytes | None]:
        """Each stream has a thread, so that none is ever full; after a time-out it goes on."""
        if not self._threads:
            if self.stdin:
                self._begin(self._say, given or b"")
            for stream in filter(None, (self.stdout, self.stderr)):
                self._begin(self._hear, stream)
        self.wait(timeout)
        for thread in self._threads:
            thread.join()
        return self._heard.get(self.stdout), self._heard.get(self.stderr)

    def _begin(self, *what: Any) -> None:
        target, *given = what
        self._threads.append(threading.Thread(target=target, args=given))
        self._threads[-1].start()

    def _hear(self, stream: IO[bytes]) -> None:
        with stream:
            self._heard[stream] = stream.read()

    def _say(self, given: bytes) -> None:
        with contextlib.suppress(BrokenPipeError), self.stdin as stream:
            stream.write(given)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _input(wanted: Stream) -> tuple[IO[bytes] | None, Connection]:
    """Our end of a pipe, if one is wanted, and where the process reads."""
    if wanted == subprocess.PIPE:
        theirs, ours = os.pipe()
        return os.fdopen(ours, "wb"), Connection(theirs, writable=False)
    if wanted == subprocess.DEVNULL:
        return None, Connection(os.open(os.devnull, os.O_RDONLY), writable=False)
    return _stream(wanted)


def _stream(wanted: Stream) -> tuple[IO[bytes] | None, Connection]:
    """Our end of a pipe, if one is wanted, and where the process writes."""
    if wanted == subprocess.PIPE:
        ours, theirs = os.pipe()
        return os.fdopen(ours, "rb"), Connection(theirs, readable=False)
    if wanted == subprocess.DEVNULL:
        return None, Connection(os.open(os.devnull, os.O_WRONLY), readable=False)
    number = wanted if isinstance(wanted, int) else wanted.fileno()
    return None, Connection(os.dup(number), readable=False)


def _be_batcher(
    words: list[str],
    folder: str,
    environment: dict[str, str],
    streams: tuple[Connection, ...],
) -> None:
    """In the forked process: take its place and be the command."""
    _end_with_the_tests()
    gc.freeze()  # what was imported stays: nobody looks through it again
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = words
    from batcher.cli import main

    main()


def _end_with_the_tests() -> None:
    """However the tests end, also by SIGKILL: the process that forks ends then, and so do we.

    It ends when nobody holds the other end of its pipe any more, which we were given too.
    """
    os.close(forkserver._forkserver._forkserver_alive_fd)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)

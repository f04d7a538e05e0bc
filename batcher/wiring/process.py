"""Settings of the whole process, for one that sends and does nothing else; none for others."""

import ctypes
import gc
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Final

from batcher.config.files import set_unless_set
from batcher.errors import ConfigurationError
from batcher.pipeline.run.run import LoopFactory

_M_MMAP_THRESHOLD: Final = -3  # of mallopt(3)
_M_ARENA_MAX: Final = -8
_LARGE_BYTES: Final = 2**20
_ARROW_BYTES: Final = 2**17  # its buffers are smaller than a megabyte, and many
_SWITCH_SECONDS: Final = 0.0005  # ten times as often as usual
_OTHER_FILES: Final = 128  # inputs, the database, tools: besides a connection per request


class OwnProcess:
    """One that does nothing but this run: everything is set for it."""

    def log(self) -> None:
        """There is a log file: without a terminal, a hang-up means that it was moved.

        It is opened anew for each line, so nothing else is to be done. A terminal that went
        away hangs up, too, and whoever typed the command there has not asked for more work.
        """
        if not _has_terminal():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def begin(self, concurrency: int) -> None:
        """Before anything is read; raises `ConfigurationError` for too few open files."""
        keep_little_memory()
        allow_connections(concurrency)

    def send(self, *, of_arrow: bool) -> None:
        """Before anything is sent; `of_arrow`: rows come from Parquet."""
        if of_arrow:
            keep_little_memory(of_arrow=True)
        collect_garbage_seldom()
        take_turns_quickly()


class SharedProcess:
    """Somebody's program, in which a run is one thing of many: nothing of it is changed."""

    def log(self) -> None:
        """See `OwnProcess.log`; does nothing."""

    def begin(self, concurrency: int) -> None:
        """Raises `ConfigurationError` for too few open files."""
        allow_connections(concurrency, may_raise_limit=False)

    def send(self, *, of_arrow: bool) -> None:
        """See `OwnProcess.send`; does nothing."""


Process = OwnProcess | SharedProcess


def _has_terminal() -> bool:
    """Whether a terminal controls this process, wherever its streams lead."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def keep_little_memory(*, of_arrow: bool = False) -> None:
    """Rows of many megabytes come and go: without this, glibc keeps twice the largest.

    Nor does each thread need a heap of its own: the interpreter's lock lets one work at a time.
    pyarrow takes its memory from there too when this comes before its import; otherwise its own
    allocator keeps 20 MB more. `of_arrow` says that it is used, which costs other files speed.
    """
    set_unless_set("ARROW_DEFAULT_MEMORY_POOL", "system")
    with suppress(OSError, AttributeError):  # other C libraries have no such settings
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _ARROW_BYTES if of_arrow else _LARGE_BYTES)
        libc.mallopt(_M_ARENA_MAX, 1)


def allow_connections(concurrency: int, *, may_raise_limit: bool = True) -> None:
    """See to it that so many requests may be in flight: each is an open file.

    Raises `ConfigurationError` where the system does not allow that many.
    """
    needed = concurrency + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if may_raise_limit:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            return
    most = max(soft, hard) if may_raise_limit else soft
    raise ConfigurationError(
        f"concurrency is {concurrency:,}, which takes {needed:,} open files, and this process"
        f" may have {most:,}: lower it, or raise the limit (ulimit -n)"
    )


def collect_garbage_seldom() -> None:
    """A run makes millions of objects and hardly a cycle: looking for them cost 15 % of it."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def take_turns_quickly() -> None:
    """The writer's thread waits for each answer of the database, then for the loop to pause.

    By default that may take 5 ms, a dozen times for each transaction on a server. With half a
    millisecond PostgreSQL takes a sixth more requests per second, and SQLite loses nothing.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)


def loop_factory() -> LoopFactory | None:
    """The loop of uvloop where it is installed, for a quarter less CPU; else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop

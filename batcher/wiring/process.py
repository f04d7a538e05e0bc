"""Settings of the whole process, for one that sends and does nothing else."""

import ctypes
import gc
from contextlib import suppress
from typing import Final

from batcher.pipeline.run import LoopFactory

_M_MMAP_THRESHOLD: Final = -3  # of mallopt(3)
_M_ARENA_MAX: Final = -8
_LARGE_BYTES: Final = 2**20


def keep_little_memory() -> None:
    """Rows of many megabytes come and go: without this, glibc keeps twice the largest.

    Nor does each thread need a heap of its own: the interpreter's lock lets one work at a time.
    """
    with suppress(OSError, AttributeError):  # other C libraries have no such settings
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_ARENA_MAX, 1)


def collect_garbage_seldom() -> None:
    """A run makes millions of objects and hardly a cycle: looking for them cost 15 % of it."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def loop_factory() -> LoopFactory | None:
    """The loop of uvloop where it is installed, for a quarter less CPU; else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop

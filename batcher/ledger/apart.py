"""Something done in a process of its own, for the memory it would leave behind."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_TASKS = Path("/proc/self/task")  # a folder for each thread, also for those of libraries
_DONE = b"done"


def done_apart(work: Callable[[], bool]) -> bool:
    """Whether `work` was done in a forked process and gave true there. Blocks until it ended.

    False when it could not be forked (only Linux does it safely, and only before there are
    threads), failed, or gave false: then do it here, which says why.
    """
    if sys.platform != "linux" or _threads() != 1:
        return False
    told, tell = os.pipe()
    try:
        child = os.fork()
    except OSError:  # no more processes, or no memory for one
        os.close(tell)
        os.close(told)
        return False
    if child == 0:
        _end_with(work, tell)
    os.close(tell)
    with os.fdopen(told, "rb") as said:
        answer = said.read()
    with suppress(ChildProcessError):  # who started us may ignore the end of children
        os.waitpid(child, 0)
    return answer == _DONE


def _threads() -> int:
    """How many threads this process has; 0 where nobody can tell."""
    try:
        return len(list(_TASKS.iterdir()))
    except OSError:
        return 0


def _end_with(work: Callable[[], bool], tell: int) -> None:
    try:
        if work():
            os.write(tell, _DONE)
    finally:
        os._exit(0)  # nothing of the parent's is flushed, closed or run a second time

"""Something done in a process of its own, for the memory it would leave behind."""

import os
import sys
import threading
from collections.abc import Callable


def done_apart(work: Callable[[], bool]) -> bool:
    """Whether `work` was done in a forked process and gave true there. Blocks until it ended.

    False when it could not be forked (only Linux does it safely, and only before there are
    threads), failed, or gave false: then do it here, which says why.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    child = os.fork()
    if child == 0:
        _end_with(work)
    _, status = os.waitpid(child, 0)
    return status == 0


def _end_with(work: Callable[[], bool]) -> None:
    code = 1
    try:
        code = 0 if work() else 1
    finally:
        os._exit(code)  # nothing of the parent's is flushed, closed or run a second time

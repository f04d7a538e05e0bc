"""Run `batcher` under cProfile, its threads included, and save the sum of all profiles.

    python -m tests.benchmarks.trace_threads RESULT run rows.jsonl ...

From Python 3.12 on, one profile at a time is allowed: there the threads are left out.
"""

import contextlib
import cProfile
import pstats
import runpy
import sys
import threading

PROFILES: list[cProfile.Profile] = []
RUN_OF_A_THREAD = threading.Thread.run


def run_traced(thread: threading.Thread) -> None:
    profile = cProfile.Profile()
    with contextlib.suppress(ValueError):
        profile.enable()
        PROFILES.append(profile)
    try:
        RUN_OF_A_THREAD(thread)
    finally:
        profile.disable()


def main() -> int:
    _, result, *arguments = sys.argv
    sys.argv = ["batcher", *arguments]
    threading.Thread.run = run_traced
    profile = cProfile.Profile()
    PROFILES.append(profile)
    try:
        profile.runcall(runpy.run_module, "batcher", run_name="__main__")
    except SystemExit as end:
        return end.code
    finally:
        for thread in set(threading.enumerate()) - {threading.current_thread()}:
            thread.join(timeout=5)
        stats = pstats.Stats(PROFILES[0])
        for other in PROFILES[1:]:
            with contextlib.suppress(TypeError):  # a thread that did nothing has no profile
                stats.add(other)
        stats.dump_stats(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())

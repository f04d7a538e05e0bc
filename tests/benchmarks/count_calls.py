"""Run `batcher` and count what each thread calls: frames of Python and built-ins.

    python -m tests.benchmarks.count_calls RESULT run rows.jsonl ...

writes JSON: a list of [thread, kind, file, line, function, calls], where kind is "python" or
"builtin". A coroutine or generator that goes on counts too, since its frame is entered again.
"""

import json
import runpy
import sys
import threading
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FrameType

COUNTS: dict[tuple[int, object], int] = {}
NAMES: dict[int, str] = {}


def note(frame: FrameType, event: str, called: BuiltinFunctionType) -> None:
    """Each thread has keys of its own, so that none overwrites the count of another."""
    if event == "call":
        key = (threading.get_ident(), frame.f_code)
    elif event == "c_call":
        key = (threading.get_ident(), getattr(called, "__qualname__", str(called)))
    else:
        return
    if key[0] not in NAMES:
        NAMES[key[0]] = threading.current_thread().name
    COUNTS[key] = COUNTS.get(key, 0) + 1


def line_of(thread: int, called: object, count: int) -> list[object]:
    if isinstance(called, CodeType):
        place = [called.co_filename, called.co_firstlineno, called.co_qualname]
        return [NAMES[thread], "python", *place, count]
    return [NAMES[thread], "builtin", "", 0, called, count]


def main() -> int:
    _, result, *arguments = sys.argv
    sys.argv = ["batcher", *arguments]
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        runpy.run_module("batcher", run_name="__main__")
    except SystemExit as end:
        return end.code
    finally:
        sys.setprofile(None)
        for thread in set(threading.enumerate()) - {threading.current_thread()}:
            thread.join(timeout=5)
        counted = [line_of(*key, count) for key, count in COUNTS.copy().items()]
        Path(result).write_text(json.dumps(counted), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a process asked of the kernel, as strace wrote it down."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.campaign import TOLD

HOW_TO_INSTALL = "apt-get install strace"
_MISSING = (
    "NOT TESTED: system calls cannot be followed here, so no power cut and no kill in a system"
    f" call was tried. Type: {HOW_TO_INSTALL} (in a container it needs the right to ptrace)"
)
_LINE = re.compile(rb"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")
_DESCRIPTOR = re.compile(rb"-?\d+<((?:\\x[0-9a-f]{2})*)>")
_TEXT = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"')
_UNFINISHED = b"<unfinished ...>"


@dataclass(slots=True)
class Call:
    """A system call. `number` says the how-manieth of its name in its thread it is, from 1.

    `path` is of its first argument, `texts` are its strings. `returned` is the line on which it
    came back, as `entered` is the one on which it began; `None`: never. `failed` says it
    came back with an error.
    """

    thread: int
    name: str
    number: int
    path: str
    texts: list[bytes]
    numbers: list[int]
    entered: int
    returned: int | None = None
    failed: bool = False


def strace(log: Path, calls: str, *more: str, texts: int = 24) -> tuple[str, ...]:
    """What to put in front of a command to have its `calls` written down."""
    shown = ("-xx", "-s", str(texts), "-o", str(log), "-e", f"trace={calls}")
    return ("strace", "-f", "-y", "-qq", *shown, *more)


def need_strace() -> None:
    """Skip the test, and say so loudly, where processes cannot be followed."""
    if not _works():
        if _MISSING not in TOLD:
            TOLD.append(_MISSING)
        pytest.skip(_MISSING)


def read_calls(log: Path, first_line: int = 0) -> list[Call]:
    """All calls in the order they began; lines are counted from `first_line`."""
    calls: list[Call] = []
    numbers: Counter[tuple[int, str]] = Counter()
    pending: dict[int, Call] = {}
    for line, (thread, resumed, name, rest) in _lines(log, first_line):
        if resumed:
            call = pending.pop(thread, None)
        else:
            numbers[thread, name] += 1
            call = _call(thread, name, numbers[thread, name], rest)
            call.entered = line
            calls.append(call)
            pending[thread] = call
        if call is not None and not rest.endswith((_UNFINISHED, b"= ?")):
            call.returned, call.failed = line, b") = -1 " in rest
            pending.pop(thread, None)
    return calls


def _lines(log: Path, first_line: int) -> Iterator[tuple[int, tuple[int, bytes, str, bytes]]]:
    for line, text in enumerate(log.read_bytes().splitlines(), start=first_line):
        found = _LINE.match(text)
        if found:
            thread, resumed, name, rest = found.groups()
            yield line, (int(thread), resumed, (name or b"").decode(), rest)


def _call(thread: int, name: str, number: int, rest: bytes) -> Call:
    given = rest.rpartition(b") = ")[0] or rest
    texts = [_plain(text) for text in _TEXT.findall(given)]
    descriptor = _DESCRIPTOR.match(given)
    path = (_plain(descriptor[1]) if descriptor else texts[0] if texts else b"").decode()
    if name == "openat":
        path = texts[0].decode() if texts else ""
    bare = _TEXT.sub(b"", _DESCRIPTOR.sub(b"", given)).removesuffix(_UNFINISHED)
    numbers = [int(part) for part in re.findall(rb"(?<![\w.])\d+(?![\w.])", bare)]
    return Call(thread, name, number, path, texts, numbers, entered=0)


def _plain(escaped: bytes) -> bytes:
    return bytes.fromhex(escaped.replace(b"\\x", b"").decode())


def _works() -> bool:
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(
        ["strace", "-o", "/dev/null", "true"], capture_output=True, check=False
    )
    return tried.returncode == 0

"""A command as a person at a terminal meets it."""

import os
import pty
import subprocess
import sys


def run_on_a_terminal(*words: str, answer: bytes, **environment: str) -> tuple[int, str]:
    """The exit code of `batcher run` with these words, and what the terminal showed."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "batcher", "run", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | environment,
    )
    os.close(theirs)
    os.write(ours, answer)
    shown = read_to_end(ours)
    return child.wait(), shown


def read_to_end(terminal: int) -> str:
    """All that the other end of a terminal wrote until it was closed; closes this one."""
    shown = b""
    try:
        while piece := os.read(terminal, 65536):
            shown += piece
    except OSError:  # Linux says it this way that the other end is closed
        pass
    os.close(terminal)
    return shown.decode()

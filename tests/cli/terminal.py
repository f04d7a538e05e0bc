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
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # Linux says it this way that the other end is closed
        pass
    os.close(ours)
    return child.wait(), shown.decode()

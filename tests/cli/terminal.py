"""A command as a person at a terminal meets it."""

import os
import pty
import termios
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.forked import Forked


def run_on_a_terminal(*words: str, answer: bytes, **environment: str) -> tuple[int, str]:
    """The exit code of `batcher run` with these words, and what the terminal showed."""
    return on_a_terminal("run", *words, answer=answer, environment=os.environ | environment)


def on_a_terminal(
    *words: object,
    environment: Mapping[str, str],
    folder: Path | None = None,
    width: int = 0,
    answer: bytes = b"",
) -> tuple[int, str]:
    """Run a command on a pseudo-terminal; its exit code and all that the terminal got."""
    ours, theirs = pty.openpty()
    if width:
        termios.tcsetwinsize(theirs, (40, width))
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    typed, where = [*map(str, words)], folder or Path.cwd()
    process = Forked(typed, folder=where, environment=environment, **streams)
    os.close(theirs)
    os.write(ours, answer)
    shown = read_to_end(ours)
    return process.wait(), shown


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

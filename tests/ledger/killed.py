"""What processes of these tests do that are forked: they migrate, and some are killed."""

import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from sqlalchemy import event

from batcher.ledger.connect import open_engine
from batcher.ledger.migrate import prepare, revisions_in, upgrade
from tests.e2e.forked import START


def exit_code_of(target: Callable[..., None], *given: object) -> int | None:
    """How the process ended that did this."""
    process = START.Process(target=target, args=given)
    process.start()
    process.join()
    return process.exitcode


def prepare_when_told(url: str, told: Connection) -> None:
    """Says when it is ready, and then whether it has made the ledger."""
    told.send("ready")
    told.recv()
    engine = open_engine(url)
    told.send(prepare(engine).created)
    engine.dispose()


def prepare_until(url: str, statements: int) -> None:
    """It is killed when it has done so many statements."""
    engine, left = open_engine(url), [None] * statements

    def count(*_: object) -> None:
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left.pop()

    event.listen(engine, "before_cursor_execute", count)
    prepare(engine)


def upgrade_until(url: str, revisions: Path, before: str) -> None:
    """It is killed when a statement is next that begins so."""
    engine = open_engine(url)

    def look(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(before):
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(engine, "before_cursor_execute", look)
    upgrade(engine, revisions_in(revisions))

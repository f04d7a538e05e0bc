"""The end of a process, at a step drawn by lot: what is committed is all that is left."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.making_runs import photograph

_STEPS = ("sent", "arrived", "billed", "answered", "commit")


@contextmanager
def crashing(
    provider: Any,
    database: str,
    copy: Path,
    chance: random.Random,
    happened: Counter[str],
    steps: Sequence[str] = _STEPS,
) -> Iterator[None]:
    """`copy` is the ledger as the crash left it; it is not there when the run ended before."""
    step, left = chance.choice(steps), [chance.randint(1, 8)]

    def moment(name: str) -> None:
        with provider.lock:  # the bill and the ledger of one moment
            left[0] -= name == step
            if left[0] == 0 and not copy.exists():
                provider.is_gone = True
                photograph(database, copy)
                happened[f"crash at {step}"] += 1

    def committing(_: Any) -> None:
        moment("commit")

    provider.moment = moment
    event.listen(Engine, "commit", committing)
    try:
        yield
    finally:
        event.remove(Engine, "commit", committing)
        provider.moment = lambda _: None

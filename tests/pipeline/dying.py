"""A run over batches that ends itself, as a power cut would, around one of its steps."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batcher.transport.endpoint import Endpoint
from tests.making_runs import Case


@dataclass(frozen=True)
class Death:
    """At the `count`-th call of `step`, before it is made or after it was answered."""

    step: str
    after: bool
    count: int = 1


class Spied:
    """Passes everything on, and dies where it is told to."""

    def __init__(self, inner: Any, death: Death, calls: list[int]) -> None:
        self._inner = inner
        self._death = death
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._death.step:
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._calls[0] += 1
            dies = self._calls[0] == self._death.count
            if dies and not self._death.after:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = await found(*args, **kwargs)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call


def run_and_die(folder: Path, database: str, url: str, death: Death) -> None:
    """For a process of its own."""
    endpoint = Endpoint(name="simulator", base_url=url, price_list="anthropic")
    case = Case(folder=folder, database=database, endpoint=endpoint)
    calls = [0]
    case.in_batches(pack=2, spied=lambda inner: Spied(inner, death, calls))

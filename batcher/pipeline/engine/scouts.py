"""The first row of each model goes alone, so that a wrong key or model costs one request."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from batcher.messages.failure import Failure

PATIENCE_SECONDS: Final = 30.0
ALIKE_BEFORE_STOP: Final = 3


class Report(Enum):
    """What a scout's outcome means for the rows that waited for it."""

    CLEAR = auto()  # everybody of the model may go
    NEXT_SCOUT = auto()  # the row was at fault; the next row tries
    STOP = auto()  # the same refusal again and again


@dataclass(slots=True)
class _Model:
    sent_at: float
    scout: int  # the row that is out, by any number that names it; 0: none is
    refusals: dict[str, int]


class Scouts:
    """Which models are known to work. Moments are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._clear: set[str] = set()
        self._out: dict[str, _Model] = {}

    def knows(self, model: str) -> bool:
        """Whether a scout of `model` is out, or the next one is awaited."""
        return model in self._out

    def admits(self, model: str, row: int, now: float) -> bool:
        """Whether a row of `model` may go: as its scout, or because the way is clear."""
        if model in self._clear:
            return True
        state = self._out.get(model)
        if state is None:
            self._out[model] = _Model(now, row, {})
            return True
        if state.scout == 0:
            state.scout, state.sent_at = row, now
            return True
        return state.scout == row

    def report(self, model: str, row: int, refusal: Failure | None) -> Report:
        """Tell how a row of `model` ended; `refusal` is what spoke against the row itself.

        That is a failure of the row, or a body that is no Message. Anything else (an answer,
        but also a server in trouble) says nothing against the job.
        """
        state = self._out.get(model)
        if state is None:
            return Report.CLEAR
        if refusal is None:
            return self._settle(model)
        kind = f"{refusal.error_type}/{refusal.error_code}"
        state.refusals[kind] = state.refusals.get(kind, 0) + 1
        if state.refusals[kind] >= ALIKE_BEFORE_STOP:
            return Report.STOP
        if state.scout == row:
            state.scout = 0
        return Report.NEXT_SCOUT

    def withdraw(self, model: str, row: int) -> None:
        """The row does not go after all; if it was the scout, the next one is."""
        state = self._out.get(model)
        if state is not None and state.scout == row:
            state.scout = 0

    def overdue(self, now: float) -> list[str]:
        """Models whose scout took too long; the others need not wait for it any more."""
        late = [
            model
            for model, state in self._out.items()
            if state.scout and now - state.sent_at >= PATIENCE_SECONDS
        ]
        for model in late:
            self._settle(model)
        return late

    def next_overdue(self) -> float | None:
        """The moment at which the next scout is overdue; `None` when none is out."""
        moments = [state.sent_at for state in self._out.values() if state.scout]
        return min(moments) + PATIENCE_SECONDS if moments else None

    def _settle(self, model: str) -> Report:
        self._out.pop(model, None)
        self._clear.add(model)
        return Report.CLEAR

"""The truth of a history: what a provider did with each request, and what it charges."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batcher.clock import Clock
from batcher.messages.answer import parse_answer
from batcher.messages.request import (
    Answered,
    Attempt,
    Exchange,
    Outcome,
    Partial,
    Unusable,
)
from tests.making_runs import _lost, message, not_sent, refused, unknown

# What becomes of a request, with its weight; "calm" is the only one of the last life.
KINDS = {
    "answered": 50, "pause_turn": 6, "max_tokens": 6, "refusal": 3, "unknown stop": 2,
    "400": 3, "500": 6, "429": 5, "529": 5, "not_sent": 3, "401": 0.4,
    "unknown": 6, "unknown, billed": 6, "partial": 5, "unusable": 2, "unusable, billed": 3,
}  # fmt: skip
FATAL = frozenset({"401"})
_MOST_TOKENS = 200


class Gone(Exception):  # noqa: N818 - it is what the process is
    """The process is no more; nothing that still runs may matter."""


@dataclass
class Provider:
    """A lane, and the bill of what was really done. `moment` is told each step's name.

    What a request meets is a function of the history's seed, the row and how often it came.
    """

    seed: int
    clock: Clock
    moment: Callable[[str], None] = lambda _: None
    lock: threading.RLock = field(default_factory=threading.RLock)
    bill: list[dict[str, Any]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # what was answered, by uid
    sent: list[Attempt] = field(default_factory=list)
    refuses: Callable[[Attempt], Outcome | None] = lambda _: None
    price_factor: Callable[[int], int] = lambda _: 1  # at a moment, for the prices of the bill
    is_calm: bool = False
    is_gone: bool = False
    _seen: dict[str | None, int] = field(default_factory=dict)

    async def send(self, attempt: Attempt) -> Outcome:
        chance = self._chance_of(attempt)
        self.sent.append(attempt)
        self._step("sent")
        await self.clock.sleep(chance.choice((0, 0.1, 1.0, 8.0)))
        self._step("arrived")
        kinds = {"answered": 1} if self.is_calm else KINDS
        kind = chance.choices(list(kinds), list(kinds.values()))[0]
        refusal = self.refuses(attempt)
        outcome = self._timed(refusal) if refusal else self._outcome(kind, attempt, chance)
        self._step("billed")
        await self.clock.sleep(chance.choice((0, 0, 2.0)))
        self._step("answered")
        return outcome

    def drain(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _chance_of(self, attempt: Attempt) -> random.Random:
        row = attempt.request.custom_id
        self._seen[row] = times = self._seen.get(row, 0) + 1
        return random.Random(f"{self.seed} {row} {times}")

    def _step(self, name: str) -> None:
        self.moment(name)
        if self.is_gone:
            raise Gone

    def _outcome(self, kind: str, attempt: Attempt, chance: random.Random) -> Outcome:
        match kind:
            case "400" | "401" | "429" | "500" | "529":
                waits = {"retry-after": str(chance.choice((1, 7)))} if kind == "429" else {}
                return self._timed(refused(int(kind), headers=waits))
            case "not_sent":
                return self._timed(not_sent())
            case "unknown":
                return self._timed(unknown())
            case "unusable":
                return Unusable(self._exchange(), _lost("unusable_answer"), b"<html>")
            case _:
                return self._billed(kind, attempt, chance)

    def _billed(self, kind: str, attempt: Attempt, chance: random.Random) -> Outcome:
        """The provider did its work: it is on the bill, whatever we hear of it."""
        counts = {
            "input_tokens": chance.randint(1, 20),
            "output_tokens": 0 if kind == "refusal" else chance.randint(1, _MOST_TOKENS),
        }
        reasons = {"unknown stop": "future"}
        reason = reasons.get(kind, kind if kind in _REASONS else "end_turn")
        self._put_on_bill(attempt, counts, reason)
        text = f"{attempt.request.custom_id} {attempt.uid}"
        said: dict[str, Any] = {}
        if kind == "refusal":  # before any output: it costs nothing
            text, said = "", {"content": []}
        said["model"] = attempt.request.model
        body = message(text, stop_reason=reason, usage=counts, **said)
        match kind:
            case "unknown, billed":
                return self._timed(unknown())
            case "unusable, billed":
                return Unusable(self._exchange(), _lost("unusable_answer"), body[:-20])
            case "partial":
                known = counts | {"output_tokens": 1}
                part = parse_answer(
                    message(text[:3], stop_reason=None, usage=known, model=said["model"])
                )
                return Partial(self._exchange(), _lost("broken_stream"), part)
            case _:
                self.texts[attempt.uid] = text
                return Answered(self._exchange(), parse_answer(body))

    def _put_on_bill(self, attempt: Attempt, counts: dict[str, int], reason: str) -> None:
        line = {
            "attempt_uid": attempt.uid, "request_id": None, "model": attempt.request.model,
            "cache_creation_5m": 0, "cache_creation_1h": 0, "cache_read": 0,
            "web_search_requests": 0, "stop_reason": reason, "billed": True,
            "inference_geo": "global", "speed": "standard", "custom": None,
            "price_factor": self.price_factor(self.clock.now_us()),
        } | counts  # fmt: skip
        with self.lock:
            if not self.is_gone:
                self.bill.append(line)

    def _exchange(self) -> Exchange:
        now = self.clock.now_us()
        return Exchange(sent_at=now - 1_000, settled_at=now, http_status=200)

    def _timed(self, outcome: Any) -> Any:
        now = self.clock.now_us()
        exchange = Exchange(
            sent_at=now - 1_000, settled_at=now, http_status=outcome.exchange.http_status
        )
        return type(outcome)(exchange, outcome.failure)


_REASONS = frozenset({"pause_turn", "max_tokens", "refusal"})

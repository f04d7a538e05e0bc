"""The batch lane: attempts packed into Message Batches, the intent durable before each create.

One create is under way at a time. Whether a batch was made is known from its answer alone: a
create whose answer is lost is never repeated.
"""

import asyncio
import re
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from batcher.clock import Clock
from batcher.messages.failure import Failure, Verdict
from batcher.messages.request import (
    Attempt,
    Exchange,
    NotSent,
    Outcome,
    Rejected,
    SeenBatch,
    Submitted,
    plain_body,
)
from batcher.transport.batch.message_batches import MessageBatches, RefusedBatch
from batcher.transport.endpoint import Journal
from batcher.transport.live.connections import SendError

_FRAME_BYTES: Final = 100  # of a request in a batch, its name included
_FIRST_WAIT_SECONDS: Final = 5.0
_LONGEST_WAIT_SECONDS: Final = 300.0
_TOO_SOON: Final = frozenset({Verdict.PAUSE_QUOTA, Verdict.OVERLOADED})
_UNFIT: Final = ("speed", "fallbacks", "thread")  # fields that no batch carries
# A word inside a prompt costs a look and changes nothing.
_SUSPECT: Final = re.compile(rb'"(?:speed|fallbacks|thread)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLimits:
    """When a batch is full. One that is not leaves when nothing came for `linger_seconds`."""

    requests: int = 10_000
    body_bytes: int = 64 * 2**20
    linger_seconds: float = 1.0


@dataclass(slots=True, eq=False)
class _Pack:
    """Attempts of one model that leave together; `number` once that is intended."""

    betas: tuple[str, ...]
    attempts: list[Attempt] = field(default_factory=list)
    waiting: list["asyncio.Future[Outcome | Submitted]"] = field(default_factory=list)
    body_bytes: int = 0
    is_closed: bool = False
    number: int | None = None

    def settle(self, outcomes: "Sequence[Outcome | Submitted]") -> None:
        for waiter, outcome in zip(self.waiting, outcomes, strict=True):
            if not waiter.done():
                waiter.set_result(outcome)

    def group(self) -> None:
        """What begins alike stands together, so that it is in the cache while it is needed."""
        pairs = list(zip(self.attempts, self.waiting, strict=True))
        pairs.sort(key=lambda pair: pair[0].cached.prefix if pair[0].cached else 0)
        self.attempts[:] = (attempt for attempt, _ in pairs)
        self.waiting[:] = (waiter for _, waiter in pairs)

    def halves(self) -> tuple["_Pack", "_Pack"]:
        half = len(self.attempts) // 2
        parts = slice(None, half), slice(half, None)
        first, second = (
            _Pack(self.betas, self.attempts[part], self.waiting[part], is_closed=True)
            for part in parts
        )
        return first, second


class BatchLane:
    """See `Lane`; raises nothing but bugs."""

    def __init__(
        self,
        batches: MessageBatches,
        clock: Clock,
        journal: Journal,
        limits: PackLimits = PackLimits(),
    ) -> None:
        self._batches = batches
        self._clock = clock
        self._journal = journal
        self._limits = limits
        self._packs: dict[tuple[str, tuple[str, ...]], _Pack] = {}
        self._closed: deque[_Pack] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_making = False
        self._draining = asyncio.Event()

    async def send(self, attempt: Attempt) -> Outcome | Submitted:
        """See `Lane.send`."""
        problem = not_in_batches(attempt.body, attempt.request.max_tokens)
        if problem is not None:
            return self._not_sent(attempt, _unfit(problem))
        if self._draining.is_set():
            return self._not_sent(attempt)
        pack, waiter = self._pack(attempt)
        try:
            return await waiter
        except asyncio.CancelledError:
            if pack.is_closed and pack.number is not None:
                return Submitted(pack.number)  # whether it was made is looked up another time
            self._withdraw(pack, attempt)
            return self._not_sent(attempt)

    def drain(self) -> None:
        """See `Lane.drain`."""
        self._draining.set()
        for pack in (*self._packs.values(), *self._closed):
            self._give_back(pack)
        self._packs.clear()
        self._closed.clear()

    async def close(self) -> None:
        """See `Lane.close`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._batches.close()

    # Packing

    def _pack(self, attempt: Attempt) -> "tuple[_Pack, asyncio.Future[Outcome | Submitted]]":
        key = (attempt.request.model, attempt.request.betas)
        size = len(attempt.body) + _FRAME_BYTES
        pack = self._packs.get(key)
        if pack is not None and pack.body_bytes + size > self._limits.body_bytes:
            self._ready(key)
            pack = None
        if pack is None:
            pack = self._packs[key] = _Pack(attempt.request.betas)
            self._begin(self._linger(key, pack))
        waiter: asyncio.Future[Outcome | Submitted] = asyncio.Future()
        pack.attempts.append(attempt)
        pack.waiting.append(waiter)
        pack.body_bytes += size
        if len(pack.attempts) >= self._limits.requests:
            self._ready(key)
        return pack, waiter

    async def _linger(self, key: tuple[str, tuple[str, ...]], pack: _Pack) -> None:
        count, making = 0, True  # what waits for a create cannot join before that is over
        while not pack.is_closed and (making or count != len(pack.attempts)):
            count, making = len(pack.attempts), self._is_making
            await self._clock.sleep(self._limits.linger_seconds)
        if not pack.is_closed and self._packs.get(key) is pack:
            self._ready(key)

    def _ready(self, key: tuple[str, tuple[str, ...]]) -> None:
        pack = self._packs.pop(key)
        pack.is_closed = True
        pack.group()
        self._closed.append(pack)
        if not self._is_making:
            self._is_making = True
            self._begin(self._make_all())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _withdraw(self, pack: _Pack, attempt: Attempt) -> None:
        for place, packed in enumerate(pack.attempts):
            if packed is attempt:
                del pack.attempts[place], pack.waiting[place]
                return

    # Making

    async def _make_all(self) -> None:
        try:
            while self._closed:
                await self._make(self._closed.popleft())
        finally:
            self._is_making = False

    async def _make(self, pack: _Pack) -> None:
        if self._draining.is_set() or not pack.attempts:
            self._give_back(pack)
            return
        try:
            await self._create(pack)
        except Exception as exc:  # noqa: BLE001 - the engine ends the run with it
            for waiter in pack.waiting:
                if not waiter.done():
                    waiter.set_exception(exc)

    async def _create(self, pack: _Pack) -> None:
        wait = _FIRST_WAIT_SECONDS
        while pack.attempts:
            # each create has an intent of its own: by its time the batch is found if it is lost
            attempts = tuple(pack.attempts)
            number = await self._journal.intended(attempts)
            if len(attempts) != len(pack.attempts):
                # Some were taken back meanwhile, and a lost create is found by its count.
                await self._journal.not_made(number)
                continue
            pack.number = number
            try:
                made = await self._batches.create(_body_of(pack.attempts), pack.betas)
            except SendError as exc:
                await self._not_answered(pack, number, exc)
                return
            if isinstance(made, SeenBatch):
                await self._journal.made(number, made)
                pack.settle([Submitted(number)] * len(pack.attempts))
                return
            if made.failure.verdict not in _TOO_SOON:
                await self._refused(pack, number, made)
                return
            await self._journal.not_made(number)
            pack.number = None
            await self._wait(made.failure.retry_after_seconds or wait)
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
            if self._draining.is_set():
                self._give_back(pack)
                return

    async def _wait(self, seconds: float) -> None:
        """The queue is full, or the server overloaded: no attempt of any row is used up."""
        sleeping = asyncio.create_task(self._clock.sleep(seconds))
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait([sleeping, draining], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            draining.cancel()

    async def _not_answered(self, pack: _Pack, number: int, exc: SendError) -> None:
        if exc.left:
            await self._journal.lost(number)
            pack.settle([Submitted(number)] * len(pack.attempts))
            return
        await self._journal.not_made(number)
        failure = Failure(
            verdict=exc.verdict, error_type=exc.error_type, message=exc.message[:200]
        )
        pack.settle([self._not_sent(attempt, failure) for attempt in pack.attempts])

    async def _refused(self, pack: _Pack, number: int, refused: RefusedBatch) -> None:
        """A refusal of many that one request may be to blame for: the halves are tried."""
        await self._journal.not_made(number)
        failure = refused.failure
        if failure.verdict is Verdict.FAIL_ROW and len(pack.attempts) > 1:
            self._closed.extendleft(reversed(pack.halves()))
            return
        now = self._clock.now_us()
        exchange = Exchange(sent_at=now, settled_at=now, http_status=refused.status)
        pack.settle([Rejected(exchange, failure)] * len(pack.attempts))

    def _give_back(self, pack: _Pack) -> None:
        pack.is_closed = True
        pack.settle([self._not_sent(attempt) for attempt in pack.attempts])

    def _not_sent(self, attempt: Attempt, failure: Failure | None = None) -> NotSent:
        exchange = Exchange(sent_at=attempt.opened_at, settled_at=self._clock.now_us())
        return NotSent(exchange, failure or _HELD_BACK)


_HELD_BACK: Final = Failure(
    verdict=Verdict.RETRY_ROW,
    error_type="not_submitted",
    message="the run ended before its batch was made",
)


def _body_of(attempts: Sequence[Attempt]) -> bytes:
    requests = b",".join(
        b'{"custom_id":"%b","params":%b}' % (attempt.uid.encode(), plain_body(attempt.body))
        for attempt in attempts
    )
    return b'{"requests":[%b]}' % requests


def not_in_batches(body: bytes, max_tokens: int | None) -> str | None:
    """Why no batch carries such a request, `None` where one does."""
    if max_tokens == 0:
        return "max_tokens 0 only warms a cache, and a batch shares none"
    if not _SUSPECT.search(body):
        return None
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    named = [name for name in _UNFIT if bytes(fields.get(name, b"null")) != b"null"]
    return f"a batch does not carry {', '.join(named)}" if named else None


def _unfit(message: str) -> Failure:
    said = f"{message}: send this row by --lane live"
    return Failure(verdict=Verdict.FAIL_ROW, error_type="not_in_batches", message=said)

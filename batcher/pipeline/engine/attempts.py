"""An attempt until it is sent: its number, its body, and its worst case, reserved under a cap.

The truth about a cap is in `ledger.money.budget`; here is what this invocation has been granted
of it. Nothing is sent that does not fit into the grant, so the cap cannot be passed, by any
number of workers, as long as the server bills no more than `max_tokens` and the prices of the
model allow.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from typing import Final, Protocol

from batcher.clock import Clock
from batcher.errors import AccessRefused, ConfigurationError
from batcher.ledger.connect import Connection
from batcher.ledger.money import budget as ledger
from batcher.ledger.write.records import Intent, Settlement
from batcher.ledger.write.writer import Writer
from batcher.messages.request import (
    Attempt,
    Outcome,
    Partial,
    Submitted,
    attempt_id_of,
    invocation_of,
)
from batcher.pipeline.choices import LaneChoice
from batcher.pipeline.engine.decide import cut_off
from batcher.pipeline.engine.known_rows import DoneRows
from batcher.pipeline.engine.rater import CacheRates, Rater
from batcher.pipeline.engine.work import Returns, Underway, Work
from batcher.pipeline.progress import Progress
from batcher.pricing.money import format_usd
from batcher.transport.endpoint import Lane

_DAY_US: Final = 86_400 * 10**6
_EPOCH_DAYS: Final = date(1970, 1, 1).toordinal()
_SLICES: Final = 50  # a worker asks for a fiftieth of a cap at a time, or what it needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """Makes the attempts of one invocation.

    `attempt_uids` is what their uids begin with, `numbers` counts those of the process.
    """

    invocation_id: int
    attempt_uids: str
    rater: Rater
    clock: Clock
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def open(self, work: Work) -> Attempt:
        """The next attempt of `work`, or the one that left for it some time ago."""
        return self._next(work) if work.underway is None else self._again(work, work.underway)

    def _next(self, work: Work) -> Attempt:
        request = work.request
        number = next(self.numbers)
        attempt_id = attempt_id_of(self.invocation_id, number)
        body = work.body()
        now = self.clock.now_us()
        work.attempts += 1
        attempt = Attempt(
            attempt_id=attempt_id,
            uid=f"{self.attempt_uids}{number:x}",
            request_id=work.request_id or attempt_id,
            request=request,
            number=work.attempts,
            leg=work.leg,
            purpose=work.purpose,
            body=body,
            opened_at=now,
            cost_high=self.rater.bound(body, request.model, request.max_tokens, now),
            replaces=work.last_attempt_id or None,
            asked=self.rater.asked(body),
            invocation_id=self.invocation_id,
            cached=work.cached,
        )
        work.request_id = attempt.request_id
        work.last_attempt_id = attempt_id
        return attempt

    def _again(self, work: Work, underway: Underway) -> Attempt:
        body = work.body()
        return Attempt(
            attempt_id=underway.attempt_id,
            uid=underway.uid,
            request_id=work.request_id,
            request=work.request,
            number=work.attempts,
            leg=work.leg,
            purpose=work.purpose,
            body=body,
            opened_at=underway.opened_at,
            cost_high=underway.cost_high,
            asked=self.rater.asked(body),
            invocation_id=invocation_of(underway.attempt_id),
            lane=LaneChoice.BATCH.value,
        )

    def cache_rates(self, model: str) -> CacheRates | None:
        """What a token costs with and without the prompt cache; see `Rater.cache_rates`."""
        return self.rater.cache_rates(model, self.clock.now_us())

    def bound(self, work: Work) -> int | None:
        """The most that the next attempt can cost in pico-USD; `None`: there is no bound."""
        request, now = work.request, self.clock.now_us()
        return self.rater.bound(work.body(), request.model, request.max_tokens, now)


class Carrying(Protocol):
    """What an engine has that attempts are carried by."""

    writer: Writer
    lane: Lane
    returns: Returns
    clock: Clock
    done: DoneRows
    progress: Progress


class Carrier:
    """Makes intents durable and sends them; what comes of an attempt is told, never raised."""

    def __init__(self, engine: Carrying) -> None:
        self._writer, self._lane, self._returns = engine.writer, engine.lane, engine.returns
        self._clock, self._done, self._progress = engine.clock, engine.done, engine.progress

    async def carry(
        self, work: Work, attempt: Attempt
    ) -> tuple[Outcome | Submitted, BaseException | None]:
        """What came of the attempt, and what ended it where it ended badly."""
        if work.underway is not None:
            return self._returns.outcome(attempt, work.underway), None
        durable = False
        self._done.opened(attempt.attempt_id)
        self._progress.sent += 1
        try:
            await self._writer.durable(Intent(attempt=attempt))
            durable = True
            self._progress.recorded += 1
            return await self._lane.send(attempt), None
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - the engine hears it
            return cut_off(attempt, self._clock.now_us(), sent=durable), exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """One scope with its cap in pico-USD and the words that people know it by."""

    scope: str
    cap: int
    words: str


class Wallet:
    """What one invocation holds of one scope, in pico-USD."""

    def __init__(self, cap: Cap, settled_before: int) -> None:
        self.cap = cap
        self.settled_before = settled_before
        self.granted = 0
        self.reserved = 0
        self.spent = 0  # since the last time it was told to the ledger
        self.told = 0

    @property
    def free(self) -> int:
        """Granted and neither reserved nor spent."""
        return self.granted - self.reserved - self.spent

    @property
    def slice(self) -> int:
        """How much is asked for at a time."""
        return max(self.cap.cap // _SLICES, 1)


class Budget:
    """Reserves and settles money in all scopes at once. Belongs to the event loop's thread.

    `wake` is called when money came free that was waited for, `call_soon` from the writer's
    thread.
    """

    def __init__(
        self,
        wallets: Sequence[Wallet],
        invocation_id: int,
        writer: Writer,
        *,
        call_soon: Callable[[Callable[[], None]], object],
        wake: Callable[[], None],
    ) -> None:
        self._wallets = wallets
        self._invocation_id = invocation_id
        self._writer = writer
        self._call_soon = call_soon
        self._wake = wake
        self._asking = False
        self.refused: Cap | None = None

    def reserve(self, bound: int) -> bool:
        """Take the worst case of an attempt out of every scope, or nothing out of none."""
        if any(wallet.free < bound for wallet in self._wallets):
            if self.refused is None:  # else only an attempt that ends can free money
                self._ask(bound)
            return False
        for wallet in self._wallets:
            wallet.reserved += bound
        return True

    def settle(self, bound: int, cost: int) -> None:
        """An attempt ended: its reservation becomes its cost, in doubt its upper bound."""
        for wallet in self._wallets:
            wallet.reserved -= bound
            wallet.spent += cost
        if self.refused:
            self.refused = None
            self._wake()

    def tell(self, *, everything: bool = False) -> None:
        """Let the ledger know what was spent; at the end also give the rest back."""
        for wallet in self._wallets:
            spent, returned = wallet.spent, wallet.free if everything else 0
            if not spent and not returned:
                continue
            wallet.granted -= spent + returned
            wallet.spent = 0
            wallet.told += spent
            self._writer.call(_spending(wallet.cap.scope, self._invocation_id, spent, returned))

    def totals(self) -> tuple[int, int, int]:
        """(spent, reserved, free) of the scope with the least left, of its whole cap."""
        tightest = min(self._wallets, key=_left)
        spent = tightest.settled_before + tightest.told + tightest.spent
        return spent, tightest.reserved, max(_left(tightest), 0)

    def show(self, progress: Progress) -> None:
        """Tell the display what is spent, reserved and free, and whether the cap binds."""
        progress.cap_spent, progress.cap_reserved, progress.cap_free = self.totals()
        cap = self.refused
        progress.money_wait = f"{cap.words} binds: waiting for money" if cap else ""

    def exhausted_error(self) -> AccessRefused:
        """Why the run ends: the next attempt does not fit, and nothing will come free."""
        cap = self.refused or self._wallets[0].cap
        return AccessRefused(
            f"{cap.words} of {format_usd(cap.cap)} is reached: the next request may cost more "
            "than what is left; type the same command with a higher cap to continue"
        )

    @staticmethod
    def broken_error(words: str) -> AccessRefused:
        """Why the run ends with the first attempt that was billed more than it could cost."""
        return AccessRefused(
            f"{words}: no cap holds with such a server, so nothing more was sent; compare with"
            " its own bill, then type the same command again to go on"
        )

    def _ask(self, bound: int) -> None:
        """Ask the ledger for more, once at a time; the answer wakes whoever waits."""
        if self._asking:
            return
        self._asking = True
        self.tell()
        needs = [
            (wallet, bound - wallet.free) for wallet in self._wallets if wallet.free < bound
        ]
        asked = self._writer.call(
            lambda connection: [
                _grant(connection, wallet, need, self._invocation_id) for wallet, need in needs
            ]
        )
        asked.add_done_callback(
            lambda done: self._call_soon(lambda: self._granted(needs, done))
        )

    def _granted(self, needs: Sequence[tuple[Wallet, int]], done: "Future[list[int]]") -> None:
        self._asking = False
        if done.exception() is not None:
            return  # the writer tells the engine
        self.refused = None
        for (wallet, _), amount in zip(needs, done.result(), strict=True):
            wallet.granted += amount
            if amount == 0:
                self.refused = wallet.cap
        self._wake()


def billed_beyond(settlement: Settlement) -> str:
    """What to say of an attempt that was billed more than it could cost."""
    attempt, outcome = settlement.attempt, settlement.outcome
    if isinstance(outcome, Partial) and settlement.cost_high is None:
        return (
            f"the server named the model {outcome.answer.model}, of which no price is known,"
            f" for what could cost {format_usd(attempt.cost_high or 0)} (model"
            f" {attempt.request.model}, attempt {attempt.uid})"
        )
    billed = settlement.cost_low or sum(charge.told for charge in settlement.charges)
    return (
        f"the server billed {format_usd(billed)} for what could cost"
        f" {format_usd(attempt.cost_high or 0)} (model {attempt.request.model},"
        f" max_tokens {attempt.request.max_tokens}, attempt {attempt.uid})"
    )


def no_price(model: str, now_us: int, published: date | None) -> ConfigurationError:
    """Why a run with a cap ends where only the day keeps a row from having a worst case."""
    day = date.fromordinal(_EPOCH_DAYS + now_us // _DAY_US)
    return ConfigurationError(
        f"under a cap only rows with a known worst case are sent, and the price book of"
        f" {published} has no price for {model} on {day}: set the clock of this machine if that"
        " is not today, else name newer prices; then type the same command again"
    )


def open_budget(
    wallets: Sequence[Wallet], invocation_id: int, writer: Writer, wake: Callable[[], None]
) -> Budget | None:
    """The budget of the running loop's invocation; `None` where there is no cap."""
    if not wallets:
        return None
    call_soon = asyncio.get_running_loop().call_soon_threadsafe
    return Budget(wallets, invocation_id, writer, call_soon=call_soon, wake=wake)


def _left(wallet: Wallet) -> int:
    return wallet.cap.cap - wallet.settled_before - wallet.told - wallet.spent - wallet.reserved


def _grant(connection: Connection, wallet: Wallet, need: int, invocation_id: int) -> int:
    """A slice when there is one, else exactly what is needed, else 0."""
    for amount in (max(need, wallet.slice), need):
        if ledger.grant(connection, wallet.cap.scope, invocation_id, amount):
            return amount
    return 0


def _spending(
    scope: str, invocation_id: int, spent: int, returned: int
) -> Callable[[Connection], None]:
    return lambda connection: ledger.spend(
        connection, scope, invocation_id, spent=spent, returned=returned
    )

"""Money under a cap: the worst case of each attempt is reserved before it opens.

The truth is in `ledger.budget`; here is what this invocation has been granted of it. Nothing is
sent that does not fit into the grant, so the cap cannot be passed, by any number of workers, as
long as the server bills no more than `max_tokens` and the prices of the model allow.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import date
from typing import Final

from batcher.errors import AccessRefused, ConfigurationError
from batcher.ledger.connect import Connection
from batcher.ledger.money import budget as ledger
from batcher.ledger.write.records import Settlement
from batcher.ledger.write.writer import Writer
from batcher.messages.request import Partial
from batcher.pipeline.progress import Progress
from batcher.pricing.money import format_usd

_DAY_US: Final = 86_400 * 10**6
_EPOCH_DAYS: Final = date(1970, 1, 1).toordinal()
_SLICES: Final = 50  # a worker asks for a fiftieth of a cap at a time, or what it needs


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


def no_cap_holds(words: str) -> AccessRefused:
    """Why a run with a cap ends with the first such bill."""
    return AccessRefused(
        f"{words}: no cap holds with such a server, so nothing more was sent; compare with its"
        " own bill, then type the same command again to go on"
    )


def no_price_now(model: str, now_us: int, published: date | None) -> ConfigurationError:
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

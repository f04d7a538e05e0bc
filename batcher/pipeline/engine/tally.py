"""Keeps a `Progress` up to date from what the engine decides; tells repeated custom_ids."""

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from typing import Final

from batcher.messages.answer import Answer
from batcher.messages.failure import FailureKind
from batcher.messages.request import Answered
from batcher.pipeline.engine.decide import Done, OutcomeDecision, in_doubt
from batcher.pipeline.engine.policies import KNOWN_STOP_REASONS, TRUNCATED
from batcher.pipeline.engine.work import Work
from batcher.pipeline.progress import Progress
from batcher.pricing.rate.rating import Charge, ChargeStatus
from batcher.rows.ranges import RowRanges

_EXACT_IDS: Final = 10_000
_DIGITS: Final = "0123456789"
_MOST_DIGITS: Final = 18  # of a number that counts as one
_MOST_PATTERNS: Final = 64
_MOST_RANGES: Final = 1_000
_FIRST_BITS: Final = 2**22
_LAST_BITS: Final = 2**29
_RECENT_IDS: Final = 2**16
_EIGHT: Final = Struct("8I")


class SeenIds:
    """Tells repeated ids: exactly those that count up, the others with Bloom filters.

    Ids such as `row-0001`, `row-0002` are kept as ranges of their numbers, which costs nothing
    however many they are. Of all others the first 10,000 are kept as they are, then come the
    filters, each four times the size of the last. With 40 bits and 8 hashes an id, one in a
    million is taken for a repetition that is none: good enough for a warning that says "about".
    Beyond thirteen million of them it gets worse.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], RowRanges] = {}  # by what they follow, and width
        self._ranges_left = _MOST_RANGES
        self._others: set[str] = set()
        self._filters: list[_Filter] = []

    def seen_before(self, custom_id: str) -> bool:
        """Whether `custom_id` was asked for before; it was from now on."""
        prefix = custom_id.rstrip(_DIGITS)
        width = len(custom_id) - len(prefix)
        numbers = self._numbers.get((prefix, width)) or self._new_numbers(prefix, width)
        number = int(custom_id[-width:]) if numbers is not None else 0
        if (numbers is not None and number in numbers) or custom_id in self._others:
            return True
        hashes = b""
        if self._filters:
            hashes = _hashes(custom_id)
            if any(known.holds(hashes) for known in self._filters):
                return True
        if numbers is None or not self._count_up(numbers, number):
            self._keep(custom_id, hashes)
        return False

    def _new_numbers(self, prefix: str, width: int) -> RowRanges | None:
        """For the numbers after `prefix`; `None` when there are too many such patterns."""
        if not 0 < width <= _MOST_DIGITS or len(self._numbers) >= _MOST_PATTERNS:
            return None
        numbers = self._numbers[prefix, width] = RowRanges()
        return numbers

    def _count_up(self, numbers: RowRanges, number: int) -> bool:
        """Add `number` if that takes no memory, or if there is some left."""
        if not (self._ranges_left or number - 1 in numbers or number + 1 in numbers):
            return False
        self._ranges_left -= numbers.add(number)
        return True

    def _keep(self, custom_id: str, hashes: bytes) -> None:
        if len(self._others) < _EXACT_IDS:
            self._others.add(custom_id)
            return
        if not self._filters:
            self._filters.append(_Filter(_FIRST_BITS))
        newest = self._filters[-1]
        if newest.is_full and newest.bits < _LAST_BITS:
            newest = _Filter(newest.bits * 4)
            self._filters.append(newest)
        newest.add(hashes or _hashes(custom_id))


class _Filter:
    """A Bloom filter of a power of two bits, at most 2^32."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._cells = bytearray(bits // 8)
        self._room = bits // 40

    @property
    def is_full(self) -> bool:
        return self._room <= 0

    def holds(self, hashes: bytes) -> bool:
        cells, mask = self._cells, self.bits - 1
        for number in _EIGHT.unpack(hashes):
            bit = number & mask
            if not cells[bit >> 3] & 1 << (bit & 7):
                return False
        return True

    def add(self, hashes: bytes) -> None:
        self._room -= 1
        for number in _EIGHT.unpack(hashes):
            bit = number & self.bits - 1
            self._cells[bit >> 3] |= 1 << (bit & 7)


def _hashes(custom_id: str) -> bytes:
    return blake2b(custom_id.encode(), digest_size=32).digest()


class RecentIds:
    """Tells ids that are among the latest few; of the others it knows nothing.

    A table of digests, in which a newer one takes the place of an older.
    """

    def __init__(self) -> None:
        self._digests = array("q", bytes(_RECENT_IDS * 8))

    def seen_before(self, message_id: str) -> bool:
        """Whether it came lately; it did from now on."""
        digest = hash(message_id)
        place = digest & _RECENT_IDS - 1
        if self._digests[place] == digest:
            return True
        self._digests[place] = digest
        return False


_REASON_LENGTH: Final = 60
_MOST_REASONS: Final = 20
_MESSAGE_LENGTH: Final = 200  # of a failure, for a display


class Tally:
    """Counts; the numbers themselves live in the `Progress` it was given."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._ids = SeenIds()
        self._message_ids = RecentIds()

    def read(self, works: Sequence[Work]) -> None:
        """Rows that are going to be sent."""
        for work in works:
            custom_id = work.request.custom_id
            if custom_id is not None and self._ids.seen_before(custom_id):
                self._progress.repeated_custom_ids += 1

    def settled(self, verdicts: OutcomeDecision) -> bool:
        """An attempt ended, and this is what was decided.

        Gives whether more was billed for it than it could cost, or nobody knows any more.
        """
        settlement, progress = verdicts.settlement, self._progress
        billed = settlement.cost_low
        if isinstance(settlement.outcome, Answered):
            self._answer(settlement.outcome.answer, stays=not settlement.pending)
            self._progress.invalid += settlement.valid is False and settlement.final
            billed = self._money(settlement.charges)
        elif in_doubt(settlement.outcome):
            progress.in_doubt += 1
            progress.in_doubt_low += settlement.cost_low
            progress.in_doubt_high = _plus(progress.in_doubt_high, settlement.cost_high)
        elif settlement.cost_high != 0:  # refused, by a server that may bill it even so
            progress.maybe_billed += 1
            progress.maybe_billed_high = _plus(progress.maybe_billed_high, settlement.cost_high)
        if settlement.failure:
            failure = settlement.failure
            self.gave_up(failure.kind, failure.reason, failure.message)
        elif isinstance(verdicts.next, Done):
            progress.answered += 1
        bound = settlement.attempt.cost_high
        known = settlement.cost_high is not None or isinstance(settlement.outcome, Answered)
        if bound is None or (billed <= bound and known):
            return False
        progress.overbilled += 1
        return True

    def gave_up(self, kind: FailureKind, reason: str, message: str) -> None:
        """A row that gets no answer, and why."""
        self._progress.last_failure = f"{reason}: {message[:_MESSAGE_LENGTH]}"
        match kind:
            case FailureKind.QUARANTINED:
                self._progress.quarantined += 1
            case FailureKind.FAILED:
                self._progress.failed += 1
            case FailureKind.HELD:
                self._progress.held += 1

    def _answer(self, answer: Answer, *, stays: bool) -> None:
        usage, progress = answer.usage, self._progress
        if answer.message_id and self._message_ids.seen_before(answer.message_id):
            progress.repeated_message_ids += 1
        if usage:
            progress.input_tokens += usage.input_tokens or 0
            progress.output_tokens += usage.output_tokens or 0
        progress.truncated += stays and answer.stop_reason in TRUNCATED
        progress.refused += answer.stop_reason == "refusal"
        if answer.stop_reason not in KNOWN_STOP_REASONS:
            self._unknown_reason(answer.stop_reason or "none")

    def _unknown_reason(self, reason: str) -> None:
        """A server may send whatever it likes; what is counted stays small and printable."""
        counts = self._progress.unknown_stop_reasons
        name = "".join(c if c.isprintable() else "?" for c in reason[:_REASON_LENGTH])
        if name not in counts and len(counts) >= _MOST_REASONS:
            name = "others"
        counts[name] = counts.get(name, 0) + 1

    def _money(self, charges: tuple[Charge, ...]) -> int:
        """Count them; gives what they come to in pico-USD, as the server tells it."""
        progress = self._progress
        billed = 0
        is_assumed = False
        for charge in charges:
            if charge.status is ChargeStatus.ASSUMED:
                is_assumed = True
                if _in_usd(charge):
                    progress.assumed_low += charge.total or 0
                    progress.assumed_high += charge.high or 0
            if charge.status is ChargeStatus.UNPRICED:
                progress.unpriced += 1
            elif _in_usd(charge):
                progress.cost += charge.total or 0
                billed += charge.told
            elif charge.rates is not None:
                currencies = progress.other_currencies
                currency = charge.rates.currency
                currencies[currency] = currencies.get(currency, 0) + (charge.total or 0)
        progress.assumed += is_assumed
        return billed


class DetourTally:
    """See `Tally`: tells also what an endpoint that was fallen back to did and cost."""

    def __init__(self, tally: Tally, progress: Progress, endpoint: str) -> None:
        self.read = tally.read
        self.gave_up = tally.gave_up
        self._tally = tally
        self._progress = progress
        self._endpoint = endpoint

    def settled(self, verdicts: OutcomeDecision) -> bool:
        """See `Tally.settled`."""
        progress = self._progress
        answered, cost = progress.answered, progress.cost
        beyond = self._tally.settled(verdicts)
        rows, costs = progress.fallback_rows, progress.fallback_cost
        rows[self._endpoint] = rows.get(self._endpoint, 0) + progress.answered - answered
        costs[self._endpoint] = costs.get(self._endpoint, 0) + progress.cost - cost
        return beyond


def _in_usd(charge: Charge) -> bool:
    return charge.rates is None or charge.rates.currency == "USD"


def _plus(total: int | None, part: int | None) -> int | None:
    return None if total is None or part is None else total + part

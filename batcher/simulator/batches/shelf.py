"""All batches of one simulator, and what time does to them; knows no network."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

from batcher.simulator.batches.items import Begun, Item, ItemResult, Workshop, unworked
from batcher.simulator.bill import Bill
from batcher.simulator.settings import SimulatorSettings

_KINDS: Final = ("succeeded", "errored", "canceled", "expired")


@dataclass(slots=True)
class Batch:
    """One batch; moments are microseconds UTC. `results` grow while it is worked on."""

    batch_id: str
    number: int
    items: Sequence[Item]
    version: str | None
    created_at: int
    work_us: int  # how long it takes from the first request to the last
    expires_at: int
    results: list[ItemResult] = field(default_factory=list)
    canceled_at: int | None = None
    ended_at: int | None = None
    looks: int = 0
    downloads: int = 0

    @property
    def status(self) -> str:
        """As the API names it."""
        if self.ended_at is not None:
            return "ended"
        return "in_progress" if self.canceled_at is None else "canceling"

    def due(self, now_us: int) -> int:
        """How many of its requests are worked on by then."""
        until = min(now_us, self.expires_at, self.canceled_at or now_us)
        if self.work_us == 0:
            return len(self.items)
        return min(len(self.items) * (until - self.created_at) // self.work_us, len(self.items))

    def starts(self, number: int) -> int:
        """When the request of that number is worked on; without a duration all at once."""
        return self.created_at + self.work_us * (number + 1) // len(self.items)

    def shown(self, url: str) -> dict[str, Any]:
        """The batch as the API shows it; `url` is the address of this list."""
        ended = self.ended_at is not None
        kinds = Counter(result.kind for result in self.results) if ended else Counter[str]()
        counts = {kind: kinds[kind] for kind in _KINDS}
        return {
            "id": self.batch_id,
            "type": "message_batch",
            "processing_status": self.status,
            "request_counts": {"processing": 0 if ended else len(self.items), **counts},
            "created_at": _text(self.created_at),
            "expires_at": _text(self.expires_at),
            "ended_at": _text(self.ended_at),
            "cancel_initiated_at": _text(self.canceled_at),
            "archived_at": None,
            "results_url": f"{url}/{self.batch_id}/results" if ended else None,
        }

    def lines(self) -> list[bytes]:
        """The result lines, in an order that is not that of the requests."""
        lines = [result.line for result in self.results if result.line]
        return lines[1::2] + lines[::2]


class Shelf:
    """Batches by id, oldest first; `prefix` makes the ids of a process its own."""

    def __init__(
        self, settings: SimulatorSettings, bill: Bill, prefix: str, now_us: Callable[[], int]
    ) -> None:
        self._settings = settings.batches
        self._bill = bill
        self._seed = settings.seed
        self._prefix = prefix
        self._now_us = now_us
        self._workshop = Workshop(settings.seed)
        self._batches: dict[str, Batch] = {}
        self._serial = 0

    @property
    def waiting_requests(self) -> int:
        """How many requests are not worked on yet."""
        return sum(len(batch.items) - len(batch.results) for batch in self.all())

    def all(self) -> list[Batch]:
        """Every batch, oldest first."""
        self.pass_time()
        return list(self._batches.values())

    def find(self, batch_id: str) -> Batch | None:
        """The batch of that id, if it is there."""
        self.pass_time()
        return self._batches.get(batch_id)

    def add(self, items: Sequence[Item], version: str | None) -> Batch:
        """Take a new batch."""
        self._serial += 1
        now = self._now_us()
        batch = Batch(
            batch_id=f"msgbatch_{self._prefix}{self._serial:06x}",
            number=self._serial,
            items=items,
            version=version,
            created_at=now,
            work_us=self._work_us(self._serial),
            expires_at=now + int(self._settings.expire_seconds * 1e6),
        )
        self._batches[batch.batch_id] = batch
        return batch

    def cancel(self, batch: Batch) -> None:
        """Work on nothing more of it; it ends at the next look."""
        if batch.ended_at is None and batch.canceled_at is None:
            batch.canceled_at = self._now_us()

    def delete(self, batch: Batch) -> None:
        """Forget it."""
        del self._batches[batch.batch_id]

    def end_all(self) -> None:
        """Work on everything that waits, at once."""
        for batch in list(self._batches.values()):
            if batch.ended_at is None and batch.canceled_at is None:
                batch.work_us = 0
        self.pass_time()

    def pass_time(self) -> None:
        """Do what has come due: the bill has it whether or not anybody asks for results."""
        now = self._now_us()
        for batch in self._batches.values():
            if batch.ended_at is None:
                self._work(batch, now)

    def _work(self, batch: Batch, now: int) -> None:
        for number in range(len(batch.results), batch.due(now)):
            item_id = f"{batch.batch_id.removeprefix('msgbatch_')}_{number:06x}"
            begun = Begun(batch.starts(number), now)
            result = self._workshop.work_on(batch.items[number], batch.version, item_id, begun)
            if result.billed is not None:
                self._bill.add(result.billed)
            batch.results.append(result)
        left = batch.items[len(batch.results) :]
        canceled = batch.canceled_at is not None and batch.canceled_at < now
        if left and not canceled and now < batch.expires_at:
            return
        batch.results += [
            unworked(item, "canceled" if canceled else "expired") for item in left
        ]
        batch.ended_at = min(now, batch.expires_at)

    def _work_us(self, number: int) -> int:
        shortest, longest = self._settings.queue_seconds
        key = self._seed.to_bytes(16, "little", signed=True)
        drawn = int.from_bytes(blake2b(b"%d" % number, key=key, digest_size=4).digest(), "big")
        return int((shortest + (longest - shortest) * drawn / 2**32) * 1e6)


def _text(moment: int | None) -> str | None:
    if moment is None:
        return None
    shown = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)
    return shown.isoformat(timespec="microseconds").replace("+00:00", "Z")

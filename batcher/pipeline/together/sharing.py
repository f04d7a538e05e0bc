"""Runs that share a database share the quotas of their key: each takes its leased part.

Everybody says a few times a minute what he could use and computes the same shares from the
same claims; a pause that a server asked for is passed on as soon as it is seen.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from batcher.clock import Clock
from batcher.errors import BatcherError
from batcher.ledger.connect import Engine as Database
from batcher.ledger.owner.sharing import (
    QuotaClaim,
    drop_quota_claims,
    quota_claims,
    renew_quota_claims,
)
from batcher.ledger.write.writer import Writer
from batcher.pacing.limits import Claim, next_share
from batcher.pacing.pacer import Pacer
from batcher.pipeline.job import Services
from batcher.pipeline.run.begin import BegunInvocation

_NOTICE_SECONDS: Final = 0.1  # until a new quota or a pause is told to the others
_LOOK_SECONDS: Final = 1.0  # between two looks at what the others claim
_RENEW_SECONDS: Final = 5.0
_WORTH_TELLING: Final = 0.01  # of the quota: smaller changes wait for the next renewal


def share_quotas(
    services: Services,
    pacers: Sequence[Pacer],
    writer: Writer,
    begun: BegunInvocation,
    database: Database,
) -> list[asyncio.Task[None]]:
    """The tasks that share a run's quotas; none where nobody can share: on SQLite.

    `pacers` are those of its endpoint, and of those that it falls back to.
    """
    tasks = []
    ids = (begun.scope.invocation_id, *begun.fallbacks)
    for each, pacer, invocation_id in zip(services.endpoints, pacers, ids, strict=True):
        if each.fingerprint is None or database.dialect.name != "postgresql":
            continue
        fingerprint = each.fingerprint(begun.database_uid)
        sharing = Sharing(pacer, writer, services.clock, invocation_id, fingerprint)
        tasks.append(asyncio.create_task(sharing.run()))
    return tasks


class Sharing:
    """One process's part in sharing; belongs to the event loop's thread.

    `fingerprint` names the key and the address whose quotas are meant, without showing either.
    """

    def __init__(
        self, pacer: Pacer, writer: Writer, clock: Clock, invocation_id: int, fingerprint: str
    ) -> None:
        self._pacer = pacer
        self._writer = writer
        self._clock = clock
        self._me = invocation_id
        self._fingerprint = fingerprint
        self._claims: dict[str, Claim] = {}  # mine, as last told
        self._pauses: dict[str, float] = {}  # the moments until which, as last told or heard
        self._renewed_at = float("-inf")

    async def run(self) -> None:
        """Share until cancelled, or until the database fails, which ends the run anyway."""
        look_at = float("-inf")
        try:
            while True:
                now = self._clock.monotonic()
                if now >= look_at or self._has_news(now):
                    look_at = now + _LOOK_SECONDS
                    await self.look()
                await self._clock.sleep(_NOTICE_SECONDS)
        except BatcherError:
            return
        finally:  # the others need not wait until it expires
            self._writer.call(lambda connection: drop_quota_claims(connection, self._me))

    def _has_news(self, now: float) -> bool:
        return any(
            name not in self._claims
            or self._pacer.paused_until(name) > max(self._pauses.get(name, 0.0), now)
            for name in self._pacer.quotas
        )

    async def look(self) -> None:
        """Read what the others claim, take the share that follows, and tell what changed."""
        demands = self._pacer.demands(self._clock.monotonic())
        if not demands:
            return
        read = self._writer.call(lambda connection: quota_claims(connection, self._fingerprint))
        seen = await asyncio.wrap_future(read)
        now = self._clock.monotonic()
        for name, demand in demands.items():
            self._pass_pauses(name, seen, now)
            self._take(name, demand, seen)
        mine = [self._told(name, now) for name in demands]
        if self._worth_telling(mine, seen, now):
            self._renewed_at = now
            self._writer.call(
                lambda connection: renew_quota_claims(connection, self._fingerprint, mine)
            )

    def _take(self, name: str, demand: float, seen: Sequence[QuotaClaim]) -> None:
        known = self._claims.get(name)
        claims = {
            claim.invocation_id: Claim(claim.demand, claim.share)
            for claim in seen
            if claim.model_class == name and claim.invocation_id != self._me
        }
        if known is None:  # what begins wants everything, and has nothing yet
            demand, known = 1.0, Claim(1.0, 0.0)
        claims[self._me] = Claim(demand, known.share)
        share = next_share(claims, self._me)
        self._claims[name] = Claim(demand, share)
        self._pacer.take_share(name, share)

    def _pass_pauses(self, name: str, seen: Sequence[QuotaClaim], now: float) -> None:
        others = [
            claim.paused_seconds
            for claim in seen
            if claim.model_class == name and claim.invocation_id != self._me
        ]
        if longest := max(others, default=0.0):
            self._pacer.pause_until(name, now + longest)
        self._pauses[name] = self._pacer.paused_until(name)

    def _told(self, name: str, now: float) -> QuotaClaim:
        claim = self._claims[name]
        paused = max(self._pauses[name] - now, 0.0)
        return QuotaClaim(name, self._me, claim.demand, claim.share, paused)

    def _worth_telling(
        self, mine: Sequence[QuotaClaim], seen: Sequence[QuotaClaim], now: float
    ) -> bool:
        if now - self._renewed_at >= _RENEW_SECONDS:
            return True
        before = {claim.model_class: claim for claim in seen if claim.invocation_id == self._me}
        return any(_differs(claim, before) for claim in mine)


def _differs(claim: QuotaClaim, before: Mapping[str, QuotaClaim]) -> bool:
    old = before.get(claim.model_class)
    return (
        old is None
        or abs(claim.demand - old.demand) > _WORTH_TELLING
        or abs(claim.share - old.share) > _WORTH_TELLING
        or claim.paused_seconds > old.paused_seconds + _NOTICE_SECONDS
    )

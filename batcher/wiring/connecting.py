"""A client of an endpoint, with its key or with where its key comes from, and its batches.

Also the provider's reports, which want the admin key of an endpoint.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from batcher.clock import Clock, SystemClock, moment_of
from batcher.config.endpoints import admin_endpoint, endpoint_named
from batcher.config.files import read_config
from batcher.config.keys import checked_key, read_admin_key, read_key
from batcher.config.tables import Settings
from batcher.config.values import deadline
from batcher.errors import ConfigurationError, UsageError
from batcher.messages.request import Request
from batcher.pipeline.choices import PACKED_ROWS, Deadline, LaneChoice, OnUnknown
from batcher.pipeline.job import Job, RunLimits
from batcher.transport.endpoint import (
    Auth,
    Endpoint,
    Journal,
    Lane,
    Secret,
    no_batches,
    shown_url,
)
from batcher.transport.room import AnswerRoom
from batcher.wiring.dated import local_zone

if TYPE_CHECKING:
    from batcher.transport.batch.message_batches import MessageBatches
    from batcher.transport.live.client import HttpClient
    from batcher.transport.live.credentials import Exchange, KeySource
    from batcher.transport.live.listings import Days


def connect(
    endpoint: Endpoint,
    key: Secret | None,
    clock: Clock,
    may_send: Callable[[], bool] = lambda: True,
    room: AnswerRoom | None = None,
) -> "HttpClient":
    """A client that sends `key`, and after it what takes its place; inside an event loop."""
    from batcher.transport.live.client import HttpClient  # noqa: PLC0415 - aiohttp, late

    stands_still = not (
        endpoint.auth is Auth.SIGV4
        or endpoint.api_key_file
        or endpoint.api_key_command
        or endpoint.federation
    )
    source = None if stands_still else partial(_key_source, endpoint, clock)
    return HttpClient(endpoint, key, clock, may_send, source, room)


def _key_source(endpoint: Endpoint, clock: Clock, exchange: "Exchange") -> "KeySource":
    from batcher.transport.live import credentials  # noqa: PLC0415 - aiohttp, late

    if endpoint.auth is Auth.SIGV4:
        return credentials.AwsCredentials(endpoint, clock)
    if endpoint.api_key_file:
        return credentials.KeyFile(
            Path(endpoint.api_key_file), partial(_file_key, endpoint), clock
        )
    if endpoint.api_key_command:
        return credentials.KeyCommand(
            endpoint.api_key_command,
            endpoint.api_key_ttl_seconds,
            partial(checked_key, endpoint),
            clock,
        )
    if endpoint.federation is None:
        raise ValueError("this endpoint's key does not change")
    return credentials.ExchangedIdentity(endpoint.federation, exchange, clock)


def _file_key(endpoint: Endpoint) -> Secret:
    key = read_key(endpoint)
    if key is None:
        raise ValueError("this endpoint has no key")
    return key


PACKED_BYTES: Final = 64 * 2**20

MakePacking = Callable[[Callable[[], bool], Journal], Lane]
MakeBatches = Callable[[Callable[[], bool]], "MessageBatches"]


def check_lane(merged: Settings, typed: Settings, *, wait: bool, cancel: bool) -> None:
    """Raise for settings that do not go together; `typed` are those of options."""
    by_deadline = merged.lane is LaneChoice.AUTO and not cancel
    if merged.lane is not LaneChoice.LIVE:
        _check_alone(merged, f"--lane {merged.lane}")
    elif cancel or not wait:
        option = "--cancel" if cancel else "--no-wait"
        raise UsageError(f"{option} is about batches: type it with --lane batch")
    if by_deadline:
        _check_deadline(merged, wait=wait)
    elif typed.deadline or typed.deadline_pays or typed.tz:
        raise UsageError(
            "--deadline, --deadline-pays and --tz are for --lane auto: type that, too"
        )


def _check_deadline(merged: Settings, *, wait: bool) -> None:
    if not merged.deadline:
        raise ConfigurationError(
            "--lane auto needs a deadline, for which rows that are not back from batches are"
            " sent live: --deadline 06:00, or 8h"
        )
    if not wait:
        raise UsageError(
            "--no-wait and --lane auto: somebody has to be there before the deadline; submit"
            " with --lane batch, and type --lane auto later"
        )
    if merged.limit is not None:
        raise UsageError("--limit and --lane auto: the deadline is for all rows; leave one out")
    if merged.deadline_pays and merged.on_unknown is not OnUnknown.RETRY:
        raise ConfigurationError(
            f"--deadline-pays sends rows again that may be paid, and --on-unknown"
            f" {merged.on_unknown} does not: leave one of them out"
        )


def lane_of(merged: Settings, *, cancel: bool) -> LaneChoice:
    """The lane of the run; who cancels has to do with batches only."""
    if merged.lane is LaneChoice.AUTO and cancel:
        return LaneChoice.BATCH
    return merged.lane or LaneChoice.LIVE


def deadline_of(
    merged: Settings, lane: LaneChoice, now_us: int, schedule_tz: str | None
) -> Deadline | None:
    """By when the run is to be done; raises `ConfigurationError` for no such moment."""
    if lane is not LaneChoice.AUTO or merged.deadline is None:
        return None
    zone = local_zone(merged.tz, "tz") or local_zone(schedule_tz, "[schedule] tz")
    at_us, words = deadline(merged.deadline, now_us, zone)
    return Deadline(at_us=at_us, words=words, pays=bool(merged.deadline_pays))


def phase_notes(job: Job) -> tuple[str, ...]:
    """What goes where in this phase of a run that has several, and until when."""
    if job.limits.leading:
        return ("one row of each prefix goes first; the others follow when those are back",)
    if job.deadline is None or job.plan is None:
        return ()
    seen, by = job.plan.forecast, f"deadline {job.deadline.words}"
    missed = _missed_words(job.deadline)
    if not job.lane.packs:
        here = f"{by}: rows that are in no batch go live now, and those of batches in time"
        return (*missed, here)
    known = f"as {seen.seen_batches:,} were" if seen.seen_batches else "none was seen yet"
    minutes = max(round(seen.queue_seconds / 60), 1)
    return (
        *missed,
        f"{by}: rows go in batches of up to {job.limits.waiting:,}, which should be back within"
        f" {minutes:,} min ({known})",
    )


def _missed_words(deadline: Deadline) -> tuple[str, ...]:
    if deadline.missed_us is None:
        return ()
    then = moment_of(deadline.missed_us).isoformat(sep=" ", timespec="minutes")
    return (f"the deadline of {then} was missed: it passed before all rows were done",)


def check_alone(merged: Settings) -> None:
    """Raise for settings of several processes beside those of one."""
    if merged.dedup:
        _check_alone(merged, "--dedup")


def _check_alone(merged: Settings, option: str) -> None:
    if merged.join or (merged.processes or 1) > 1 or merged.on is not None:
        raise ConfigurationError(
            f"{option} is for one process: leave out --processes, --join and --on"
        )


def lane_limits(limits: RunLimits, lane: LaneChoice, *, cancel: bool) -> RunLimits:
    """What holds of the limits in that lane: the quotas of live requests are not its own."""
    if not lane.packs:
        return limits
    packed = limits.packed(PACKED_ROWS)
    return replace(packed, retry=replace(packed.retry, max_attempts=0)) if cancel else packed


def packing_maker(job: Job, key: Secret | None, clock: Clock) -> MakePacking | None:
    """Makes the lane of a job that packs; `None` for another.

    Raises `ConfigurationError` where the endpoint has no batches, or the job falls back to
    others.
    """
    if not job.lane.packs:
        return None
    if not job.endpoint.batches:
        raise ConfigurationError(no_batches(job.endpoint))
    if job.fallback:
        raise ConfigurationError("batches are of one endpoint: leave out the fallback")
    return partial(_batch_lane, job, key, clock)


def carried(job: Job) -> Callable[[Request], bool] | None:
    """Whether a batch carries a request, in the phase of a run that packs; `None`: ask nobody.

    What calls for a tool of ours is no use there: its answer would be waited for in vain.
    """
    if job.plan is None or not job.lane.packs:
        return None
    from batcher.transport.batch.batch_lane import not_in_batches  # noqa: PLC0415 - late

    tools = [f'"{name}"'.encode() for name in job.answers.tools]
    return lambda request: (
        not_in_batches(request.body, request.max_tokens) is None
        and not any(tool in request.body for tool in tools)
    )


def batches_maker(endpoint: Endpoint, key: Secret | None, clock: Clock) -> MakeBatches | None:
    """Makes what asks the endpoint about its batches; `None` where it has none."""
    return partial(_batches, endpoint, key, clock) if endpoint.batches else None


def _batch_lane(
    job: Job, key: Secret | None, clock: Clock, may_send: Callable[[], bool], journal: Journal
) -> Lane:
    from batcher.transport.batch.batch_lane import BatchLane, PackLimits  # noqa: PLC0415 - late

    limits = PackLimits(requests=job.limits.waiting, body_bytes=PACKED_BYTES)
    batches = _batches(job.endpoint, key, clock, may_send)
    lane = BatchLane(batches, clock, journal, limits)
    if job.cancel:
        lane.drain()
    return lane


def _batches(
    endpoint: Endpoint, key: Secret | None, clock: Clock, may_send: Callable[[], bool]
) -> "MessageBatches":
    from batcher.transport.batch.message_batches import (  # noqa: PLC0415 - aiohttp, late
        MessageBatches,
    )

    client = connect(endpoint, key, clock, may_send)
    return MessageBatches(client, endpoint, clock, may_send)


def fetch_reports(
    name: str, config: str | None, days: "Days", say: Callable[[str], object]
) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    """The reports of usage and of costs of the endpoint `name`: their address, and JSON.

    Raises `ConfigurationError` or `AccessRefused` before anything is sent where address or key
    are not known, and else what `fetch_report` raises. `say` is told of each wait.
    """
    endpoint = admin_endpoint(endpoint_named(name, read_config(config).endpoints))
    return asyncio.run(_fetch(endpoint, read_admin_key(endpoint), days, say))


async def _fetch(
    endpoint: Endpoint, key: Secret, days: "Days", say: Callable[[str], object]
) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    from batcher.transport.live import listings as admin  # noqa: PLC0415 - aiohttp, late
    from batcher.transport.live.client import HttpClient  # noqa: PLC0415 - aiohttp, late

    clock = SystemClock()
    client = HttpClient(endpoint, key, clock)
    try:
        usage, costs = [
            (
                shown_url(endpoint.report_url(report)),
                await admin.fetch_report(client, endpoint, report, days, clock, say),
            )
            for report in (admin.USAGE, admin.COSTS)
        ]
    finally:
        await client.close()
    return usage, costs

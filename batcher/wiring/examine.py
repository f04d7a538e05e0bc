"""The examinations of `batcher doctor`, each one sentence."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from batcher.clock import SystemClock
from batcher.config.files import environment_settings, find_config, lifeboat_places, read_config
from batcher.config.keys import key_source, read_key
from batcher.config.values import size_bytes
from batcher.errors import BatcherError, CannotCreate, ConfigurationError
from batcher.ledger.connect import engine_at, parse_url
from batcher.ledger.lifeboat.lifeboat import can_be_written, places_for, waiting_for
from batcher.ledger.maintenance import check_space, rehearse
from batcher.messages.request import Request
from batcher.pipeline.job import Job
from batcher.report.words import count_of
from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.reader import read_rows
from batcher.transport.endpoint import Auth, Endpoint
from batcher.wiring.connecting import connect
from batcher.wiring.process import allow_connections
from batcher.wiring.ready import (
    checked_files,
    price_book,
    price_words,
    rater_of,
    request_builder,
)
from batcher.wiring.resolve import Asked, job_file, merged_settings, place_of, resolve, stated

if TYPE_CHECKING:
    from batcher.transport.live.client import Reply

_MOST_OFF_SECONDS: Final = 300
_EVERY: Final = AllBut(RowRanges())


@dataclass(frozen=True, slots=True)
class Examination:
    """One examination: what was looked at, whether it is well, and why."""

    what: str
    ok: bool
    words: str


def examine(typed: Asked) -> list[Examination]:
    """Look at everything a run needs; a later examination does not depend on an earlier one."""
    findings = [_look("configuration", lambda: _configuration(typed))]
    try:
        database, endpoint = place_of(typed)
    except BatcherError as exc:
        if not findings[0].ok and findings[0].words == str(exc):
            return findings
        return [*findings, Examination("endpoint", ok=False, words=str(exc))]
    return [*findings, *_places(typed, database, endpoint)]


def _places(typed: Asked, database: str, endpoint: Endpoint) -> Iterator[Examination]:
    if typed.job_path or (typed.inputs and "-" not in typed.inputs):
        yield _look("inputs", lambda: _inputs(typed))
    yield _look("prices", lambda: _prices(typed))
    yield _look("key", lambda: _key(endpoint))
    replies: list[Reply] = []
    yield _look("endpoint", lambda: asyncio.run(_endpoint(endpoint, replies)))
    for reply in replies:
        yield _look("clock", partial(_clock, reply))
    yield _look("database", lambda: _database(database))
    yield _look("disk", lambda: _disk(typed, database))
    yield _look("lifeboat folder", lambda: _lifeboat_folder(typed, database))
    yield _look("open files", lambda: _open_files(typed))
    yield from _lifeboats(typed, database)


def _look(what: str, examination: Callable[[], str]) -> Examination:
    try:
        return Examination(what, ok=True, words=examination())
    except BatcherError as exc:
        return Examination(what, ok=False, words=str(exc))


def _configuration(typed: Asked) -> str:
    path = find_config(typed.config_path, typed.job_path)
    read_config(typed.config_path, typed.job_path)
    environment_settings()
    if typed.job_path:
        job_file(typed.job_path)
    return f"read from {path}" if path else "no config.toml: defaults"


def _inputs(typed: Asked) -> str:
    """Whether they are there; `batcher check` reads their rows."""
    job = resolve(typed)
    if "-" in job.inputs:
        return "standard input"
    files = checked_files(job, request_builder(job))
    return f"{count_of(len(files), 'file')} can be read"


def _prices(typed: Asked) -> str:
    """Whose prices count, and which models that the first rows ask for are about to retire."""
    words = price_words(typed)
    retiring = []
    if typed.job_path or typed.inputs:
        with suppress(BatcherError):  # inputs that cannot be read are told by their own finding
            retiring = _retiring(resolve(typed))
    return "; ".join([words, *(each for each in retiring if each not in words)])


def _retiring(job: Job) -> list[str]:
    builder = request_builder(job)
    files = () if "-" in job.inputs else checked_files(job, builder)
    models = {
        item.model
        for file in files
        for batch in islice(read_rows(file, source_id=0, builder=builder, rows=_EVERY), 1)
        for item in batch.items
        if isinstance(item, Request)
    }
    return rater_of(job, price_book(job)).retirements(models, SystemClock().now_us())


def _key(endpoint: Endpoint) -> str:
    there = read_key(endpoint) or endpoint.auth is Auth.NONE or not _asked_later(endpoint)
    return f"{'there' if there else 'asked for when it is needed'} ({key_source(endpoint)})"


def _asked_later(endpoint: Endpoint) -> bool:
    later = endpoint.api_key_command or endpoint.federation
    return bool(later) or endpoint.auth is Auth.SIGV4


async def _endpoint(endpoint: Endpoint, replies: "list[Reply]") -> str:
    """One authorised request that costs nothing; `replies` gets what came."""
    from batcher.transport.live.connections import SendError  # noqa: PLC0415 - late

    key, keyless = None, True
    try:
        key = read_key(endpoint)
        keyless = False
    except BatcherError:  # told by its own finding; whether the server is there is seen without
        endpoint = replace(endpoint, api_key_file=None, api_key_command=(), federation=None)
    client = connect(endpoint, key, SystemClock())
    try:
        reply = await client.get_models()
    except SendError as exc:
        raise ConfigurationError(
            f"{endpoint.name} at {endpoint.shown_url} cannot be reached "
            f"{endpoint.route.words}: {exc.message}"
        ) from exc
    finally:
        await client.close()
    replies.append(reply)
    if reply.status in {401, 403} and not keyless:
        raise ConfigurationError(
            f"{endpoint.name} at {endpoint.shown_url} refuses the key (HTTP {reply.status})"
        )
    return (
        f"{endpoint.name} at {endpoint.shown_url} answers (HTTP {reply.status}"
        f"{', asked without a key' if keyless else ''}), reached {endpoint.route.words}"
    )


def _lifeboats(typed: Asked, url: str) -> Iterator[Examination]:
    """A finding for each that waits; where the database cannot be read, that was told."""
    path = parse_url(url).path
    if path is not None and not path.exists():
        return
    with suppress(BatcherError), engine_at(url, read_only=True) as engine:
        for boat in waiting_for(engine, *lifeboat_places(typed.config_path)):
            yield Examination("lifeboat", ok=not boat.problem, words=boat.words)


def _clock(reply: "Reply") -> str:
    """Prices, days and proofs of identity follow our clock."""
    try:
        theirs = parsedate_to_datetime(reply.headers.get("Date", ""))
    except (TypeError, ValueError):
        return "the endpoint does not say what time it is"
    off = SystemClock().now_us() / 1_000_000 - theirs.timestamp()
    if abs(off) > _MOST_OFF_SECONDS:
        raise ConfigurationError(
            f"this machine's clock is {abs(off):,.0f} s {'ahead of' if off > 0 else 'behind'}"
            " the endpoint's: set it, or the days and prices of answers are wrong"
        )
    return f"within {abs(off):,.0f} s of the endpoint's"


def _database(url: str) -> str:
    """Whether a run could write: it is tried, and taken back."""
    where = parse_url(url)
    if where.path and not where.path.exists():
        if not can_be_written(where.path.parent):
            raise CannotCreate(
                f"{where.shown} cannot be created: {where.path.parent} may not be written"
            )
        return f"{where.shown} is not there yet; the first run creates it"
    if rehearse(url):
        return f"{where.shown} is empty; the first run creates the tables, which was tried"
    return f"{where.shown} can be written, which was tried; its schema is current"


def _disk(typed: Asked, url: str) -> str:
    if parse_url(url).path is None:
        return "the server looks after its own"
    check_space(url, size_bytes("min_free_space", merged_settings(typed).min_free_space))
    return "has room for a run"


def _lifeboat_folder(typed: Asked, url: str) -> str:
    """Where paid answers go when the ledger fails."""
    places = places_for(url, "", *lifeboat_places(typed.config_path))
    usable = places.usable
    if not usable:
        raise CannotCreate(places.nowhere_words)
    return f"{usable[0].resolve()} can be written"


def _open_files(typed: Asked) -> str:
    concurrency = stated(merged_settings(typed).concurrency)
    allow_connections(concurrency)
    return f"enough for {count_of(concurrency, 'request')} at a time"

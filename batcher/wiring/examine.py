"""The examinations of `batcher doctor`, each one sentence."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from batcher.clock import SystemClock
from batcher.config.files import environment_settings, find_config, lifeboat_places, read_config
from batcher.config.keys import key_source, read_key
from batcher.errors import BatcherError, CannotCreate, ConfigurationError
from batcher.ledger.connect import Engine, open_engine, parse_url, writing
from batcher.ledger.lifeboat.lifeboat import waiting_for
from batcher.ledger.migrate import current, require_head
from batcher.report.words import count_of
from batcher.transport.endpoint import Endpoint
from batcher.wiring.connecting import connect
from batcher.wiring.ready import checked_files, price_words, request_builder
from batcher.wiring.resolve import Asked, job_file, place_of, resolve


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
        return [*findings, Examination("endpoint", ok=False, words=str(exc))]
    return [*findings, *_places(typed, database, endpoint)]


def _places(typed: Asked, database: str, endpoint: Endpoint) -> Iterator[Examination]:
    if typed.job_path or (typed.inputs and "-" not in typed.inputs):
        yield _look("inputs", lambda: _inputs(typed))
    yield _look("prices", lambda: price_words(typed))
    yield _look("key", lambda: _key(endpoint))
    yield _look("endpoint", lambda: asyncio.run(_endpoint(endpoint)))
    yield _look("database", lambda: _database(database))
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


def _key(endpoint: Endpoint) -> str:
    read_key(endpoint)
    return f"there ({key_source(endpoint)})"


async def _endpoint(endpoint: Endpoint) -> str:
    from batcher.transport.live.send_errors import SendError  # noqa: PLC0415 - late

    try:
        key = read_key(endpoint)
    except BatcherError:
        key = None  # told by its own finding; whether the server is there can be seen without
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
    if reply.status in {401, 403} and key is not None:
        raise ConfigurationError(
            f"{endpoint.name} at {endpoint.shown_url} refuses the key (HTTP {reply.status})"
        )
    return (
        f"{endpoint.name} at {endpoint.shown_url} answers (HTTP {reply.status}), reached "
        f"{endpoint.route.words}"
    )


def _lifeboats(typed: Asked, url: str) -> Iterator[Examination]:
    """A finding for each that waits; where the database cannot be read, that was told."""
    path = parse_url(url).path
    if path is not None and not path.exists():
        return
    with suppress(BatcherError), _reading_engine(url) as engine:
        for boat in waiting_for(engine, *lifeboat_places(typed.config_path)):
            yield Examination("lifeboat", ok=not boat.problem, words=boat.words)


@contextmanager
def _reading_engine(url: str) -> Iterator[Engine]:
    """An engine that only reads, for a moment."""
    engine = open_engine(url, read_only=True)
    try:
        yield engine
    finally:
        engine.dispose()


def _database(url: str) -> str:
    """Whether a run could write; creates nothing."""
    where = parse_url(url)
    if where.path and not where.path.exists():
        if not os.access(where.path.parent, os.W_OK):
            raise CannotCreate(
                f"{where.shown} cannot be created: {where.path.parent} may not be written"
            )
        return f"{where.shown} is not there yet; the first run creates it"
    engine = open_engine(url)
    try:
        if current(engine) is None:
            return f"{where.shown} is empty; the first run creates the tables"
        require_head(engine)
        with writing(engine):
            pass
    finally:
        engine.dispose()
    return f"{where.shown} can be written, its schema is current"

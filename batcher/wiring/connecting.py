"""A client of an endpoint, with its key or with where its key comes from."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batcher.clock import Clock
from batcher.config.keys import checked_key, read_key
from batcher.transport.endpoint import Endpoint, Secret
from batcher.transport.room import AnswerRoom

if TYPE_CHECKING:
    from batcher.transport.live.client import HttpClient
    from batcher.transport.live.credentials import Exchange, KeySource


def connect(
    endpoint: Endpoint,
    key: Secret | None,
    clock: Clock,
    may_send: Callable[[], bool] = lambda: True,
    room: AnswerRoom | None = None,
) -> "HttpClient":
    """A client that sends `key`, and after it what takes its place; inside an event loop."""
    from batcher.transport.live.client import HttpClient  # noqa: PLC0415 - aiohttp, late

    changes = endpoint.api_key_file or endpoint.api_key_command or endpoint.federation
    source = partial(_key_source, endpoint, clock) if changes else None
    return HttpClient(endpoint, key, clock, may_send, source, room)


def _key_source(endpoint: Endpoint, clock: Clock, exchange: "Exchange") -> "KeySource":
    from batcher.transport.live import credentials  # noqa: PLC0415 - aiohttp, late

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

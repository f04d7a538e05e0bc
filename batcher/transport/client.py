"""The one place that knows aiohttp: a POST, its answer, and what became of it otherwise."""

import asyncio
import io
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from batcher.clock import Clock
from batcher.transport.endpoint import Auth, Endpoint, Secret, check_url

BODY_LIMIT: Final = 64 * 2**20  # bytes of one answer; the API's own texts end far below
_SWEEP_SECONDS: Final = 0.5
_PIECEWISE_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers (case-insensitive) and whole body of one HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class SendError(Exception):
    """No whole answer came. `left` tells whether the request may have reached the server."""

    def __init__(self, error_type: str, message: str, *, left: bool) -> None:
        super().__init__(error_type, message)
        self.error_type = error_type
        self.message = message
        self.left = left


class HttpClient:
    """One session to one endpoint.

    Never follows a redirect, reads no proxy or netrc settings, keeps no cookies, retries
    nothing. Must be made and used inside one event loop.
    """

    def __init__(self, endpoint: Endpoint, key: Secret | None, clock: Clock) -> None:
        check_url(endpoint)
        self._url = URL(endpoint.messages_url)
        self._models_url = URL(endpoint.models_url)
        self._uid_header = endpoint.attempt_uid_header
        self._betas = endpoint.betas
        self._deadlines = _Deadlines(endpoint.request_timeout_seconds, clock)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ttl_dns_cache=300, socket_factory=_keep_alive_socket
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=endpoint.connect_timeout_seconds
            ),
            headers=_headers(endpoint, key),
            trust_env=False,
        )

    async def post_message(self, body: bytes, uid: str, betas: tuple[str, ...]) -> Reply:
        """The answer to one Messages body; raises `SendError` when no whole answer came."""
        headers = {self._uid_header: uid} if self._uid_header else {}
        if betas:
            headers["anthropic-beta"] = ",".join(dict.fromkeys(self._betas + betas))
        task = self._deadlines.start()
        try:
            async with self._session.post(
                self._url, data=_payload(body), headers=headers, allow_redirects=False
            ) as response:
                return Reply(response.status, response.headers, await _read(response))
        except asyncio.CancelledError:
            if self._deadlines.took_the_blame(task):
                message = f"no answer within {self._deadlines.seconds:g} s"
                raise SendError("timeout", message, left=True) from None
            raise
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise _send_error(exc) from exc
        finally:
            self._deadlines.stop(task)

    async def get_models(self) -> Reply:
        """The server's model list, as it came; raises `SendError` when no answer came."""
        try:
            async with self._session.get(self._models_url, allow_redirects=False) as response:
                return Reply(response.status, response.headers, await _read(response))
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise _send_error(exc) from exc

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


def _headers(endpoint: Endpoint, key: Secret | None) -> CIMultiDict[str]:
    """What every request carries. Nothing is left for aiohttp to add, which costs it less."""
    headers = CIMultiDict({"content-type": "application/json", "accept": "application/json"})
    headers["accept-encoding"] = "identity"  # answers are small, and a bomb cannot hide
    headers["user-agent"] = "messages-batcher"
    if endpoint.anthropic_version:
        headers["anthropic-version"] = endpoint.anthropic_version
    if endpoint.betas:
        headers["anthropic-beta"] = ",".join(endpoint.betas)
    if key and endpoint.auth is Auth.X_API_KEY:
        headers["x-api-key"] = key.reveal()
    elif key and endpoint.auth is Auth.BEARER:
        headers["authorization"] = f"Bearer {key.reveal()}"
    return headers


def _payload(body: bytes) -> bytes | io.BytesIO:
    """A large body is written in pieces, so that it does not hold up everybody else."""
    return body if len(body) < _PIECEWISE_BYTES else io.BytesIO(body)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, at most `BODY_LIMIT` bytes of it also when compressed or of unknown length."""
    length = response.content_length
    if (
        length is not None
        and length <= BODY_LIMIT
        and "content-encoding" not in response.headers
    ):
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT:
            response.close()
            message = f"the answer is larger than {BODY_LIMIT // 2**20} MiB"
            raise SendError("answer_too_large", message, left=True)
    return bytes(body)


# Sorted by the question that matters: could the server have done the work? First match wins.
_ERRORS: Final[tuple[tuple[type[Exception], str, bool], ...]] = (
    (aiohttp.ClientConnectorDNSError, "name_not_found", False),
    (aiohttp.ClientConnectorCertificateError, "tls", False),
    (aiohttp.ClientConnectorSSLError, "tls", False),
    (aiohttp.ClientConnectorError, "unreachable", False),
    (aiohttp.ConnectionTimeoutError, "unreachable", False),
    (aiohttp.InvalidURL, "invalid_url", False),
    (TimeoutError, "timeout", True),
    (aiohttp.ClientPayloadError, "broken_answer", True),
    (aiohttp.ClientResponseError, "broken_answer", True),
    (Exception, "connection_lost", True),
)


def _send_error(exc: Exception) -> SendError:
    error_type, left = next(
        (error_type, left) for kind, error_type, left in _ERRORS if isinstance(exc, kind)
    )
    return SendError(error_type, f"{exc}"[:300] or type(exc).__name__, left=left)


def _keep_alive_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices a vanished peer during the minutes in which a model thinks."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


class _Deadlines:
    """One timer for all exchanges: a timer each would cost more than the rest of a request.

    All deadlines are equally long, so the oldest exchange is always the first of the dict.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds = seconds
        self._clock = clock
        self._started: dict[asyncio.Task[Any], float] = {}
        self._blamed: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> asyncio.Task[Any]:
        """The current task's exchange begins; gives the task."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - post_message is a coroutine
        self._started[task] = self._clock.monotonic()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
        return task

    def stop(self, task: asyncio.Task[Any]) -> None:
        """The exchange of `task` has ended."""
        self._started.pop(task, None)
        self._blamed.discard(task)

    def took_the_blame(self, task: asyncio.Task[Any]) -> bool:
        """Whether the cancellation of `task` came from here alone; then it is taken back."""
        return task in self._blamed and task.uncancel() == 0

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        for task, started in list(self._started.items()):
            if now - started < self.seconds:
                break
            del self._started[task]
            self._blamed.add(task)
            task.cancel()
        if self._started:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

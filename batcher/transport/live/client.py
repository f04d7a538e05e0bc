"""A POST, its answer, and what became of it otherwise; all that aiohttp raises ends here."""

import asyncio
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from batcher.clock import Clock
from batcher.transport.endpoint import (
    SIMULATOR_KEY,
    Endpoint,
    Secret,
    check_route,
    check_url,
    hidden_parts,
)
from batcher.transport.live.bodies import (
    BODY_LIMIT,
    StreamEnd,
    Unpacked,
    let_end,
    read_whole,
    too_large,
    unpacked,
)
from batcher.transport.live.connections import (
    TROUBLES,
    SendError,
    keep_alive_socket,
    send_error,
    tls_context,
)
from batcher.transport.live.credentials import AwsCredentials, Exchange, Keys, KeySource
from batcher.transport.live.mask import Mask
from batcher.transport.live.wire import (
    LONGEST_LINE,
    MOST_HEADERS,
    Answering,
    Deadlines,
    Wire,
    endpoint_headers,
    key_header,
    proxy_headers,
)
from batcher.transport.room import SMALL_BYTES, AnswerRoom, HeldRoom, StreamTaker

_COUNT_SECONDS: Final = 60
_PROXIED: Final = 3  # a proxy connects, and answers, and lets us connect


class Reply(msgspec.Struct, frozen=True):
    """Status, headers (case-insensitive) and whole body of one HTTP answer.

    `held` is the room that a larger body takes; whoever is done with it closes it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    held: HeldRoom | None = None


class HttpClient:
    """One session to one endpoint, by the route and with the certificates that it names.

    Never follows a redirect, reads no netrc, keeps no cookies, retries nothing. Must be made
    and used inside one event loop. No message leaves while `may_send` says no.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        key: Secret | None,
        clock: Clock,
        may_send: Callable[[], bool] = lambda: True,
        key_source: Callable[["Exchange"], KeySource] | None = None,
        room: AnswerRoom | None = None,
    ) -> None:
        self._room = room or AnswerRoom()
        check_url(endpoint)
        check_route(endpoint)
        self._endpoint = endpoint
        self._uid_header = endpoint.attempt_uid_header
        self._betas = endpoint.betas
        self._deadlines = Deadlines(endpoint.request_timeout_seconds, clock)
        self._silences = Deadlines(endpoint.stream_idle_seconds, clock)
        self._stream_seconds = endpoint.stream_timeout_seconds
        self._clock = clock
        self.mask = Mask(None if key is SIMULATOR_KEY else key, *hidden_parts(endpoint))
        self._error = partial(send_error, mask=self.mask, route=endpoint.route)
        self._headers = headers = endpoint_headers(endpoint, key)
        proxy = endpoint.route.proxy
        connector = aiohttp.TCPConnector(
            limit=0,
            ttl_dns_cache=300,
            socket_factory=keep_alive_socket,
            ssl=tls_context(endpoint),
        )
        seconds = endpoint.connect_timeout_seconds
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=seconds, connect=_PROXIED * seconds if proxy else None
        )
        self._wire = Wire(
            URL(endpoint.messages_url), headers, connector, timeout, may_send, proxy
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=timeout,
            trust_env=False,  # and no headers: aiohttp would show those to the proxy, too
            auto_decompress=False,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_HEADERS,
            proxy=proxy.url if proxy else None,
        )
        self._proxy_headers = proxy_headers(proxy)
        self._token_url = URL(endpoint.token_url)
        self._key_header = partial(key_header, endpoint)
        self._keys: Keys | None = None
        self._signer: AwsCredentials | None = None
        self._post = self._wire.post
        if key_source is not None:
            source = key_source(self._exchange)
            self._signer = source if isinstance(source, AwsCredentials) else None
            self._keys = Keys(self._with_key, source, clock)
            self._post = partial(self._post_with, self._keys)

    async def post_message(self, body: bytes, uid: str, betas: tuple[str, ...]) -> Reply:
        """The answer to one Messages body; raises `SendError` when no whole answer came."""
        headers = self._own_headers(uid, betas)
        task = self._deadlines.start()
        try:
            answering = await self._post(body, headers)
            try:
                body, held = await self._read_answer(answering.content, task)
                return self._reply(answering, body, held)
            finally:
                answering.close()
        except asyncio.CancelledError:
            if self._deadlines.took_the_blame(task):
                message = f"no answer within {self._deadlines.seconds:g} s"
                raise SendError("timeout", message, left=True) from None
            raise
        except TROUBLES as exc:
            raise self._error(exc) from exc
        finally:
            self._deadlines.stop(task)

    async def _read_answer(
        self, content: aiohttp.StreamReader, task: asyncio.Task[Any]
    ) -> tuple[bytes, HeldRoom | None]:
        """The body, and the room it takes where it is no small one."""
        first = await content.readany()
        if content.at_eof() and len(first) <= BODY_LIMIT:
            return first, None  # most answers come in one piece
        whole, chunk = bytearray(), first
        with HeldRoom(self._room) as held:
            while chunk:
                whole += chunk
                if len(whole) > BODY_LIMIT:
                    raise too_large()
                if len(whole) > SMALL_BYTES and not held.fits(len(whole)):
                    self._deadlines.stop(task)  # it is us who are slow
                    await held.wait()
                    self._deadlines.start()
                chunk = await content.readany()
            self._deadlines.stop(task)  # it came in time
            await held.wait_to_be_read()
            return bytes(whole), held.passed_on()

    async def _post_with(
        self, keys: Keys, body: bytes, own_headers: Mapping[str, str]
    ) -> Answering:
        """See `Wire.post`, with the newest key there is."""
        await keys.renew()
        if self._signer is not None:
            shown = {**self._headers, **own_headers}
            signed = self._signer.signed("POST", self._endpoint.messages_url, shown, body)
            own_headers = {**own_headers, **signed}
        answering = await self._wire.post(body, own_headers)
        if not self._refuses_key(answering.status):
            keys.accepted()
        return answering

    async def has_another_key(self, status: int, sent_at: int) -> bool:
        """Whether what was sent then, if refused for its key, may go with another one."""
        if self._keys is None or not self._refuses_key(status):
            return False
        return await self._keys.replaced(sent_at)

    def _refuses_key(self, status: int) -> bool:
        return status == 401 or (status == 403 and status not in self._endpoint.verdicts)

    def _with_key(self, key: Secret) -> None:
        for line in key.reveal().splitlines():
            self.mask.add(Secret(line))
        if self._signer is not None:
            return
        name, value = self._key_header(key)
        self._wire.set_header(name, value)
        self._headers[name] = value

    async def _all_headers(self) -> CIMultiDict[str]:
        """What a request carries, with the newest key there is."""
        if self._keys is not None:
            await self._keys.renew()
        return self._headers.copy()

    async def _exchange(self, body: bytes) -> tuple[int, bytes]:
        """The answer of the server that gives keys for identities."""
        headers = self._headers.copy()
        headers["anthropic-beta"] = "oidc-federation-2026-04-01"
        try:
            async with self._session.post(
                self._token_url,
                data=body,
                headers=headers,
                allow_redirects=False,
                proxy_headers=self._proxy_headers,
            ) as response:
                return response.status, await read_whole(response.content)
        except TROUBLES as exc:
            raise SendError(
                "identity", "the exchange of the identity failed", left=False
            ) from exc

    async def stream_message(
        self, body: bytes, uid: str, betas: tuple[str, ...], taker: StreamTaker,
        begun: Callable[[int, Mapping[str, str]], None],
    ) -> StreamEnd:  # fmt: skip
        """The answer to one Messages body, handed to `taker` in pieces as they come.

        `begun` is told status and headers as soon as they are there. `taker` says whether it
        wants more: an answer may be over before its connection is. It gets refusals as well.
        Raises `SendError` when no answer line came.
        """
        ends_at = self._clock.monotonic() + self._stream_seconds
        answering: Answering | None = None
        broken_by: SendError | None = None
        task = self._silences.start()
        with HeldRoom(self._room) as held:
            try:
                answering = await self._post(body, self._own_headers(uid, betas))
                begun(answering.status, answering.headers)
                await self._hand_over(answering, taker, held, task, ends_at)
                await let_end(answering.content)
            except asyncio.CancelledError:
                if not self._silences.took_the_blame(task):
                    raise
                message = f"nothing came for {self._silences.seconds:g} s"
                broken_by = SendError("timeout", message, left=True)
            except SendError as exc:
                broken_by = exc
            except TROUBLES as exc:
                broken_by = self._error(exc)
            finally:
                self._silences.stop(task)
                if answering is not None:
                    answering.close()
            if answering is None:
                raise broken_by or SendError("connection_lost", "no answer came", left=True)
            await held.wait_to_be_read()
            return StreamEnd(answering.status, answering.headers, broken_by, held.passed_on())

    async def _hand_over(
        self,
        answering: Answering,
        taker: StreamTaker,
        held: HeldRoom,
        task: asyncio.Task[Any],
        ends_at: float,
    ) -> None:
        unpacking = Unpacked(answering.headers, BODY_LIMIT)
        async for chunk in answering.content.iter_any():
            if not taker.take(unpacking.feed(chunk)):
                break
            self._silences.touch(task)
            if taker.kept_bytes > SMALL_BYTES and not held.fits(taker.kept_bytes):
                began = self._clock.monotonic()
                self._silences.stop(task)  # it is us who are slow
                await held.wait()
                self._silences.start()
                ends_at += self._clock.monotonic() - began
            if self._clock.monotonic() > ends_at:
                message = f"the stream took longer than {self._stream_seconds:g} s"
                raise SendError("timeout", message, left=True)
        else:
            taker.take(unpacking.finish())
        self._silences.stop(task)

    def _own_headers(self, uid: str, betas: tuple[str, ...]) -> dict[str, str]:
        """The headers that only this attempt has."""
        headers = {self._uid_header: uid} if self._uid_header else {}
        if betas:
            headers["anthropic-beta"] = ",".join(dict.fromkeys(self._betas + betas))
        return headers

    async def get_models(
        self, *, limit: int | None = None, after_id: str | None = None
    ) -> Reply:
        """The server's model list, or a page of it; raises `SendError` when none came."""
        asked = {"limit": limit, "after_id": after_id}
        given = {name: str(value) for name, value in asked.items() if value is not None}
        return await self.ask("GET", self._endpoint.models_url, query=list(given.items()))

    async def get_report(self, url: str, asked: Sequence[tuple[str, str]]) -> Reply:
        """A page of a report of the Admin API; raises `SendError` when none came."""
        return await self.ask("GET", url, query=asked)

    async def count_tokens(self, body: bytes, betas: tuple[str, ...]) -> Reply:
        """The server's count of a prompt's tokens, as it came; free where there is one.

        `body` is a Messages body without `max_tokens`. Raises `SendError`
        when no answer came within a minute.
        """
        url, seconds = self._endpoint.count_url, _COUNT_SECONDS
        return await self.ask("POST", url, data=body, betas=betas, seconds=seconds)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        data: bytes | None = None,
        betas: tuple[str, ...] = (),
        seconds: float | None = None,
    ) -> Reply:
        """The whole answer of what is no Messages call; raises `SendError` when none came."""
        headers = await self._all_headers()
        if betas:
            headers["anthropic-beta"] = ",".join(dict.fromkeys(self._betas + betas))
        asked = self._asked(method, URL(url).extend_query(query), headers, data)
        try:
            async with asyncio.timeout(seconds), asked as response:
                return self._reply(response, await read_whole(response.content))
        except TROUBLES as exc:
            raise self._error(exc) from exc

    async def download(self, url: str, take: Callable[[bytes], None]) -> Reply | None:
        """Hand a body of any size over in pieces; `None`, or the answer that has none.

        Raises `SendError` when it broke off, or nothing came for as long as a stream may be
        silent.
        """
        asked, seconds = self._asked("GET", URL(url), await self._all_headers()), self._silences
        try:
            async with asyncio.timeout(seconds.seconds) as silence, asked as response:
                if response.status != 200:
                    return self._reply(response, await read_whole(response.content))
                async for chunk in response.content.iter_any():
                    take(chunk)
                    silence.reschedule(asyncio.get_running_loop().time() + seconds.seconds)
                return None
        except TROUBLES as exc:
            raise self._error(exc) from exc

    def _asked(
        self, method: str, url: URL, headers: CIMultiDict[str], data: bytes | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._signer is not None:
            headers.update(self._signer.signed(method, str(url), headers, data or b""))
        return self._session.request(
            method,
            url,
            data=None if data is None else io.BytesIO(data),
            headers=headers,
            allow_redirects=False,
            proxy_headers=self._proxy_headers,
        )

    def _reply(
        self,
        response: Answering | aiohttp.ClientResponse,
        body: bytes,
        held: HeldRoom | None = None,
    ) -> Reply:
        if "content-encoding" in response.headers:
            body = unpacked(body, response.headers, BODY_LIMIT)
        return Reply(response.status, response.headers, self.mask.data(body), held)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

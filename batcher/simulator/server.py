"""The simulator as a server on loopback, inside a program or as a process of its own."""

import asyncio
import resource
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from aiohttp import web

from batcher.simulator.answers.models import SHOWN, is_known, openai_page, shown
from batcher.simulator.batches.counter import PATH, BatchAsked, BatchCounter
from batcher.simulator.batches.shelf import Shelf
from batcher.simulator.bill import PATH as REPORTS
from batcher.simulator.bill import Bill, BilledRequest, Stats, report
from batcher.simulator.desk import Desk, PlannedReply
from batcher.simulator.settings import SimulatorSettings
from batcher.simulator.wire.delivery import Delivery
from batcher.simulator.wire.forms import RefusedRequest

_MOST_BODY_BYTES: Final = 256 * 1024 * 1024


class Simulator:
    """A Messages API on 127.0.0.1; use it as `async with Simulator(settings) as simulator`.

    `now_ns` is its clock. `OSError` says that the port is taken or the bill cannot be written.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._now_ns = now_ns
        self.settings = settings or SimulatorSettings()
        self.stats = Stats()
        self._boot = secrets.token_hex(6)
        self._serial = count(1)
        self._reports_refused = iter(self.settings.reports_refused)

    @property
    def base_url(self) -> str:
        """What a client is given, such as http://127.0.0.1:49152."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def bill(self) -> list[BilledRequest]:
        """Every request accepted so far, oldest first; also after the server has ended."""
        self._shelf.pass_time()
        return self._bill.lines()

    def end_batches(self) -> None:
        """Work on everything that waits in batches, at once."""
        self._shelf.end_all()

    async def __aenter__(self) -> Self:
        self._bill = Bill(self.settings.bill_path)
        self._desk = Desk(self.settings, self._bill, self.stats, self._now_ns)
        self._shelf = Shelf(self.settings, self._bill, self._boot, self._now_us)
        self._batches = BatchCounter(self.settings.batches, self._shelf, self._desk)
        self._delivery = Delivery(self.settings)
        server = web.Server(
            self._serve,
            request_factory=partial(
                web.BaseRequest,
                loop=asyncio.get_running_loop(),
                client_max_size=_MOST_BODY_BYTES + 1,
            ),
            handler_cancellation=True,  # who hangs up is not served any further
            access_log=None,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, "127.0.0.1", self.settings.port, backlog=4096)
            await site.start()
        except OSError:
            await self._stop()
            raise
        self._port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    def _now_us(self) -> int:
        return self._now_ns() // 1000

    async def _stop(self) -> None:
        self._delivery.stopping.set()
        await self._runner.cleanup()
        self._bill.close()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        request_id = f"req_{self._boot}{next(self._serial):010x}"
        is_messages = self._desk.dialect.serves(request.path, "/v1/messages")
        if request.method == "POST" and is_messages:
            return await self._messages(request, request_id)
        decision = self._report(request, request_id) or await self._other(request, request_id)
        return await self._delivery.send(request, decision, request_id)

    async def _messages(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        self.stats.begin()
        try:
            raw = await _read(request)
            decision = self._desk.decide(request.headers, raw, request_id)
            if decision.is_answered:
                self.stats.by_status[decision.status] += 1
            return await self._delivery.send(request, decision, request_id)
        finally:
            self.stats.end()

    async def _other(self, request: web.BaseRequest, request_id: str) -> PlannedReply:
        path, method, dialect = request.path, request.method, self._desk.dialect
        if path.startswith("/_simulator/"):
            return self._inside(path, request_id)
        before, found, rest = path.partition(PATH)
        if found and dialect.has_batches and dialect.serves(before + found, PATH):
            return await self._of_batches(request, before + found, rest, request_id)
        if path == "/" and method in ("GET", "HEAD"):
            return _json({"server": "simulator", "messages": "/v1/messages"})
        counts = dialect.counts_tokens and path.endswith("/v1/messages/count_tokens")
        if counts and method == "POST":
            return self._desk.count_tokens(request.headers, await _read(request), request_id)
        before, found, model = path.partition("/v1/models")
        is_models = found and dialect.lists_models and dialect.serves(before + found, found)
        if is_models and method in ("GET", "HEAD"):
            problem = self._desk.check_access(request.headers)
            return _answer(self._desk, problem or self._models(model, request), request_id)
        return self._desk.refuse(
            RefusedRequest(404, f"{method} {path} does not exist"), request_id
        )

    async def _of_batches(
        self, request: web.BaseRequest, path: str, rest: str, request_id: str
    ) -> PlannedReply:
        asked = BatchAsked(
            method=request.method,
            rest=rest,
            url=f"{self.base_url}{path}",
            query=request.query,
            headers=request.headers,
            raw=await _read(request),
        )
        return self._batches.answer(asked, request_id)

    def _report(self, request: web.BaseRequest, request_id: str) -> PlannedReply | None:
        """A report of the Admin API; `None` where something else was asked for."""
        _, found, name = request.path.partition(REPORTS)
        if not found or request.method != "GET" or not self._desk.dialect.has_reports:
            return None
        problem = self._desk.check_access(request.headers) or self._refused_report()
        lines = () if problem else self.bill
        asked = list(request.query.items())
        answer = problem or report(name, asked, lines, self._now_us())
        return _answer(self._desk, answer, request_id)

    def _refused_report(self) -> RefusedRequest | None:
        status = next(self._reports_refused, None)
        if status is None:
            return None
        headers = {"retry-after": str(self.settings.retry_after_seconds)}
        return RefusedRequest(status, "Ask once a minute at most.", headers=headers)

    def _models(self, model: str, request: web.BaseRequest) -> dict[str, Any] | RefusedRequest:
        wanted = model.strip("/")
        if not wanted and self._desk.dialect.speaks_openai:
            return openai_page()
        return _models_page(request.query) if not wanted else _model(wanted)

    def _inside(self, path: str, request_id: str) -> PlannedReply:
        match path.removeprefix("/_simulator/"):
            case "bill":
                self._shelf.pass_time()
                return PlannedReply(
                    status=200, payload=self._bill.text(), content_type="application/jsonl"
                )
            case "stats":
                return _json(self.stats.as_object())
            case "end_batches":
                self._shelf.end_all()
                return _json({})
            case "redirected":
                self.stats.redirects_followed += 1
            case _:
                pass
        return self._desk.refuse(RefusedRequest(404, f"{path} does not exist"), request_id)


async def _read(request: web.BaseRequest) -> bytes:
    """The body; one that is too large comes back as a little more than is allowed."""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return bytes(_MOST_BODY_BYTES + 1)


def _answer(
    desk: Desk, value: dict[str, Any] | RefusedRequest, request_id: str
) -> PlannedReply:
    return desk.refuse(value, request_id) if isinstance(value, RefusedRequest) else _json(value)


def _model(wanted: str) -> dict[str, Any] | RefusedRequest:
    if not is_known(wanted):
        return RefusedRequest(404, f"model: {wanted}")
    named = {entry[0]: entry for entry in SHOWN}
    return shown(named.get(wanted, (wanted, wanted, "2026-01-01T00:00:00Z")))


def _models_page(query: Mapping[str, str]) -> dict[str, Any] | RefusedRequest:
    identifiers = [entry[0] for entry in SHOWN]
    limit, after = query.get("limit", "20"), query.get("after_id")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= 1000):
        return RefusedRequest(400, "limit: range: 1..1000")
    if after is not None and after not in identifiers:
        return RefusedRequest(400, f"after_id: {after} is not a model")
    start = 0 if after is None else identifiers.index(after) + 1
    page = SHOWN[start : start + int(limit)]
    return {
        "data": [shown(entry) for entry in page],
        "has_more": start + int(limit) < len(SHOWN),
        "first_id": page[0][0] if page else None,
        "last_id": page[-1][0] if page else None,
    }


def _json(value: object) -> PlannedReply:
    return PlannedReply(status=200, payload=msgspec.json.encode(value))


def serve(
    settings: SimulatorSettings,
    announce: Callable[[str], None],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the base URL when clients may come.

    `loop_factory` makes the event loop, `None` for asyncio's own.
    """
    _raise_open_files()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(settings, announce))


async def _serve(settings: SimulatorSettings, announce: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Simulator(settings) as simulator:
        announce(simulator.base_url)
        await stop.wait()


def _raise_open_files() -> None:
    """Thousands of clients need thousands of sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

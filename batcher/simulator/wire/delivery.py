"""Puts decisions on the wire, whole or broken the way a fault asks for."""

import asyncio
import socket
import struct
import time
from typing import Any, Final

from aiohttp import web

from batcher.simulator.answers.plan import error_event, message_events
from batcher.simulator.desk import PlannedReply
from batcher.simulator.settings import SimulatorSettings
from batcher.simulator.wire.faults import NoAnswer, PartAnswer
from batcher.simulator.wire.forms import (
    RefusedRequest,
    anthropic,
    in_form,
    pieces,
    written,
)

ORGANIZATION_ID: Final = "00000000-0000-4000-8000-000000000001"
_RESET: Final = struct.pack("ii", 1, 0)  # linger for zero seconds: close() sends RST
_TRICKLES: Final = 16


class Delivery:
    """Sends what the desk decided; `stopping` releases clients that are left hanging."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._trickle_seconds = settings.trickle_ms / 1000
        self.stopping = asyncio.Event()

    async def send(
        self, request: web.BaseRequest, decision: PlannedReply, request_id: str
    ) -> web.StreamResponse:
        """Wait out the latency, then answer or break the connection."""
        if decision.latency_seconds and decision.message is None:
            await asyncio.sleep(decision.latency_seconds)
        match decision.manner:
            case "hang" | "close" | "reset_before":
                return await self._break(request, decision.manner)
            case manner:
                headers = _headers(decision, request_id)
        if decision.message is not None:
            return await self._stream(request, decision, headers, decision.message)
        decision.begun()
        return await self._plain(request, decision, headers, manner)

    async def _break(self, request: web.BaseRequest, manner: NoAnswer) -> web.StreamResponse:
        if manner == "reset_before":
            return _reset(request)
        if manner == "hang":
            await self.stopping.wait()
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    async def _plain(
        self,
        request: web.BaseRequest,
        decision: PlannedReply,
        headers: dict[str, str],
        manner: PartAnswer,
    ) -> web.StreamResponse:
        payload = decision.payload
        match manner:
            case "answer":
                return web.Response(status=decision.status, body=payload, headers=headers)
            case "cut":
                return web.Response(body=payload[: len(payload) // 2], headers=headers)
            case "error":
                broken = anthropic(RefusedRequest(529, "Overloaded"), headers["request-id"])
                return web.Response(body=broken, headers=headers)
            case "reset_after_headers":
                return await _begin_and_reset(request, payload, headers)
            case "slow_trickle":
                return await self._trickle(request, payload, headers)

    async def _trickle(
        self, request: web.BaseRequest, payload: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        response.content_length = len(payload)
        await response.prepare(request)
        size = max(len(payload) // _TRICKLES, 1)
        for start in range(0, len(payload), size):
            await response.write(payload[start : start + size])
            await asyncio.sleep(self._trickle_seconds)
        return response

    async def _stream(
        self,
        request: web.BaseRequest,
        decision: PlannedReply,
        headers: dict[str, str],
        message: dict[str, Any],
    ) -> web.StreamResponse:
        headers["content-type"] = "text/event-stream; charset=utf-8"
        headers["cache-control"] = "no-cache"
        response = web.StreamResponse(headers=headers)
        frames = _frames(decision, message, headers["request-id"])
        pause_seconds = decision.latency_seconds / max(len(frames), 1)
        if decision.manner == "slow_trickle":
            pause_seconds = max(pause_seconds, self._trickle_seconds)
        await asyncio.sleep(pause_seconds)
        decision.begun()
        await response.prepare(request)
        for frame in frames:
            await response.write(frame)
            await asyncio.sleep(pause_seconds)  # 0 lets the frame leave on its own
        if decision.manner == "reset_after_headers":
            return _reset(request)
        return response


def _frames(decision: PlannedReply, message: dict[str, Any], request_id: str) -> list[bytes]:
    """All frames of a stream, or the first ones as far as a fault lets them come."""
    form = decision.form
    events = in_form(message_events(message), form)
    is_broken = decision.manner in ("cut", "reset_after_headers", "error")
    if is_broken:
        events = events[: max(len(events) // 2, 1) if form.at is None else form.at]
    if decision.manner == "error":
        events.append(error_event(form.error, "It broke on purpose", request_id))
    last = None if is_broken else len(events) - 1
    frames = [written(event, form, is_last=n == last) for n, event in enumerate(events)]
    return list(pieces(frames, form))


async def _begin_and_reset(
    request: web.BaseRequest, payload: bytes, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    response.content_length = len(payload)
    await response.prepare(request)
    await response.write(payload[: len(payload) // 2])
    await asyncio.sleep(0.005)  # a reset overtakes bytes that have not left yet
    return _reset(request)


def _headers(decision: PlannedReply, request_id: str) -> dict[str, str]:
    headers = {
        "content-type": decision.content_type,
        "request-id": request_id,
        "anthropic-organization-id": ORGANIZATION_ID,
        **decision.headers,
    }
    if decision.quota is not None:
        now_ns = time.time_ns()
        decision.quota.produced(decision.output_tokens, now_ns)
        headers |= decision.quota.headers(now_ns)
    return headers


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        request.transport.abort()
    return web.Response()

# ruff: noqa: T201 - the port is its output
"""A Messages endpoint that costs next to nothing, so that the client is what is measured.

    python -m tests.benchmarks.fixed_server [--delay-ms 1000]

Every POST /v1/messages gets the same answer, after the delay, and every POST
/v1/chat/completions the same in that API's form; anything else a 404. The port is
printed on the first line of standard output; the server ends when standard input does.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import ssl
import sys

from tests.transport.proxies import server_tls

ANSWER = {
    "id": "msg_013Zva2CMHLNnjNjJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "The lamp in the hall was still warm. " * 16}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 211,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 148,
        "server_tool_use": None,
        "service_tier": "standard",
        "inference_geo": "global",
    },
}
# The same for tools that speak the chat completions API.
COMPLETION = {
    "id": "chatcmpl-fixed",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "claude-haiku-4-5",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": ANSWER["content"][0]["text"]},
        }
    ],
    "usage": {"prompt_tokens": 211, "completion_tokens": 148, "total_tokens": 359},
}
NOT_FOUND = {"type": "error", "error": {"type": "not_found_error", "message": "Not found"}}


def whole_response(status: str, body: dict[str, object]) -> bytes:
    text = json.dumps(body, separators=(",", ":"))
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
    return f"{head}request-id: req_fixed\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()


ANSWERED = whole_response("200 OK", ANSWER)
COMPLETED = whole_response("200 OK", COMPLETION)
REFUSED = whole_response("404 Not Found", NOT_FOUND)


class FixedAnswers(asyncio.Protocol):
    """One connection: finds the end of each request and looks at nothing else."""

    def __init__(self, delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        self.later = asyncio.get_running_loop().call_later
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self.waiting + data if self.waiting else data
        while end := end_of_first_request(data):
            self.answer(response_to(data))
            data = data[end:]
        self.waiting = data

    def answer(self, response: bytes) -> None:
        if self.delay_seconds:
            self.later(self.delay_seconds, self.send, response)
        else:
            self.transport.write(response)

    def send(self, response: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(response)


def response_to(request: bytes) -> bytes:
    if request.startswith(b"POST /v1/messages"):
        return ANSWERED
    return COMPLETED if request.startswith(b"POST /v1/chat/completions") else REFUSED


def end_of_first_request(data: bytes) -> int:
    """Where the first request in `data` ends; 0 while it is not whole."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return 0
    end = head + 4 + body_length(data[:head].lower())
    return end if len(data) >= end else 0


def body_length(head: bytes) -> int:
    found = head.find(b"\r\ncontent-length:")
    return int(head[found + 17 :].split(b"\r\n", 1)[0]) if found >= 0 else 0


async def serve(delay_seconds: float, tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    server = await loop.create_server(
        lambda: FixedAnswers(delay_seconds), sock=listener, backlog=4096, ssl=tls
    )
    print(listener.getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    async with server:
        await ended.wait()


def allow_many_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--delay-ms", type=float, default=0)
    arguments.add_argument("--tls", action="store_true")
    options = arguments.parse_args()
    allow_many_connections()
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(serve(options.delay_ms / 1000, server_tls() if options.tls else None))


if __name__ == "__main__":
    main()

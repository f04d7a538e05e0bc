"""Faults of the connection: before, while and after a request leaves."""

import asyncio
import gzip

from tests.faults.kinds import FINE, IN_DOUBT, UNUSABLE, Bytes, Follows, Order, Stage, WireFault
from tests.making_runs import message
from tests.transport.servers import Answer, hang, http, reset

OK = message()
TIMEOUT = {"request_timeout_seconds": 100.0}  # a second by the fast clock


def then(*parts: bytes | Answer) -> Answer:
    """Write some bytes, then do something else."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            else:
                await asyncio.sleep(0.01)
                await part(writer)

    return answer


async def trickle(writer: asyncio.StreamWriter) -> None:
    """Bytes for ever, one at a time."""
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def half_close(writer: asyncio.StreamWriter) -> None:
    """Say that nothing more comes, and keep the connection."""
    writer.write_eof()
    await hang(writer)


def _wire(
    id_: str,
    stage: Stage,
    answer: Answer,
    follows: Follows = IN_DOUBT,
    reason: str | None = "connection_lost",
) -> WireFault:
    return WireFault(id=id_, stage=stage, cause=Bytes(answer), follows=follows, reason=reason)


def _late(id_: str, stage: Stage, cause: Order | Bytes) -> WireFault:
    """More than a second each: once is enough."""
    return WireFault(
        id=id_, stage=stage, cause=cause, follows=IN_DOUBT, times=1, reason="timeout",
        endpoint=TIMEOUT,
    )  # fmt: skip


def _head(id_: str, answer: bytes, follows: Follows = IN_DOUBT) -> WireFault:
    reason = "broken_answer" if follows is IN_DOUBT else None
    return _wire(id_, Stage.HEAD, answer, follows, reason)


def _packed(
    id_: str, packed: bytes, follows: Follows = IN_DOUBT, way: str = "gzip"
) -> WireFault:
    reason = "broken_answer" if follows is IN_DOUBT else None
    return _wire(
        id_, Stage.BODY, http(200, packed, f"content-encoding: {way}"), follows, reason
    )


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
SHORT = HEAD + b"content-length: %d\r\n\r\n" % (len(OK) + 1)
_IN_TWO = [b"%x\r\n%b\r\n" % (len(part), part) for part in (OK[:40], OK[40:])]

WIRES = [
    # Nothing comes back
    _wire("FIN without an answer", Stage.WRITE, b""),
    _wire("RST without an answer", Stage.WRITE, reset),
    _late("silence", Stage.WRITE, Bytes(hang)),
    _late("half-closed without an answer", Stage.WRITE, Bytes(then(b"HT", hang))),
    *(
        WireFault(
            id=f"simulator {n}",
            stage=Stage.WRITE,
            cause=Order(f"[[fault:{n}{{n}}]]"),
            follows=IN_DOUBT,
            reason="connection_lost",
        )
        for n in ("close", "reset_before")
    ),
    _late("simulator hang", Stage.WRITE, Order("[[fault:hang{n}]]")),
    # The head of the answer
    _wire("FIN in the status line", Stage.HEAD, b"HTTP/1.1 2"),
    _wire("RST in the headers", Stage.HEAD, then(HEAD + b"content-le", reset)),
    _wire("FIN in the headers", Stage.HEAD, HEAD + b"content-length: 5\r\nx"),
    _late("headers by the drop", Stage.HEAD, Bytes(then(HEAD + b"x: ", trickle))),
    _late("a head and then nothing", Stage.HEAD, Bytes(then(SHORT, hang))),
    _head("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    _head("a mail server", b"220 mail.example.com ESMTP\r\n"),
    _head("HTTP/9.9", b"HTTP/9.9 abc OK\r\n\r\n"),
    _head("a TLS record", b"\x15\x03\x01\0\x02\x02F\r\n\r\n"),
    _head("a header without a colon", HEAD + b"nonsense\r\n\r\n" + OK),
    _head("a header of a megabyte", HEAD + b"x: " + b"y" * 2**20 + b"\r\n\r\n"),
    _head(
        "length and chunks", HEAD + b"content-length: 3\r\n" + CHUNKED[len(HEAD) :] + _IN_TWO[0]
    ),
    _head("a negative length", HEAD + b"content-length: -1\r\n\r\n" + OK),
    _head("a length in words", HEAD + b"content-length: many\r\n\r\n" + OK),
    _head("two lengths", HEAD + b"content-length: 9\r\ncontent-length: 8\r\n\r\n" + OK),
    _head(
        "two lengths alike",
        HEAD
        + b"Content-Length: %d\r\nx: y\r\ncontent-length: %d\r\n\r\n" % (len(OK), len(OK))
        + OK,
        FINE,
    ),
    _head("NUL in a header", HEAD + b"x: a\0b\r\n\r\n" + OK),
    _head("lines that end in LF alone", b"HTTP/1.1 200 OK\nconnection: close\n\n" + OK, FINE),
    # The body
    _wire("FIN in the body", Stage.BODY, SHORT + OK, reason="broken_answer"),
    _wire("RST in the body", Stage.BODY, then(SHORT + OK, reset), reason="broken_answer"),
    _late("a body by the drop", Stage.BODY, Bytes(then(HEAD + b"\r\n", trickle))),
    _late("half-closed in the body", Stage.BODY, Bytes(then(SHORT + OK, hang))),
    _wire("FIN between chunks", Stage.BODY, CHUNKED + _IN_TWO[0], reason="broken_answer"),
    _wire(
        "RST between chunks",
        Stage.BODY,
        then(CHUNKED + _IN_TWO[0], reset),
        reason="broken_answer",
    ),
    _wire(
        "FIN before the last chunk",
        Stage.BODY,
        CHUNKED + b"".join(_IN_TWO),
        reason="broken_answer",
    ),
    _wire(
        "a chunk of no number",
        Stage.BODY,
        CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
        reason="broken_answer",
    ),
    _wire(
        "a chunk longer than it says",
        Stage.BODY,
        CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
        reason="broken_answer",
    ),
    _wire(
        "an answer until the end",
        Stage.BODY,
        HEAD + b"connection: close\r\n\r\n" + OK,
        FINE,
        None,
    ),
    _wire("an old server", Stage.BODY, b"HTTP/1.0 200 OK\r\n\r\n" + OK, FINE, None),
    _wire("RST after the answer", Stage.BODY, then(http(200, OK), reset), FINE, None),
    _wire("an answer too many", Stage.BODY, http(200, OK) * 2, reason="broken_answer"),
    _packed("gzip though not asked", gzip.compress(OK), FINE),
    _packed("gzip cut off", gzip.compress(OK)[:-12], UNUSABLE),
    _packed("gzip damaged", b"\x1f\x8b\x08\0" + b"\xff" * 60, UNUSABLE),
    _packed("gzip that is none", OK, FINE),
    _packed("an unknown packing", OK, FINE, "future"),
    _wire(
        "a cut answer until the end",
        Stage.BODY,
        HEAD + b"connection: close\r\n\r\n" + OK[:90],
        UNUSABLE,
        "unusable_answer",
    ),
    *(
        WireFault(
            id=f"simulator {n}",
            stage=Stage.BODY,
            cause=Order(f"[[fault:{n}{{n}}]]"),
            follows=follows,
        )
        for n, follows in (
            ("200_cut", UNUSABLE),
            ("200_empty", UNUSABLE),
            ("200_html", UNUSABLE),
            ("reset_after_headers", IN_DOUBT),
        )
    ),
]

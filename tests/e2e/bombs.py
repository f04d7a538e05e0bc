"""Answers and inputs made to fill the memory of whoever reads them, and a server for them."""

import contextlib
import gzip
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MB = 2**20
PIECE = 2**16
USAGE = {"input_tokens": 10, "output_tokens": 5}
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
    "stop_reason": "end_turn", "usage": USAGE,
}  # fmt: skip
HONEST = json.dumps(MESSAGE | {"content": [{"type": "text", "text": "yes"}]}).encode()

Pieces = Iterator[bytes]


def filled(head: bytes, filling: bytes, tail: bytes, size: int) -> Pieces:
    """`head`, as much `filling` as makes `size` bytes, and `tail`."""
    yield head
    block = filling * (PIECE // len(filling) + 1)
    for _ in range(size // len(block)):
        yield block
    yield tail


def message(
    head: bytes, filling: bytes, tail: bytes, size: int = 15 * MB
) -> Callable[[], Pieces]:
    """A whole answer; `CONTENT` and `USAGE` in its ends stand for what comes before those."""
    begin = json.dumps(MESSAGE)[:-1].encode() + b', "content": '
    head = head.replace(b"CONTENT", begin)
    return lambda: filled(head, filling, tail, size)


def bare(head: bytes, filling: bytes, tail: bytes, size: int) -> Callable[[], Pieces]:
    return lambda: filled(head, filling, tail, size)


_USAGE = b'{"type": "message", "role": "assistant", "content": [], "usage": '
WHOLE: dict[str, Callable[[], Pieces]] = {
    "empty blocks": message(b"CONTENT[", b"{},", b"{}]}"),
    "text blocks": message(b"CONTENT[", b'{"type":"text","text":"a"},', b"{}]}"),
    "iterations": bare(_USAGE + b'{"iterations": [', b"{},", b"{}]}}", 4 * MB),
    "keys of usage": bare(
        _USAGE + b'{"a": 1', b"".join(b',"k%d":1' % n for n in range(9_000)), b"}}", 8 * MB
    ),
    "text": message(b'CONTENT[{"type":"text","text":"', b"abc ", b'"}]}'),
    "wide text": message(b'CONTENT[{"type":"text","text":"\xf0\x9f\x98\x80', b"abc ", b'"}]}'),
    "wide new block": message(b'CONTENT[{"type":"new","x":"\xf0\x9f\x98\x80', b"abc ", b'"}]}'),
    "input of a tool": message(b'CONTENT[{"type":"tool_use","input":{"a":[', b"[],", b"0]}}]}"),
    "nested": message(b"CONTENT", b"[", b"]}"),
    "backslashes": message(b'CONTENT[{"type":"text","text":"\\ud800', b"\\\\a", b'"}]}'),
    "halves": message(b'CONTENT[{"type":"text","text":"', b"\\ud800", b'"}]}'),
    "commas in text": message(b'CONTENT[{"type":"text","text":"', b"a,\\n", b'"}]}'),
    "line feeds": bare(b"", b"\n", b"{}", 15 * MB),
    "a page": bare(b"<html>", b"<p>", b"</html>", 15 * MB),
    "too large": message(b'CONTENT[{"type":"text","text":"', b"abc ", b'"}]}', 64 * MB),
}  # fmt: skip
REFUSALS: dict[str, tuple[int, Callable[[], Pieces]]] = {
    "refusal of objects": (400, bare(b'{"error": {"a": [', b"{},", b"{}]}}", 15 * MB)),
    "error of objects": (500, bare(b'{"error": [', b"{},", b"{}]}", 15 * MB)),
}

_START = (
    b"event: message_start\ndata: %b\n\n"
    % json.dumps(
        {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}}
    ).encode()
)


def event(kind: str, **fields: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (
        kind.encode(),
        json.dumps({"type": kind, **fields}).encode(),
    )


def delta(**fields: object) -> bytes:
    return event("content_block_delta", index=0, delta=fields)


_BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
_END = event("message_delta", delta={"stop_reason": "end_turn"}, usage=USAGE)
_END += event("message_stop")


def stream(filling: bytes, size: int, head: bytes = _BLOCK) -> Callable[[], Pieces]:
    return lambda: filled(_START + head, filling, _END, size)


STREAMS: dict[str, Callable[[], Pieces]] = {
    "block starts": stream(
        event("content_block_start", content_block={"type": "text", "text": ""}), 100 * MB, b""
    ),
    "one letter a delta": stream(delta(type="text_delta", text="a"), 6 * MB),
    "long deltas": stream(delta(type="text_delta", text="a" * 60_000), 100 * MB),
    "citations": stream(delta(type="citations_delta", citation={"cited_text": "x"}), 6 * MB),
    "signatures": stream(delta(type="signature_delta", signature="x" * 9_000), 100 * MB),
    "empty data lines": stream(b"data:\n", 60 * MB),
    "pings": stream(event("ping"), 6 * MB),
    "a line without end": stream(b"x", 60 * MB, b"data: "),
    "an event of objects": stream(b"{},", 7 * MB, b'data: {"type":"ping","delta":{"a":['),
    "usage again and again": stream(
        b"".join(event("message_delta", usage={f"k{n}": 1}) for n in range(900)), 60 * MB
    ),
}
GOOD_STREAM = b"".join(stream(delta(type="text_delta", text="yes"), 0)())


class Server:
    """Answers the first request honestly, then so many with the bomb, and then honestly again.

    A server that only breaks is asked little, and seldom: it would be no bomb.
    """

    def __init__(
        self,
        pieces: Callable[[], Pieces] | None,
        status: int,
        *,
        streams: bool,
        bombs: int = 0,
        headers: int = 0,
    ) -> None:
        self._asked, self._bombs, self._lock = 0, bombs, threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                honest = pieces is None or outer.takes_honest()
                self.send_response(200 if honest else status)
                kind = "text/event-stream" if streams else "application/json"
                self.send_header("content-type", kind)
                self.send_header("connection", "close")
                for number in range(0 if honest else headers):
                    self.send_header(f"x-{number}", "v" * 60_000)
                with contextlib.suppress(OSError):
                    self.end_headers()
                good = GOOD_STREAM if streams else HONEST
                with contextlib.suppress(OSError):
                    for piece in [good] if honest else pieces():
                        self.wfile.write(piece)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Nothing: it is the client that is looked at."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def takes_honest(self) -> bool:
        with self._lock:
            self._asked += 1
            return not 1 < self._asked <= 1 + self._bombs

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


# --- Inputs


def write(path: Path, pieces: Pieces) -> Path:
    with path.open("wb") as file:
        file.writelines(pieces)
    return path


def parquet(
    path: Path, records: int = 128, *, nested: bool = False, skewed: bool = False
) -> Path:
    """Records of 30 MB in a file that holds one of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    large = "x" * (30 * MB)
    if skewed:  # no dictionary: pages that pack well
        rows = pa.table({"prompt": [large] * 12 + ["short"] * 100_000})
        pq.write_table(rows, path, compression="zstd", use_dictionary=False)
        return path
    which = pa.array([0] * records, pa.int32())
    texts = pa.DictionaryArray.from_arrays(which, pa.array([large]))
    if not nested:
        pq.write_table(pa.table({"prompt": texts}), path, store_schema=False)
        return path
    role = pa.DictionaryArray.from_arrays(which, pa.array(["user"]))
    message = pa.StructArray.from_arrays([role, texts], ["role", "content"])
    lists = pa.ListArray.from_arrays(pa.array(range(records + 1), pa.int32()), message)
    pq.write_table(pa.table({"messages": lists}), path, store_schema=False)
    return path


def gzipped(size: int) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        for _ in range(size // MB):
            file.write(bytes(MB))
    return packed.getvalue()


INPUTS: dict[str, Callable[[Path], Path]] = {
    "lines of nothing": lambda d: write(d / "i.jsonl", filled(b"", b"{}\n", b"", 8 * MB)),
    "a row of objects": lambda d: write(
        d / "i.jsonl", filled(b'{"prompt":"a","x":[', b"{},", b"{}]}\n", 30 * MB)
    ),
    "a broken row of objects": lambda d: write(
        d / "i.jsonl", filled(b'{"prompt":"a","x":[', b"{},", b"{}\n", 30 * MB)
    ),
    "a row of wide text": lambda d: write(
        d / "i.jsonl", filled(b'{"prompt":"\xf0\x9f\x98\x80', b"abc ", b'"}\n', 30 * MB)
    ),
    "a row of wide braces": lambda d: write(
        d / "i.jsonl", filled(b'{"prompt":"\xf0\x9f\x98\x80', b"{}", b'"}\n', 30 * MB)
    ),
    "cells": lambda d: write(d / "i.csv", filled(b"prompt,x\n", b"aa,", b"\n", 30 * MB)),
    "a quote that hides lines": lambda d: write(
        d / "i.csv", filled(b'prompt,x\n"', b"a,\n", b"", 30 * MB)
    ),
    "zeros, packed": lambda d: write(d / "i.jsonl.gz", iter([gzipped(512 * MB)])),
    "parquet": lambda d: parquet(d / "i.parquet"),
    "parquet, few records": lambda d: parquet(d / "i.parquet", records=16),
    "parquet, nested": lambda d: parquet(d / "i.parquet", nested=True),
    "parquet, skewed": lambda d: parquet(d / "i.parquet", skewed=True),
}

"""What a row becomes: a Messages body plus an identity, and whether it is streamed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

import msgspec

_CANONICAL: Final = msgspec.json.Encoder(order="sorted")
_CHUNK: Final = 2**16  # characters of a large text that are encoded at once


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One Messages request, ready to be sent.

    `body` is the JSON text as it goes on the wire. `row_number` counts from 1 in its source;
    `byte_offset` is where the row starts, `None` where the format has no such thing (Parquet).
    `params_hash` is 16 bytes, see `params_hash()`. `betas` are `anthropic-beta` names that come
    on top of the endpoint's. `streams` is whether it needs a stream, or its row asked for one.
    """

    source_id: int
    row_number: int
    byte_offset: int | None
    custom_id: str | None
    params_hash: bytes
    model: str
    max_tokens: int | None
    body: bytes
    betas: tuple[str, ...] = ()
    streams: bool = False


class BadRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row refused before sending: where it is, a reason code and one sentence."""

    source_id: int
    row_number: int
    byte_offset: int | None
    custom_id: str | None
    reason: str
    message: str


def params_hash(
    params: dict[str, Any], betas: tuple[str, ...] = (), *, is_large: bool = False
) -> bytes:
    """16 bytes that name what is asked: the body with sorted keys, without `stream`, and betas.

    Bodies that differ only in key order, white space or escapes are the same request.
    `is_large` changes nothing but the cost: more time, and no second copy of the body.
    """
    digest = blake2b(digest_size=16)
    if "stream" in params:
        params = {name: value for name, value in params.items() if name != "stream"}
    for piece in canonical_pieces(params) if is_large else (_CANONICAL.encode(params),):
        digest.update(piece)
    if betas:
        digest.update(b"\0" + ",".join(sorted(betas)).encode())
    return digest.digest()


def canonical_pieces(value: Any) -> Iterator[bytes]:  # noqa: ANN401 - any JSON value
    """What the canonical encoder makes of `value`, a little at a time."""
    return json_pieces(value, sorted)


def json_pieces(
    value: Any,  # noqa: ANN401 - any JSON value
    order: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> Iterator[bytes]:
    """The JSON text of `value`, a little at a time; names come as `order` puts them."""
    if type(value) is dict:
        for number, name in enumerate(order(value)):
            yield (b"," if number else b"{") + _CANONICAL.encode(name) + b":"
            yield from json_pieces(value[name], order)
        yield b"}" if value else b"{}"
    elif type(value) is list:
        for number, item in enumerate(value):
            yield b"," if number else b"["
            yield from json_pieces(item, order)
        yield b"]" if value else b"[]"
    elif type(value) is str and len(value) > _CHUNK:
        chunks = (value[start : start + _CHUNK] for start in range(0, len(value), _CHUNK))
        yield b'"'
        yield from (_CANONICAL.encode(chunk)[1:-1] for chunk in chunks)
        yield b'"'
    else:
        yield _CANONICAL.encode(value)


# The official SDKs refuse more without streaming: an answer of ten minutes and longer, which
# proxies on the way do not wait for.
MAX_TOKENS_WITHOUT_STREAM: Final = 21_333

_BODY: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TRUE: Final = msgspec.Raw(b"true")


class StreamMode(StrEnum):
    """How an endpoint's answers travel; they are stored alike either way."""

    AUTO = "auto"  # streamed where the request needs it or asks for it
    ALWAYS = "always"
    NEVER = "never"


def needs_stream(params: Mapping[str, Any]) -> bool:
    """Whether a Messages body asks for a stream, or is better off with one.

    Long answers and thinking are silent for minutes otherwise. A pre-warming request
    (`max_tokens: 0`) is never streamed: the API refuses it.
    """
    max_tokens = params.get("max_tokens")
    if max_tokens == 0:
        return False
    if params.get("stream"):
        return True
    if type(max_tokens) is int and max_tokens > MAX_TOKENS_WITHOUT_STREAM:
        return True
    thinking = params.get("thinking")
    return type(thinking) is dict and thinking.get("type") in {"enabled", "adaptive"}


def streaming_body(body: bytes) -> bytes:
    """The same body with `stream: true`; every other field keeps its bytes."""
    if b'"stream"' in body:
        fields = _BODY.decode(body)
        return msgspec.json.encode(fields | {"stream": _TRUE})
    return b'{"stream":true,' + body.lstrip()[1:]


def plain_body(body: bytes) -> bytes:
    """The same body without `stream`; as it is where it has none."""
    if b'"stream"' not in body:
        return body
    fields = _BODY.decode(body)
    return body if fields.pop("stream", None) is None else msgspec.json.encode(fields)

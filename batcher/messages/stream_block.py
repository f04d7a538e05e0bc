"""One content block of a stream: how it begins, and what its deltas add."""

import json
import re
from typing import Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS

Fields = dict[str, msgspec.Raw]

_TEXT: Final = msgspec.json.Decoder(str)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANYTHING: Final = msgspec.json.Decoder(msgspec.Raw)  # checks, and makes nothing of it
_ABSENT: Final = msgspec.Raw()
_ESCAPED_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF: Final = re.compile("[\ud800-\udfff]")


class _Text(msgspec.Struct, tag_field="type", tag="text_delta", gc=False):
    text: str


class _Thinking(msgspec.Struct, tag_field="type", tag="thinking_delta", gc=False):
    thinking: str


class _Input(msgspec.Struct, tag_field="type", tag="input_json_delta", gc=False):
    partial_json: str


class UsualDelta(msgspec.Struct, tag_field="type", tag="content_block_delta", gc=False):
    """An event that adds to a block, as nearly all do; see `StreamedBlock.add`."""

    index: int
    delta: _Text | _Thinking | _Input


class StreamedBlock:
    """A block under construction. Raises `CODEC_ERRORS` for deltas of a wrong shape."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        # Each in one buffer: a list of what deltas bring takes ten times their bytes.
        self._texts: dict[str, bytearray] = {}
        self._json = bytearray()
        self._citations = bytearray()

    def add(self, delta: _Text | _Thinking | _Input) -> int:
        """What `apply` does, for a delta that was read already."""
        if isinstance(delta, _Text):
            return self._append("text", delta.text)
        if isinstance(delta, _Thinking):
            return self._append("thinking", delta.thinking)
        return self._append_json(delta.partial_json)

    def apply(self, delta: Fields) -> int:
        """Add what a delta brings; unknown ones are ignored. Gives how many bytes are kept."""
        match _string(delta.get("type", _ABSENT)):
            case "text_delta" | "thinking_delta" as kind:
                name = kind.removesuffix("_delta")
                return self._append(name, _string(delta.get(name, _ABSENT)))
            case "input_json_delta":
                return self._append_json(_string(delta.get("partial_json", _ABSENT)))
            case "citations_delta" if "citation" in delta:
                self._citations += b"," + bytes(delta["citation"])
                return len(delta["citation"]) + 1
            case "signature_delta":
                return self._replace(delta, "signature")
            case "compaction_delta":
                return self._replace(delta, "content", "encrypted_content")
            case _:
                return 0

    def fields(self) -> Fields:
        """The block as far as it came."""
        fields = dict(self._fields)
        for name, piece in self._texts.items():
            fields[name] = raw_json(_string(fields.get(name, _ABSENT)) + _as_text(piece))
        if self._citations:
            earlier = b",".join(map(bytes, self._earlier_citations()))
            whole = earlier + self._citations if earlier else self._citations[1:]
            fields["citations"] = msgspec.Raw(b"[" + whole + b"]")
        if text := _as_text(self._json).strip():
            fields["input"] = _input(text)
        return fields

    def fallback_model(self) -> msgspec.Raw | None:
        """The model that goes on, where this block says that another one does."""
        if _string(self._fields.get("type", _ABSENT)) != "fallback":
            return None
        return msgspec.json.decode(self._fields.get("to", msgspec.Raw(b"{}")), type=Fields).get(
            "model"
        )

    def _append(self, name: str, text: str) -> int:
        piece = text.encode("utf-8", "surrogatepass")  # half a pair may wait for its other half
        buffer = self._texts.get(name)
        if buffer is None:
            self._texts[name] = bytearray(piece)
        else:
            buffer += piece
        return len(piece)

    def _append_json(self, text: str) -> int:
        piece = text.encode("utf-8", "surrogatepass")
        self._json += piece
        return len(piece)

    def _replace(self, delta: Fields, *names: str) -> int:
        """Copies, since a part would keep the whole event that it came in."""
        changed = {name: msgspec.Raw(bytes(delta[name])) for name in names if name in delta}
        self._fields |= changed
        return sum(map(len, changed.values()))

    def _earlier_citations(self) -> list[msgspec.Raw]:
        earlier = bytes(self._fields.get("citations", b"null"))
        return [] if earlier == b"null" else _LIST.decode(earlier)


def _as_text(buffer: bytearray) -> str:
    return buffer.decode("utf-8", "surrogatepass")


def _input(text: str) -> msgspec.Raw:
    """A tool's input; where it broke off or is no JSON, its text as a string says so."""
    if _HALF.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    try:
        _ANYTHING.decode(text)
    except CODEC_ERRORS:
        return raw_json(text)
    return msgspec.Raw(text.encode())


def _string(raw: msgspec.Raw) -> str:
    value = bytes(raw)
    if value in {b"", b"null"}:
        return ""
    try:
        return _TEXT.decode(value)
    except CODEC_ERRORS:
        text = with_halves(value)
        if not isinstance(text, str):
            raise
        return text


def with_halves(value: bytes) -> object:
    """JSON with half a surrogate pair: servers may cut an emoji between two deltas.

    The other half is in the next delta; where it is not, `parse_answer` mends what is left.
    `None`: that is not what is wrong with it.
    """
    try:
        return json.loads(value) if _ESCAPED_HALF.search(value) else None
    except (ValueError, RecursionError):
        return None


def raw_json(value: object) -> msgspec.Raw:
    """The value as JSON text; halves of pairs become escapes, two in a row one character."""
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except CODEC_ERRORS:
        return msgspec.Raw(json.dumps(value).encode())  # halves as escapes, pairs in a row

"""One content block of a stream: how it begins, and what its deltas add."""

import json
import re
from typing import Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS

Fields = dict[str, msgspec.Raw]

_TEXT: Final = msgspec.json.Decoder(str)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ABSENT: Final = msgspec.Raw()
_ESCAPED_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF: Final = re.compile("[\ud800-\udfff]")


class StreamedBlock:
    """A block under construction. Raises `CODEC_ERRORS` for deltas of a wrong shape."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._texts: dict[str, list[str]] = {}
        self._json: list[str] = []
        self._citations: list[msgspec.Raw] = []

    def apply(self, delta: Fields) -> None:
        """Add what a delta brings; unknown ones are ignored."""
        match _string(delta.get("type", _ABSENT)):
            case "text_delta":
                self._append("text", delta)
            case "thinking_delta":
                self._append("thinking", delta)
            case "input_json_delta":
                self._json.append(_string(delta.get("partial_json", _ABSENT)))
            case "citations_delta" if "citation" in delta:
                self._citations.append(delta["citation"])
            case "signature_delta" if "signature" in delta:
                self._fields["signature"] = delta["signature"]
            case "compaction_delta":
                changed = ("content", "encrypted_content")
                self._fields |= {name: delta[name] for name in changed if name in delta}
            case _:
                pass

    def fields(self) -> Fields:
        """The block as far as it came."""
        fields = dict(self._fields)
        for name, pieces in self._texts.items():
            text = _string(fields.get(name, _ABSENT)) + "".join(pieces)
            fields[name] = raw_json(text)
        if self._citations:
            fields["citations"] = raw_json([*self._earlier_citations(), *self._citations])
        if text := "".join(self._json).strip():
            fields["input"] = _input(text)
        return fields

    def fallback_model(self) -> msgspec.Raw | None:
        """The model that goes on, where this block says that another one does."""
        if _string(self._fields.get("type", _ABSENT)) != "fallback":
            return None
        return msgspec.json.decode(self._fields.get("to", msgspec.Raw(b"{}")), type=Fields).get(
            "model"
        )

    def _append(self, name: str, delta: Fields) -> None:
        self._texts.setdefault(name, []).append(_string(delta.get(name, _ABSENT)))

    def _earlier_citations(self) -> list[msgspec.Raw]:
        earlier = bytes(self._fields.get("citations", b"null"))
        return [] if earlier == b"null" else _LIST.decode(earlier)


def _input(text: str) -> msgspec.Raw:
    """A tool's input; where it broke off or is no JSON, its text as a string says so."""
    if _HALF.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    try:
        msgspec.json.decode(text)
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

"""A complete Message, decoded once: what is stored raw stays raw."""

import re
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from batcher.messages.codec import (
    AT_ONCE,
    CODEC_ERRORS,
    MOST_BLOCKS,
    MOST_PARTS,
    MOST_TEXT,
    check_utf8,
    has_more_parts,
)
from batcher.messages.usage import Usage, parse_usage


class Store(StrEnum):
    """How much of what a provider answers goes into the ledger.

    `full`: everything. `answer`: complete answers, but not the bytes of what was no Message,
    the beginnings of broken streams, or what local tools said. `usage`: nothing that was said,
    only identity, stop reason, usage and money.
    """

    FULL = "full"
    ANSWER = "answer"
    USAGE = "usage"


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What request and content say of an answer's bill, where usage leaves a question open.

    Tokens of the whole request at least and at most, `None`: no bound; at least is what so much
    text cannot be below. `spoke`: text or a call came; `silent`: no block with anything in it.
    `cache_lifetimes`, `searches`, `geography`, `speed` and `tier` are what was asked for, see
    `RequestMeters`. `search_results` and `failed_searches` stand in the content; `code`: code
    may have run in a container; `other_results`: of a tool that is not known. `several`: the
    model may have run more than once. `fell` are (name, least, most) of counts that fell within
    a stream.
    """

    input_least: int = 0
    input_most: int | None = None
    output_least: int = 0
    output_most: int | None = None
    spoke: bool = False
    silent: bool = False
    cache_lifetimes: int = 0
    searches: int = 0
    search_results: int = 0
    failed_searches: int = 0
    code: bool = False
    other_results: bool = False
    several: bool = False
    geography: str | None = None
    speed: str | None = None
    tier: str | None = None
    fell: tuple[tuple[str, int, int], ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One assembled Message.

    `content` is the JSON text of the content array as received; `text` its text blocks joined
    without separators, NUL replaced by U+FFFD (then `text_repaired`). `usage_raw` is the JSON
    text of `usage`, `None` when absent or null. `stop_reason` is verbatim, `None` when missing.
    `evidence` is set where something about its bill is open.
    """

    message_id: str | None
    model: str | None
    stop_reason: str | None
    stop_sequence: str | None
    content: bytes
    text: str
    text_repaired: bool
    usage: Usage | None
    usage_raw: bytes | None
    container_id: str | None = None
    stop_details: bytes | None = None
    evidence: Evidence | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said: no content block at all, or text blocks without text."""
        content = self.content.strip()
        if content in {b"[]", b'""'}:
            return True
        if self.text or len(content) > _LONGEST_SILENCE:
            return False
        try:
            blocks = _BLOCKS.decode(content)
        except CODEC_ERRORS:
            return False
        return not isinstance(blocks, str) and all(
            block.type == "text" and not block.text for block in blocks
        )


class NotAMessage(ValueError):  # noqa: N818 - it is what the body is
    """The body is no usable Message; the text says why."""


_ABSENT: Final = msgspec.Raw()
_LONGEST_SILENCE: Final = 64  # bytes of blocks that say nothing


class _MessageFields(msgspec.Struct):
    """The fields we read; everything else in the body is left alone."""

    id: str | None = None
    type: str | None = None
    role: str | None = None
    model: str | None = None
    content: msgspec.Raw = _ABSENT
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: msgspec.Raw = _ABSENT
    container: msgspec.Raw = _ABSENT
    usage: msgspec.Raw = _ABSENT


class _TextBlock(msgspec.Struct):
    type: str = "text"
    text: str | None = None


class _Container(msgspec.Struct):
    id: str | None = None


_WIRE: Final = msgspec.json.Decoder(_MessageFields)
_BLOCKS: Final = msgspec.json.Decoder(list[_TextBlock] | str)
# An escaped backslash, a surrogate pair, or half of one: a token cut in the middle of an emoji.
_SURROGATES: Final = re.compile(
    rb"(?:\\\\)++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_NUL: Final = rb"\u0000"  # the one spelling of it that JSON allows
_CONTAINER: Final = msgspec.json.Decoder(_Container)


def parse_answer(body: bytes) -> Answer:
    """The Message in `body`; raises `NotAMessage` for anything else, errors in disguise too.

    A success needs `type: "message"`, or `role` and `content`: some servers
    leave out the type, some answer 200 with an error inside.
    Half a surrogate pair becomes U+FFFD, also in the raw parts (then `text_repaired`): the rest
    was paid for. Broken UTF-8 anywhere in the body is refused, since the raw parts are stored
    as text.
    """
    try:
        wire = _decode(body)
    except NotAMessage:
        whole = _without_halves(body)
        if whole == body:
            raise
        return msgspec.structs.replace(parse_answer(whole), text_repaired=True)
    raw_content = _present(wire.content)
    if raw_content is None or not (wire.type == "message" or wire.role):
        raise NotAMessage("the body is no Message: content, or type and role, are missing")
    text, content = _text(raw_content)
    if len(text) > MOST_TEXT:
        raise NotAMessage(f"its text has {len(text):,} characters, more than {MOST_TEXT:,}")
    usage_raw = _present(wire.usage)
    try:
        usage = parse_usage(usage_raw)
    except ValueError as exc:
        raise NotAMessage(str(exc)) from exc
    answer = Answer(
        message_id=wire.id,
        model=wire.model,
        stop_reason=wire.stop_reason,
        stop_sequence=wire.stop_sequence,
        content=content,
        text=text,
        text_repaired=False,
        usage=usage,
        usage_raw=usage_raw,
        container_id=None if wire.container is _ABSENT else _container_id(wire.container),
        stop_details=None if wire.stop_details is _ABSENT else _present(wire.stop_details),
    )
    return _without_nul(answer) if _NUL in body else answer


def text_of(content: bytes) -> str:
    """The text of an answer by its content as it is stored; raises `NotAMessage`."""
    return _text(content)[0].replace("\0", "\ufffd")


def _without_halves(body: bytes) -> bytes:
    """Piece by piece: a list of all that match could be many times the body."""
    whole, done = bytearray(), 0
    for match in _SURROGATES.finditer(body):
        if match["half"]:
            whole += body[done : match.start()] + rb"\ufffd"
            done = match.end()
    return bytes(whole + body[done:])


def _decode(body: bytes) -> _MessageFields:
    try:
        # raw parts skip the decoder's own check
        body.decode() if len(body) <= AT_ONCE else check_utf8(body)
        return _WIRE.decode(body)
    except CODEC_ERRORS as exc:
        raise NotAMessage(f"the body is no Message: {exc}"[:300]) from exc


def _present(raw: msgspec.Raw) -> bytes | None:
    value = bytes(raw)
    return None if value in {b"", b"null"} else value


def _without_nul(answer: Answer) -> Answer:
    """The same, with U+FFFD for what no database takes in a text."""
    return replace(
        answer,
        message_id=_clean(answer.message_id),
        model=_clean(answer.model),
        stop_reason=_clean(answer.stop_reason),
        stop_sequence=_clean(answer.stop_sequence),
        text=answer.text.replace("\0", "\ufffd"),
        text_repaired="\0" in answer.text,
    )


def _clean(value: str | None) -> str | None:
    return value.replace("\0", "\ufffd") if value and "\0" in value else value


def _container_id(raw: msgspec.Raw) -> str | None:
    value = _present(raw)
    if value is None:
        return None
    try:
        return _clean(_CONTAINER.decode(value).id)
    except CODEC_ERRORS:
        return None


def _text(content: bytes) -> tuple[str, bytes]:
    """The joined text, and the content as an array: a plain string becomes one text block."""
    if len(content) > MOST_PARTS and has_more_parts(content, MOST_PARTS):
        raise NotAMessage(f"content holds more than {MOST_PARTS:,} values")
    try:
        blocks = _BLOCKS.decode(content)
    except CODEC_ERRORS as exc:
        raise NotAMessage(f"content is no list of blocks: {exc}"[:300]) from exc
    if isinstance(blocks, str):
        return blocks, msgspec.json.encode([{"type": "text", "text": blocks}])
    if len(blocks) > MOST_BLOCKS:
        raise NotAMessage(f"content has {len(blocks):,} blocks, more than {MOST_BLOCKS:,}")
    if len(blocks) == 1 and blocks[0].type == "text":
        return blocks[0].text or "", content  # as most answers are
    return "".join([b.text for b in blocks if b.type == "text" and b.text]), content


_CHARACTERS_PER_TOKEN: Final = 4


def billed_at_least(answer: Answer) -> Answer:
    """A broken answer with the least usage that it can be billed for.

    The output count that begins a stream is a placeholder. Tokens do not cross the space
    between words, and a token is seldom longer than a word: each word that was delivered is at
    least one, and never more than a quarter of the characters are taken for tokens.
    """
    if answer.usage is None:
        return answer
    words = min(len(answer.text.split()), len(answer.text) // _CHARACTERS_PER_TOKEN)
    reported = answer.usage.output_tokens or 0
    usage = replace(answer.usage, output_tokens=max(words, reported))
    return replace(answer, usage=usage)

"""Parts of a request that are the same whatever the form of its row."""

from collections.abc import Collection, Container, Iterator, Mapping
from typing import Any, Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.request import json_pieces
from batcher.rows.batch import Reason, RowProblem
from batcher.rows.build.body import MAX_BODY_BYTES, attached
from batcher.rows.read.parse import kind

MAX_CUSTOM_ID_BYTES: Final = 1_000


class _Envelope(msgspec.Struct):
    """A row of the Message Batches form; `params` as its bytes came."""

    params: msgspec.Raw


class _BatchLine(msgspec.Struct):
    """A line of an OpenAI batch file; `body` as its bytes came."""

    body: msgspec.Raw


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_BATCH_LINE: Final = msgspec.json.Decoder(_BatchLine)
_ENCODER: Final = msgspec.json.Encoder()
_LARGE_BODY: Final = 2**20


def row_custom_id(row: dict[str, Any]) -> str | None:
    """`custom_id`, or an `id` that can be one; an integer counts as its decimal text."""
    value = row.get("custom_id")
    if value is None:
        value = row.get("id")
        if type(value) not in {str, int}:
            return None  # `id` is a common column: what cannot be a custom_id is just data
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int:
        value = str(value)
    if type(value) is not str:
        raise RowProblem(
            Reason.BAD_CUSTOM_ID, f"custom_id is {kind(value)}; it must be a string or integer"
        )
    if "\0" in value or len(value.encode()) > MAX_CUSTOM_ID_BYTES:
        raise RowProblem(
            Reason.BAD_CUSTOM_ID,
            f"custom_id holds a NUL or is longer than {MAX_CUSTOM_ID_BYTES:,} bytes",
        )
    return value or None


def prompt_messages(prompt: object, row: Mapping[str, Any], columns: Collection[str]) -> Any:  # noqa: ANN401 - looked at later, as all messages are
    """The one message of a prompt, with the pictures and documents that `row` brings."""
    if type(prompt) is not str:
        raise RowProblem(Reason.WRONG_TYPE, f"prompt is {kind(prompt)}; it must be a string")
    if not prompt or prompt.isspace():
        raise RowProblem(Reason.NO_PROMPT, "the prompt is empty")
    return with_attachments([{"role": "user", "content": prompt}], row, columns)


def with_attachments(
    messages: Any,  # noqa: ANN401 - any JSON value
    row: Mapping[str, Any],
    columns: Collection[str],
) -> Any:  # noqa: ANN401 - the same, looked at later
    """`messages`, the last of the user's with what `columns` of `row` bring before its content.

    Images whose places the messages show, as data sets do it, go there. Raises `RowProblem`.
    """
    if row.keys().isdisjoint(columns):
        return messages
    blocks = attached(present(row, columns))
    if not blocks or type(messages) is not list:
        return messages
    if places := sum(map(_is_place, _content_of(messages))):
        images = [block for block in blocks if block.get("type") == "image"]
        messages = _filled(messages, images, places)
        blocks = [block for block in blocks if block.get("type") != "image"]
        if not blocks:
            return messages
    last = next((n for n in reversed(range(len(messages))) if _is_of_user(messages[n])), None)
    if last is None:
        raise RowProblem(Reason.NO_PROMPT, "no message is the user's, to hold images")
    content = messages[last].get("content")
    if type(content) not in {list, str}:
        return messages  # refused for that
    if type(content) is str:
        content = [{"type": "text", "text": content}]
    whole = {**messages[last], "content": [*blocks, *content]}
    return [*messages[:last], whole, *messages[last + 1 :]]


def _content_of(messages: list[Any]) -> Iterator[Any]:
    for message in messages:
        content = message.get("content") if type(message) is dict else None
        if type(content) is list:
            yield from content


def _is_place(block: object) -> bool:
    """Whether an image belongs there: `{"type": "image"}`, with nothing to show."""
    return type(block) is dict and block.get("type") == "image" and "source" not in block


def _filled(messages: list[Any], images: list[Any], places: int) -> list[Any]:
    """The messages with the images in their places, in order."""
    if len(images) != places:
        raise RowProblem(
            Reason.WRONG_TYPE,
            f'the messages have {places} places for images ({{"type": "image"}}), and the row'
            f" brings {len(images)}",
        )
    rest = iter(images)
    return [
        {
            **message,
            "content": [next(rest) if _is_place(each) else each for each in message["content"]],
        }
        if type(message) is dict and type(message.get("content")) is list
        else message
        for message in messages
    ]


def _is_of_user(message: object) -> bool:
    return type(message) is dict and message.get("role") == "user"


def said(body: dict[str, Any]) -> int:
    """About how many characters the messages of a checked body have."""
    size = 0
    for message in body["messages"]:
        if type(content := message["content"]) is str:
            size += len(content)
    return size


def encoded_body(body: dict[str, Any], usual_size: int = 0) -> bytes:
    """The JSON text of `body`; raises `RowProblem`.

    A large one, of about `usual_size` bytes, is written in pieces: at once it takes as much
    memory again.
    """
    try:
        if usual_size < _LARGE_BODY:
            return _ENCODER.encode(body)
        return b"".join(json_pieces(body))
    except CODEC_ERRORS as exc:  # a job's text that came from a broken command line
        raise RowProblem(Reason.BAD_UNICODE, f"the body is no valid text: {exc}") from exc


def within_limit(text: bytes) -> bytes:
    """`text`, unless it is longer than a body may be; raises `RowProblem`."""
    if len(text) > MAX_BODY_BYTES:
        raise RowProblem(
            Reason.BODY_TOO_LARGE,
            f"the body has {len(text):,} bytes; {MAX_BODY_BYTES:,} is the most",
        )
    return text


def no_prompt(row: dict[str, Any]) -> RowProblem:
    """The problem of a row from which no message can be made."""
    names = ", ".join(sorted(row)) or "none"
    meant = ""
    for name, value in row.items():
        if type(value) is dict and "messages" in value:
            meant = f"column {name!r:.60} holds a request: call it params; "
        elif type(value) is list and value and type(value[0]) is dict and "role" in value[0]:
            meant = f"column {name!r:.60} holds messages: call it messages; "
    return RowProblem(
        Reason.NO_PROMPT,
        f"the row has no params, messages or prompt, and the job no prompt template; "
        f"{meant}its columns: {names}",
    )


def present(row: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    """The fields of `row` that are among `names` and not null."""
    return {name: row[name] for name in row if name in names and row[name] is not None}


def params_of_line(raw: bytes) -> bytes:
    """The bytes of `params` as they came."""
    return bytes(_ENVELOPE.decode(raw).params)


def body_of_line(raw: bytes) -> bytes:
    """The bytes of `body` as they came."""
    return bytes(_BATCH_LINE.decode(raw).body)


def params_of_record(raw: dict[str, str]) -> bytes:
    """The same of a record that holds it as text."""
    return raw["params"].strip().encode()

"""Parts of a request that are the same whatever the form of its row."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS
from batcher.rows.batch import Reason, RowProblem
from batcher.rows.build.body import MAX_BODY_BYTES
from batcher.rows.build.columns import attached
from batcher.rows.read.parse import kind

MAX_CUSTOM_ID_BYTES: Final = 1_000
_ENCODER: Final = msgspec.json.Encoder()


def row_custom_id(row: dict[str, Any]) -> str | None:
    """`custom_id`, or an `id` that can be one; an integer counts as its decimal text."""
    value = row.get("custom_id")
    if value is None:
        value = row.get("id")
        if type(value) not in {str, int}:
            return None  # `id` is a common column: what cannot be a custom_id is just data
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


def prompt_messages(prompt: object, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The one message of a prompt, with the pictures and documents that `row` brings."""
    if type(prompt) is not str:
        raise RowProblem(Reason.WRONG_TYPE, f"prompt is {kind(prompt)}; it must be a string")
    if not prompt.strip():
        raise RowProblem(Reason.NO_PROMPT, "the prompt is empty")
    return with_attachments([{"role": "user", "content": prompt}], row)


def with_attachments(
    messages: list[dict[str, Any]], row: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """`messages` of texts, the last of the user's with what `row` brings before it."""
    blocks = attached(row)
    if blocks:
        last = next(m for m in reversed(messages) if m["role"] == "user")
        last["content"] = [*blocks, {"type": "text", "text": last["content"]}]
    return messages


def encoded_body(body: dict[str, Any]) -> bytes:
    """The JSON text of `body`; raises `RowProblem`."""
    try:
        return _ENCODER.encode(body)
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
    return RowProblem(
        Reason.NO_PROMPT,
        f"the row has no params, messages or prompt, and the job no prompt template; "
        f"its columns: {names}",
    )

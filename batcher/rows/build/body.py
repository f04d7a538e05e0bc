"""The body of a request: from a row's columns, checked before it is worth sending, encoded.

Cheap checks only: what needs knowledge of a model is left to the provider. Columns that are no
plain body fields are attachments, betas and JSON in text cells.
"""

import re
from collections.abc import Collection, Container, Mapping
from typing import Any, Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.request import json_pieces
from batcher.rows.batch import Reason, RowProblem
from batcher.rows.build.attachments import ATTACHMENTS, with_attachments
from batcher.rows.read.parse import kind, parse_value

MAX_BODY_BYTES: Final = 32 * 1024 * 1024  # beyond it the API answers 413
MAX_MODEL_LENGTH: Final = 256
MAX_CUSTOM_ID_BYTES: Final = 1_000

Types = frozenset[type[object]]
_NULL: Final = type(None)
_TEXT: Final[Types] = frozenset({str, _NULL})
_NUMBER: Final[Types] = frozenset({int, float, _NULL})
_INTEGER: Final[Types] = frozenset({int, _NULL})
_FLAG: Final[Types] = frozenset({bool, _NULL})
_OBJECT: Final[Types] = frozenset({dict, _NULL})
_LIST: Final[Types] = frozenset({list, _NULL})

# Every known body field and the JSON types it may have. Fields of other
# compatible servers go by `params` rows, `parameters` or `pass`.
FIELDS: Final[Mapping[str, Types]] = {
    "model": frozenset({str}),
    "messages": frozenset({list}),
    "max_tokens": frozenset({int}),
    "system": frozenset({str, list, _NULL}),
    "stream": _FLAG,
    "stop_sequences": _LIST,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "top_k": _INTEGER,
    "metadata": _OBJECT,
    "tools": _LIST,
    "tool_choice": _OBJECT,
    "thinking": _OBJECT,
    "output_config": _OBJECT,
    "cache_control": _OBJECT,
    "service_tier": _TEXT,
    "inference_geo": _TEXT,
    "speed": _TEXT,
    "container": frozenset({str, dict, _NULL}),
    "diagnostics": _OBJECT,
    "context_management": _OBJECT,
    "compaction": _OBJECT,
    "mcp_servers": _LIST,
    "fallbacks": frozenset({str, list, _NULL}),
    "fallback_credit_token": _TEXT,
    "thread": _OBJECT,
    "billing_policy": _OBJECT,
    "output_format": _OBJECT,
}

_ROLES: Final = ("user", "assistant", "system")  # no set: a role may be unhashable
_NAMES: Final = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
_NAMES_OF_TYPES: Final = {**_NAMES, dict: "an object", list: "a list"}

BETAS: Final = "betas"
OWN_COLUMNS: Final = (*ATTACHMENTS, BETAS)  # never body fields where they mean something
_BETA: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TEXT_FIELDS: Final = frozenset(name for name, allowed in FIELDS.items() if str in allowed)
_WHOLE: Final = frozenset({"max_tokens", "top_k"})
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


def present(row: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    """The fields of `row` that are among `names` and not null."""
    return {name: row[name] for name in row if name in names and row[name] is not None}


def prompt_messages(prompt: object, row: Mapping[str, Any], columns: Collection[str]) -> Any:  # noqa: ANN401 - looked at later, as all messages are
    """The one message of a prompt, with the pictures and documents that `row` brings."""
    if type(prompt) is not str:
        raise RowProblem(Reason.WRONG_TYPE, f"prompt is {kind(prompt)}; it must be a string")
    if not prompt or prompt.isspace():
        raise RowProblem(Reason.NO_PROMPT, "the prompt is empty")
    return with_attachments([{"role": "user", "content": prompt}], row, columns)


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


def row_betas(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in the column `betas`, a list or a text with commas; raises `RowProblem`."""
    value = row.get(BETAS)
    if value is None:
        return ()
    names = value.split(",") if type(value) is str else value
    if type(names) is not list or not all(type(name) is str for name in names):
        raise RowProblem(
            Reason.WRONG_TYPE, f"betas is {kind(value)}; it must be a list of beta names"
        )
    stripped = [name.strip() for name in names]
    for name in filter(None, stripped):
        if not is_beta_name(name):
            raise RowProblem(Reason.WRONG_TYPE, f"betas holds {name!r:.120}, no beta name")
    return tuple(filter(None, stripped))


def is_beta_name(name: str) -> bool:
    """Whether `name` may stand in a header."""
    return _BETA.fullmatch(name) is not None


def json_columns(
    row: dict[str, Any], names: Collection[str], *, keep_absent: bool = False
) -> dict[str, Any]:
    """The row, with text in the body fields `names` read as JSON where they are no text.

    Absent values are left out, unless `keep_absent`. `system`, `container` and a plain
    `tool_choice` may be text and JSON: text that starts with a brace or bracket and is JSON
    counts as JSON, and so it is with `images`, `documents` and `betas`. Whole floats become
    integers where the API wants integers, since a nullable integer column is often written as
    floats. Raises `RowProblem`.
    """
    columns = {}
    for name, value in row.items():
        if value is None and not keep_absent:
            continue
        columns[name] = _json_value(name, value) if name in names else value
    if "id" in columns or "custom_id" in columns:
        _whole_ids(columns)
    return columns


def _json_value(name: str, value: object) -> object:
    if name in _WHOLE and type(value) is float and value.is_integer():
        return int(value)
    if type(value) is not str:
        return value
    if name in _TEXT_FIELDS or name == "tool_choice" or name in OWN_COLUMNS:
        return _text_or_json(name, value)
    if name != "params" and name not in FIELDS:
        return value
    read = parse_value(name, value) if value.strip() else None
    return int(read) if name in _WHOLE and type(read) is float and read.is_integer() else read


def _text_or_json(name: str, value: str) -> object:
    marks = ("[", "{", '"') if name == "fallbacks" else ("[", "{")  # its one text is default
    if not value.lstrip().startswith(marks):
        return value
    try:
        return parse_value("", value)
    except RowProblem:
        return value


def _whole_ids(columns: dict[str, Any]) -> None:
    for name in ("custom_id", "id"):
        value = columns.get(name)
        if type(value) is float:
            if not value.is_integer():
                raise RowProblem(Reason.BAD_CUSTOM_ID, f"{name} {value} is no whole number")
            columns[name] = int(value)


def check_body(body: dict[str, Any]) -> None:
    """Return if `body` may be sent; raise `RowProblem` otherwise."""
    if body.get("model") is None:
        raise RowProblem(
            Reason.MISSING_MODEL, "neither the row nor the job names a model; add --model"
        )
    if body.get("max_tokens") is None:
        raise RowProblem(
            Reason.MISSING_MAX_TOKENS,
            "neither the row nor the job gives max_tokens; add --max-tokens",
        )
    for name, value in body.items():
        allowed = FIELDS.get(name)
        if allowed is not None and type(value) not in allowed:
            raise _wrong_type(name, value, allowed)
    _check_messages(body.get("messages"))
    _check_limits(body)


def _check_messages(messages: list[Any] | None) -> None:
    if not messages:
        raise RowProblem(Reason.NO_PROMPT, "the row has no messages")
    for index, message in enumerate(messages):
        if type(message) is not dict:
            raise _wrong_type(f"messages[{index}]", message, _OBJECT)
        if message.get("role") not in _ROLES:
            raise _bad_role(index, message)
        if type(message.get("content")) is not str:
            _check_content(index, message.get("content"))


def _check_content(index: int, content: object) -> None:
    where = f"messages[{index}].content"
    if content is None:
        raise RowProblem(Reason.NO_PROMPT, f"{where} is missing")
    if type(content) is not list:
        raise _wrong_type(where, content, frozenset({str, list}))
    for block in content:
        if type(block) is not dict or type(block.get("type")) is not str:
            raise RowProblem(Reason.WRONG_TYPE, f"{where} holds a block without a type")


def _check_limits(body: dict[str, Any]) -> None:
    max_tokens = body["max_tokens"]
    if not body["model"] or len(body["model"]) > MAX_MODEL_LENGTH or "\0" in body["model"]:
        raise RowProblem(Reason.WRONG_TYPE, f"model {body['model']!r:.60} is no model name")
    if max_tokens < 0:
        raise RowProblem(
            Reason.WRONG_TYPE, f"max_tokens is {max_tokens}; it cannot be negative"
        )


def _bad_role(index: int, message: dict[str, Any]) -> RowProblem:
    role = message.get("role")
    words = "is missing" if role is None else f"{role!r:.60} is unknown"
    return RowProblem(
        Reason.BAD_ROLE, f"messages[{index}].role {words}; use user, assistant or system"
    )


def _wrong_type(name: str, value: object, allowed: Types) -> RowProblem:
    wanted = " or ".join(words for type_, words in _NAMES_OF_TYPES.items() if type_ in allowed)
    return RowProblem(Reason.WRONG_TYPE, f"{name} is {kind(value)}; it must be {wanted}")


def tool_choice_object(choice: str) -> dict[str, str]:
    """The object that a plain `tool_choice` stands for; raises `RowProblem` if none does."""
    if choice not in {"auto", "any", "none"}:
        raise RowProblem(
            Reason.WRONG_TYPE,
            f"tool_choice {choice!r:.60} is no object and none of auto, any, none",
        )
    return {"type": choice}


def whole_numbers(body: dict[str, Any]) -> dict[str, Any]:
    """The body with integers where the API wants those; itself where it has no whole floats."""
    for name in _WHOLE:
        value = body.get(name)
        if type(value) is float and value.is_integer():
            body = {**body, name: int(value)}
    return _with_whole_budget(body) if "thinking" in body else body


def _with_whole_budget(body: dict[str, Any]) -> dict[str, Any]:
    thinking = body["thinking"]
    budget = thinking.get("budget_tokens") if type(thinking) is dict else None
    if type(budget) is not float or not budget.is_integer():
        return body
    return {**body, "thinking": {**thinking, "budget_tokens": int(budget)}}


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


class _Envelope(msgspec.Struct):
    """A row of the Message Batches form; `params` as its bytes came."""

    params: msgspec.Raw


class _BatchLine(msgspec.Struct):
    """A line of an OpenAI batch file; `body` as its bytes came."""

    body: msgspec.Raw


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


_BATCH_LINE: Final = msgspec.json.Decoder(_BatchLine)


def params_of_line(raw: bytes) -> bytes:
    """The bytes of `params` as they came."""
    return bytes(_ENVELOPE.decode(raw).params)


def params_of_record(raw: dict[str, str]) -> bytes:
    """The same of a record that holds it as text."""
    return raw["params"].strip().encode()


def body_of_line(raw: bytes) -> bytes:
    """The bytes of `body` as they came."""
    return bytes(_BATCH_LINE.decode(raw).body)

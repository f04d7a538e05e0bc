"""The body of a request: checked before it is worth sending.

Cheap checks only: what needs knowledge of a model is left to the provider.
"""

from collections.abc import Mapping
from typing import Any, Final

from batcher.rows.batch import Reason, RowProblem
from batcher.rows.read.parse import kind

MAX_BODY_BYTES: Final = 32 * 1024 * 1024  # beyond it the API answers 413
MAX_MODEL_LENGTH: Final = 256

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


def tool_choice_object(choice: str) -> dict[str, str]:
    """The object that a plain `tool_choice` stands for; raises `RowProblem` if none does."""
    if choice not in {"auto", "any", "none"}:
        raise RowProblem(
            Reason.WRONG_TYPE,
            f"tool_choice {choice!r:.60} is no object and none of auto, any, none",
        )
    return {"type": choice}


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

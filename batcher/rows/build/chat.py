"""Bodies of other APIs as Messages bodies, by a table: data/other_apis.toml.

What has no counterpart is refused by its name: nothing is left out without a word, except what
says what is so anyway.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec

from batcher.rows.batch import Reason, RowProblem
from batcher.rows.read.parse import kind, parse_value


class ChatTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of /v1/chat/completions, see the file."""

    fields: dict[str, str]
    defaults: dict[str, Any]
    refused: frozenset[str]
    roles: frozenset[str]
    blocks: frozenset[str]
    message_fields: frozenset[str]


class RoleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who speaks in training data, and who that is here."""

    roles: dict[str, str]


class OtherApis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All tables of the file."""

    chat: ChatTable
    conversation: RoleTable


@cache
def other_apis() -> OtherApis:
    """The tables of this release."""
    text = (files("batcher") / "data" / "other_apis.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), OtherApis)


def untranslatable(words: str) -> RowProblem:
    """The problem of a row made for another tool that cannot be said here."""
    return RowProblem(Reason.UNTRANSLATABLE, words)


def chat_body(body: Mapping[str, Any], *, is_whole: bool) -> dict[str, Any]:
    """The Messages body, without a model, of one for /v1/chat/completions.

    `is_whole`: `body` is nothing but that, and each of its fields counts; else those of no
    table are left out, as columns are. Raises `RowProblem`.
    """
    table = other_apis().chat
    made: dict[str, Any] = {}
    for name, value in body.items():
        if name in {"messages", "model"} or value is None:
            continue
        if name in table.fields:
            _put(made, table.fields[name], _FIELDS.get(name, _as_it_is)(name, value), name)
        elif is_whole or name in table.defaults or name in table.refused:
            _refuse_value(name, value, table)
    system, messages = _conversation(body.get("messages"))
    if system:
        _put(made, "system", system, "a system message")
    if "tool_choice" in made:
        made |= {"tool_choice": _whole_choice(made["tool_choice"])}
        if "tools" not in made:  # says nothing without tools
            del made["tool_choice"]
    return {**made, "messages": messages}


def _whole_choice(choice: dict[str, Any]) -> dict[str, Any]:
    """The choice of tools with its type; it also says whether there may be several calls."""
    if choice.get("type") == "none":
        return {"type": "none"}  # no call is not two calls
    return {"type": "auto", **choice}


def _refuse_value(name: str, value: object, table: ChatTable) -> None:
    """Raise unless a field without a counterpart says what is so anyway."""
    if name not in table.defaults:
        raise untranslatable(f"{name} has no counterpart in the Messages API; take it out")
    if value != table.defaults[name]:
        raise untranslatable(f"{name} is {_shown(value)}, which has no counterpart")


def _put(made: dict[str, Any], name: str, value: object, theirs: str) -> None:
    """Set a field; two that become one may meet only where they are objects, or alike."""
    before = made.get(name)
    if value is None:
        return
    if type(before) is dict and type(value) is dict:
        made[name] = before | value
    elif before is not None and before != value:
        raise untranslatable(f"{theirs} and another field both say {name}; leave one of them")
    else:
        made[name] = value


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()[:60]


def _as_it_is(_: str, value: object) -> object:
    return value


def _stop(_: str, value: object) -> object:
    return [value] if type(value) is str else value


def _tools(_: str, value: object) -> list[dict[str, Any]] | None:
    return [_tool(one) for one in _list("tools", value)] or None


def _tool(value: object) -> dict[str, Any]:
    function = _object("tools", value).get("function")
    if value["type"] != "function" or type(function) is not dict:  # type: ignore[index]
        raise untranslatable(f"tools holds {_shown(value)}, which is no function")
    made = {"name": function.get("name"), "description": function.get("description")}
    schema = function.get("parameters") or {"properties": {}}
    made["input_schema"] = {"type": "object", **_object("parameters", schema)}
    made["strict"] = function.get("strict") or None
    return {name: part for name, part in made.items() if part is not None}


def _tool_choice(name: str, value: object) -> dict[str, Any]:
    words = {"none": "none", "auto": "auto", "required": "any"}
    if type(value) is str and value in words:
        return {"type": words[value]}
    function = value.get("function") if type(value) is dict else None
    if type(function) is not dict or type(function.get("name")) is not str:
        raise untranslatable(f"{name} is {_shown(value)}, which has no counterpart")
    return {"type": "tool", "name": function["name"]}


def _parallel(_: str, value: object) -> dict[str, Any] | None:
    return None if value else {"disable_parallel_tool_use": True}


def _response_format(name: str, value: object) -> dict[str, Any] | None:
    form = _object(name, value)
    if form.get("type") == "text":
        return None
    schema = form.get("json_schema")
    if form.get("type") != "json_schema" or type(schema) is not dict:
        raise untranslatable(
            f"{name} is {_shown(value)}, which has no counterpart; give a json_schema"
        )
    return {"format": {"type": "json_schema", "schema": schema.get("schema")}}


def _effort(name: str, value: object) -> dict[str, Any]:
    if value not in ("low", "medium", "high"):
        raise untranslatable(f"{name} is {_shown(value)}; low, medium and high can be said")
    return {"effort": value}


def _user(_: str, value: object) -> dict[str, Any]:
    return {"user_id": value}


_FIELDS: Final[Mapping[str, Callable[[str, Any], object]]] = {
    "stop": _stop,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": _parallel,
    "response_format": _response_format,
    "reasoning_effort": _effort,
    "user": _user,
}


def _object(name: str, value: object) -> dict[str, Any]:
    if type(value) is not dict:
        raise RowProblem(Reason.WRONG_TYPE, f"{name} holds {kind(value)}; it must be an object")
    return value


def _list(name: str, value: object) -> list[Any]:
    if type(value) is not list:
        raise RowProblem(Reason.WRONG_TYPE, f"{name} is {kind(value)}; it must be a list")
    return value


def _conversation(value: object) -> tuple[str, list[dict[str, Any]]]:
    """The system text that stands first, and the messages behind it."""
    systems: list[str] = []
    messages: list[dict[str, Any]] = []
    for index, each in enumerate(_list("messages", value)):
        message = _object("messages", each)
        role, where = message.get("role"), f"messages[{index}]"
        _refuse_fields(message, where)
        if role in ("system", "developer") and not messages:
            systems.append(_text(message.get("content"), where))
        elif role in ("system", "developer"):
            text = _text(message.get("content"), where)
            messages.append({"role": "system", "content": text})
        elif role == "user":
            _append(messages, "user", list(_parts(message.get("content"), where)))
        elif role == "assistant":
            _append(messages, "assistant", list(_assistant(message, where)))
        elif role == "tool":
            _append(messages, "user", [_tool_result(message, where)])
        else:
            raise untranslatable(
                f"{where} has the role {_shown(role)}, which has no counterpart"
            )
    return "\n\n".join(systems), [_plain(message) for message in messages]


_OF_MESSAGES: Final = {"role", "content", "tool_calls", "tool_call_id", "refusal"}


def _refuse_fields(message: dict[str, Any], where: str) -> None:
    for name, value in message.items():
        if name == "name" and type(message.get("tool_call_id")) is str:
            continue  # the call that is meant says it
        if name not in _OF_MESSAGES and value not in (None, [], ""):
            raise untranslatable(f"{where}.{name} has no counterpart in the Messages API")


def _append(messages: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    """Add blocks to the last message where results of tools and the user's words meet."""
    last = messages[-1] if messages and role == messages[-1]["role"] == "user" else {}
    if any(each["type"] == "tool_result" for each in last.get("content", ())):
        last["content"] += blocks
    else:
        messages.append({"role": role, "content": blocks})


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """The message with a text as its content where that is all there is."""
    match message["content"]:
        case [{"type": "text", "text": text}]:
            return {**message, "content": text}
        case _:
            return message


def _text(content: object, where: str) -> str:
    parts = list(_parts(content, where))
    if any(part["type"] != "text" for part in parts):
        raise untranslatable(f"{where} holds more than text, which has no counterpart there")
    return "".join(part["text"] for part in parts)


def _parts(content: object, where: str) -> Iterator[dict[str, Any]]:
    if type(content) is str:
        yield {"type": "text", "text": content}
        return
    if content is None:
        raise RowProblem(Reason.NO_PROMPT, f"{where}.content is missing")
    for part in _list(f"{where}.content", content):
        match part:
            case {"type": "text", "text": str()}:
                yield {name: value for name, value in part.items() if value is not None}
            case {"type": "image_url", "image_url": {"url": str() as url} | (str() as url)}:
                yield {"type": "image", "source": {"type": "url", "url": url}}
            case {"type": "file", "file": {"file_data": str() as data}}:
                yield {"type": "document", "source": _file_source(data)}
            case _:
                named = part.get("type") if type(part) is dict else kind(part)
                raise untranslatable(f"{where} holds {_shown(named)}, which has no counterpart")


def _file_source(data: str) -> dict[str, Any]:
    """The source of a file, which may come as bare base64: that has no colon."""
    url = data if ":" in data else f"data:application/pdf;base64,{data}"
    return {"type": "url", "url": url}


def _assistant(message: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    if message.get("refusal"):
        raise untranslatable(f"{where}.refusal has no counterpart in the Messages API")
    calls = message.get("tool_calls") or ()
    for part in _parts(message.get("content") or [], where):
        if part["type"] != "text" or not calls or part["text"].strip():
            yield part  # blanks beside calls are what clients write where nothing was said
    for call in calls:
        function = _object(f"{where}.tool_calls", call).get("function")
        if type(function) is not dict:
            raise untranslatable(f"{where}.tool_calls holds what is no call of a function")
        yield {
            "type": "tool_use",
            "id": call.get("id"),
            "name": function.get("name"),
            "input": _arguments(function.get("arguments"), where),
        }


def _arguments(value: object, where: str) -> object:
    if type(value) is not str:
        return value or {}
    return parse_value(f"{where} arguments", value) if value.strip() else {}


def _tool_result(message: dict[str, Any], where: str) -> dict[str, Any]:
    result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
    content = list(_parts(message.get("content") or "", where))
    match content:
        case [{"type": "text", "text": text}]:
            return {**result, "content": text}
        case _:
            return {**result, "content": content}

"""Faults in how a body is put together, and counts over all of it.

Bodies are those of `preflight_body`. A fault is told by its place; `None` means there is none.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from batcher.preflight.body import (
    ENDS_WITH_ASSISTANT,
    WITH_EMPTY_MESSAGE,
    WITH_IMAGES,
    WITH_MARKS,
    WITH_SYSTEM_MESSAGE,
    WITH_TOOL_BLOCKS,
    Body,
    Placed,
    blocks_of_messages,
    marks,
    objects,
)
from batcher.preflight.rules import Check, Count, Structure


def needed_fact(check: Check) -> str | None:
    """The fact without which `check` finds nothing, `None` where there is no such fact."""
    match check:
        case Structure():
            return _NEEDS.get(check.fault)
        case Count():
            return _NEEDS.get(check.of)
        case _:
            return None


def prefill(body: Body) -> str | None:
    """A last assistant message that begins the answer.

    One with server tools or a compaction is a paused turn to be continued: no prefill (3.3).
    """
    message = body["messages"][-1]
    if message["role"] != "assistant" or not message["content"]:
        return None
    if type(message["content"]) is list:
        types = [b.get("type") for b in message["content"] if type(b) is dict]
        if any(type(t) is not str or t in _PAUSED or t.startswith("mcp_") for t in types):
            return None
    return f"messages[{len(body['messages']) - 1}]"


def pending_tool_missing(body: Body) -> str | None:
    """A paused turn that waits for a web tool which is not among the tools (3.3)."""
    message = body["messages"][-1]
    blocks = message["content"] if message["role"] == "assistant" else None
    done = [block.get("tool_use_id") for block in objects(blocks)]
    types = [str(tool.get("type")) for tool in objects(body.get("tools"))]
    for index, block in enumerate(objects(blocks)):
        name = block.get("name")
        is_pending = block.get("type") == "server_tool_use" and block.get("id") not in done
        is_there = any(type_.startswith(str(name)) for type_ in types)
        # other names may come from a tool of another name, and no set: it may be unhashable
        if is_pending and not is_there and name in ("web_search", "web_fetch"):
            return f"messages[{len(body['messages']) - 1}].content[{index}]"
    return None


def prefill_ends_in_space(body: Body) -> str | None:
    """A prefill whose text ends in white space."""
    place = prefill(body)
    if place is None:
        return None
    content = body["messages"][-1]["content"]
    last = content[-1] if type(content) is list else {"text": content}
    text = last.get("text") if type(last) is dict else None
    return place if type(text) is str and text != text.rstrip() else None


def empty_message(body: Body) -> str | None:
    """A message without content that is not a last assistant message."""
    messages = body["messages"]
    for index, message in enumerate(messages):
        is_last = index == len(messages) - 1 and message["role"] == "assistant"
        if not message["content"] and not is_last:
            return f"messages[{index}].content"
    return None


def system_out_of_place(body: Body) -> str | None:
    """A system message that does not follow a user turn, or is not followed by the assistant's.

    It may also follow an assistant turn that ends in the result of a server tool.
    """
    previous: Body | None = None
    waiting = None
    for index, message in enumerate(body["messages"]):
        if message["role"] == "system":
            if previous is None or not _may_precede_system(previous):
                return f"messages[{index}].role"
            waiting = f"messages[{index}].role"
            continue
        if waiting and message["role"] != "assistant":
            return waiting
        previous, waiting = message, None
    return None


def tool_use_unanswered(body: Body) -> str | None:
    """A tool_use whose id has no tool_result in the turn that follows."""
    turns = _turns(body)
    for index, (role, blocks) in enumerate(turns):
        if role != "assistant":
            continue
        asked = _of_type(blocks, "tool_use")
        if not asked:
            continue
        answers = turns[index + 1][1] if index + 1 < len(turns) else []
        answered = [b.get("tool_use_id") for _, b in _of_type(answers, "tool_result")]
        for place, block in asked:
            if block.get("id") not in answered:
                return place
    return None


def tool_result_unasked(body: Body) -> str | None:
    """A tool_result whose id is no tool_use of the turn before."""
    asked: list[Any] = []
    for role, blocks in _turns(body):
        if role == "user":
            for place, block in _of_type(blocks, "tool_result"):
                if block.get("tool_use_id") not in asked:
                    return place
        asked = [block.get("id") for _, block in _of_type(blocks, "tool_use")]
    return None


def tool_result_late(body: Body) -> str | None:
    """A tool_result after content of another kind in the same turn."""
    for role, blocks in _turns(body):
        other = False
        for place, block in blocks if role == "user" else ():
            if block.get("type") != "tool_result":
                other = True
            elif other:
                return place
    return None


def cache_ttl_order(body: Body) -> str | None:
    """A mark of one hour after one of five minutes, in the order tools, system, messages."""
    short = False
    for place, mark in marks(body):
        ttl = mark.get("ttl") or "5m"
        if ttl == "1h" and short:
            return f"{place}.cache_control".lstrip(".")
        short = short or ttl == "5m"
    return None


def mcp_server_not_used_once(body: Body) -> str | None:
    """An MCP server that is not named by exactly one toolset."""
    tools = objects(body.get("tools"))
    named = [tool.get("mcp_server_name") for tool in tools if tool.get("type") == "mcp_toolset"]
    for index, server in enumerate(objects(body.get("mcp_servers"))):
        if named.count(server.get("name")) != 1:
            return f"mcp_servers[{index}]"
    return None


def count_images(body: Body) -> int:
    """The images of all messages, also inside tool results and documents."""
    return sum(block.get("type") == "image" for _, _, _, block in blocks_of_messages(body))


def count_breakpoints(body: Body) -> int:
    """The cache_control marks of tools, system and messages, and the automatic one."""
    return sum(1 for _ in marks(body))


def count_strict_tools(body: Body) -> int:
    """The tools whose schema is strict."""
    return sum(tool.get("strict") is True for tool in objects(body.get("tools")))


def count_deferred_tools(body: Body) -> int:
    """The tools that are loaded when they are found."""
    return sum(tool.get("defer_loading") is True for tool in objects(body.get("tools")))


_PAUSED: Final = frozenset(
    {
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "advisor_tool_result",
        "compaction",
        "tool_use",  # has a rule of its own
    }
)

FAULTS: Final[dict[str, Callable[[Body], str | None]]] = {
    function.__name__: function
    for function in (
        prefill,
        prefill_ends_in_space,
        pending_tool_missing,
        empty_message,
        system_out_of_place,
        tool_use_unanswered,
        tool_result_unasked,
        tool_result_late,
        cache_ttl_order,
        mcp_server_not_used_once,
    )
}
_NEEDS: Final = {
    "prefill": ENDS_WITH_ASSISTANT,
    "prefill_ends_in_space": ENDS_WITH_ASSISTANT,
    "pending_tool_missing": ENDS_WITH_ASSISTANT,
    "empty_message": WITH_EMPTY_MESSAGE,
    "system_out_of_place": WITH_SYSTEM_MESSAGE,
    "tool_use_unanswered": WITH_TOOL_BLOCKS,
    "tool_result_unasked": WITH_TOOL_BLOCKS,
    "tool_result_late": WITH_TOOL_BLOCKS,
    "cache_ttl_order": WITH_MARKS,
    "images": WITH_IMAGES,
    "breakpoints": WITH_MARKS,
}
COUNTS: Final[dict[str, Callable[[Body], int]]] = {
    "images": count_images,
    "breakpoints": count_breakpoints,
    "strict_tools": count_strict_tools,
    "deferred_tools": count_deferred_tools,
}


def _turns(body: Body) -> list[tuple[str, list[Placed]]]:
    """Messages of one role in a row are one turn, as the server merges them."""
    turns: list[tuple[str, list[Placed]]] = []
    for index, message in enumerate(body["messages"]):
        if not turns or turns[-1][0] != message["role"]:
            turns.append((message["role"], []))
        turns[-1][1].extend(_placed(message["content"], f"messages[{index}].content"))
    return turns


def _placed(content: object, where: str) -> Iterator[Placed]:
    if type(content) is not list:
        yield where, {"type": "text"}
        return
    for index, block in enumerate(content):
        if type(block) is dict:
            yield f"{where}[{index}]", block


def _of_type(blocks: list[Placed], kind: str) -> list[Placed]:
    return [placed for placed in blocks if placed[1].get("type") == kind]


def _may_precede_system(message: Body) -> bool:
    if message["role"] == "user":
        return True
    content = message["content"]
    last = content[-1] if type(content) is list and content else None
    kind = last.get("type") if type(last) is dict else None
    return type(kind) is str and kind.endswith("_tool_result")

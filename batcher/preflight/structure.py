"""What a body is made of (blocks at any depth, cache marks, facts), faults in it, and counts.

Every function takes a body of `preflight_body` whose messages were checked: a list of objects
with a role and a text or list of blocks with a type. A fault is told by its place; `None` means
there is none.
"""

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from batcher.messages.codec import sides_of
from batcher.preflight.rules import Check, Count, Structure

Body: TypeAlias = dict[str, Any]
Placed: TypeAlias = tuple[str, dict[str, Any]]

# Facts about a body: most bodies have none, and then most faults need not be looked for.
WITH_BLOCKS: Final = "(blocks)"
WITH_SYSTEM_MESSAGE: Final = "(system message)"
WITH_EMPTY_MESSAGE: Final = "(empty message)"
WITH_TOOL_BLOCKS: Final = "(tool_use or tool_result)"
WITH_IMAGES: Final = "(image)"
WITH_MARKS: Final = "(cache_control)"
ENDS_WITH_ASSISTANT: Final = "(assistant at the end)"

MOST_PIXELS: Final = 8000  # a side of an image
MANY_IMAGES: Final = 20  # a request with more of them takes
MOST_PIXELS_OF_MANY: Final = 2000
_HEADER_LENGTH: Final = (
    2**20
)  # characters of base64: JPEG has its sides behind Exif and profiles


def facts(body: Body) -> list[str]:
    """The facts that hold for `body`."""
    messages = body["messages"]
    found = [ENDS_WITH_ASSISTANT] if messages[-1]["role"] == "assistant" else []
    has_blocks = has_empty = has_system = False
    for message in messages:
        content = message["content"]
        has_blocks = has_blocks or type(content) is list
        has_empty = has_empty or not content
        has_system = has_system or message["role"] == "system"
    if has_blocks:
        found += _facts_of_blocks(messages)
    if has_empty:
        found.append(WITH_EMPTY_MESSAGE)
    if has_system:
        found.append(WITH_SYSTEM_MESSAGE)
    has_lists = has_blocks or "tools" in body or type(body.get("system")) is list
    if has_lists and any(True for _ in marks(body)):
        found.append(WITH_MARKS)
    return found


def _facts_of_blocks(messages: list[Body]) -> list[str]:
    types = [
        block["type"]
        for message in messages
        if type(message["content"]) is list
        for block in message["content"]
    ]
    found = [WITH_BLOCKS]
    if "tool_use" in types or "tool_result" in types:
        found.append(WITH_TOOL_BLOCKS)
    if any(holder in types for holder in ("image", "tool_result", "document")):
        found.append(WITH_IMAGES)
    return found


def blocks_of(content: object, where: str, parent: str = "") -> Iterator[tuple[str, str, Body]]:
    """(place, type of the block around it, block), also of the blocks inside of blocks."""
    if type(content) is not list:
        return
    for index, block in enumerate(content):
        if type(block) is not dict:
            continue
        place, kind = f"{where}[{index}]", block.get("type")
        yield place, parent, block
        if kind in ("tool_result", "search_result"):  # no set: a type may be unhashable
            yield from blocks_of(block.get("content"), f"{place}.content", kind)
        elif kind == "document" and type(block.get("source")) is dict:
            inner = block["source"].get("content")
            yield from blocks_of(inner, f"{place}.source.content", kind)


def blocks_of_messages(body: Body) -> Iterator[tuple[str, str, str, Body]]:
    """(role, place, type of the block around it, block) of all messages."""
    for index, message in enumerate(body["messages"]):
        if type(message["content"]) is list:
            where = f"messages[{index}].content"
            for place, parent, block in blocks_of(message["content"], where):
                yield message["role"], place, parent, block


def marks(body: Body) -> Iterator[Placed]:
    """(place, cache_control) as caching goes: tools, system, messages, the automatic one."""
    for name in ("tools", "system"):
        for index, entry in enumerate(objects(body.get(name))):
            if type(entry.get("cache_control")) is dict:
                yield f"{name}[{index}]", entry["cache_control"]
    for _, place, _, block in blocks_of_messages(body):
        if type(block.get("cache_control")) is dict:
            yield place, block["cache_control"]
    if type(body.get("cache_control")) is dict:
        yield "", body["cache_control"]


def objects(value: object) -> list[Body]:
    """The objects of a list; none where `value` is no list."""
    return [entry for entry in value if type(entry) is dict] if type(value) is list else []


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


def image_side(body: Body) -> str | None:
    """An image in base64 with a side longer than any may have."""
    return _longer_than(MOST_PIXELS, body)


def image_side_of_many(body: Body) -> str | None:
    """An image in base64 with a side longer than it may be among many images."""
    if count_images(body) <= MANY_IMAGES:
        return None
    return _longer_than(MOST_PIXELS_OF_MANY, body)


def _longer_than(most: int, body: Body) -> str | None:
    for _, place, _, block in blocks_of_messages(body):
        if block.get("type") == "image" and max(_sides(block.get("source"))) > most:
            return place
    return None


def _sides(source: object) -> tuple[int, int]:
    """Width and height, as the header says; zeros where it is not here or does not tell."""
    if type(source) is not dict or source.get("type") != "base64":
        return 0, 0
    data, media_type = source.get("data"), source.get("media_type")
    if type(data) is not str or type(media_type) is not str:
        return 0, 0
    try:
        return sides_of(b64decode(data[:_HEADER_LENGTH]), media_type) or (0, 0)
    except (NotBase64, ValueError):  # has no header
        return 0, 0


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
        image_side,
        image_side_of_many,
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
    "image_side": WITH_IMAGES,
    "image_side_of_many": WITH_IMAGES,
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

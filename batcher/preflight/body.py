"""What a body is made of: its blocks at any depth, its cache marks, and facts about it.

Every function takes a body whose messages were checked (a list of objects with a role and a
text or list of blocks with a type).
"""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

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

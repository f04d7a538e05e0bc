"""Where a conversation stands: its prompt, its pause legs, its pending tools."""

from typing import Any, Final

Fields = dict[str, Any]
ORDERED_TOOL: Final = "srvtoolu_ordered_"
SEARCH_TOOL: Final = "srvtoolu_"


def last_prompt(messages: list[Fields]) -> str:
    """The text of the last user message, empty when it has none."""
    for message in reversed(messages):
        if message["role"] == "user":
            return " ".join(
                block["text"] for block in blocks(message) if block.get("type") == "text"
            )
    return ""


def legs_done(messages: list[Fields]) -> int:
    """How many paused legs the assistant turn at the end already holds."""
    return sum(block.get("type") == "server_tool_use" for block in _last_turn(messages))


def pending_server_tool(messages: list[Fields]) -> Fields | None:
    """The last `server_tool_use` of the assistant turn at the end that has no result yet."""
    turn = _last_turn(messages)
    done = [block.get("tool_use_id") for block in turn]
    for block in reversed(turn):
        if block.get("type") == "server_tool_use" and block.get("id") not in done:
            return block
    return None


def is_ordered(tool_use: Fields) -> bool:
    """Whether a marker asked for this server tool, so that it need not be among the tools."""
    return str(tool_use.get("id")).startswith(ORDERED_TOOL)


def answers_a_tool(messages: list[Fields]) -> bool:
    """Whether the last message brings the result of a client tool."""
    return any(block.get("type") == "tool_result" for block in blocks(messages[-1]))


def blocks(message: Fields) -> list[Fields]:
    """The content of a message as blocks; a string is one text block."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _last_turn(messages: list[Fields]) -> list[Fields]:
    turn: list[Fields] = []
    for message in reversed(messages):
        if message["role"] != "assistant":
            break
        turn = blocks(message) + turn
    return turn

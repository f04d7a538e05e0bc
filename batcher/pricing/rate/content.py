"""What the content of a Messages body adds to, or takes from, the bytes of its text."""

from typing import Any, Final

# Their tokens are no more than their bytes in the body.
_TEXT_BLOCKS: Final = frozenset(
    {"text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "search_result"}
    | {"tool_reference", "tool_result"}
)


class ContentParts:
    """Bytes of base64, images, and whether something's size is not in the body at all."""

    __slots__ = ("base64_bytes", "images", "whole_window")

    def __init__(self) -> None:
        self.base64_bytes = 0
        self.images = 0
        self.whole_window = False

    def add_content(self, content: object) -> None:
        """Count a string (nothing to add) or a list of blocks, nested ones too."""
        if isinstance(content, list):
            for block in content:
                self._add_block(block if isinstance(block, dict) else {})

    def _add_block(self, block: dict[str, Any]) -> None:
        match block.get("type"):
            case "text":
                pass
            case "image":
                self._add_image(block.get("source"))
            case "document":
                self._add_document(block.get("source"))
            case kind if kind in _TEXT_BLOCKS:
                self.add_content(block.get("content"))
            case _:  # results of server tools and files: their size is not in the body
                self.whole_window = True

    def _add_image(self, source: object) -> None:
        data = source.get("data") if isinstance(source, dict) else None
        if isinstance(data, str) and data.isascii():
            self.images += 1
            self.base64_bytes += len(data)
        else:
            self.whole_window = True

    def _add_document(self, source: object) -> None:
        kind = source.get("type") if isinstance(source, dict) else None
        if kind == "content" and isinstance(source, dict):
            self.add_content(source.get("content"))
        elif kind != "text":
            self.whole_window = True

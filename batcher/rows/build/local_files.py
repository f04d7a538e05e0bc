"""Files that a row names, `{"type": "path", "path": …}`, become what the API takes.

The rows are the user's own, so a path may lead anywhere the user may read; rows from standard
input are often somebody else's, and name no files.
"""

import stat
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from batcher.rows.read.parse import kind as json_kind
from batcher.rows.reasons import Reason, RowProblem

# What one image or one body may weigh in base64 (messages-api, 2.4), as bytes on the disk.
MAX_IMAGE_BYTES: Final = 10 * 2**20 // 4 * 3
MAX_DOCUMENT_BYTES: Final = 32 * 2**20 // 4 * 3
MAX_SIDE_PIXELS: Final = 8000

_IMAGES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_PDF_MARK_WITHIN: Final = 1024  # readers of PDF accept some bytes before the mark


def path_blocks(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The image and document blocks of checked `messages` whose source is a path.

    Also those inside a tool_result, and inside the content of a document.
    """
    found: list[dict[str, Any]] = []
    for message in messages:
        if type(message["content"]) is list:
            found.extend(_with_path(message["content"]))
    return found


def fill_in(blocks: list[dict[str, Any]], folder: Path | None) -> None:
    """Replace the path sources of `blocks`, in place, by the content of their files.

    Relative paths are below `folder`; `None` means that rows from there name no files. Raises
    `RowProblem` with BAD_FILE or FILE_TOO_LARGE.
    """
    for block in blocks:
        block["source"] = _source(block["type"], block["source"], folder)


def _with_path(content: list[Any]) -> Iterator[dict[str, Any]]:
    for block in content:
        if type(block) is not dict:
            continue
        source = block.get("source")
        # no set: inside other blocks a type may be unhashable
        if block.get("type") in ("image", "document") and type(source) is dict:
            if source.get("type") == "path":
                yield block
            elif type(source.get("content")) is list:
                yield from _with_path(source["content"])
        elif block.get("type") == "tool_result" and type(block.get("content")) is list:
            yield from _with_path(block["content"])


def _source(kind: str, source: dict[str, Any], folder: Path | None) -> dict[str, str]:
    name = source.get("path")
    if type(name) is not str or not name or "\0" in name:
        raise RowProblem(
            Reason.BAD_FILE, f"a {kind}'s path is {json_kind(name)}, not a file name"
        )
    if folder is None:
        raise RowProblem(
            Reason.BAD_FILE,
            f"{name:.200}: rows from standard input name no files; put the rows into a file",
        )
    data = _read(
        folder / name, name, MAX_IMAGE_BYTES if kind == "image" else MAX_DOCUMENT_BYTES
    )
    media_type = _media_type(data)
    if media_type is None or (kind == "image") is not (media_type in _IMAGES):
        wanted = "JPEG, PNG, GIF or WebP" if kind == "image" else "PDF or UTF-8 text"
        raise RowProblem(Reason.BAD_FILE, f"{name:.200}: the content is no {wanted}")
    if source.get("media_type") not in (None, media_type):
        raise RowProblem(
            Reason.BAD_FILE,
            f"{name:.200}: is {media_type}, not {source['media_type']!r:.60}",
        )
    _check_pixels(name, data, media_type)
    if media_type == "text/plain":
        return {"type": "text", "media_type": media_type, "data": data.decode("utf-8-sig")}
    return {"type": "base64", "media_type": media_type, "data": b64encode(data).decode()}


def _read(path: Path, name: str, most: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RowProblem(Reason.BAD_FILE, f"{name:.200}: is no regular file")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as exc:
        raise RowProblem(
            Reason.BAD_FILE, f"{name:.200}: cannot be read: {exc.strerror}"
        ) from exc
    if len(data) > most:
        raise RowProblem(
            Reason.FILE_TOO_LARGE,
            f"{name:.200}: has {max(status.st_size, len(data)):,} bytes; {most:,} is the most",
        )
    return data


def _media_type(data: bytes) -> str | None:
    """Told by the content, never by the name; `None` for nothing the API takes."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if b"%PDF-" in data[:_PDF_MARK_WITHIN]:
        return "application/pdf"
    return "text/plain" if _is_text(data) else None


def _is_text(data: bytes) -> bool:
    if not data.strip() or b"\0" in data:
        return False
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return True


def _check_pixels(name: str, data: bytes, media_type: str) -> None:
    """Refuse an image longer than the API takes, where its first bytes tell (PNG and GIF)."""
    if media_type == "image/png":
        sides = (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    elif media_type == "image/gif":
        sides = (int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))
    else:
        return
    if max(sides) > MAX_SIDE_PIXELS:
        raise RowProblem(
            Reason.FILE_TOO_LARGE,
            f"{name:.200}: is {sides[0]} x {sides[1]} pixels; {MAX_SIDE_PIXELS} is the most",
        )

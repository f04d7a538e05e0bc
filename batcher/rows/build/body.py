"""The body of a request: checked before it is worth sending, with local files filled in.

Cheap checks only: what needs knowledge of a model is left to the provider. Files that a row
names, `{"type": "path", "path": …}`, become what the API takes. The rows are the user's own,
so a path may lead anywhere the user may read; rows from standard input are often somebody
else's, and name no files.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from batcher.rows.batch import Reason, RowProblem
from batcher.rows.read.parse import kind
from batcher.rows.read.source import is_on_disk

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


# What one image or one body may weigh in base64, as bytes on the disk.
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


def _source(block_type: str, source: dict[str, Any], folder: Path | None) -> dict[str, str]:
    name = source.get("path")
    if type(name) is not str or not name or "\0" in name:
        raise RowProblem(
            Reason.BAD_FILE, f"a {block_type}'s path is {kind(name)}, not a file name"
        )
    if folder is None:
        raise RowProblem(
            Reason.BAD_FILE,
            f"{name:.200}: rows from standard input name no files; put the rows into a file",
        )
    data = _read(
        folder / name, name, MAX_IMAGE_BYTES if block_type == "image" else MAX_DOCUMENT_BYTES
    )
    media_type = _media_type(data)
    if media_type is None or (block_type == "image") is not (media_type in _IMAGES):
        wanted = "JPEG, PNG, GIF or WebP" if block_type == "image" else "PDF or UTF-8 text"
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
        if not is_on_disk(path, status):
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

"""Pictures and documents that rows name or bring, as the API takes them.

Files, `{"type": "path", "path": …}`, `data:` URLs and the bytes of a Parquet column become
base64, or text. Rows may be a stranger's: which files they may name is a setting, and by
default those beside their input or below. Rows from standard input name none.
How large an image is its header tells: nothing is decoded.
"""

from base64 import b64encode
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from batcher.messages.codec import sides_of
from batcher.rows.batch import Reason, RowProblem
from batcher.rows.build.settings import Attachments
from batcher.rows.read.parse import kind
from batcher.rows.read.source import is_on_disk

IMAGES: Final = "images"
IMAGE: Final = "image"  # as data sets call a column that holds one
DOCUMENTS: Final = "documents"
ATTACHMENTS: Final = (IMAGES, IMAGE, DOCUMENTS)


def with_attachments(
    messages: Any,  # noqa: ANN401 - any JSON value
    row: Mapping[str, Any],
    columns: Collection[str],
) -> Any:  # noqa: ANN401 - the same, looked at later
    """`messages`, the last of the user's with what `columns` of `row` bring before its content.

    Images whose places the messages show, as data sets do it, go there. Raises `RowProblem`.
    """
    if row.keys().isdisjoint(columns):
        return messages
    blocks = attached({name: row[name] for name in columns if name in row})
    if not blocks or type(messages) is not list:
        return messages
    if places := sum(map(_is_place, _content_of(messages))):
        images = [block for block in blocks if block.get("type") == "image"]
        messages = _filled(messages, images, places)
        blocks = [block for block in blocks if block.get("type") != "image"]
        if not blocks:
            return messages
    last = next((n for n in reversed(range(len(messages))) if _is_of_user(messages[n])), None)
    if last is None:
        raise RowProblem(Reason.NO_PROMPT, "no message is the user's, to hold images")
    content = messages[last].get("content")
    if type(content) not in {list, str}:
        return messages  # refused for that
    if type(content) is str:
        content = [{"type": "text", "text": content}]
    whole = {**messages[last], "content": [*blocks, *content]}
    return [*messages[:last], whole, *messages[last + 1 :]]


def attached(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The blocks that the columns `documents`, `images` and `image` stand for, in this order.

    A cell is one of, or a list of: a path, a URL (also `data:`), bytes, an object with `bytes`
    or `path`, a source object, a whole block. Raises `RowProblem`.
    """
    return [
        *blocks_of("document", DOCUMENTS, row.get(DOCUMENTS)),
        *blocks_of("image", IMAGES, row.get(IMAGES)),
        *blocks_of("image", IMAGE, row.get(IMAGE)),
    ]


def blocks_of(block_type: str, column: str, value: object) -> list[dict[str, Any]]:
    """The blocks that the cell of a column stands for; raises `RowProblem`."""
    if value is None or value == "":
        return []
    values = value if type(value) is list else [value]
    return [_block(block_type, column, one) for one in values if one is not None]


def _block(block_type: str, column: str, value: object) -> dict[str, Any]:
    if type(value) is bytes:
        return {"type": block_type, "source": {"type": "bytes", "data": value}}
    if type(value) is str:
        is_url = value.lower().startswith(("http://", "https://", "data:"))
        source = {"type": "url", "url": value} if is_url else {"type": "path", "path": value}
        return {"type": block_type, "source": source}
    if type(value) is not dict:
        raise RowProblem(
            Reason.WRONG_TYPE,
            f"{column} holds {kind(value)}; it must hold paths, URLs or source objects",
        )
    if value.keys() and value.keys() <= {"bytes", "path"}:
        return {"type": block_type, "source": _of_data_set(value)}
    return value if value.get("type") == block_type else {"type": block_type, "source": value}


def _of_data_set(value: dict[str, Any]) -> dict[str, Any]:
    """The source of a picture as data sets hold it: its bytes, else where it lies."""
    data = value.get("bytes")
    if data is not None:
        return {"type": "bytes", "data": data}
    return {"type": "path", "path": value.get("path")}


def _content_of(messages: list[Any]) -> Iterator[Any]:
    for message in messages:
        content = message.get("content") if type(message) is dict else None
        if type(content) is list:
            yield from content


def _is_place(block: object) -> bool:
    """Whether an image belongs there: `{"type": "image"}`, with nothing to show."""
    return type(block) is dict and block.get("type") == "image" and "source" not in block


def _filled(messages: list[Any], images: list[Any], places: int) -> list[Any]:
    """The messages with the images in their places, in order."""
    if len(images) != places:
        raise RowProblem(
            Reason.WRONG_TYPE,
            f'the messages have {places} places for images ({{"type": "image"}}), and the row'
            f" brings {len(images)}",
        )
    rest = iter(images)
    return [
        {
            **message,
            "content": [next(rest) if _is_place(each) else each for each in message["content"]],
        }
        if type(message) is dict and type(message.get("content")) is list
        else message
        for message in messages
    ]


def _is_of_user(message: object) -> bool:
    return type(message) is dict and message.get("role") == "user"


# What one image or one body may weigh in base64, as bytes on the disk.
MAX_IMAGE_BYTES: Final = 10 * 2**20 // 4 * 3
MAX_DOCUMENT_BYTES: Final = 32 * 2**20 // 4 * 3
MAX_SIDE_PIXELS: Final = 8000

_IMAGES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_PDF_MARK_WITHIN: Final = 1024  # readers of PDF accept some bytes before the mark


def blocks_to_fill(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The image and document blocks of checked `messages` that are not as the API takes them.

    Also those inside a tool_result, and inside the content of a document.
    """
    found: list[dict[str, Any]] = []
    for message in messages:
        if type(message["content"]) is list:
            found.extend(_to_fill(message["content"]))
    return found


def fill_in(blocks: list[dict[str, Any]], folder: Path | None, allowed: Attachments) -> None:
    """Replace the sources of `blocks`, in place, by what they stand for.

    Relative paths are below `folder`; `None` means that rows from there name no files. Raises
    `RowProblem` with BAD_FILE or FILE_TOO_LARGE.
    """
    for block in blocks:
        block["source"] = _source(block["type"], block["source"], folder, allowed)


def _to_fill(content: list[Any]) -> Iterator[dict[str, Any]]:
    for block in content:
        if type(block) is not dict:
            continue
        source = block.get("source")
        # no set: inside other blocks a type may be unhashable
        if block.get("type") in ("image", "document") and type(source) is dict:
            if source.get("type") in ("path", "bytes") or _is_data_url(source):
                yield block
            elif type(source.get("content")) is list:
                yield from _to_fill(source["content"])
        elif block.get("type") == "tool_result" and type(block.get("content")) is list:
            yield from _to_fill(block["content"])


def _is_data_url(source: dict[str, Any]) -> bool:
    url = source.get("url")
    return source.get("type") == "url" and type(url) is str and url[:5].lower() == "data:"


def _source(
    block_type: str, source: dict[str, Any], folder: Path | None, allowed: Attachments
) -> dict[str, str]:
    most = MAX_IMAGE_BYTES if block_type == "image" else MAX_DOCUMENT_BYTES
    if source["type"] == "bytes":
        name, data = f"the {block_type}", _bytes(block_type, source.get("data"))
    elif source["type"] == "url":
        name, data = "a data: URL", _of_data_url(source["url"])
    else:
        name = _name(block_type, source.get("path"), folder, allowed)
        data = _read(_place(name, folder or Path(), allowed), name, most)
    if len(data) > most:
        raise _too_large(name, len(data), most)
    return _checked(block_type, source, name, data)


def _checked(block_type: str, source: dict[str, Any], name: str, data: bytes) -> dict[str, str]:
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


def _bytes(block_type: str, value: object) -> bytes:
    """Bytes as Parquet has them, or as base64 in JSON."""
    if type(value) is bytes:
        return value
    if type(value) is not str:
        raise RowProblem(Reason.BAD_FILE, f"a {block_type}'s bytes are {kind(value)}")
    return _of_base64(f"a {block_type}'s bytes", value)


def _of_data_url(url: str) -> bytes:
    head, comma, data = url[5:].partition(",")
    if not comma or "base64" not in map(str.strip, head.lower().split(";")[1:]):
        raise RowProblem(Reason.BAD_FILE, "a data: URL is not in base64")
    return _of_base64("a data: URL", data)


def _of_base64(name: str, text: str) -> bytes:
    try:
        return a2b_base64(text.encode(), strict_mode=True)
    except (NotBase64, UnicodeEncodeError) as exc:
        raise RowProblem(Reason.BAD_FILE, f"{name}: is not base64: {exc}") from exc


def _name(block_type: str, name: object, folder: Path | None, allowed: Attachments) -> str:
    if type(name) is not str or not name or "\0" in name:
        raise RowProblem(
            Reason.BAD_FILE, f"a {block_type}'s path is {kind(name)}, not a file name"
        )
    if folder is None:
        raise RowProblem(
            Reason.BAD_FILE,
            f"{name:.200}: rows that came without a local file name none; put them into one",
        )
    if allowed is Attachments.NONE:
        raise RowProblem(Reason.BAD_FILE, f'{name:.200}: attachments = "none"')
    return name


def _place(name: str, folder: Path, allowed: Attachments) -> Path:
    """Where the file is, links followed; raises `RowProblem` where rows may not name it."""
    try:
        path = (folder / name).resolve()
        is_beside = path.is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as exc:  # a ring of links
        raise RowProblem(Reason.BAD_FILE, f"{name:.200}: cannot be read: {exc}") from exc
    if allowed is Attachments.BESIDE_INPUT and not is_beside:
        raise RowProblem(
            Reason.BAD_FILE,
            f"{name:.200}: is not beside the input or below; if the rows are yours, say"
            ' attachments = "anywhere"',
        )
    return path


def _too_large(name: str, size: int, most: int) -> RowProblem:
    words = f"{name:.200}: has {size:,} bytes; {most:,} is the most"
    return RowProblem(Reason.FILE_TOO_LARGE, words)


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
        raise _too_large(name, max(status.st_size, len(data)), most)
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
    """Refuse an image longer than the API takes, where its header tells."""
    sides = sides_of(data, media_type)
    if sides is not None and max(sides) > MAX_SIDE_PIXELS:
        raise RowProblem(
            Reason.FILE_TOO_LARGE,
            f"{name:.200}: is {sides[0]} x {sides[1]} pixels; {MAX_SIDE_PIXELS} is the most",
        )

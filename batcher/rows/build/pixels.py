"""How large an image is, told by its header alone: nothing is decoded."""

from typing import Final

_STARTS: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # of a frame, in JPEG
_ALONE: Final = {0x01, *range(0xD0, 0xD9)}  # markers that no length follows


def sides_of(data: bytes, media_type: str) -> tuple[int, int] | None:
    """Width and height in pixels; `None` where the header does not tell."""
    match media_type:
        case "image/png":
            return _numbers(data[16:20], data[20:24], "big")
        case "image/gif":
            return _numbers(data[6:8], data[8:10], "little")
        case "image/jpeg":
            return _of_jpeg(data)
        case "image/webp":
            return _of_webp(data)
        case _:
            return None


def _numbers(width: bytes, height: bytes, order: str) -> tuple[int, int]:
    is_big = order == "big"
    return (
        int.from_bytes(width, "big" if is_big else "little"),
        int.from_bytes(height, "big" if is_big else "little"),
    )


def _of_jpeg(data: bytes) -> tuple[int, int] | None:
    """From segment to segment, up to the first that starts a frame."""
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in _STARTS:
            return _numbers(data[at + 7 : at + 9], data[at + 5 : at + 7], "big")
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    return None


def _of_webp(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = _numbers(data[24:27], data[27:30], "little")
        return width + 1, height + 1
    if chunk == b"VP8L" and data[20:21] == b"\x2f":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = _numbers(data[26:28], data[28:30], "little")
        return width & 0x3FFF, height & 0x3FFF
    return None

"""The files of lifeboats: ours alone, locked while they are written, durable when they go.

    magic, frame, frame, …        the first frame is the header, the others settlements
    frame = length (4 bytes), CRC-32 (4 bytes, continued from the frame before), payload

The room that was reserved and not used is zeros. A frame that was being written when the power
failed has a wrong checksum or is cut: it and what follows are not there.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from batcher.errors import SchemaVersionError
from batcher.ledger.write.corrections import without_offending_values
from batcher.ledger.write.records import RowFailure, Scope, Settlement
from batcher.messages.answer import Store
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.request import (
    Answered,
    Attempt,
    NotSent,
    Partial,
    Rejected,
    State,
    Unknown,
    Unusable,
)
from batcher.pricing.rate.rating import Charge

FORMAT: Final = 1
MAGIC: Final = b"batcher lifeboat\n"
_HEAD: Final = struct.Struct("<II")
_OUTCOMES: Final[dict[str, type[Any]]] = {
    kind.__name__: kind for kind in (Answered, NotSent, Partial, Rejected, Unknown, Unusable)
}


class LifeboatHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Whose settlements these are. `written_at` is microseconds UTC, `cause` a sentence."""

    database_uid: str
    scope: Scope
    written_at: int
    cause: str
    store: Store
    format: int = FORMAT


class _Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A `Settlement` whose outcome says of which kind it is; without the request's bytes."""

    kind: str
    outcome: msgspec.Raw
    attempt: Attempt
    state: State
    pending: bool
    cost_low: int
    cost_high: int | None
    charges: tuple[Charge, ...]
    final: bool
    joined_content: str | None
    joined_text: str | None
    failure: RowFailure | None
    valid: bool | None
    invalid_reason: str | None


_CARRIED: Final = tuple(
    name for name in _Packed.__struct_fields__ if name not in {"kind", "outcome"}
)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a lifeboat holds. `header` is `None` when not even that was written.

    `cut` tells that something follows the last whole frame which is no whole frame.
    """

    header: LifeboatHeader | None
    settlements: Sequence[Settlement]
    cut: bool


def pack_header(header: LifeboatHeader) -> bytes:
    """The payload of the first frame."""
    return msgspec.msgpack.encode(header)


def pack(settlement: Settlement) -> bytes:
    """The payload of one settlement; what no database could store is mended as it would be."""
    try:
        return _pack(settlement)
    except CODEC_ERRORS:
        return _pack(without_offending_values(settlement))


def unpack(payload: bytes) -> Settlement:
    """The settlement that `pack` packed, without the request's bytes."""
    packed = msgspec.msgpack.decode(payload, type=_Packed)
    outcome = msgspec.msgpack.decode(packed.outcome, type=_OUTCOMES[packed.kind])
    return Settlement(outcome=outcome, **{name: getattr(packed, name) for name in _CARRIED})


def frame(payload: bytes, before: int) -> tuple[bytes, int]:
    """The bytes of one frame, and its checksum; `before` is that of the frame before."""
    checksum = zlib.crc32(payload, before)
    return _HEAD.pack(len(payload), checksum) + payload, checksum


def read_frames(text: bytes) -> Contents:
    """Understand the bytes of a lifeboat.

    Raises:
        SchemaVersionError: a newer program wrote it.
    """
    if not text.startswith(MAGIC):
        return Contents(None, (), cut=bool(text.strip(b"\0")))
    payloads, cut = _payloads(text)
    if not payloads:
        return Contents(None, (), cut=cut)
    try:
        header = _header(payloads[0])
        return Contents(header, [unpack(payload) for payload in payloads[1:]], cut=cut)
    except (*CODEC_ERRORS, KeyError) as error:
        raise SchemaVersionError(
            f"this lifeboat was written by another version of the program ({error})"
        ) from error


def _header(payload: bytes) -> LifeboatHeader:
    found = msgspec.msgpack.decode(payload).get("format")
    if found != FORMAT:
        raise SchemaVersionError(
            f"this lifeboat has the format {found}, and this program knows {FORMAT}"
        )
    return msgspec.msgpack.decode(payload, type=LifeboatHeader)


def _payloads(text: bytes) -> tuple[list[bytes], bool]:
    """All whole frames, and whether anything but zeros follows them."""
    found, place, checksum = [], len(MAGIC), 0
    while place + _HEAD.size <= len(text):
        length, expected = _HEAD.unpack_from(text, place)
        payload = text[place + _HEAD.size : place + _HEAD.size + length]
        if not length or len(payload) < length or zlib.crc32(payload, checksum) != expected:
            break
        found.append(payload)
        checksum = expected
        place += _HEAD.size + length
    return found, bool(text[place:].strip(b"\0"))


def _pack(settlement: Settlement) -> bytes:
    attempt = settlement.attempt
    bare = replace(attempt, body=b"", request=replace(attempt.request, body=b""))
    fields = {name: getattr(settlement, name) for name in _CARRIED} | {"attempt": bare}
    outcome = settlement.outcome
    packed = _Packed(
        kind=type(outcome).__name__,
        outcome=msgspec.Raw(msgspec.msgpack.encode(outcome)),
        **fields,
    )
    return msgspec.msgpack.encode(packed)


OF_ANOTHER: Final = "it belongs to another ledger, which had this name before; move it away"
OF_ANOTHER_HISTORY: Final = (
    "it belongs to another history of this ledger, such as that before a backup was put back;"
    " move it away to go on without its answers"
)


@contextmanager
def held(path: Path) -> Iterator[Contents | None]:
    """The contents of a lifeboat that is nobody else's now; `None` while its run still writes.

    Raises `SchemaVersionError` when a newer program wrote it, `OSError` when it is unreadable.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield read_frames(path.read_bytes())
    finally:
        os.close(descriptor)


def remove_durably(path: Path) -> None:
    """Remove a file so that a power cut does not bring it back."""
    with suppress(OSError):
        path.unlink()
        sync_folder(path.parent)


def create_locked(path: Path) -> int:
    """A new file of ours alone, locked until it is closed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def sync_folder(folder: Path) -> None:
    """Make what was made, renamed or removed in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

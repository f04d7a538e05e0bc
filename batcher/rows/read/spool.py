"""Standard input, kept: retries and the next invocation must be able to read it again."""

import contextlib
import sys
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

from batcher.errors import CannotCreate, StorageError

_BLOCK_BYTES: Final = 1 << 20
# What a file starts with when its kind can be told; everything else is taken for JSON lines.
_MAGIC: Final = {
    b"PAR1": ".parquet",
    b"\x1f\x8b": ".jsonl.gz",
    b"\x28\xb5\x2f\xfd": ".jsonl.zst",
    b"BZh": ".jsonl.bz2",
}


def spool_stdin(folder: Path, stdin: BinaryIO | None = None) -> Path:
    """The file in `folder` that holds all of standard input, readable by its owner only.

    Its name is made of its content: the same input gives the same file, untouched. Raises
    `CannotCreate` when the folder cannot be written, `StorageError` when the disk is full.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(dir=folder, prefix=".stdin-", delete=False)  # noqa: SIM115 - outlives the block, is renamed
    except OSError as exc:
        raise CannotCreate(
            f"{folder}: standard input cannot be kept there: {exc.strerror}"
        ) from exc
    temporary = Path(file.name)
    try:
        with file:
            name = _copy(stdin or sys.stdin.buffer, file)
        target = folder / name
        if target.exists():
            temporary.unlink()
        else:
            temporary.rename(target)
    except OSError as exc:
        raise StorageError(
            f"{folder}: standard input cannot be kept there: {exc.strerror}"
        ) from exc
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return target


def _copy(stdin: BinaryIO, file: "tempfile._TemporaryFileWrapper[bytes]") -> str:
    digest = blake2b(digest_size=16)
    start = b""
    while block := stdin.read(_BLOCK_BYTES):
        start = start or block[:8]
        digest.update(block)
        file.write(block)
    file.flush()
    suffix = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), ".jsonl")
    return f"stdin-{digest.hexdigest()}{suffix}"

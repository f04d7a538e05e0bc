"""Rows that come without a file become one: retries and later runs must read them again.

Its name is made of its content: the same rows give the same file, untouched. Only its owner can
read it.
"""

import contextlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

import msgspec

from batcher.errors import CannotCreate, StorageError, UsageError

_BLOCK_BYTES: Final = 1 << 20
_GROUP_ROWS: Final = 20_000
# What a file starts with when its kind can be told; everything else is taken for JSON lines.
MAGIC: Final = {
    b"PAR1": ".parquet",
    b"\x1f\x8b": ".jsonl.gz",
    b"\x28\xb5\x2f\xfd": ".jsonl.zst",
    b"BZh": ".jsonl.bz2",
}
_STDIN: Final = "stdin"
_ROWS: Final = "rows"
_NAME: Final = re.compile(rf"({_STDIN}|{_ROWS})-[0-9a-f]{{32}}\.")


def is_spooled(path: Path) -> bool:
    """Whether it is a file of rows that came without one: they lie beside nothing of theirs."""
    return _NAME.match(path.name) is not None


def spool_stdin(folder: Path, stdin: BinaryIO | None = None) -> Path:
    """The file in `folder` that holds all of standard input.

    Raises `CannotCreate` when the folder cannot be written, `StorageError` when the disk is
    full.
    """

    def copy(file: IO[bytes]) -> None:
        source = stdin or sys.stdin.buffer
        while block := source.read(_BLOCK_BYTES):
            file.write(block)

    return _spool(folder, _STDIN, copy, "standard input")


def spool_rows(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """The file in `folder` that holds `rows` as JSON lines; raises like `spool_stdin`.

    Raises `UsageError` for a row that is no mapping, or holds what JSON cannot say.
    """

    def write(file: IO[bytes]) -> None:
        encoder = msgspec.json.Encoder(enc_hook=_plain)
        for number, row in enumerate(rows, 1):
            file.write(_line(encoder, number, row) + b"\n")

    return _spool(folder, _ROWS, write, "rows")


def spool_table(folder: Path, table: Any) -> Path:  # noqa: ANN401 - of whatever library
    """The file in `folder` that holds a table of Arrow, pandas or their like as Parquet.

    Raises like `spool_stdin`, and `UsageError` for a column that Parquet cannot hold.
    """
    import pyarrow as pa  # noqa: PLC0415 - rarely needed
    from pyarrow import parquet as pq  # noqa: PLC0415 - as above

    def write(file: IO[bytes]) -> None:
        try:
            reader = _reader(table)
            with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
                for batch in reader:
                    writer.write_batch(batch, row_group_size=_GROUP_ROWS)
        except (pa.ArrowException, TypeError, ValueError) as exc:
            if "non-struct" in str(exc):
                kind = type(table).__name__
                raise UsageError(
                    f"{kind} is one column: give a table, as to_frame() makes"
                ) from exc
            raise UsageError(
                f"the table cannot be kept as Parquet ({exc}): change that column, or give its"
                " rows as dicts"
            ) from exc

    return _spool(folder, _ROWS, write, "rows")


def is_table(rows: object) -> bool:
    """Whether `spool_table` takes it: what hands its columns on as Arrow, or a DataFrame."""
    return hasattr(rows, "__arrow_c_stream__") or _is_pandas(rows)


def _is_pandas(rows: object) -> bool:
    return type(rows).__module__.split(".")[0] == "pandas" and hasattr(rows, "columns")


def _reader(table: Any) -> Any:  # noqa: ANN401 - pyarrow has no stubs
    import pyarrow as pa  # noqa: PLC0415 - see above

    if _is_pandas(table):
        return _from_pandas(table).to_reader()
    reader = pa.RecordBatchReader.from_stream(table)
    if not any(map(_has_categories_of_polars, reader.schema)):
        return reader
    schema = pa.schema([_without_categories(field) for field in reader.schema])
    batches = (
        pa.record_batch([_plain_column(each) for each in batch.columns], schema=schema)
        for batch in reader
    )
    return pa.RecordBatchReader.from_batches(schema, batches)


def _has_categories_of_polars(field: Any) -> bool:  # noqa: ANN401 - as above
    """They are what Parquet cannot hold: a dictionary of views."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    kind = field.type
    return pa.types.is_dictionary(kind) and bool(pa.types.is_string_view(kind.value_type))


def _without_categories(field: Any) -> Any:  # noqa: ANN401 - as above
    import pyarrow as pa  # noqa: PLC0415 - see above

    return field.with_type(pa.large_string()) if _has_categories_of_polars(field) else field


def _plain_column(column: Any) -> Any:  # noqa: ANN401 - as above
    import pyarrow as pa  # noqa: PLC0415 - see above

    if not _has_categories_of_polars(column):
        return column
    return column.dictionary.cast(pa.large_string()).take(column.indices)


def _from_pandas(frame: Any) -> Any:  # noqa: ANN401 - as above
    """Without its index; a column of many kinds of values becomes JSON, which rows may be."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    names = [str(name) for name in frame.columns]  # one that is there twice is told as in files
    columns = [_column_of_pandas(frame.iloc[:, place]) for place in range(len(names))]
    return pa.Table.from_arrays(columns, names=names)


def _column_of_pandas(column: Any) -> Any:  # noqa: ANN401 - as above
    import pyarrow as pa  # noqa: PLC0415 - see above

    try:
        found = pa.Array.from_pandas(column)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array(map(_json_text, column), pa.string())
    kind = found.type.value_type if pa.types.is_dictionary(found.type) else found.type
    if isinstance(kind, pa.BaseExtensionType):  # periods and intervals: numbers of their own
        return pa.array(
            (None if _is_missing(each) else str(each) for each in column), pa.string()
        )
    return found


def _json_text(value: object) -> str | None:
    # what pandas calls missing: None, NaN, NaT and NA, none of which equals itself
    if value is None or (not isinstance(value, list | dict | str) and _is_missing(value)):
        return None
    return msgspec.json.encode(value, enc_hook=_plain).decode()


def _is_missing(value: object) -> bool:
    try:
        return not bool(value == value)  # noqa: PLR0124 - see above
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def _line(encoder: msgspec.json.Encoder, number: int, row: object) -> bytes:
    if not isinstance(row, Mapping):
        raise UsageError(
            f"row {number} is of type {type(row).__name__}: give each row as a dict"
        )
    try:
        return encoder.encode(dict(row))
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(f"row {number} cannot be written as JSON: {exc}") from exc


def _plain(value: Any) -> Any:  # noqa: ANN401 - of whatever library
    """Numbers and lists of other libraries as Python's own."""
    if hasattr(value, "tolist"):  # numpy's
        is_short = str(getattr(value, "dtype", "")) in {"float32", "float16"}
        return (value.astype(str).astype("float64") if is_short else value).tolist()
    if _is_missing(value):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")


def _spool(folder: Path, kind: str, fill: Callable[[IO[bytes]], None], what: str) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(dir=folder, prefix=f".{kind}-", delete=False)  # noqa: SIM115 - outlives the block, is renamed
    except OSError as exc:
        raise CannotCreate(f"{folder}: {what} cannot be kept there: {exc.strerror}") from exc
    temporary = Path(file.name)
    try:
        with file:
            fill(file.file)
        target = folder / _name_of(temporary, kind)
        if target.exists():
            temporary.unlink()
        else:
            temporary.rename(target)
    except OSError as exc:
        raise StorageError(f"{folder}: {what} cannot be kept there: {exc.strerror}") from exc
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return target


def _name_of(path: Path, kind: str) -> str:
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        start = file.read(8)
        digest.update(start)
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    suffix = next(
        (known for magic, known in MAGIC.items() if start.startswith(magic)), ".jsonl"
    )
    return f"{kind}-{digest.hexdigest()}{suffix}"

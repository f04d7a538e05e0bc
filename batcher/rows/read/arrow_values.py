"""From Arrow columns to JSON values, by one rule per type (docs/rows.md lists them)."""

import struct
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, Final
from uuid import UUID

import pyarrow as pa

from batcher.messages.codec import broken_utf8
from batcher.rows.batch import Reason, RowProblem

INTEGER_BYTES: Final = 16  # of the widest integers
Binary = Callable[[bytes], Any]
Convert = Callable[[Any], Any] | None  # None: the value is JSON already


def as_text(value: bytes) -> str:
    """Bytes as the text that they are; raises `ValueError` for others."""
    return value.decode()


def as_bytes(value: bytes) -> bytes:
    """Bytes as they are, for what is no JSON."""
    return value


def as_text_or_base64(value: bytes) -> str:
    """Bytes as the text that they are, else in base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64encode(value).decode()


def as_interval(value: bytes) -> str:
    """Parquet's INTERVAL, months, days and milliseconds, as ISO 8601 has it."""
    months, days, milliseconds = struct.unpack("<3I", value)
    seconds = Decimal(milliseconds).scaleb(-3).normalize()
    return f"P{months}M{days}DT{seconds:f}S"


def as_integer(value: bytes) -> int:
    """An integer of 128 bits; raises `RowProblem` where it is below zero or beyond 127 bits.

    That is all one: whether the column has a sign is not told in what can be read of the file.
    """
    number = int.from_bytes(value, "little")
    if number >> (8 * INTEGER_BYTES - 1):
        words = "holds an integer of 128 bits with its highest one set; cast the column to text"
        raise RowProblem(Reason.BAD_VALUE, words)
    return number


def column_cells(name: str, column: pa.Array, binary: Binary = as_text) -> list[Any]:
    """The values of a column; a `RowProblem` takes the place of each that JSON cannot hold.

    A null is `None`; inside a struct it is left out. `binary` makes something of bytes.
    """
    wanted = _plain_type(column.type)
    if wanted != column.type:
        column = column.cast(wanted, safe=False)
    convert = _converter(column.type, binary)
    try:
        values = column.to_pylist()
        return (
            [None if value is None else convert(value) for value in values]
            if convert
            else values
        )
    except (RowProblem, ValueError, OverflowError):
        return [_cell(name, column.slice(n, 1), convert) for n in range(len(column))]


def with_texts_as_bytes(column: pa.Array) -> pa.Array:
    """The same column with bytes where it has texts: these may hold what is not UTF-8."""
    return column.cast(_bytes_type(column.type))


def _cell(name: str, alone: pa.Array, convert: Convert) -> object:
    """The value of a column that holds it alone."""
    try:
        value = alone[0].as_py()
        return convert(value) if convert and value is not None else value
    except RowProblem as problem:
        return RowProblem(problem.reason, f"column {name!r} {problem.message}")
    except (ValueError, OverflowError) as exc:
        if broken := _broken_text(alone):
            return RowProblem(
                Reason.BAD_UNICODE, f"column {name!r} is not valid UTF-8: {broken}"
            )
        return RowProblem(Reason.BAD_VALUE, f"column {name!r} cannot be read: {exc}")


def _broken_text(alone: pa.Array) -> str | None:
    """What is wrong with the first text in there that is not UTF-8, if one is not."""
    try:
        parts = with_texts_as_bytes(alone).to_pylist()
    except (pa.ArrowException, ValueError, OverflowError):
        return None
    while parts:
        match parts.pop(0):
            case bytes() as text if broken := broken_utf8(text):
                return broken
            case dict() as fields:
                parts += fields.values()
            case list() | tuple() as values:
                parts += values
            case _:
                pass
    return None


def _bytes_type(kind: pa.DataType) -> pa.DataType:
    for is_text, as_bytes in _TEXTS:
        if is_text(kind):
            return as_bytes()
    for is_nested, of_bytes in _NESTED:
        if is_nested(kind):
            return of_bytes(kind)
    return kind


def _bytes_field(field: pa.Field) -> pa.Field:
    return field.with_type(_bytes_type(field.type))


def _is_extension(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType)


_NESTED: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], pa.DataType]], ...] = (
    (pa.types.is_struct, lambda kind: pa.struct([_bytes_field(field) for field in kind])),
    (pa.types.is_list, lambda kind: pa.list_(_bytes_field(kind.value_field))),
    (pa.types.is_large_list, lambda kind: pa.large_list(_bytes_field(kind.value_field))),
    (pa.types.is_list_view, lambda kind: pa.list_(_bytes_field(kind.value_field))),
    (pa.types.is_large_list_view, lambda kind: pa.large_list(_bytes_field(kind.value_field))),
    (
        pa.types.is_fixed_size_list,
        lambda kind: pa.list_(_bytes_field(kind.value_field), kind.list_size),
    ),
    (
        pa.types.is_map,
        lambda kind: pa.map_(_bytes_type(kind.key_type), _bytes_field(kind.item_field)),
    ),
    (
        pa.types.is_dictionary,
        lambda kind: pa.dictionary(kind.index_type, _bytes_type(kind.value_type)),
    ),
    (_is_extension, lambda kind: _bytes_type(kind.storage_type)),
)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type with times in microseconds UTC: Python's own have no nanoseconds."""
    return next((plain(kind) for test, plain in _PLAIN if test(kind)), kind)


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain_type(field.type))


def _is_large_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind))


def _converter(kind: pa.DataType, binary: Binary) -> Convert:
    if pa.types.is_dictionary(kind):
        return _converter(kind.value_type, binary)
    if pa.types.is_struct(kind):
        return _struct({field.name: _converter(field.type, binary) for field in kind})
    if pa.types.is_map(kind):
        return _map(_converter(kind.item_type, binary))
    if _is_list(kind):
        return _list(_converter(kind.value_type, binary))
    if _is_binary(kind):
        return binary
    return next((convert for test, convert in _RULES if test(kind)), _refuse)


def _is_list(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
    )
    return any(test(kind) for test in tests)


def _struct(converters: dict[str, Convert]) -> Convert:
    def convert(value: dict[str, Any]) -> dict[str, Any]:
        return {
            name: inner(value[name]) if (inner := converters[name]) else value[name]
            for name in value
            if value[name] is not None
        }

    return convert


def _map(inner: Convert) -> Convert:
    def convert(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        return {
            str(name): inner(value) if inner and value is not None else value
            for name, value in pairs
        }

    return convert


def _list(inner: Convert) -> Convert:
    if inner is None:
        return None
    return lambda values: [None if value is None else inner(value) for value in values]


def _finite(value: float) -> float:
    if not isfinite(value):
        raise RowProblem(Reason.BAD_NUMBER, f"holds {value}, which JSON has not")
    return value


def _shortest(value: float, size: str) -> float:
    """The number with the fewest digits that is stored as `value` in that size.

    0.1 is kept in 32 bits as 0.10000000149…, and nobody wrote that.
    """
    _finite(value)
    for digits in range(3, 10):
        short = float(f"{value:.{digits}g}")
        with suppress(OverflowError):  # rounded beyond the largest
            if struct.unpack(size, struct.pack(size, short))[0] == value:
                return short
    return value


def _decimal(value: Decimal) -> int | str:
    """Exact: an integer where the type has no fraction, else the decimal text."""
    exponent = value.as_tuple().exponent
    return int(value) if isinstance(exponent, int) and exponent >= 0 else format(value, "f")


def _moment(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _duration(value: timedelta) -> str:
    """ISO 8601, in seconds: exact, whatever the unit was, down to the microsecond."""
    seconds, rest = divmod(value // timedelta(microseconds=1), 1_000_000)
    if seconds < 0 and rest:
        seconds, rest, sign = -seconds - 1, 1_000_000 - rest, "-"
    else:
        seconds, sign = abs(seconds), "-" if seconds < 0 else ""
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    return f"{sign}PT{seconds}{fraction}S"


def _extension(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value


def _refuse(value: object) -> object:
    raise RowProblem(Reason.BAD_VALUE, f"holds a {type(value).__name__}, which JSON has not")


def _is_text(kind: pa.DataType) -> bool:
    return any(is_text(kind) for is_text, _ in _TEXTS)


def _is_binary(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        pa.types.is_binary_view,
    )
    return any(test(kind) for test in tests)


_TEXTS = (
    (pa.types.is_string, pa.binary),
    (pa.types.is_large_string, pa.large_binary),
    (pa.types.is_string_view, pa.binary_view),
)
_RULES: tuple[tuple[Callable[[pa.DataType], bool], Convert], ...] = (
    (_is_text, None),
    (pa.types.is_integer, None),
    (pa.types.is_boolean, None),
    (pa.types.is_null, None),
    (pa.types.is_float16, lambda value: _shortest(value, "e")),
    (pa.types.is_float32, lambda value: _shortest(value, "f")),
    (pa.types.is_floating, _finite),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_timestamp, _moment),
    (pa.types.is_date, lambda value: value.isoformat()),
    (pa.types.is_time, lambda value: value.isoformat()),
    (pa.types.is_duration, _duration),
    (_is_extension, _extension),
)

_PLAIN: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], pa.DataType]], ...] = (
    (pa.types.is_timestamp, lambda kind: pa.timestamp("us", tz="UTC" if kind.tz else None)),
    (pa.types.is_time64, lambda _: pa.time64("us")),
    (pa.types.is_duration, lambda _: pa.duration("us")),
    (pa.types.is_struct, lambda kind: pa.struct([_plain_field(field) for field in kind])),
    (
        pa.types.is_map,
        lambda kind: pa.map_(_plain_type(kind.key_type), _plain_field(kind.item_field)),
    ),
    (_is_large_list, lambda kind: pa.large_list(_plain_field(kind.value_field))),
    # also those of a fixed size: it says nothing about a value
    (_is_list, lambda kind: pa.list_(_plain_field(kind.value_field))),
)

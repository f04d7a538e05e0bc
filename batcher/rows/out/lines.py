"""Rows as JSON lines: those with the same columns have their names encoded once."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

# A row's own columns, and its cells of the declared ones, none of which it has itself.
WrittenRow = tuple[Mapping[str, Any], Sequence[Any]]

_ENCODER: Final = msgspec.json.Encoder()
_MOST_KINDS: Final = 64  # of rows, by their columns; the others are encoded name by name


class JsonLines:
    """Makes lines of rows: their own columns, then those that are `declared`."""

    def __init__(self, declared: Sequence[str]) -> None:
        self._declared = tuple(declared)
        self._kinds: dict[tuple[str, ...], type[msgspec.Struct] | None] = {}

    def encode(self, rows: Sequence[WrittenRow]) -> bytes:
        """A line for each of the rows, each with its line feed."""
        return _ENCODER.encode_lines([self._line(own, cells) for own, cells in rows])

    def _line(self, own: Mapping[str, Any], cells: Sequence[Any]) -> object:
        names = tuple(own)
        if names not in self._kinds and len(self._kinds) < _MOST_KINDS:
            self._kinds[names] = _kind((*names, *self._declared))
        kind = self._kinds.get(names)
        if kind is not None:
            return kind(*own.values(), *cells)
        return {**own, **dict(zip(self._declared, cells, strict=True))}


def _kind(names: Sequence[str]) -> type[msgspec.Struct] | None:
    """Of rows with these columns; `None` where one of the names takes escapes in JSON."""
    fields = {f"field_{number}": name for number, name in enumerate(names)}
    try:
        return msgspec.defstruct("Line", [(each, Any) for each in fields], rename=fields)
    except ValueError:
        return None

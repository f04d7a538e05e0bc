"""What is wrong with a settings file, in its own words, and what was probably meant."""

import re
from collections.abc import Iterator

import msgspec
from msgspec import inspect

from batcher.errors import did_you_mean, plain_words

_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_WORD = re.compile(r"Invalid enum value (.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)


def explained(error: msgspec.ValidationError, kind: type, prefix: str = "") -> str:
    """One sentence; `kind` is what was read, `prefix` stands before the name of a variable."""
    message = str(error)
    if unknown := _UNKNOWN.fullmatch(message):
        name, where = unknown[1], unknown[2] or ""
        return plain_words(message, prefix) + did_you_mean(name, _fields(kind, where))
    if word := _WORD.fullmatch(message):
        where = word[2] or ""
        value, known = word[1].strip("'"), list(_words(kind, where))
        shown = f"{prefix}{where.upper()} ({where})" if prefix else where
        allowed = " or ".join(filter(None, [", ".join(known[:-1]), *known[-1:]]))
        return f"{shown} is {value!r}, not {allowed}{did_you_mean(value, known)}"
    return plain_words(message, prefix)


def _fields(kind: type, where: str) -> list[str]:
    """The names that the table at `where` may have."""
    return [
        field.encode_name
        for each in _at(kind, where)
        if isinstance(each, inspect.StructType)
        for field in each.fields
    ]


def _words(kind: type, where: str) -> Iterator[str]:
    """The words that the setting at `where` may be."""
    for each in _at(kind, where):
        if isinstance(each, inspect.EnumType):
            yield from (str(word.value) for word in each.cls)
        elif isinstance(each, inspect.LiteralType):
            yield from map(str, each.values)


def _at(kind: type, where: str) -> list[inspect.Type]:
    """The types that may stand at a path of msgspec's, like `endpoints[...].auth`."""
    types = _alternatives(inspect.type_info(kind))
    for part in re.findall(r"\w+|\[\.\.\.\]", where):
        types = [inside for each in types for inside in _inside(each, part)]
    return types


def _inside(outer: inspect.Type, part: str) -> list[inspect.Type]:
    if isinstance(outer, inspect.DictType) and part == "[...]":
        return _alternatives(outer.value_type)
    if isinstance(outer, inspect.StructType):
        return [
            inside
            for field in outer.fields
            if field.encode_name == part
            for inside in _alternatives(field.type)
        ]
    return []


def _alternatives(outer: inspect.Type) -> list[inspect.Type]:
    return list(outer.types) if isinstance(outer, inspect.UnionType) else [outer]

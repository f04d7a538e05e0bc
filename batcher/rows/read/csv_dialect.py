"""How a CSV file is written, told by its beginning: its delimiter and its encoding."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from batcher.rows.batch import InputBroken
from batcher.rows.read.lines import read_blocks
from batcher.rows.read.source import SourceFile

_SAMPLE_BYTES: Final = 64 * 1024
_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ENCODINGS: Final = {"utf-16": "text in UTF-16", "cp1252": "text in Windows-1252"}
_SEP_LINE: Final = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_QUOTED: Final = re.compile(r'"[^"]*"?')
_UTF8: Final = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")  # seldom anything else
_HIGH: Final = re.compile(rb"[\x80-\xff]")
# A letter of Western Europe beside another letter, one that is a word (à, è, ó, å), or the
# marks that typewriters lack.
_WESTERN: Final = re.compile(
    rb"(?<=[A-Za-z\xc0-\xff])[\xc0-\xff]|[\xc0-\xff](?=[A-Za-z\xc0-\xff])"
    rb"|[\xc0\xc1\xc5\xc8\xc9\xd2\xd3\xd6\xd8\xda\xe0\xe1\xe5\xe8\xe9\xf2\xf3\xf6\xf8\xfa]"
    rb"|[\x80\x82-\x8c\x8e\x91-\x9c\x9e\x9f\xa0-\xbf]"
)
# Words of Cyrillic, Greek or Hebrew, and letters of DOS: marks of Windows stand between words.
_FOREIGN: Final = re.compile(rb"[\xc0-\xff]{4}|[A-Za-z][\x82-\x84\x86-\x89\x8b]+[a-z]")


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """What stands between cells, how letters are encoded, whether a line `sep=` is first."""

    delimiter: str = ","
    encoding: str = "utf-8"
    has_sep_line: bool = False

    @property
    def has_offsets(self) -> bool:
        """Whether the places of records are known in bytes of the file."""
        return self.encoding != "utf-16"

    @property
    def note(self) -> str:
        """What is special about it, empty for commas and UTF-8."""
        named = _DELIMITERS.get(self.delimiter, repr(self.delimiter))
        parts = [f"cells between {named}"] if self.delimiter != "," else []
        if self.encoding != "utf-8":
            parts.append(_ENCODINGS[self.encoding])
        return ", ".join(parts)


def dialect_of(source: SourceFile) -> CsvDialect:
    """The dialect of a CSV file, by its first 64 kB; raises `StorageError`."""
    sample = b""
    try:
        for block in read_blocks(source):
            sample += block
            if len(sample) >= _SAMPLE_BYTES:
                break
    except InputBroken:
        pass  # reading tells where
    return dialect_of_sample(sample[:_SAMPLE_BYTES])


def dialect_of_sample(sample: bytes) -> CsvDialect:
    """The dialect of a file that begins so."""
    encoding = _encoding(sample)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    text = text.removeprefix("\ufeff")
    if found := _SEP_LINE.match(text):
        return CsvDialect(found[1], encoding, has_sep_line=True)
    header = _QUOTED.sub("", text.partition("\n")[0])
    delimiter = max(_DELIMITERS, key=header.count)  # the first of those that are as many
    return CsvDialect(delimiter, encoding)


def as_utf8(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """UTF-16 as UTF-8; halves of pairs and a cut end become what is no character."""
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def _encoding(sample: bytes) -> str:
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        others = len(_HIGH.findall(sample)) - len(_WESTERN.findall(sample))
        others += len(_FOREIGN.findall(sample))
        return "utf-8" if others or _UTF8.search(sample) else "cp1252"
    return "utf-8"

"""Where output may go, and in which form: never onto an input, a ledger or what is beside one.

Whatever writes a file that somebody named asks a `Guard` before, and again before it puts the
file in place. A file is known by its number on its disk, so that links do not hide it, and by
its name, so that no ledger finds a strange file where it will look for its own. What others
wrote, and a terminal or a spreadsheet would obey, is shown there instead.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batcher.errors import CannotCreate

SQLITE: Final = b"SQLite format 3\0"
_WAL: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_ROLLBACK: Final = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
_LIFEBOAT: Final = b"batcher lifeboat\n"
_LEDGER_BEGINNINGS: Final = (SQLITE, *_WAL, _ROLLBACK, _LIFEBOAT)
_ENDINGS: Final = ("-wal", "-shm", "-journal", ".lock")
_BESIDE: Final = re.compile(
    rf"(.+?)(?:{'|'.join(map(re.escape, _ENDINGS))}|\.(?:lifeboat|ballast)-\d+)", re.DOTALL
)
_ELSEWHERE: Final = re.compile(r"batcher-[0-9a-f]+\.(?:lifeboat|ballast)-\d+")
# Names of what is open already; there is no folder in which another file could replace it.
_OPENED: Final = re.compile(r"/dev/(?:std(?:out|err)|fd/\d+)|/proc/.*/fd/\d+")


_AN_INPUT: Final = (
    "an input of a run in this database, and such a file is never replaced: name another file,"
    " or another --database for the run that writes it"
)
_NOT_OURS: Final = (
    "there already, and batcher did not write it in this form; name another file, or replace"
    " it with --force"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What no output may replace: `inputs` of runs, and `ledgers` with all that is beside them.

    `stored_inputs` are the addresses of those in object stores. `was_read` tells an input that
    has another name or place by now. Any other SQLite database is taken for a ledger, too.
    `force`: another file may be replaced, though this program did not write it.
    """

    inputs: tuple[Path, ...] = ()
    stored_inputs: tuple[str, ...] = ()
    ledgers: tuple[Path, ...] = ()
    force: bool = False
    was_read: Callable[[Path], bool] = lambda _: False

    def check(self, target: Path) -> None:
        """Nothing where a file of that name may be written, or appended to.

        Raises:
            CannotCreate: it is an input or belongs to a ledger.
        """
        if what := self._taken(target):
            raise CannotCreate(f"{target}: is {what}")

    def check_replaceable(self, target: Path, is_ours: Callable[[Path], bool]) -> None:
        """As `check`, for a file that is replaced whole: it must be empty, or `is_ours`.

        Raises:
            CannotCreate: it may not be replaced, or not without `force`.
        """
        self.check(target)
        if self.force or not target.is_file() or not target.stat().st_size:
            return
        if not is_ours(target):
            raise CannotCreate(f"{target}: is {_NOT_OURS}")

    def check_stored(self, url: str, is_ours: Callable[[], bool | None]) -> None:
        """As `check_replaceable`, for an object in a store; `is_ours` is `None` for none.

        Raises:
            CannotCreate: it may not be replaced, or not without `force`.
        """
        if url in self.stored_inputs:
            raise CannotCreate(f"{url}: is {_AN_INPUT}")
        if not self.force and is_ours() is False:
            raise CannotCreate(f"{url}: is {_NOT_OURS}")

    def _taken(self, target: Path) -> str | None:
        """What the file is that may not be touched; `None`: nothing of that kind."""
        place = Path(os.path.realpath(target))
        number = _number(place)
        if number is None and place.exists():
            return None  # a device or a pipe
        if any(_is_same(place, number, path) for path in self.inputs):
            return _AN_INPUT
        if any(
            _is_same(place, number, path) for ledger in self.ledgers for path in _family(ledger)
        ):
            return "a ledger, or part of one; name another file"
        if beginning(place, 32).startswith(_LEDGER_BEGINNINGS) or _belongs_to_ledger(place):
            return "a database, or part of one; name another file"
        return _AN_INPUT if number and self.was_read(place) else None


NOTHING_KEPT: Final = Guard()


def beginning(path: Path, size: int) -> bytes:
    """The first bytes of a plain file; none of one that cannot be read."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(size) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    return b""


def never(_place: object) -> bool:
    """The mark of files that carry none: no file that is there is ours for sure."""
    return False


def is_url(name: str) -> bool:
    """Whether the name is an address, not that of a file on this machine."""
    return "://" in name


def is_opened_already(target: Path) -> bool:
    """Whether the name stands for a file that a process holds open, such as /dev/stdout."""
    return _OPENED.fullmatch(str(target)) is not None


def _number(path: Path) -> tuple[int, int] | None:
    """Which plain file it is; `None` where there is none."""
    with suppress(OSError, ValueError):
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            return found.st_dev, found.st_ino
    return None


def _is_same(place: Path, number: tuple[int, int] | None, other: Path) -> bool:
    if number is not None and _number(other) == number:
        return True
    return place.name == other.name and place == Path(os.path.realpath(other))


def _family(ledger: Path) -> Iterator[Path]:
    """The file of a ledger and what is, or would be, beside it."""
    real = Path(os.path.realpath(ledger))
    yield real
    yield from (real.with_name(real.name + end) for end in _ENDINGS)
    with suppress(OSError):
        for path in real.parent.iterdir():
            found = path.name.startswith(real.name) and _BESIDE.fullmatch(path.name)
            if found and found[1] == real.name:
                yield path


def _belongs_to_ledger(place: Path) -> bool:
    """Whether the name says that SQLite, or a run, would take the file for its own."""
    if _ELSEWHERE.fullmatch(place.name):
        return True
    found = _BESIDE.fullmatch(place.name)
    return found is not None and beginning(place.with_name(found[1]), 16) == SQLITE


# What steers a terminal or hides in it: C0 and C1 controls, bidirectional marks, overrides and
# isolates, line separators, characters without a width.
STEERING: Final = (
    "\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
)
_SHOWN: Final = re.compile(f"(?![\t\n])[{STEERING}]")
# As OWASP lists them, in full width too; blanks and invisible signs in front do not make them
# harmless: some spreadsheets take those away.
_FORMULA: Final = re.compile(f"[\t\r\n]|[\\s{STEERING}]*[=+\\-@\uff1d\uff0b\uff0d\uff20]")


def visible(text: str) -> str:
    """`text` with JSON's escapes for what steers a terminal; lines and tabs stay.

    In a JSON document they stand for the same characters.
    """
    if text.isascii() and text.isprintable():
        return text
    return _SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def no_formula(text: str) -> str:
    """`text` as a cell that no spreadsheet runs: an apostrophe goes before a formula."""
    return f"'{text}" if _FORMULA.match(text) else text

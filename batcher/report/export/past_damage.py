"""Reading past what is damaged: all rows that can be read, and those that cannot, by name.

Where a piece cannot be read it is halved until the row is found that hides the damage, and what
follows is read in growing pieces again.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine

from batcher.errors import DamagedDatabase
from batcher.ledger.connect import reading

CHUNK: Final = 300  # rows of a piece at most: these stay in the processor's cache
UNREADABLE: Final = "unreadable"
_UNREADABLE_ROW: Final[Mapping[str, Any]] = {
    "status": UNREADABLE,
    "reason": "DAMAGED_DATABASE",
    "message": "the database is damaged where this row is",
}
_MOST_NAMED: Final = 10

Outcome = tuple[int, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that follow each other; `whole` where none of those that were asked for is left."""

    found: list[Outcome]
    whole: bool


Read = Callable[[Connection, int, int], Piece]


def in_row_order(
    engine: Engine, read: Read, last_row: Callable[[], int | None]
) -> Iterator[Outcome]:
    """What `read` finds of the rows after the one and up to the other that it is given.

    It reads some of them, in order. No transaction stays open between two rows. A
    row that cannot be read comes as one that is `unreadable`. `last_row` is asked when there is
    damage; `None`: nobody knows how many rows there are.

    Raises:
        DamagedDatabase: there is damage, and no last row.
    """
    after, until, end = -1, _NO_END, _NO_END
    while after < end:
        try:
            with reading(engine) as connection:
                piece = read(connection, after, until)
        except DamagedDatabase:
            if end == _NO_END:
                end = until = _known(last_row())
            elif until - after > 1:
                until = after + (until - after) // 2
            else:
                yield until, _UNREADABLE_ROW
                after, until = until, min(until + 1, end)
            continue
        yield from piece.found
        read_to, size = (until if piece.whole else piece.found[-1][0]), until - after
        after, until = read_to, min(read_to + 2 * size, end)


def _known(last: int | None) -> int:
    if last is None:
        raise DamagedDatabase(
            "the database is damaged, and how many rows the input has is not known: put the"
            " input back, or restore a backup of the database"
        )
    return last


def unreadable(row_number: int) -> Outcome:
    """A row that can be read, and is not what was recorded."""
    return row_number, _UNREADABLE_ROW


def named(rows: list[int]) -> str:
    """Row numbers as people read them: `3, 17-40 and 12 more`."""
    ranges: list[list[int]] = []
    for row in rows:
        if ranges and row == ranges[-1][1] + 1:
            ranges[-1][1] = row
        else:
            ranges.append([row, row])
    told = ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in ranges[:_MOST_NAMED])
    more = sum(b - a + 1 for a, b in ranges[_MOST_NAMED:])
    return f"{told} and {more:,} more" if more else told


_NO_END: Final = 2**62

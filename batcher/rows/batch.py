"""What readers hand out: batches of requests and bad rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from batcher.messages.request import BadRow, Request
from batcher.rows.read.source import SourceFile
from batcher.rows.reasons import InputBroken, Reason, RowProblem

BATCH_ROWS: Final = 256
LARGE_BODY_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBatch:
    """What the next rows of a source became, in row order.

    `rows_read` is the number of the last row seen so far, skipped and blank ones too. `skipped`
    counts the rows passed since the last batch because `skip` held them; `blank_rows` are the
    numbers of blank lines since then, which are nothing and never will be.
    """

    items: list[Request | BadRow]
    rows_read: int
    skipped: int = 0
    blank_rows: Sequence[int] = ()


def bad_row(
    source_id: int,
    row_number: int,
    byte_offset: int | None,
    problem: RowProblem,
    custom_id: str | None = None,
) -> BadRow:
    """The bad row that a problem makes of a row."""
    return BadRow(
        source_id=source_id,
        row_number=row_number,
        byte_offset=byte_offset,
        custom_id=custom_id,
        reason=str(problem.reason),
        message=problem.message,
    )


def ends_batch(item: Request | BadRow) -> bool:
    """Whether `item` is so large, with files inside, that its batch should hold no more."""
    return isinstance(item, Request) and len(item.body) > LARGE_BODY_BYTES


def broken_file(source: SourceFile, exc: InputBroken) -> RowProblem:
    """The problem of the row at which a file cannot be read on."""
    return RowProblem(
        Reason.TRUNCATED_FILE,
        f"{source.name}: {exc.args[0]}; this row and what follows it were not read",
    )


def body_bytes(items: Sequence[Request | BadRow]) -> int:
    """The size of all bodies together."""
    return sum(len(item.body) for item in items if isinstance(item, Request))


def is_cut_off(item: Request | BadRow) -> bool:
    """Whether this stands for the rest of a file that could not be read."""
    return isinstance(item, BadRow) and item.reason == Reason.TRUNCATED_FILE

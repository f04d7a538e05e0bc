"""What readers hand out: batches of requests and bad rows, and why a row is bad.

The two exceptions never leave this room: readers turn both into `BadRow`, which is data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from batcher.messages.request import BadRow, Request


class Reason(StrEnum):
    """Reason codes of refused rows; stable, since people filter by them."""

    BAD_JSON = "BAD_JSON"
    BAD_NUMBER = "BAD_NUMBER"
    BAD_UNICODE = "BAD_UNICODE"
    BAD_CSV = "BAD_CSV"
    BAD_VALUE = "BAD_VALUE"  # a Parquet value that no rule can turn into JSON
    BAD_CUSTOM_ID = "BAD_CUSTOM_ID"
    BAD_ROLE = "BAD_ROLE"
    NOT_OBJECT = "NOT_OBJECT"
    TOO_DEEP = "TOO_DEEP"
    TOO_MANY_VALUES = "TOO_MANY_VALUES"
    LINE_TOO_LONG = "LINE_TOO_LONG"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    TRUNCATED_TAIL = "TRUNCATED_TAIL"
    TRUNCATED_FILE = "TRUNCATED_FILE"
    NO_PROMPT = "NO_PROMPT"
    MISNAMED_FIELD = "MISNAMED_FIELD"  # a column that looks like a field and would not be sent
    UNTRANSLATABLE = "UNTRANSLATABLE"  # made for another tool, and cannot be said here
    WRONG_TYPE = "WRONG_TYPE"
    MISSING_MODEL = "MISSING_MODEL"
    MISSING_MAX_TOKENS = "MISSING_MAX_TOKENS"
    TEMPLATE_ERROR = "TEMPLATE_ERROR"
    BAD_FILE = "BAD_FILE"  # a file that the row names is not there, or not of a usable kind
    FILE_TOO_LARGE = "FILE_TOO_LARGE"


MESSAGE_LENGTH = 500


class RowProblem(Exception):  # noqa: N818 - it is what the row has
    """One row cannot be used: a reason code and one sentence for people.

    The code is one of `Reason`, or the id of a pre-flight rule.
    """

    def __init__(self, reason: Reason | str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message.replace("\0", "\ufffd")[:MESSAGE_LENGTH]


class InputBroken(Exception):  # noqa: N818 - it is what the file is
    """The file cannot be read beyond here; the message is a clause that says why."""


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


def broken_file(source_name: str, exc: InputBroken) -> RowProblem:
    """The problem of the row at which a file cannot be read on."""
    return RowProblem(
        Reason.TRUNCATED_FILE,
        f"{source_name}: {exc.args[0]}; this row and what follows it were not read",
    )


def body_bytes(items: Sequence[Request | BadRow]) -> int:
    """The size of all bodies together."""
    return sum(len(item.body) for item in items if isinstance(item, Request))


def is_cut_off(item: Request | BadRow) -> bool:
    """Whether this stands for the rest of a file that could not be read."""
    return isinstance(item, BadRow) and item.reason == Reason.TRUNCATED_FILE

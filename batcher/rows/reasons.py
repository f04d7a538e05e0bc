"""Why a row or a file cannot be used: reason codes, and the two exceptions of this room.

Neither exception leaves it: readers turn both into `BadRow`, which is data.
"""

from enum import StrEnum


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
    LINE_TOO_LONG = "LINE_TOO_LONG"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    TRUNCATED_TAIL = "TRUNCATED_TAIL"
    TRUNCATED_FILE = "TRUNCATED_FILE"
    NO_PROMPT = "NO_PROMPT"
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

"""Every error this program raises on purpose, and the exit code it ends with.

    BatcherError                  70  a bug, unless a subclass says better
    +-- UsageError                 2  the command line is wrong, or names a missing file
    +-- TooManyBadRows            65  more rows are unusable than --max-bad allows
    +-- GuardStopped              65  answers are not what a [guard] knows of the job
    +-- ProviderUnavailable       69  the endpoint cannot be reached or keeps failing
    +-- CannotCreate              73  a file or database cannot be created
    +-- StorageError              74  disk or database trouble while running
        +-- DamagedDatabase       74  what a database holds cannot be read, or not be trusted
        +-- LostTransactions      74  a server came back without what it had committed
    +-- Busy                      75  another run holds the database or the job
        +-- Fenced                75  another process has taken over this one's run
    +-- InputChanged              75  an input changed while it was read
    +-- AccessRefused             77  no key, key refused, billing or spend limit
    +-- ConfigurationError        78  configuration, job file, endpoint or model is wrong
        +-- SchemaVersionError    78  the database is older or newer than this program
        +-- ChangedSettings       78  answered rows would be sent, and paid, again

A failed row is data (an `Outcome`), a failed run is one of these. Messages say what, where and
what to do, in one sentence. All arguments are plain strings, so errors survive pickling.
"""

import errno
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Final

_KINDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "date": "a day such as 2026-11-21",
}


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """`; did you mean 'x'?` to end a sentence with, or nothing where no known name is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - seldom needed

    close = get_close_matches(name, known, 1, likeness)
    return f"; did you mean {close[0]!r}?" if close else ""


def no_such_file(name: str, path: Path) -> str:
    """That `path`, typed as `name`, is not there, and which file beside it may be meant."""
    try:
        beside = [each.name for each in islice(path.parent.iterdir(), 10_000)]
    except OSError:
        beside = []
    return f"{name}: no such file{did_you_mean(path.name, beside, 0.8) or '; check the name'}"


class BatcherError(Exception):
    """The root; its message is one sentence for people."""

    exit_code = 70


class UsageError(BatcherError):
    """The command line is wrong, or it names a file that is not there."""

    exit_code = 2


class TooManyBadRows(BatcherError):  # noqa: N818
    """More rows of the input are unusable than the run may find."""

    exit_code = 65


class GuardStopped(BatcherError):  # noqa: N818
    """Answers differ from those that the job had before, by more than a `[guard]` allows."""

    exit_code = 65


class ProviderUnavailable(BatcherError):  # noqa: N818
    """The endpoint could not be reached, or kept failing, for longer than it may."""

    exit_code = 69


class CannotCreate(BatcherError):  # noqa: N818
    """An output file or a database cannot be created where it was asked for."""

    exit_code = 73


class StorageError(BatcherError):
    """The disk or the database failed while it was in use."""

    exit_code = 74


class DamagedDatabase(StorageError):  # noqa: N818
    """What the database holds cannot be read any more, or not be trusted."""


class LostTransactions(StorageError):  # noqa: N818
    """The server has no memory of what it had committed: a standby took over that lagged."""


class Busy(BatcherError):  # noqa: N818
    """Another run holds it: the same command can be typed again later."""

    exit_code = 75


class Fenced(Busy):
    """Another process has taken over: nothing more may be sent or planned by this one."""


class InputChanged(BatcherError):  # noqa: N818
    """An input changed while it was read: the same command takes up what is new."""

    exit_code = 75


class AccessRefused(BatcherError):  # noqa: N818
    """No key, a refused key, a billing problem or a spend limit."""

    exit_code = 77


class ConfigurationError(BatcherError):
    """The configuration, the job file, the endpoint's or the model's name is wrong."""

    exit_code = 78


class SchemaVersionError(ConfigurationError):
    """The database's schema is older or newer than this program's."""


class ChangedSettings(ConfigurationError):  # noqa: N818
    """Settings of the job changed, so that answered rows would be sent again."""


def limit_reached(error: BaseException) -> StorageError | None:
    """What to say where the system starts no more threads or processes; else `None`."""
    if isinstance(error, RuntimeError):
        is_limit = str(error) == "can't start new thread"
    else:
        is_limit = isinstance(error, BlockingIOError) and error.errno == errno.EAGAIN
    if not is_limit:
        return None
    return StorageError(
        f"the system lets this user start no more threads or processes ({error}): raise"
        " `ulimit -u`, or pids.max of the container, then type the command again"
    )


def plain_words(message: str, prefix: str = "") -> str:
    """What msgspec says of a settings file, in the words of the file: its field, not a path.

    A wording that is not known here comes back as it is, with its field.
    """
    match = re.fullmatch(r"(.*?)(?: - at `\$\.?(.*)`)?", message, re.DOTALL)
    text, where = match.groups() if match else (message, None)
    text = text.replace("Object contains unknown field", "unknown setting")
    text = re.sub(r"Object missing required field `(.*?)`", r"\1 is missing", text)
    text = text.replace("Invalid RFC3339 encoded date", "must be a day such as 2026-11-21")
    text = re.sub(r"Expected `(.*?)`(?:, got `.*?`)?", lambda kinds: _kinds(kinds[1]), text)
    return f"{prefix}{where.upper() if prefix else where}: {text}" if where else text


def _kinds(words: str) -> str:
    """What a value must be, as people call it."""
    kinds = (_KINDS.get(word, word) for word in words.split(" | ") if word != "null")
    return f"must be {' or '.join(kinds)}"

"""`{date}` in the names of inputs and outputs, and inputs that may be missing on a day.

Also what was typed, as it is recorded: the command without its secrets, and a run's key.
"""

import glob
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, tzinfo
from hashlib import blake2b
from pathlib import Path
from typing import Final

from batcher.clock import moment_of
from batcher.errors import ConfigurationError, UsageError
from batcher.ledger.connect import without_passwords
from batcher.report.query import time_zone
from batcher.rows.read.source import STDIN
from batcher.transport.endpoint import shown_url

PLACE: Final = "{date}"


def local_day(now_us: int, zone: str | None) -> date:
    """The day that it is in `zone`, `None`: where this machine is. Raises: `schedule_zone`."""
    return moment_of(now_us).astimezone(schedule_zone(zone)).date()


def schedule_zone(name: str | None) -> tzinfo | None:
    """The time zone of a schedule; raises `ConfigurationError` for one not known here."""
    return local_zone(name, "[schedule] tz")


def local_zone(name: str | None, said_by: str) -> tzinfo | None:
    """The time zone of that name, `None`: this machine's; raises `ConfigurationError`."""
    try:
        return time_zone(name, said_by) if name else None
    except UsageError as exc:
        raise ConfigurationError(str(exc)) from exc


def parsed_day(text: str) -> date:
    """The day of `--date`; raises `UsageError`."""
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"--date {text!r:.40} is no day: write it like 2026-01-31") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedFiles:
    """What a run reads and writes on its day.

    `dated` says whether the inputs are those of a day. `may_be_missing` are the inputs that may
    name nothing, each with the folder that must be there all the same.
    """

    inputs: tuple[str, ...]
    output: str | None
    dated: bool
    output_is_dated: bool
    may_be_missing: Mapping[str, Path]

    def check(self, day: date | None, *, again: bool) -> None:
        """Raise `UsageError` for a day of `--date`, or an `--again`, that cannot be meant."""
        if day and not (self.dated or self.output_is_dated):
            raise UsageError(
                f"--date: neither an input nor the output has a {PLACE} in its name"
            )
        if again and self.dated:
            raise UsageError(
                f"--again: the inputs have a {PLACE}, and a new round would begin for every"
                " day; name the file itself, with a --name of its own"
            )


def of_day(
    day: date, inputs: Sequence[str], output: str | None, base: Path, *, may_be_empty: bool
) -> DatedFiles:
    """The names with the day filled in."""
    patterns = [each for each in inputs if may_be_empty and _is_pattern(each, base)]
    return DatedFiles(
        inputs=tuple(_filled(each, day) for each in inputs),
        output=output and _filled(output, day),
        dated=any(PLACE in each for each in inputs),
        output_is_dated=PLACE in (output or ""),
        may_be_missing={_filled(each, day): _fixed_folder(each, base) for each in patterns},
    )


def _filled(name: str, day: date) -> str:
    return name.replace(PLACE, day.isoformat())


def _is_pattern(name: str, base: Path) -> bool:
    return _varies(name) or os.path.isdir(base / name)  # noqa: PTH112 - raises for no name


def _fixed_folder(name: str, base: Path) -> Path:
    """The part before what differs from day to day, or from file to file."""
    path = base / os.path.expanduser(name)  # noqa: PTH111 - raises for no name
    while _varies(str(path)):
        path = path.parent
    return path


def _varies(name: str) -> bool:
    return PLACE in name or glob.has_magic(name)


_ADDRESSES: Final[Mapping[str, Callable[[str], str]]] = {
    "--ping-url": lambda _: "***",
    "--base-url": shown_url,
}
_LONGEST_KEY: Final = 400  # characters; an index takes 2,704 bytes


def command_of(arguments: Sequence[str]) -> str:
    """The command line as it may be recorded and shown."""
    return without_passwords(shlex.join(["batcher", *_shown(arguments)]))


def _shown(arguments: Sequence[str]) -> Iterator[str]:
    """Arguments as they may be recorded and shown: addresses may hold secrets."""
    before = ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if before in _ADDRESSES:
            yield _ADDRESSES[before](argument)
        elif name in _ADDRESSES and equals:
            yield f"{name}={_ADDRESSES[name](value)}"
        else:
            yield argument
        before = argument


def key_of(inputs: Sequence[str]) -> str:
    """Where the inputs are, as one text, however they are typed.

    A database can hold it as a key: of very many it is their digest.
    """
    key = shlex.join(map(_place_of_input, inputs))
    if len(key) <= _LONGEST_KEY:
        return key
    digest = blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return f"{key[:_LONGEST_KEY]}... {digest}"


def _place_of_input(given: str) -> str:
    if given == STDIN or "://" in given or "\0" in given:
        return given
    return os.path.realpath(os.path.expanduser(given))  # noqa: PTH111 - raises for no name

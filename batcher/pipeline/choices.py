"""What the user wants done with answers: complete and checked, from settings and a job file."""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Final

import msgspec

from batcher.errors import ConfigurationError

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_FACTOR: Final = re.compile(r"raise=(\d{1,3}(?:\.\d{1,3})?)x?")
_RETRIES: Final = re.compile(r"retry:(\d{1,2})")
_VARIABLES: Final = ("PATH", "HOME", "LANG")

PACKED_ROWS: Final = 10_000  # of one batch: what a lost create or a late batch holds up

Environment = Callable[[Sequence[str]], dict[str, str]]


class OnUnknown(StrEnum):
    """What happens to a row whose attempt ended in doubt."""

    RETRY = "retry"
    HOLD = "hold"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackRules:
    """When rows go to the next endpoint.

    `after_seconds`: the endpoint has been down for so long. `on_doubt`: also rows with an
    attempt that may have been billed.
    """

    after_seconds: float = 30.0
    on_doubt: bool = False


class LaneChoice(StrEnum):
    """How requests travel: each alone, or in Message Batches, later and at half the price.

    `AUTO`: in batches as long as these will be back by a deadline, then live; a run of it is
    done in phases of the others.
    """

    LIVE = "live"
    BATCH = "batch"
    AUTO = "auto"

    @property
    def packs(self) -> bool:
        """Whether requests leave together, some time after they were recorded."""
        return self is LaneChoice.BATCH


class CacheMode(StrEnum):
    """Whether the provider's prompt cache is used on purpose."""

    OFF = "off"
    AUTO = "auto"  # where it saves


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """By when all rows are to be done, microseconds UTC, and how people call that moment.

    `pays`: rows that are in a batch then are sent live as well. `missed_us` is a deadline of
    the run that passed while nobody did it: rows that are answered from now on are late.
    """

    at_us: int
    words: str
    pays: bool = False
    missed_us: int | None = None

    @property
    def counts_from_us(self) -> int:
        """After this moment answers are late."""
        return self.at_us if self.missed_us is None else self.missed_us


class LogFormat(StrEnum):
    """How a line of a log is written."""

    TEXT = "text"
    JSON = "json"


class IfRunning(StrEnum):
    """What a run does when another one holds what it needs."""

    FAIL = "fail"
    SKIP = "skip"
    WAIT = "wait"


class ToolTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One `[tools.NAME]` table: a local command that answers the calls of that tool.

    `env` names the variables that it gets besides PATH, HOME and LANG.
    """

    command: tuple[str, ...]
    timeout_seconds: float = 60.0
    max_calls: int = 20
    env: tuple[str, ...] = ()


class GuardTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The `[guard]` table: how many times what the job had before stops it; 0: never."""

    rows: int = 100
    window: int = 1000
    factor: float = 3
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost: float | None = None
    latency: float | None = None
    refusals: float | None = None
    truncations: float | None = None
    invalid: float | None = None
    failures: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLimits:
    """What is compared with the job's history: the factor of each number, by its name.

    The first `rows`, then always the latest ones, `window` at most.
    """

    rows: int
    window: int
    factors: Mapping[str, Fraction]


def guard_limits(table: GuardTable | None) -> GuardLimits | None:
    """The limits of a job, `None` without a guard; raises `ConfigurationError`."""
    if table is None:
        return None
    if not 10 <= table.rows <= table.window <= 1_000_000:
        raise ConfigurationError(
            f"[guard] rows is {table.rows} and window is {table.window}: rows is 10 at least,"
            " and window no smaller than that"
        )
    names = GuardTable.__struct_fields__[3:]
    given = {name: getattr(table, name) for name in names}
    factors = {name: table.factor if own is None else own for name, own in given.items()}
    for name, factor in {"factor": table.factor, **factors}.items():
        if factor != 0 and not 1 < factor <= 1_000_000:
            raise ConfigurationError(
                f"[guard] {name} is {factor:g}; it must be above 1, or 0 to compare nothing"
            )
    kept = {name: Fraction(factor) for name, factor in factors.items() if factor}
    return GuardLimits(rows=table.rows, window=table.window, factors=kept)


class ValidateTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The `[validate]` table: the file of the JSON schema that every answer must follow."""

    schema: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A command that answers the calls of one tool.

    It runs in `folder` with exactly the variables of `environment`, for at most
    `timeout_seconds`; a row may call it `max_calls` times.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(repr=False)  # may hold secrets
    timeout_seconds: float = 60.0
    max_calls: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerChoices:
    """What is done with answers; the default keeps everything as it came.

    `raise_factor` is what `max_tokens` is multiplied by after an answer was cut off by it.
    `schema` is the JSON text of the job's own schema, `retries` how often an answer that does
    not follow its schema is asked for again.
    """

    fail_truncated: bool = False
    raise_factor: Fraction | None = None
    fail_invalid: bool = False
    retries: int = 0
    schema: bytes | None = None
    tools: Mapping[str, Tool] = field(default_factory=dict)


def answer_choices(
    on_truncate: str | None,
    on_invalid: str | None,
    *,
    tools: Mapping[str, ToolTable],
    validate: ValidateTable | None,
    folder: Path,
    environment: Environment,
) -> AnswerChoices:
    """The choices; raises `ConfigurationError` for what could not be followed.

    Files and programs are looked for in `folder`; `environment` gives those of the variables
    named that are set.
    """
    fail_truncated, factor = parse_on_truncate(on_truncate)
    fail_invalid, retries = parse_on_invalid(on_invalid)
    return AnswerChoices(
        fail_truncated=fail_truncated,
        raise_factor=factor,
        fail_invalid=fail_invalid,
        retries=retries,
        schema=_read_schema(folder / validate.schema) if validate else None,
        tools={name: _tool(name, table, folder, environment) for name, table in tools.items()},
    )


def parse_on_truncate(value: str | None) -> tuple[bool, Fraction | None]:
    """(fail, factor) of `keep`, `fail` or `raise=2x`; raises `ConfigurationError`."""
    if value in {None, "keep", "fail"}:
        return value == "fail", None
    match = _FACTOR.fullmatch(value or "")
    factor = Fraction(match[1]) if match else Fraction(0)
    if not 1 < factor <= 100:
        raise ConfigurationError(
            f"on_truncate is {value!r}; write keep, fail, or raise=2x with a factor above 1 "
            "and up to 100"
        )
    return False, factor


def parse_on_invalid(value: str | None) -> tuple[bool, int]:
    """(fail, retries) of `keep`, `retry:2` or `fail`; raises `ConfigurationError`."""
    if value in {None, "keep", "fail"}:
        return value == "fail", 0
    match = _RETRIES.fullmatch(value or "")
    if match is None or not int(match[1]):
        raise ConfigurationError(f"on_invalid is {value!r}; write keep, fail, or retry:2")
    return False, int(match[1])


def _read_schema(path: Path) -> bytes:
    """The job's own schema; raises `ConfigurationError` when it is missing or none."""
    try:
        schema = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"[validate] schema: {path} cannot be read: {exc}") from exc
    from batcher.pipeline.engine.validate import AnswerValidator  # noqa: PLC0415 - see above

    AnswerValidator(schema)
    return schema


def _tool(name: str, table: ToolTable, folder: Path, environment: Environment) -> Tool:
    variables = environment([*_VARIABLES, *table.env])
    for wanted in table.env:
        if wanted not in variables:
            raise ConfigurationError(
                f"[tools.{name}] env names {wanted}, which is not set; set it or take it out"
            )
    tool = Tool(
        name=name,
        command=table.command,
        folder=folder,
        environment=variables,
        timeout_seconds=table.timeout_seconds,
        max_calls=table.max_calls,
    )
    _check(tool)
    return tool


def _check(tool: Tool) -> None:
    where = f"[tools.{tool.name}]"
    if not _NAME.fullmatch(tool.name):
        raise ConfigurationError(
            f"{where}: a tool's name is 1 to 128 of a-z, A-Z, 0-9, _ and -"
        )
    if not tool.command or not all(tool.command) or any("\0" in part for part in tool.command):
        raise ConfigurationError(f'{where}: command is a list like ["python3", "tool.py"]')
    if not tool.timeout_seconds > 0 or tool.max_calls < 1:
        raise ConfigurationError(f"{where}: timeout_seconds and max_calls must be above 0")
    program = tool.command[0]
    beside = tool.folder / program if "/" in program else program
    if shutil.which(beside, path=tool.environment.get("PATH", os.defpath)) is None:
        raise ConfigurationError(f"{where}: no program {program!r} to run; check the command")

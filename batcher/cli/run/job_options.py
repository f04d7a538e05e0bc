"""The options by which `run`, `check`, `estimate` and `doctor` are told what is asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from batcher.cli.commands import FILE, MONEY, OUTPUT, WHAT, completed, option
from batcher.cli.names import endpoint_names, model_names

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    option(
        "--job",
        "job_path",
        type=click.Path(readable=False, path_type=Path),
        metavar="FILE",
        section=WHAT,
        help="A job file; the same as naming it as INPUT.",
    ),
    option(
        "-e",
        "--endpoint",
        metavar="NAME",
        shell_complete=completed(endpoint_names),
        section=WHAT,
        help="Where to send: anthropic, crun, sunra, simulator, yours.",
    ),
    option("--base-url", metavar="URL", section=WHAT, help="Another address of the endpoint."),
    option(
        "-m",
        "--model",
        metavar="NAME",
        shell_complete=completed(model_names),
        section=WHAT,
        help="Model for rows that name none.",
    ),
    option(
        "--max-tokens",
        type=int,
        metavar="N",
        section=WHAT,
        help="Output limit for rows without one [1024].",
    ),
    option(
        "--system",
        metavar="TEXT|@FILE",
        section=WHAT,
        help="System prompt for rows without one; @FILE reads it.",
    ),
    option(
        "--prompt",
        metavar="TEXT|@FILE",
        section=WHAT,
        help="Template over the rows' columns, '{{ text }}'; or @FILE.",
    ),
    option(
        "--config", "config_path", type=FILE, metavar="FILE", section=WHAT,
        help="The config.toml to use.",
    ),
    option(
        "--prices", type=FILE, metavar="FILE|none", section=MONEY,
        help="Your own price file, or no prices.",
    ),
    option(
        "-d",
        "--database",
        type=FILE,
        metavar="URL",
        section=OUTPUT,
        help="SQLite file or postgresql+psycopg:// URL.",
    ),
)  # fmt: skip


no_preflight = option(
    "--no-preflight",
    "preflight",
    flag_value=False,
    type=bool,
    default=None,
    section=WHAT,
    help="Send rows that the endpoint is known to refuse, too.",
)


def job_options(command: F) -> F:
    """The input argument and the options above, in this order in the help."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return click.argument("inputs", nargs=-1, type=FILE, metavar="[INPUT]...")(command)


def tag_table(tags: tuple[str, ...]) -> dict[str, str] | None:
    """`k=v` options as a table; `None` when there are none."""
    table = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--tag {tag!r}: write key=value")
        table[key] = value
    return table or None

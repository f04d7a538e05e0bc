"""The options by which `run`, `check` and `doctor` are told what a request looks like."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--job", "job_path", type=Path, help="A job file, instead of inputs."),
    click.option("--endpoint", help="Where to send: anthropic, crun, sunra, simulator, yours."),
    click.option("--base-url", help="Another address of the endpoint."),
    click.option("--model", help="Model for rows that name none."),
    click.option("--max-tokens", type=int, help="Output limit for rows without one [1024]."),
    click.option("--system", help="System prompt for rows without one; @FILE reads it."),
    click.option("--prompt", help="Template over the rows' columns, '{{ text }}'; or @FILE."),
    click.option("--prices", metavar="FILE|none", help="Your own price file, or no prices."),
    click.option("--database", metavar="URL", help="SQLite file or postgresql+psycopg:// URL."),
    click.option("--config", "config_path", metavar="FILE", help="The config.toml to use."),
)


no_preflight = click.option(
    "--no-preflight",
    "preflight",
    flag_value=False,
    type=bool,
    default=None,
    help="Send rows that the endpoint is known to refuse, too.",
)


def job_options(command: F) -> F:
    """The input argument and the options above, in this order in the help."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.argument("inputs", nargs=-1, metavar="[INPUT]...")(command)


def tag_table(tags: tuple[str, ...]) -> dict[str, str] | None:
    """`k=v` options as a table; `None` when there are none."""
    table = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--tag {tag!r}: write key=value")
        table[key] = value
    return table or None

"""The options by which `run`, `check`, `estimate` and `doctor` are told what is asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from batcher.cli.commands import (
    FILE,
    LIMITS,
    MONEY,
    OUTPUT,
    TROUBLE,
    WHAT,
    WORKERS,
    choice,
    completed,
    endpoint_names,
    model_names,
    option,
)
from batcher.messages.answer import Store
from batcher.pipeline.choices import IfRunning, LaneChoice, LogFormat, OnUnknown

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
        help="The endpoint: anthropic, crun, sunra, simulator, or yours.",
    ),
    option(
        "--name",
        metavar="NAME",
        section=WHAT,
        help="A run of its own over these inputs; shares no answers.",
    ),
    option(
        "--date",
        metavar="DAY",
        section=WHAT,
        help="The day of inputs and outputs with {date} in their names [today].",
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


_RUN_OPTIONS = (
    option(
        "--concurrency",
        type=int,
        metavar="N",
        section=LIMITS,
        help="Requests in flight at most [64].",
    ),
    option(
        "--rpm",
        type=int,
        metavar="N",
        section=LIMITS,
        help="Requests per minute at most, for each model class.",
    ),
    option(
        "--itpm",
        type=int,
        metavar="N",
        section=LIMITS,
        help="Input tokens per minute, cache reads not counted.",
    ),
    option(
        "--otpm",
        type=int,
        metavar="N",
        section=LIMITS,
        help="Output tokens per minute at most.",
    ),
    option(
        "--quota-share",
        type=float,
        metavar="F",
        section=LIMITS,
        help="The part of every quota to use, like 0.25.",
    ),
    option(
        "-n",
        "--limit",
        type=int,
        metavar="N",
        section=LIMITS,
        help="Send at most this many new rows, then stop.",
    ),
    option(
        "--max-runtime",
        metavar="TIME",
        section=LIMITS,
        help="Stop sending after 90s, 15m or 2h.",
    ),
    option(
        "--max-cost",
        metavar="USD",
        section=MONEY,
        help="Never let the run cost more than this, as long as the server bills no more than"
        " max_tokens and the model's price allow; the first bill above that stops it.",
    ),
    option(
        "--strict",
        is_flag=True,
        default=None,
        section=MONEY,
        help="Exit 65 when an answer's price is missing or assumed.",
    ),
    option(
        "--max-bad",
        metavar="N|P%",
        section=TROUBLE,
        help="Stop when more rows than this are unusable.",
    ),
    option(
        "--on-unknown",
        type=choice(OnUnknown),
        section=TROUBLE,
        help="What to do with rows whose attempt may have been billed unseen [retry].",
    ),
    option(
        "--on-truncate",
        metavar="keep|fail|raise=2x",
        section=TROUBLE,
        help="What to do with answers that max_tokens cut off [keep].",
    ),
    option(
        "--on-invalid",
        metavar="keep|retry:N|fail",
        section=TROUBLE,
        help="What to do with answers that do not follow their JSON schema [keep].",
    ),
    option(
        "--if-running",
        type=choice(IfRunning),
        section=TROUBLE,
        help="When another run is on: end with 75, with 0, or wait for it [fail].",
    ),
    option(
        "--fallback",
        multiple=True,
        metavar="NAME[=MODEL]",
        section=TROUBLE,
        help="The endpoint to use when the one before does not answer; repeatable.",
    ),
    option(
        "--fallback-after",
        metavar="TIME",
        section=TROUBLE,
        help="Leave an endpoint that is down for this long [30s].",
    ),
    option(
        "--fallback-on-doubt",
        is_flag=True,
        default=None,
        section=TROUBLE,
        help="Send rows there, too, that may have been billed already.",
    ),
    option(
        "-o",
        "--output",
        type=FILE,
        metavar="FILE",
        section=OUTPUT,
        help="Write the answers there at the end, in input order.",
    ),
    option(
        "--store",
        type=choice(Store),
        section=OUTPUT,
        help="How much of each answer to keep; its usage and cost always are [full].",
    ),
    option(
        "--log-file",
        type=FILE,
        metavar="FILE",
        section=OUTPUT,
        help="Append a line to FILE for each event.",
    ),
    option(
        "--log-format",
        type=choice(LogFormat),
        section=OUTPUT,
        help="text for people, json for programs; json without --log-file: to stderr [text].",
    ),
    option(
        "--metrics-file",
        type=FILE,
        metavar="FILE.prom",
        section=OUTPUT,
        help="Keep the run's numbers in FILE, for Prometheus to read.",
    ),
    option(
        "--ping-url",
        metavar="URL",
        section=OUTPUT,
        help="Call URL/start at the start; at the end URL for 0, URL/CODE otherwise.",
    ),
    option(
        "--lane",
        type=choice(LaneChoice),
        section=WHAT,
        help="One by one, or in Message Batches at half the price, within a day [live].",
    ),
    option(
        "--deadline",
        metavar="TIME",
        section=WHAT,
        help="With --lane auto: by when all is done, 06:00 or 8h; what is late goes live.",
    ),
    option(
        "--deadline-pays",
        is_flag=True,
        default=None,
        section=WHAT,
        help="Send rows of a batch that does not end in time live, and pay both.",
    ),
    option(
        "--tz",
        metavar="ZONE",
        section=WHAT,
        help="The time zone of --deadline, like Europe/Paris [this machine's].",
    ),
    option(
        "--dedup",
        is_flag=True,
        default=None,
        section=WHAT,
        help="Send equal requests once; each of their rows gets the answer.",
    ),
    option(
        "--processes",
        type=int,
        metavar="N",
        section=WORKERS,
        help="Do the job in N processes; needs PostgreSQL [1].",
    ),
    option(
        "--on",
        type=click.Choice(["ray"]),
        section=WORKERS,
        help="Let workers on this cluster do the job; needs PostgreSQL.",
    ),
    option(
        "--workers",
        type=int,
        metavar="N",
        section=WORKERS,
        help="How many workers the cluster starts [one a node].",
    ),
    option(
        "--join",
        is_flag=True,
        default=None,
        section=WORKERS,
        help="Share the job with other processes; needs PostgreSQL.",
    ),
)


def job_options(command: F) -> F:
    """The input argument and the options above, in this order in the help."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return click.argument("inputs", nargs=-1, type=FILE, metavar="[INPUT]...")(command)


def run_options(command: F) -> F:
    """The further settings that a run can be given as options."""
    for add in reversed(_RUN_OPTIONS):
        command = add(command)
    return command


def tag_table(tags: tuple[str, ...]) -> dict[str, str] | None:
    """`k=v` options as a table; `None` when there are none."""
    table = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--tag {tag!r}: write key=value")
        table[key] = value
    return table or None

"""`batcher config`, `doctor`, `models`: what holds here, whether it works, what it offers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.commands import (
    GroupWithExamples,
    command,
    completed,
    endpoint_names,
    format_options,
    option,
    write_new,
)
from batcher.cli.run.job_options import job_options, run_options
from batcher.cli.say import tell, tell_table

if TYPE_CHECKING:
    from batcher.pricing.book.book import PriceBook
    from batcher.transport.endpoint import Endpoint
    from batcher.transport.live.listings import ListedModel


@click.group(
    cls=GroupWithExamples,
    examples=("batcher config show", "batcher config init"),
)
def config() -> None:
    """Show the settings in force and where they come from, or begin a config.toml."""


@command("batcher config show", "batcher config show job.toml --concurrency 8", name="show")
@job_options
@run_options
@format_options("table", "json")
def show_config(
    inputs: tuple[str, ...],
    job_path: Path | None,
    config_path: str | None,
    form: str,
    **options: Any,  # noqa: ANN401 - settings by name, checked by Settings
) -> None:
    """Show each setting that a run would go by, and where it comes from.

    Options win over BATCHER_ variables, the job file, config.toml and the built-in defaults.
    Settings that nothing states are left out. Keys are never shown.
    """
    import msgspec

    from batcher import wiring

    settings = wiring.settings_of(wiring.asked(inputs, job_path, config_path, options=options))
    if form == "json":
        tell(msgspec.json.encode({"settings": settings}))
        return
    cells = ((each.name, _one_line(each.value), each.origin) for each in settings)
    tell_table([("Setting", "Value", "From"), *cells])


@command("batcher config init", "batcher config init /srv/batcher/config.toml", name="init")
@click.argument("file", type=click.Path(path_type=Path), default=Path("config.toml"))
def init_config(file: Path) -> None:
    """Write a config.toml that states every default, commented out.

    It changes nothing until a line is uncommented. An existing file is left alone.
    """
    from batcher.config.files import sample_config

    write_new(file, sample_config())
    tell(f"{file} written; see what is in force with: batcher config show")


def _one_line(value: object) -> str:
    import msgspec

    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:59]}…"


config.add_command(show_config)
config.add_command(init_config)


@command("batcher doctor", "batcher doctor job.toml --json")
@job_options
@format_options("text", "json")
def doctor(
    inputs: tuple[str, ...],
    job_path: Path | None,
    config_path: str | None,
    form: str,
    **options: Any,  # noqa: ANN401 - settings by name, checked by Settings
) -> int:
    """Check configuration, key, endpoint and database.

    Inputs that are named are looked for, too. Sends no prompt and never prints a key. Exits
    with 1 when something is wrong.
    """
    import msgspec

    from batcher import wiring
    from batcher.wiring.examine import examine

    findings = examine(wiring.asked(inputs, job_path, config_path, options=options))
    if form == "json":
        tell(msgspec.json.encode({"findings": findings}))
    else:
        for finding in findings:
            tell(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what}: {finding.words}")
    return 0 if all(finding.ok for finding in findings) else 1


@command("batcher models", "batcher models -e crun --json")
@option(
    "-e",
    "--endpoint",
    metavar="NAME",
    shell_complete=completed(endpoint_names),
    help="The endpoint: anthropic, crun, vllm, or yours.",
)
@option("--base-url", help="Another address of the endpoint.")
@option("--prices", metavar="FILE|none", help="Your own price file, or no prices.")
@option("--config", "config_path", metavar="FILE", help="The config.toml to use.")
@format_options("table", "json")
def models(config_path: str | None, form: str, **options: str | None) -> None:
    """List the models of an endpoint, and whether their prices are known.

    Asks the endpoint, with its key; costs nothing.
    """
    import asyncio

    import msgspec

    from batcher import wiring

    job = wiring.resolve(wiring.asked(("-",), None, config_path, options=options))
    book = wiring.price_book(job)
    listed = asyncio.run(_ask(job.endpoint))
    prices = wiring.price_list(job, book)
    rows = [_row(model, _why_unpriced(book, prices, model.id)) for model in listed]
    if form == "json":
        tell(msgspec.json.encode({"endpoint": job.endpoint.name, "models": rows}))
        return
    tell_table(_table(rows), least={"name", "created", "owner", "lifecycle"})
    tell(
        f"{len(rows):,} models at {job.endpoint.name} ({job.endpoint.shown_url})",
        err=True,
    )
    tell(wiring.price_note(job, book), err=True)


async def _ask(endpoint: "Endpoint") -> "list[ListedModel]":
    from batcher.clock import SystemClock
    from batcher.config.keys import read_key
    from batcher.transport.live.listings import list_models
    from batcher.wiring.connecting import connect

    clock = SystemClock()
    client = connect(endpoint, read_key(endpoint), clock)
    try:
        return await list_models(client, endpoint, clock.now_us())
    finally:
        await client.close()


def _why_unpriced(book: "PriceBook", price_list: str | None, model: str) -> str | None:
    """Why answers of `model` would stay unpriced today; `None`: they would be priced."""
    from batcher.clock import SystemClock
    from batcher.pricing.rate.rates import MICROSECONDS_PER_DAY
    from batcher.pricing.rate.rating import resolve

    if price_list is None:
        return "no_price_list"
    day = SystemClock().now_us() // MICROSECONDS_PER_DAY
    return resolve(book, price_list, model, (None, None, None), day).reason


def _row(model: "ListedModel", unpriced: str | None) -> dict[str, Any]:
    return {
        "id": model.id,
        "display_name": model.display_name,
        "created": model.created,
        "owner": model.owner,
        "lifecycle": model.lifecycle,
        "max_input_tokens": model.max_input_tokens,
        "max_tokens": model.max_tokens,
        "priced": unpriced is None,
        "unpriced_reason": unpriced,
    }


def _table(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One line per model below its titles; columns that no model fills are left out."""
    cells = [
        {
            "model": row["id"],
            "name": row["display_name"] or "",
            "created": (row["created"] or "")[:10],
            "owner": row["owner"] or "",
            "lifecycle": row["lifecycle"] or "",
            "input": _number(row["max_input_tokens"]),
            "output": _number(row["max_tokens"]),
            "price": "known" if row["priced"] else f"none ({row['unpriced_reason']})",
        }
        for row in rows
    ]
    names = [name for name in (cells[0] if cells else ()) if any(cell[name] for cell in cells)]
    return [tuple(names), *(tuple(cell[name] for name in names) for cell in cells)]


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"

"""`batcher config` and `batcher doctor`: the settings that hold here, and whether they work."""

from pathlib import Path
from typing import Any

import click

from batcher.cli.commands import GroupWithExamples, command, format_options, write_new
from batcher.cli.run.job_options import job_options, run_options
from batcher.cli.say import tell, tell_table


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

"""`batcher doctor`."""

from pathlib import Path
from typing import Any

from batcher.cli.commands import command, format_options
from batcher.cli.run.job_options import job_options
from batcher.cli.words.say import tell


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

"""`batcher simulate`: a local Messages API to try things on."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batcher.cli.commands import command, option
from batcher.cli.say import tell

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


@command(
    "batcher simulate --port 8089", "batcher simulate --fault 529=0.01 --latency-ms 100-400"
)
@option(
    "--port",
    default=0,
    type=click.IntRange(0, 65535),
    help="0, the default, takes a free one; `run --endpoint simulator` asks at 8089.",
)
@option("--seed", default=0, help="Another seed gives other answers, always the same.")
@option("--latency-ms", default="0", metavar="N|MIN-MAX", help="Time to an answer [0].")
@option(
    "--batch-seconds",
    default="0",
    metavar="N|MIN-MAX",
    help="How long a Message Batch takes [0].",
)
@option(
    "--bill",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append the bill to this file.",
)
@option("--rpm", type=click.IntRange(1), help="Requests per minute and model class.")
@option("--itpm", type=click.IntRange(1), help="Input tokens per minute.")
@option("--otpm", type=click.IntRange(1), help="Output tokens per minute.")
@option(
    "--burst-seconds",
    default=60.0,
    show_default=True,
    help="Seconds of quota that a bucket holds.",
)
@option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=PROBABILITY",
    help="Make this share of the requests fail; may be repeated.",
)
@option(
    "--expect-key-env", metavar="NAME", help="Accept only the key in this environment variable."
)
@option(
    "--dialect",
    default="anthropic",
    show_default=True,
    help="The server that is played: anthropic, crun or sunra.",
)
def simulate(
    port: int,
    seed: int,
    latency_ms: str,
    batch_seconds: str,
    bill: Path | None,
    rpm: int | None,
    itpm: int | None,
    otpm: int | None,
    burst_seconds: float,
    faults: tuple[str, ...],
    expect_key_env: str | None,
    dialect: str,
) -> None:
    """Start a local Messages API for trying out.

    It serves 127.0.0.1 until a signal comes and prints "listening on URL" when it is ready.
    Answers are made up, the same ones for the same request. It costs nothing.
    """
    from batcher.errors import CannotCreate
    from batcher.outputs import NOTHING_KEPT
    from batcher.simulator.server import serve
    from batcher.simulator.settings import BatchSettings, SimulatorSettings

    if bill is not None:
        NOTHING_KEPT.check(bill)
    try:
        settings = SimulatorSettings(
            port=port,
            seed=seed,
            latency_ms=_range("--latency-ms", latency_ms),
            bill_path=bill,
            requests_per_minute=rpm,
            input_tokens_per_minute=itpm,
            output_tokens_per_minute=otpm,
            burst_seconds=burst_seconds,
            faults=dict(_fault(text) for text in faults),
            expected_key=None if expect_key_env is None else _key(expect_key_env),
            dialect=dialect,
            batches=BatchSettings(queue_seconds=_range("--batch-seconds", batch_seconds)),
        )
    except ValueError as exc:
        raise click.UsageError(f"simulate: {exc}") from exc
    try:
        serve(settings, lambda url: tell(f"listening on {url}"), _fast_loop())
    except OSError as exc:
        raise CannotCreate(
            f"simulate: {exc}; give another --port or a --bill that can be written"
        ) from exc


def _range(option: str, text: str) -> tuple[float, float]:
    shortest, _, longest = text.partition("-")
    try:
        return float(shortest), float(longest or shortest)
    except ValueError:
        raise click.UsageError(f"{option} {text}: give a number or MIN-MAX") from None


def _fault(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise click.UsageError(f"--fault {text}: give NAME=PROBABILITY") from None


def _fast_loop() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """Uvloop's loop where it is installed, which is on Linux."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _key(name: str) -> str:
    # Click reads the variable, as it does for all options: a key is never typed as one.
    value = click.Option(["--expected-key"], envvar=name).resolve_envvar_value(
        click.get_current_context()
    )
    if not value:
        raise click.UsageError(f"--expect-key-env {name}: this variable is not set")
    return value

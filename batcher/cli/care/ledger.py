"""`batcher db` and `batcher verify`: the ledger's schema, a copy of it, its size, its truth."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batcher.cli.commands import (
    GroupWithExamples,
    command,
    format_options,
    ledger,
    ledger_options,
    option,
)
from batcher.cli.say import tell

if TYPE_CHECKING:
    from batcher.ledger.maintenance import Purged


_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@click.group(cls=GroupWithExamples, examples=("batcher db check", "batcher db backup copy.db"))
def db() -> None:
    """Upgrade, check and look after the database."""


@db.command(examples=("batcher db upgrade", "batcher db upgrade -d batcher.db"))
@ledger_options
def upgrade(database: str | None, config: str | None) -> None:
    """Bring the schema to the revision that this program needs.

    It is one transaction: interrupted, it leaves everything as it was. No run may be on. An
    empty database becomes a ledger.
    """
    from batcher.config.files import database_url
    from batcher.ledger.maintenance import upgrade_database

    done = upgrade_database(database_url(database, config))
    changed = "was created at" if done.before is None else f"went from schema {done.before} to"
    told = "is already at" if done.before == done.after else changed
    tell(f"{done.shown} {told} schema {done.after}")


@db.command(examples=("batcher db current", "batcher db current -d batcher.db"))
@ledger_options
def current(database: str | None, config: str | None) -> None:
    """Print the revision of the schema, "empty" where there is none."""
    from batcher.config.files import database_url
    from batcher.ledger.maintenance import current_revision

    tell(current_revision(database_url(database, config)) or "empty")


@db.command(examples=("batcher db check", "batcher db check --deep -d batcher.db"))
@option("--deep", is_flag=True, help="Compare each answer with its checksum, too.")
@ledger_options
@click.pass_context
def check(context: click.Context, deep: bool, database: str | None, config: str | None) -> None:
    """Look for damage, and compare tables and views with what this program expects.

    A SQLite file is read as a whole. Exits with 1 and a line each for what is wrong.
    """
    from batcher.config.files import database_url
    from batcher.ledger.maintenance import check_database

    differences = check_database(database_url(database, config), deep=deep)
    tell("\n".join(differences) or "no difference")
    context.exit(1 if differences else 0)


@db.command(
    examples=("batcher db backup copy.db", "batcher db backup /backup/batcher.db -d batcher.db")
)
@click.argument("file", type=click.Path(path_type=Path))
@ledger_options
def backup(file: Path, database: str | None, config: str | None) -> None:
    """Copy a SQLite ledger to FILE, also while a run is on."""
    from batcher.config.files import database_url
    from batcher.ledger.maintenance import backup_database

    size = backup_database(database_url(database, config), file)
    tell(f"{file}: {size:,} bytes")


@db.command(examples=("batcher db vacuum", "batcher db vacuum -d batcher.db"))
@ledger_options
def vacuum(database: str | None, config: str | None) -> None:
    """Give unused space back, and add up anew sums that are wrong; no run may be on."""
    from batcher.config.files import database_url
    from batcher.ledger.maintenance import vacuum_database

    tell(vacuum_database(database_url(database, config)))


@db.command(
    examples=(
        "batcher db purge --older-than 30d --dry-run",
        "batcher db purge --older-than 2026-10-01 -y",
    )
)
@option(
    "--older-than",
    required=True,
    metavar="TIME|DATE",
    help="30d, 12h or 8w ago, or before a day (UTC) like 2026-10-01.",
)
@option("--dry-run", is_flag=True, help="Count, and drop nothing.")
@option("-y", "--yes", is_flag=True, help="Do not ask.")
@ledger_options
def purge(
    older_than: str, dry_run: bool, yes: bool, database: str | None, config: str | None
) -> None:
    """Drop the words of old answers; identity, tokens and money stay.

    Deletes for good the texts, contents, unreadable answers, tool results and error messages of
    invocations that have ended. Rows stay done; reports and verify show what they showed. Runs
    may go on meanwhile.
    """
    from batcher.clock import microseconds
    from batcher.config.files import database_url
    from batcher.ledger.maintenance import Purged, purge_database

    before = moment(older_than, datetime.now(UTC))
    url = database_url(database, config)
    before_us = microseconds(before)
    found = purge_database(url, before_us=before_us, dry_run=True)
    nothing = found == Purged(kept=found.kept)
    if not (dry_run or nothing):
        _ask(words_of(found, before, "are about to go"), yes=yes)
        found = purge_database(url, before_us=before_us)
    tell(words_of(found, before, "would go" if dry_run or nothing else "are gone"))
    if found.kept:
        tell(
            f"{found.kept:,} answers of unfinished requests stay: their rows need them to go on"
        )


def moment(words: str, now: datetime) -> datetime:
    """What `--older-than` means; an age to the microsecond, so that `0h` is all there is."""
    number, unit = words[:-1], _UNITS.get(words[-1:])
    try:
        if unit and number.isascii() and number.isdecimal():
            return now - int(number) * unit
        day = datetime.fromisoformat(words)
        return day.replace(tzinfo=day.tzinfo or UTC, microsecond=0)
    except (ValueError, OverflowError):
        raise click.UsageError(
            f"--older-than {words!r:.40}: write 30d, 12h or 8w, or a day like 2026-10-01"
        ) from None


def words_of(found: "Purged", before: datetime, verb: str) -> str:
    """The counts as a sentence."""
    counts = (
        f"{found.answers:,} answers' texts, {found.unusable:,} unusable bodies, "
        f"{found.tools:,} tool results and {found.messages:,} messages"
    )
    return f"{counts} from before {before.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} {verb}"


def _ask(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question}: add --yes, as there is nobody to ask here")
    click.confirm(f"{question}; go on?", abort=True, err=True)


@command("batcher verify", "batcher verify -d batcher.db --json")
@option(
    "--bill",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Compare with what a simulator billed: its bill, a JSON object per line.",
)
@format_options("text", "json")
@ledger_options
def verify(bill: Path | None, form: str, database: str | None, config: str | None) -> int:
    """Recompute every charge and check the ledger against itself.

    Reads only, also while a run is on. Each problem is one line; exits with 1 when there is
    one. See docs/verify.md for what is checked.
    """
    import msgspec

    from batcher.config.files import lifeboat_places
    from batcher.ledger.lifeboat.lifeboat import waiting_for
    from batcher.ledger.maintenance import verify as verify_ledger
    from batcher.report.words import count_of

    with ledger(database, config) as engine:
        found = verify_ledger(engine, bill)
        boats = waiting_for(engine, *lifeboat_places(config))
    if form == "json":
        tell(msgspec.json.encode({"schema": 1, **msgspec.to_builtins(found)}))
    else:
        for finding in found.findings:
            tell(f"{finding.kind}: {finding.text}")
        tell(
            f"verified: {count_of(found.charges, 'charge')} of"
            f" {count_of(found.answers, 'answer')} recomputed,"
            f" {count_of(found.rollups, 'sum')} compared;"
            f" {count_of(found.problems, 'problem') if found.problems else 'no problems'}"
        )
    for boat in boats:
        tell(boat.words, err=True)
    return 1 if found.problems else 0

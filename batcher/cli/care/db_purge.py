"""`batcher db purge`: what was said goes, what it cost stays."""

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from batcher.cli.commands import command, option
from batcher.cli.ledger_options import ledger_options
from batcher.cli.words.say import tell

if TYPE_CHECKING:
    from batcher.ledger.maintenance import Purged

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@command(
    "batcher db purge --older-than 30d --dry-run", "batcher db purge --older-than 2026-10-01 -y"
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

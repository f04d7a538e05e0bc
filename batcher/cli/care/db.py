"""`batcher db`: the ledger's schema, a copy of it, its size."""

from pathlib import Path

import click

from batcher.cli.care.db_purge import purge
from batcher.cli.commands import GroupWithExamples, option
from batcher.cli.ledger_options import ledger_options
from batcher.cli.words.say import tell


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
    """Give unused space back; no run may be on."""
    from batcher.config.files import database_url
    from batcher.ledger.maintenance import vacuum_database

    tell(vacuum_database(database_url(database, config)))


db.add_command(purge)

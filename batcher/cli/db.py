"""`batcher db`: the ledger's schema and its care."""

from pathlib import Path

import click

_DATABASE = click.option(
    "--database",
    metavar="URL",
    help="The ledger: a SQLite file or postgresql+psycopg://user@host/name.",
)


@click.group()
def db() -> None:
    """Look after the database: its schema, a copy of it, its size."""


@db.command()
@_DATABASE
def upgrade(database: str | None) -> None:
    """Bring the schema to the revision this program needs; an empty database becomes a ledger.

    One transaction: interrupted, it leaves everything as it was. No run may be on.
    """
    from batcher.config import database_url
    from batcher.ledger.care import upgrade_database

    done = upgrade_database(database_url(database))
    changed = "created at" if done.before is None else f"went from {done.before} to"
    told = "is already at" if done.before == done.after else changed
    click.echo(f"{done.shown} {told} schema {done.after}")


@db.command()
@_DATABASE
def current(database: str | None) -> None:
    """Print the revision of the database's schema, `empty` where there is none."""
    from batcher.config import database_url
    from batcher.ledger.care import current_revision

    click.echo(current_revision(database_url(database)) or "empty")


@db.command()
@_DATABASE
@click.pass_context
def check(context: click.Context, database: str | None) -> None:
    """Compare tables and views with what this program expects; exit 1 where they differ."""
    from batcher.config import database_url
    from batcher.ledger.care import check_database

    differences = check_database(database_url(database))
    click.echo("\n".join(differences) or "The schema is as it should be.")
    context.exit(1 if differences else 0)


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@_DATABASE
def backup(file: Path, database: str | None) -> None:
    """Copy a SQLite ledger to FILE, also while a run is on."""
    from batcher.config import database_url
    from batcher.ledger.care import backup_database

    size = backup_database(database_url(database), file)
    click.echo(f"{file}: {size:,} bytes")


@db.command()
@_DATABASE
def vacuum(database: str | None) -> None:
    """Give unused space back; no run may be on."""
    from batcher.config import database_url
    from batcher.ledger.care import vacuum_database

    vacuum_database(database_url(database))

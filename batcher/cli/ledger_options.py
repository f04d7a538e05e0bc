"""The options of every command that reads a ledger."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from batcher.cli.commands import FILE, option

if TYPE_CHECKING:
    from batcher.ledger.connect import Engine

F = TypeVar("F", bound=Callable[..., Any])


def ledger_options(command: F) -> F:
    """Add `--database` and `--config`."""
    for add in (
        option("--config", type=FILE, metavar="FILE", help="The config.toml to use."),
        option(
            "-d",
            "--database",
            metavar="URL",
            type=FILE,
            help="The ledger: a SQLite file or postgresql+psycopg://user@host/name.",
        ),
    ):
        command = add(command)
    return command


def several_ledgers_options(command: F) -> F:
    """Add `--database`, that may be given several times, and `--config`."""
    for add in (
        option("--config", type=FILE, metavar="FILE", help="The config.toml to use."),
        option(
            "-d",
            "--database",
            "databases",
            multiple=True,
            metavar="URL",
            type=FILE,
            help="A ledger: a SQLite file or postgresql+psycopg://user@host/name; several are"
            " read as one.",
        ),
    ):
        command = add(command)
    return command


def several_ledgers(
    databases: tuple[str, ...], config: str | None
) -> "AbstractContextManager[tuple[Engine, ...]]":
    """All ledgers that the options, or else the configuration, name, open for reading."""
    from batcher.config.files import database_url
    from batcher.report.ledgers import ledgers_to_read

    named = databases or (None,)
    return ledgers_to_read([database_url(each, config) for each in named])


def ledger(database: str | None, config: str | None) -> "AbstractContextManager[Engine]":
    """The ledger that the options and the configuration name, open for reading."""
    from batcher.config.files import database_url
    from batcher.report.ledgers import ledger_to_read

    return ledger_to_read(database_url(database, config))

"""The commands, in the groups that the help shows. One is imported when it is used.

`help` and `completion`, which tell how to type the others, stand here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from batcher import __version__
from batcher.cli.commands import NearChoice, command, completed, suggest, write_examples

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


# heading -> name -> (where the command is, its one line of help); the help stands here too so
# that `batcher --help` imports no command. A test compares.
MENU: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "Run": {
        "run": (
            "batcher.cli.run.run:run",
            "Send the rows of INPUT, or of a job, that are still to do.",
        ),
        "init": (
            "batcher.cli.care.jobs:init",
            "Write a first job file for an input, and say what to type next.",
        ),
        "demo": (
            "batcher.cli.run.demo:demo",
            "See the whole thing work, against a built-in simulator.",
        ),
        "check": ("batcher.cli.run.run:check", "Validate inputs without sending anything."),
        "retry": (
            "batcher.cli.run.run:retry",
            "Make failed and held rows work to do again.",
        ),
        "jobs": (
            "batcher.cli.care.jobs:jobs",
            "List and check job files, print their schema and their units.",
        ),
    },
    "Look": {
        "status": (
            "batcher.cli.look.status:status",
            "Show how far each run is and how it ended.",
        ),
        "report": (
            "batcher.cli.look.report:report",
            "Print what was used and what it cost.",
        ),
        "export": (
            "batcher.cli.look.export:export",
            "Write answers in input order to a file.",
        ),
        "answers": ("batcher.cli.look.rows:answers", "Print the latest answers."),
        "failures": (
            "batcher.cli.look.rows:failures",
            "Print the rows without an answer, grouped by reason.",
        ),
        "batches": (
            "batcher.cli.look.status:batches",
            "List the Message Batches of runs, and settle those that got lost.",
        ),
        "show": (
            "batcher.cli.look.rows:show",
            "Show one request: attempts, legs, usage, prices.",
        ),
    },
    "Money": {
        "estimate": (
            "batcher.cli.money.estimate:estimate",
            "Say what a run is going to cost: ceiling, expectation, interval.",
        ),
        "prices": (
            "batcher.cli.money.prices:prices",
            "List, show, compare, import and check prices.",
        ),
        "reprice": (
            "batcher.cli.money.reprice:reprice",
            "Price all answers again with a price book, and show the difference.",
        ),
        "reconcile": (
            "batcher.cli.money.reconcile:reconcile",
            "Compare the ledger with the provider's own figures.",
        ),
    },
    "Care": {
        "doctor": (
            "batcher.cli.care.setup:doctor",
            "Check configuration, key, endpoint and database.",
        ),
        "config": (
            "batcher.cli.care.setup:config",
            "Show the settings in force and where they come from, or begin a config.toml.",
        ),
        "verify": (
            "batcher.cli.care.ledger:verify",
            "Recompute every charge and check the ledger against itself.",
        ),
        "db": ("batcher.cli.care.ledger:db", "Upgrade, check and look after the database."),
        "models": (
            "batcher.cli.care.setup:models",
            "List the models of an endpoint, and whether their prices are known.",
        ),
        "simulate": (
            "batcher.cli.care.simulate:simulate",
            "Start a local Messages API for trying out.",
        ),
        "completion": (
            "batcher.cli.menu:completion",
            "Print the script that makes a shell complete commands and names.",
        ),
    },
}
COMMANDS: Final = {name: entry for group in MENU.values() for name, entry in group.items()}
_HELP: Final = "batcher.cli.menu:helping"
_FIRST: Final = (
    "batcher demo",
    "batcher run rows.jsonl -e anthropic -m claude-haiku-4-5 --dry-run",
    "batcher help run",
)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """A reader that has seen enough is no failure; Click would end with 1: something found."""
    try:
        yield
    except BrokenPipeError:
        raise click.exceptions.Exit(0) from None


def _print_no_logs() -> None:
    """A signal amid a query closes its connection, which SQLAlchemy logs as a fault."""
    import logging

    logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())


class Menu(click.Group):
    """A group whose commands are imported when one of them is used."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:  # noqa: ANN401 - click's
        """See click; prints help and version."""
        with _reader_may_leave():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's
        """See click; does everything else."""
        with _reader_may_leave():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of `MENU`: the way people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS and cmd_name != "help":
            suggest(ctx, cmd_name, COMMANDS)
            return None
        place = _HELP if cmd_name == "help" else COMMANDS[cmd_name][0]
        module, name = place.split(":")
        command = getattr(import_module(module), name)
        _print_no_logs()
        return command if isinstance(command, click.Command) else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """See click: names and what they are for, without importing any command."""
        from click.shell_completion import CompletionItem

        named = [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in `--help`, without importing anything."""
        width = max(map(len, COMMANDS))
        for heading, commands in MENU.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(name.ljust(width), text) for name, (_, text) in commands.items()]
                )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """See click: what to type first."""
        write_examples(formatter, _FIRST)


@click.group(
    cls=Menu,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="batcher")
@click.pass_context
def group(context: click.Context) -> None:
    """Run Messages API requests in bulk and know exactly what each one cost.

    Rows come from JSONL, CSV or Parquet files, answers and usage land in a SQL database, and
    every attempt is accounted for, including those that a crash left in doubt. Typing the same
    command again continues where it stopped; nothing finished is paid twice.
    """
    if context.invoked_subcommand is None:
        click.echo("\n".join(_short_help()))


def _short_help() -> list[str]:
    names = [
        f"  {heading.lower():7}{', '.join(commands)}" for heading, commands in MENU.items()
    ]
    return [
        "batcher runs Messages API requests in bulk and knows what each one cost.",
        "",
        *names,
        "",
        "Try it: batcher demo. All commands: batcher --help. One of them: batcher help run.",
    ]


@click.command("help", hidden=True)
@click.argument(
    "names", nargs=-1, metavar="[COMMAND]...", shell_complete=completed(lambda: COMMANDS)
)
@click.pass_context
def helping(context: click.Context, names: tuple[str, ...]) -> None:
    """Show the help of COMMAND, as --help does."""
    at = context.find_root()
    for name in names:
        found = (
            at.command.get_command(at, name) if isinstance(at.command, click.Group) else None
        )
        if found is None:
            context.fail(f"no such command {' '.join(names)!r}; batcher --help lists them")
        at = click.Context(found, info_name=name, parent=at)
    click.echo(at.get_help())


@command(
    "batcher completion bash > ~/.local/share/bash-completion/completions/batcher",
    "batcher completion fish > ~/.config/fish/completions/batcher.fish",
)
@click.argument("shell", type=NearChoice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes a shell complete commands and names.

    Besides commands, options and files it completes endpoints, models, the dimensions of a
    report and the columns of an export. For zsh write the script into a folder of your fpath,
    as _batcher.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(group, {}, "batcher", "_BATCHER_COMPLETE").source())

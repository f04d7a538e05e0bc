"""The command line: parse, one call, print. Commands are imported when they are used."""

import errno
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

import click

from batcher import __version__
from batcher.errors import BatcherError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# name -> (where the command is, its one line of help); the help stands here too so that
# `batcher --help` imports no command. A test compares.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": (
        "batcher.cli.run.run:run",
        "Send the rows of INPUT, or of a job, that are still to do.",
    ),
    "demo": (
        "batcher.cli.demo.command:demo",
        "See the whole thing work, against a built-in simulator.",
    ),
    "check": ("batcher.cli.run.check:check", "Validate inputs without sending anything."),
    "estimate": (
        "batcher.cli.money.estimate:estimate",
        "Say what a run is going to cost: ceiling, expectation, interval.",
    ),
    "status": ("batcher.cli.look.status:status", "Show how far each run is and how it ended."),
    "report": ("batcher.cli.look.report:report", "Print what was used and what it cost."),
    "export": ("batcher.cli.look.export:export", "Write answers in input order to a file."),
    "show": ("batcher.cli.look.show:show", "Show one request: attempts, legs, usage, prices."),
    "retry": ("batcher.cli.run.retry:retry", "Make failed and held rows work to do again."),
    "verify": (
        "batcher.cli.care.verify:verify",
        "Recompute every charge and check the ledger against itself.",
    ),
    "reprice": (
        "batcher.cli.money.reprice:reprice",
        "Price all answers anew with a price book, and show the difference.",
    ),
    "reconcile": (
        "batcher.cli.money.reconcile:reconcile",
        "Hold the ledger against the provider's own figures.",
    ),
    "prices": (
        "batcher.cli.money.prices:prices",
        "List, show, compare, import and check prices.",
    ),
    "models": (
        "batcher.cli.care.models:models",
        "List the models of an endpoint, and whether their prices are known.",
    ),
    "jobs": (
        "batcher.cli.care.jobs:jobs",
        "List and check job files.",
    ),
    "db": (
        "batcher.cli.care.db:db",
        "Upgrade, check and look after the database.",
    ),
    "doctor": (
        "batcher.cli.care.doctor:doctor",
        "Check configuration, key, endpoint and database.",
    ),
    "simulate": (
        "batcher.cli.care.simulate:simulate",
        "Start a local Messages API for trying out.",
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when one of them is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of `COMMANDS`: the way people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            self._suggest(ctx, cmd_name)
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command = getattr(import_module(module), name)
        return command if isinstance(command, click.Command) else None

    def _suggest(self, ctx: click.Context, name: str) -> None:
        """Raise `UsageError` that names the command which was probably meant."""
        from difflib import get_close_matches

        if not ctx.resilient_parsing and (close := get_close_matches(name, COMMANDS, 1)):
            ctx.fail(f"no such command {name!r}: did you mean {close[0]!r}?")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in `--help`, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batcher")
def group() -> None:
    """Run Messages API requests in bulk and know exactly what each one cost.

    Rows come from JSONL or Parquet files, answers and usage land in a SQL database, and every
    attempt is accounted for, including those that a crash left in doubt. Typing the same
    command again continues where it stopped; nothing finished is paid twice.

    First steps: batcher demo
    """


def main() -> NoReturn:
    """The `batcher` command: every error is one sentence and an exit code."""
    _open_closed_streams()
    if sys.platform == "win32":
        _fail("batcher runs on Linux; on Windows use it inside WSL", 78)
    _dump_no_core()
    _refuse_other_encodings()
    _refuse_no_folder()
    try:
        code = group.main(prog_name="batcher", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        _leave(exc.exit_code)
    except click.Abort:
        _fail("aborted", 130)
    except BatcherError as exc:
        _fail(str(exc), exc.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        _leave(0)  # the reader of our output has seen enough
    except Exception as exc:  # noqa: BLE001 - the program's edge: a bug has an exit code too
        _unexpected(exc)
    _leave(code if isinstance(code, int) else 0)


def _unexpected(exc: Exception) -> NoReturn:
    if isinstance(exc, OSError) and exc.errno in _FULL:
        _fail(_not_written(exc), 74)
    import traceback

    traceback.print_exception(exc)
    _fail(f"this is a bug ({type(exc).__name__}); what was sent is in the ledger", 70)


def _refuse_other_encodings() -> None:
    """What was typed is recorded; bytes that are no UTF-8 come as halves of surrogates."""
    for argument in sys.argv[1:]:
        try:
            argument.encode()
        except UnicodeEncodeError:
            _fail(f"the argument {argument!r:.300} is not UTF-8; name it otherwise", 2)


def _refuse_no_folder() -> None:
    """Names are relative to the current folder, which somebody may have removed."""
    try:
        Path.cwd()
    except OSError as exc:
        _fail(f"the current folder is not there ({exc.strerror}); change to another one", 2)


def _fail(message: str, code: int) -> NoReturn:
    if not message.isprintable():
        from batcher.cli.words.say import printable

        message = printable(message)
    click.echo(f"batcher: {message}", err=True)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End with `code`, also when nobody reads our output or messages any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as exc:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if code == 0 and exc.errno in _FULL:
                _fail(_not_written(exc), 74)
    sys.exit(code)


def _not_written(exc: OSError) -> str:
    where = f"{exc.filename}" if exc.filename else "the output"
    return f"{where} cannot be written: {exc.strerror}; make room, then type the command again"


def _dump_no_core() -> None:
    """Leave no image of our memory behind, which holds a key, should the process crash."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _open_closed_streams() -> None:
    """Open the standard streams we were started without, so that no file takes their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - stays open
            setattr(sys, name, stream)

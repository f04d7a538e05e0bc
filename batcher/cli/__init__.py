"""The command line: parse, one call, print.

Little is imported here before signals are heeded: as the first process of a container a program
that does not heed SIGTERM yet does not hear it at all.
"""

import errno
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from batcher.cli.interrupts import Interrupted, aborted_words, end_with, heed_signals

if TYPE_CHECKING:
    import click

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> NoReturn:
    """The `batcher` command: every error is one sentence and an exit code."""
    _open_closed_streams()
    if sys.platform == "win32":
        _fail("batcher runs on Linux; on Windows use it inside WSL", 78)
    _dump_no_core()
    try:
        heed_signals()
        _refuse_other_encodings()
        _refuse_no_folder()
        _leave(_typed())
    except (KeyboardInterrupt, Interrupted) as exc:
        _fail(str(exc) or aborted_words(), getattr(exc, "exit_code", 130))
    except BrokenPipeError:
        _leave(0)  # the reader of our output has seen enough
    except Exception as exc:  # noqa: BLE001 - the program's edge: a bug has an exit code too
        _unexpected(exc)


def _typed() -> int:
    """Do what was typed; the code it ends with."""
    import click

    from batcher.cli.menu import group
    from batcher.errors import BatcherError

    try:
        code = group.main(prog_name="batcher", standalone_mode=False)
    except click.ClickException as exc:
        _refuse(exc)
    except click.Abort as exc:  # of a question, or of what Click makes of Ctrl-C
        is_answer = exc.__cause__ is None
        _fail("aborted" if is_answer else aborted_words(), 130)
    except BatcherError as exc:
        _fail(str(exc), exc.exit_code)
    return code if isinstance(code, int) else 0


def _refuse(exc: "click.ClickException") -> NoReturn:
    """What Click says of what was typed, which may hold a key in the wrong place."""
    import io

    from batcher.cli.say import say
    from batcher.config.keys import masked

    said = io.StringIO()
    exc.show(said)
    say(masked(said.getvalue().removesuffix("\n")))
    _leave(exc.exit_code)


def _unexpected(exc: Exception) -> NoReturn:
    from batcher.errors import limit_reached

    if isinstance(exc, OSError) and exc.errno in _FULL:
        _fail(_not_written(exc), 74)
    if limit := limit_reached(exc):
        _fail(str(limit), limit.exit_code)
    if isinstance(exc, FileNotFoundError) and not _is_folder_there():
        _fail(
            "the current folder was removed meanwhile; put it back, and compare with the"
            " provider's bill",
            74,
        )
    import traceback

    from batcher.cli.say import say
    from batcher.config.keys import masked

    say(masked("".join(traceback.format_exception(exc)).rstrip()))
    _fail(f"this is a bug ({type(exc).__name__}); what was sent is in the ledger", 70)


def _refuse_other_encodings() -> None:
    """What was typed is recorded; bytes that are no UTF-8 come as halves of surrogates."""
    for argument in sys.argv[1:]:
        try:
            argument.encode()
        except UnicodeEncodeError:
            _fail(f"the argument {argument!r:.300} is not UTF-8; name it otherwise", 2)


def _is_folder_there() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - before pathlib is there
    except OSError:
        return False
    return True


def _refuse_no_folder() -> None:
    """Names are relative to the current folder, which somebody may have removed."""
    try:
        os.getcwd()  # noqa: PTH109 - before pathlib is there
    except OSError as exc:
        _fail(f"the current folder is not there ({exc.strerror}); change to another one", 2)


def _fail(message: str, code: int) -> NoReturn:
    from batcher.cli.say import say
    from batcher.config.keys import masked

    say(f"batcher: {masked(message)}")
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
    end_with(code)


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
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - stays open
            setattr(sys, name, stream)

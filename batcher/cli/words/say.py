"""Lines for people on standard error, safe for their terminal."""

import contextlib

import click

from batcher.outputs import visible


def say(message: str) -> None:
    """A line on standard error; a closed one must not stop paid work."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(printable(message), err=True)


def tell(text: str | bytes, *, err: bool = False, nl: bool = True) -> None:
    """What a command prints; it shows what would steer a terminal, as JSON escapes."""
    click.echo(visible(text if isinstance(text, str) else text.decode()), err=err, nl=nl)


def silence(_message: str) -> None:
    """Instead of `say`, where nothing is to be said."""


def printable(message: str) -> str:
    """`message` without what steers a terminal: a server's own words may be part of it."""
    if message.isprintable():
        return message
    from batcher.report.words import safe_text

    return "\n".join(map(safe_text, message.split("\n")))

"""`batcher help` and `batcher completion`: how to type the others."""

import click

from batcher.cli.commands import NearChoice, command, completed
from batcher.cli.names import command_names


@click.command("help", hidden=True)
@click.argument(
    "names", nargs=-1, metavar="[COMMAND]...", shell_complete=completed(command_names)
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

    from batcher.cli.menu import group

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(group, {}, "batcher", "_BATCHER_COMPLETE").source())

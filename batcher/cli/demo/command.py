"""`batcher demo`."""

from batcher.cli.commands import command, option


@command("batcher demo", "batcher demo -d demo.db")
@option(
    "-d",
    "--database",
    default="batcher-demo.db",
    show_default=True,
    metavar="URL",
    help="Where the answers go.",
)
def demo(database: str) -> int:
    """See the whole thing work, against a built-in simulator.

    Starts a Messages API on this machine, runs two sample jobs of 2,400 rows against it and
    prints the pricing report. Needs no key, costs nothing, takes about ten seconds.
    """
    from batcher.cli.demo.show import run_demo

    return run_demo(database)

"""`batcher reconcile`: does it match the provider's bill, and if not, why."""

import click

from batcher.cli.ledger_options import several_ledgers, several_ledgers_options


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--endpoint", metavar="NAME", help="What was sent there; needed with several.")
@click.option("--all", "every", is_flag=True, help="Lines that agree, too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "markdown", "parquet"]),
    default="table",
    show_default=True,
    help="How to write it.",
)
@click.option("-o", "--output", metavar="FILE", help="Write to FILE, not to standard output.")
@several_ledgers_options
@click.pass_context
def reconcile(
    context: click.Context,
    files: tuple[str, ...],
    endpoint: str | None,
    every: bool,
    form: str,
    output: str | None,
    databases: tuple[str, ...],
    config: str | None,
) -> None:
    """Hold the ledger against the provider's own figures.

    FILE is a saved response of the usage report or the cost report of the provider's Admin
    API (JSON), or an export of its Console (CSV). Nothing is fetched. Each line is a UTC day,
    model, tier, geography and kind of token: theirs, ours, the difference, and its cause. The
    exit code is 1 when differences remain.
    """
    from batcher.cli.report import require_file, show_sheet
    from batcher.report.reconcile.compare import reconcile as hold_against

    require_file(form, output)
    with several_ledgers(databases, config) as engines:
        found = hold_against(engines, files, endpoint=endpoint, every=every)
    show_sheet(found.sheet, form, output)
    context.exit(1 if found.differing else 0)

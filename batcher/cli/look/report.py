"""`batcher report`, and what is said and judged beside it: old prices, answers without any."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.commands import (
    FILE,
    NearChoice,
    choice,
    command,
    completed,
    dimension_names,
    force_option,
    format_options,
    number,
    option,
    several_ledgers,
    several_ledgers_options,
)
from batcher.cli.say import say, tell
from batcher.finance.focus.columns import Grain, Version
from batcher.report.render.formats import Format, require_file, write, write_report

if TYPE_CHECKING:
    from batcher.ledger.connect import Engine
    from batcher.outputs import Guard
    from batcher.report.query import ReportQuery
    from batcher.report.table import Table


_UNCLEAR = 65
_FOCUS_FORMAT = "focus"  # has columns of its own, so it is no format of a table
_WHOLE_REPORT = (Format.HTML, _FOCUS_FORMAT)
_OTHER_TABLES = ("--view", "--compare", "--what-if")
_FOCUS = ("focus_grain", "focus_version", "focus_account")
_VIEWS = ("waste", "cache", "costs", "latency", "units", "top", "prefixes")


@command(
    "batcher report --by model --by day --last month",
    "batcher report --view waste --format csv -o waste.csv",
)
@option(
    "--by",
    multiple=True,
    metavar="WORD",
    shell_complete=completed(dimension_names),
    help="A line per model (the default), requested_model, stop_reason, hour, day, week, month,"
    " run, invocation, job, endpoint, lane, workspace, source or tag:NAME; several times to"
    " combine.",
)
@option("--since", metavar="TIME", help="Sent at this date or time, or later.")
@option("--until", metavar="TIME", help="Sent before this date or time.")
@option(
    "--last",
    metavar="WHAT",
    help="What the latest run sent (run), the hours or days until now (24h, 7d), or the last"
    " whole day, week or month before today.",
)
@option(
    "--tz",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    help="The time zone of days and dates, such as Europe/Paris.",
)
@option("--run", "run_id", type=number, metavar="ID", help="One run only, by its number.")
@option(
    "--rating",
    type=number,
    metavar="N",
    help="The ledger as it was when rating N was complete; see batcher prices ratings.",
)
@option(
    "--view",
    type=NearChoice(_VIEWS),
    help="Another look: what was wasted, what caching saved, list price beside what was charged"
    " and what providers report, how long it took, what one row costs, the dearest rows.",
)
@option(
    "--top",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="How many rows --view top shows.  [default: 20]",
)
@option(
    "--compare",
    nargs=2,
    metavar="A B",
    help="Two of these side by side: 2026, 2026-10, 2026-W40, 2026-10-05, run:ID or run:NAME,"
    " model:NAME.",
)
@option(
    "--what-if",
    multiple=True,
    metavar="WHAT",
    help="What the same tokens would have cost with model=NAME, lane=batch or lane=live.",
)
@format_options(*(each.value for each in Format), _FOCUS_FORMAT)
@option(
    "--focus-grain",
    type=choice(Grain),
    help="What a row of --format focus sums up, for each meter.  [default: hour]",
)
@option(
    "--focus-version",
    type=choice(Version),
    help="Whose column names --format focus has.  [default: 1.2]",
)
@option(
    "--focus-account",
    metavar="ID",
    help="The billing account in --format focus.  [default: the endpoint's name]",
)
@option(
    "-o", "--output", type=FILE, metavar="FILE", help="Write to FILE, not to standard output."
)
@force_option()
@option(
    "--strict",
    is_flag=True,
    help="Exit 65 when a price in it is missing or assumed.",
)
@several_ledgers_options
def report(
    databases: tuple[str, ...],
    config: str | None,
    output: str | None,
    strict: bool,
    **asked: Any,  # noqa: ANN401 # click passes every other option by its name
) -> int:
    """Print what was used and what it cost.

    Works while a run is on. Money in doubt and answers without a price are told apart and never
    guessed. Dates are read in the zone of --tz. Several --database are read as one.
    """
    from batcher.clock import SystemClock
    from batcher.report.ledgers import narrowed
    from batcher.report.query import query_of

    query = query_of({**asked, "run": asked["run_id"]}, SystemClock().now_us())
    _check(asked, output)
    _require_one(databases, asked)
    with several_ledgers(databases, config) as engines:
        query = narrowed(engines[0], query, asked["last"])
        _answer(engines, query, asked, output)
        warn_of_old_books(engines, config)
        return strict_exit_code(engines, query) if strict else 0


def _answer(
    engines: "Sequence[Engine]",
    query: "ReportQuery",
    asked: dict[str, Any],
    output: str | None,
) -> None:
    from batcher.outputs import NOTHING_KEPT
    from batcher.report.ledgers import guard_of

    form = asked["form"]
    guard = guard_of(engines, force=asked["force"]) if output else NOTHING_KEPT
    table = _table(engines, query, asked)
    if table is not None:
        write(table, Format(form), output, sys.stdout, guard)
    elif form == _FOCUS_FORMAT:
        _write_focus(engines, query, asked, output, guard)
    else:
        write_report(engines, query, Format(form), output, sys.stdout, guard)


def _write_focus(
    engines: "Sequence[Engine]",
    query: "ReportQuery",
    asked: dict[str, Any],
    output: str | None,
    guard: "Guard",
) -> None:
    from batcher.finance.focus.columns import columns_of
    from batcher.finance.focus.write import FocusOptions, write_focus
    from batcher.report.render.formats import target_file, target_stream
    from batcher.rows.out.output import has_columns

    options = FocusOptions(
        grain=Grain(asked["focus_grain"] or "hour"),
        version=Version(asked["focus_version"] or "1.2"),
        account=asked["focus_account"],
    )
    columns = columns_of(options.version)
    if (output or "").endswith(".parquet"):
        from batcher.finance.focus.parquet import focus_parquet

        is_ours = has_columns("parquet", columns)
        with target_file(output or "", guard, is_ours) as file:
            said = focus_parquet(engines, query, options, file)
    else:
        is_ours = has_columns("csv", columns)
        with target_stream(output, sys.stdout, guard, is_ours) as stream:
            said = write_focus(engines, query, options, stream)
    for sentence in said:
        tell(sentence, err=True)


def _table(
    engines: "Sequence[Engine]", query: "ReportQuery", asked: dict[str, Any]
) -> "Table | None":
    """The other table that was asked for, `None` for the report itself."""
    if asked["view"] is not None:
        from batcher.report.views.catalogue import TOP, View, look

        return look(engines, query, View(asked["view"]), top=asked["top"] or TOP)
    if asked["compare"] is not None:
        from batcher.finance.compare import compare_table

        return compare_table(engines, query, asked["compare"])
    if asked["what_if"]:
        from batcher.finance.what_if import parse_supposition, what_if_table

        return what_if_table(engines, query, parse_supposition(asked["what_if"]))
    return None


def _check(asked: dict[str, Any], output: str | None) -> None:
    from batcher.errors import UsageError

    if asked["compare"] and asked["last"] == "run":
        raise UsageError("--compare already says what is compared: leave out --last run")
    if asked["top"] is not None and asked["view"] != "top":
        raise UsageError("--top says how many rows --view top shows: add --view top")
    others = [name for name in _OTHER_TABLES if asked[name.strip("-").replace("-", "_")]]
    if len(others) > 1:
        raise UsageError(f"{others[0]} and {others[1]} are two reports: ask for one at a time")
    if others and asked["form"] in _WHOLE_REPORT:
        raise UsageError(
            f"--format {asked['form']} writes the whole report: leave out {others[0]}"
        )
    require_file(asked["form"], output)
    focus = [name for name in _FOCUS if asked[name] is not None]
    if focus and asked["form"] != _FOCUS_FORMAT:
        raise UsageError(f"--{focus[0].replace('_', '-')} is for --format focus: add that")
    if asked["by"] and asked["form"] == _FOCUS_FORMAT:
        raise UsageError("--format focus has its own columns: leave out --by")
    if asked["view"] in ("top", "prefixes") and asked["by"]:
        raise UsageError(f"--view {asked['view']} has lines of its own: leave out --by")


def _require_one(databases: tuple[str, ...], asked: dict[str, Any]) -> None:
    """Raise `UsageError` where a number of one database is asked for over several."""
    from batcher.errors import UsageError

    sides = asked["compare"] or ()
    numbered = [name for name in ("run_id", "rating") if asked[name] is not None]
    numbered += [side for side in sides if side.startswith("run:")]
    numbered += ["--last run"] if asked["last"] == "run" else []
    if len(databases) > 1 and numbered:
        name = "--" + numbered[0].removesuffix("_id") if numbered[0] in asked else numbered[0]
        raise UsageError(f"{name} is about one database: give one --database")


def warn_of_old_books(engines: "Sequence[Engine]", config_path: str | None) -> None:
    """Say on standard error which price books were too old when answers were priced.

    Ages are those at the newest answer, so that one ledger is told of in the same words always.
    """
    from batcher.config.files import price_book_max_age
    from batcher.ledger.connect import reading
    from batcher.ledger.rate.ratings import books_in_use

    most = price_book_max_age(config_path)
    if not most:
        return
    told = set()
    for engine in engines:
        with reading(engine) as connection:
            books = books_in_use(connection)
        told |= {(each.version, each.age_days) for each in books if each.age_days > most}
    for version, days in sorted(told):
        say(
            f"warning: price book {version} was {days} days old when it priced the newest "
            f"answers: look for newer prices (price_book_max_age_days is {most})"
        )


def strict_exit_code(engines: "Sequence[Engine]", query: "ReportQuery") -> int:
    """65 when an answer that the report is about has no price or an assumed one, else 0."""
    from batcher.report.summary import summarise

    counts = summarise(engines, query).total.counts
    return _UNCLEAR if counts.unpriced_requests or counts.assumed_charges else 0

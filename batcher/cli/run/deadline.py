"""What a run with a deadline says at its end: what that saved, and whether it was kept."""

from typing import Any

from batcher import wiring
from batcher.cli.words.say import say
from batcher.clock import SystemClock, moment_of
from batcher.errors import BatcherError
from batcher.estimate.expected_cost import Tariff
from batcher.estimate.ways import LaneMoney, lane_money
from batcher.ledger.connect import engine_at, reading
from batcher.ledger.money.budget import lane_tokens
from batcher.pipeline.choices import Deadline
from batcher.pipeline.events import LATE, Ended, Started
from batcher.pipeline.job import Job
from batcher.pricing.money import format_usd, usd_text
from batcher.report.words import count_of


def tell_deadline(
    job: Job, ended: Ended, start: Started | None, since_us: int, *, quiet: bool
) -> dict[str, Any]:
    """Say how the run went about its deadline; the same for its JSON object."""
    if job.deadline is None:
        return {}
    money, late = _money(job, start, since_us), ended.unfinished_rows.get(LATE, 0)
    over = SystemClock().now_us() > job.deadline.at_us
    missed = late > 0 or (ended.rows_left and over)
    if not quiet:
        for line in _lines(job.deadline, money, late, missed=missed):
            say(line)
    return {
        "deadline": {
            "at": moment_of(job.deadline.at_us).isoformat(),
            "missed": missed,
            "late_rows": late,
            "batch_saved_usd": usd_text(money.saved),
            "moved_rows": money.moved_rows,
            "move_cost_usd": usd_text(money.move_cost),
        }
    }


def _money(job: Job, start: Started | None, since_us: int) -> LaneMoney:
    nothing = LaneMoney(saved=0, moved_rows=0, move_cost=0)
    if start is None:
        return nothing
    tariff = Tariff(wiring.rater_of(job, wiring.price_book(job)), SystemClock().now_us())
    try:
        with engine_at(job.database, read_only=True) as engine, reading(engine) as connection:
            return lane_money(lane_tokens(connection, start.run_id, since_us), tariff)
    except BatcherError:
        return nothing  # what went wrong with the database is said already


def _lines(deadline: Deadline, money: LaneMoney, late: int, *, missed: bool) -> list[str]:
    lines = []
    if money.saved or money.moved_rows:
        moving = (
            f"; moving {count_of(money.moved_rows, 'row')} cost {format_usd(money.move_cost)}"
        )
        lines.append(f"batch saved {format_usd(money.saved)}{moving * bool(money.moved_rows)}")
    if missed:
        what = f"{count_of(late, 'row')} answered after it" if late else "rows are left to do"
        lines.append(f"the deadline {deadline.words} was missed: {what}")
    return lines

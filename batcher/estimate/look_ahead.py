"""What is said, asked and refused before the first row of a run is sent."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from batcher.clock import SystemClock
from batcher.errors import ConfigurationError
from batcher.estimate.census import Census
from batcher.estimate.estimate import census_of, inputs_of, sample_of
from batcher.estimate.expected_cost import ceiling_words
from batcher.estimate.preflight_sample import (
    Sample,
    refusal_words,
    refuse_hopeless,
    refuse_misnamed,
)
from batcher.pipeline.job import Job, Services
from batcher.pricing.book.book import PriceBook, load_shipped
from batcher.pricing.book.differences import implausible
from batcher.pricing.money import format_usd
from batcher.pricing.rate.rates import utc_day
from batcher.report.words import count_of
from batcher.rows.read.check import left_out_notes, reading_notes

# Reading the inputs for nothing but the ceiling must not keep a run waiting for long.
_QUICK_BYTES: Final = 16 * 2**20

Say = Callable[[str], object]


def look_ahead(
    job: Job, services: Services, say: Say | None, ask: Say | None, *, assume_yes: bool
) -> None:
    """Say before a run starts which rows it would refuse, and what it can cost at most.

    `say` takes a sentence each, `None`: silence. `ask` takes the question above the job's
    `ask_above`, and raises for a no; `None`: nobody is there to answer. Large inputs are read
    whole only when somebody may have to be asked, else sampled. `assume_yes` lets a cap rest
    on prices that cannot be meant.

    Raises `ConfigurationError` when every row would be refused.
    """
    must_know = job.ask_above is not None and ask is not None and not job.cancel
    size = sum(file.size_bytes() for file in services.files)
    inputs = inputs_of(services)
    _mind_prices(job, inputs.rater.book, say, assume_yes=assume_yes)
    is_quick = say is not None and size <= _QUICK_BYTES
    census = census_of(job, inputs) if must_know or is_quick else None
    sample = census.sample if census else sample_of(job, inputs)
    refuse_misnamed(sample)
    if say:
        files, builder = services.files, services.builder
        for line in reading_notes(files) + left_out_notes(files, builder) + builder.notices:
            say(line)
        of_rows = sample.models - {job.settings.model}  # that one is told with the prices
        for line in inputs.rater.retirements(of_rows, inputs.now_us):
            say(line)
    if job.preflight:
        _show_refusals(sample, say)
    if census is not None and census.requests and not job.cancel:
        _tell_ceiling(job, census, say, ask if must_know else None)
        if say and job.deadline is not None and inputs.rater.in_batches:
            live = replace(inputs, rater=replace(inputs.rater, in_batches=False))
            _tell_move(census.ceiling, census_of(job, live).ceiling, say)


def _tell_move(in_batches: int, live: int, say: Say) -> None:
    """The price of the worst night: no batch is back in time, and all rows move."""
    more = format_usd(live - in_batches)
    say(f"that is in batches; if all rows had to move to the live lane, up to {more} more")


def _tell_ceiling(job: Job, census: Census, say: Say | None, ask: Say | None) -> None:
    rows = count_of(census.requests, "row")
    words = ceiling_words(job, census.ceiling, census.in_legs, census.unbounded)
    if say:
        say(f"{rows} to do; ceiling: {words}")
    if ask and (census.unbounded or census.ceiling > (job.ask_above or 0)):
        ask(f"Ceiling: {words}. Send {rows}?")


def _mind_prices(job: Job, book: PriceBook, say: Say | None, *, assume_yes: bool) -> None:
    """Refuse prices that cannot be meant where a cap rests on them; else warn."""
    if job.prices in {None, "none"}:
        return
    slips = implausible(book, load_shipped(), utc_day(SystemClock().now_us()))
    capped = job.limits.max_cost is not None or job.limits.max_cost_month is not None
    if slips and capped and not assume_yes:
        raise ConfigurationError(
            f"{job.prices}: {slips[0]}; a cap kept with such prices caps nothing: look with"
            f" `batcher prices check {job.prices}`, or give --yes"
        )
    if say:
        for sentence in slips:
            say(f"warning: {job.prices}: {sentence}")


def _show_refusals(sample: Sample, say: Say | None) -> None:
    refuse_hopeless(sample)
    words = refusal_words(sample)
    if words and say:
        say(words)

"""The steps of `batcher estimate`: census, pilot, token rates, expectation, and keeping it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from batcher import wiring
from batcher.clock import SystemClock, seeded
from batcher.errors import ChangedSettings
from batcher.estimate.census import (
    TICKETS,
    Census,
    Inputs,
    Standing,
    draw,
    read_chosen,
    send_pilot,
    take_census,
)
from batcher.estimate.expected_cost import (
    Method,
    Parts,
    Tariff,
    ceiling_words,
    measured_rates,
    parts_of,
    seen_answers,
)
from batcher.estimate.interval import Expectation, Stratum, expect_total
from batcher.estimate.preflight_sample import Sample, take_sample
from batcher.estimate.tokens import other_rates
from batcher.estimate.ways import Way, WayCounts, WayTerms, other_models, ways
from batcher.ledger.connect import Engine, engine_at, parse_url, reading, writing
from batcher.ledger.migrate import current, prepare, require_head
from batcher.ledger.money.estimates import (
    EndpointTimes,
    NewEstimate,
    SampledAnswer,
    basis,
    endpoint_times,
    like_answers,
    pilot_answers,
    run_of_key,
    save_estimate,
)
from batcher.pipeline.job import Job, Services
from batcher.pipeline.progress import Ended, Observer
from batcher.pipeline.run.row_checks import may_take_legs
from batcher.rows.read.source import SourceFile

_HISTORY_ROWS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """An estimate, and what is to be said about it.

    `expectation` is `None` when only the ceiling is known; `parts.reason` says why. `pilot` is
    how a pilot sent just now ended. `count_note` is why the endpoint counted no tokens. Where
    nothing is left to do there is nothing to keep, so `estimate_id` is `None`. `drawn` rows
    were to be sent by that pilot; `files` are the inputs. `ways` are compared where asked for.
    """

    job: Job
    census: Census
    parts: Parts
    expectation: Expectation | None
    count_note: str
    price_note: str
    estimate_id: int | None
    database: str
    database_created: bool
    files: Sequence[SourceFile]
    drawn: int = 0
    pilot: Ended | None = None
    ways: Sequence[Way] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One look at inputs and ledger."""

    census: Census
    pilot: Sequence[SampledAnswer]
    history: Sequence[SampledAnswer]
    counts: WayCounts | None
    times: EndpointTimes


def estimate(
    job: Job,
    pilot_rows: int | None,
    *,
    observer: Observer,
    say: Callable[[str], None],
    services: Services | None = None,
    compares: bool = False,
) -> Estimated:
    """Estimate what is still to do of `job`; with `pilot_rows`, after a pilot of so many.

    `compares`: with the ways that these rows can go, see `estimate.ways`.

    `observer` watches the pilot, and `say` tells before it begins what it may cost. `services`
    are those of a run which begins with the pilot. Raises `ChangedSettings` when answered
    rows would be sent again and nobody agreed; without a run nobody is asked.
    """
    of_run = services is not None
    inputs, services = (
        (inputs_of(services), services)
        if services
        else _inputs(job, observer if pilot_rows else None)
    )
    fingerprints = [(file.name, file.fingerprint()) for file in inputs.files]
    name = basis(job.settings.digest(), fingerprints)
    look, pilot, drawn = _look(job, inputs, name, pilot_rows or 0, compares), None, 0
    missing = (pilot_rows or 0) - len(look.pilot)
    if services is not None and missing > 0 and look.census.requests:
        drawn = min(missing, look.census.requests)
        with nullcontext() if of_run else _leaving_changes_to_a_run():
            pilot = _send_pilot(job, services, inputs, look.census, missing, say)
        look = _look(job, inputs, name, 0, compares)
    parts, count_note = _parts(job, inputs, look)
    expectation = _expectation(parts, look.census, seeded(f"{name}/interval"))
    estimate_id, created = None, False
    if look.census.requests:
        made = _made(job, inputs, name, look.census, parts, expectation)
        estimate_id, created = _keep(job, made)
    return Estimated(
        job=job,
        census=look.census,
        parts=parts,
        expectation=expectation,
        count_note=count_note,
        price_note=wiring.price_note(job, inputs.rater.book),
        estimate_id=estimate_id,
        database=parse_url(job.database).shown,
        database_created=created,
        files=inputs.files,
        drawn=drawn,
        pilot=pilot,
        ways=_ways(job, inputs, look, parts),
    )


def _ways(job: Job, inputs: Inputs, look: _Look, parts: Parts) -> list[Way]:
    if look.counts is None or not parts.models:
        return []
    terms = WayTerms(
        models={model.model: model for model in parts.models},
        tariff=Tariff(inputs.rater, inputs.now_us),
        times=look.times,
        quota=job.limits.quota,
        concurrency=job.limits.concurrency,
        has_batches=job.endpoint.batches,
        others=other_models(inputs.rater, inputs.now_us),
    )
    return ways(look.counts, terms)


@contextmanager
def _leaving_changes_to_a_run() -> Iterator[None]:
    try:
        yield
    except ChangedSettings as exc:
        raise ChangedSettings(
            "the settings of this job changed since rows of it were answered; no pilot was "
            "sent: restore the settings, or let batcher run decide about the answered rows"
        ) from exc


def census_of(job: Job, inputs: Inputs) -> Census:
    """What is still to do of `job`, and its ceiling."""
    with _ledger(job.database) as database:
        run_id = _run_id(database, job)
        standing = Standing(database, run_id, inputs.files, job.settings.digest(), job)
        return take_census(inputs, standing, lambda: 0.5, tickets=1)


def sample_of(job: Job, inputs: Inputs) -> Sample:
    """The first rows that are still to do; the ledger is only asked when one is refused."""
    sample = take_sample(inputs.files, inputs.builder)
    if not sample.refused:
        return sample
    with _ledger(job.database) as database:
        run_id = _run_id(database, job)
        standing = Standing(database, run_id, inputs.files, job.settings.digest(), job)
    return take_sample(inputs.files, inputs.builder, lambda name: standing.of(name).done)


def inputs_of(services: Services) -> Inputs:
    """The inputs that a run is about to send."""
    now = services.clock.now_us()
    return Inputs(
        files=services.files, builder=services.builder, rater=services.rater, now_us=now
    )


def _inputs(job: Job, observer: Observer | None) -> tuple[Inputs, Services | None]:
    """Standard input is read once, so a pilot and its estimate share the files."""
    if observer is not None:
        services = wiring.services_for(job, observer)
        return inputs_of(services), services
    builder = wiring.request_builder(job)
    book = wiring.price_book(job)
    files = wiring.checked_files(job, builder)
    rater = wiring.rater_of(job, book)
    now = SystemClock().now_us()
    return Inputs(files=files, builder=builder, rater=rater, now_us=now), None


def _look(
    job: Job,
    inputs: Inputs,
    name: str,
    pilot_rows: int,
    compares: bool,  # noqa: FBT001
) -> _Look:
    digest = job.settings.digest()
    counts, times = WayCounts(inputs) if compares else None, EndpointTimes()
    with _ledger(job.database) as database:
        run_id = _run_id(database, job)
        pilot: list[SampledAnswer] = []
        if database is not None and run_id is not None:
            with reading(database) as connection:
                pilot = pilot_answers(connection, run_id, digest)
        if database is not None and compares:
            with reading(database) as connection:
                where = job.endpoint.name, job.endpoint.spellings
                times = endpoint_times(connection, *where)
        history = [] if pilot else _history(database, job, run_id)
        standing = Standing(database, run_id, inputs.files, digest, job)
        census = take_census(
            inputs,
            standing,
            seeded(f"{name}/rows"),
            wanted=frozenset((a.source, a.row_number) for a in (*pilot, *history) if a.own),
            tickets=max(TICKETS, pilot_rows),
            told=counts.add if counts else lambda _: None,
        )
    return _Look(census=census, pilot=pilot, history=history, counts=counts, times=times)


def _history(database: Engine | None, job: Job, run_id: int | None) -> list[SampledAnswer]:
    if database is None:
        return []
    with reading(database) as connection:
        return like_answers(
            connection,
            settings_digest=job.settings.digest(),
            simulated=job.endpoint.simulated,
            run_id=run_id,
            limit=_HISTORY_ROWS,
        )


def _send_pilot(
    job: Job,
    services: Services,
    inputs: Inputs,
    census: Census,
    rows: int,
    say: Callable[[str], None],
) -> Ended:
    chosen = draw(census.cells, rows)
    ceiling = in_legs = unbounded = 0
    for request in read_chosen(inputs, chosen):
        bound = inputs.bound(request)
        ceiling += bound or 0
        in_legs += (bound or 0) if may_take_legs(request.body) else 0
        unbounded += bound is None
    words = ceiling_words(job, ceiling, in_legs, unbounded)
    drawn = sum(map(len, chosen.values()))
    say(f"pilot: sending {drawn:,} rows drawn at random; ceiling: {words}")
    return send_pilot(job, services, chosen)


def _parts(job: Job, inputs: Inputs, look: _Look) -> tuple[Parts, str]:
    tariff = Tariff(inputs.rater, inputs.now_us)
    census = look.census
    if not census.requests:
        return Parts(method=Method.CEILING, sampled=0, reason="nothing is left to do"), ""
    answers = look.pilot or look.history
    seen = seen_answers(answers, census.lengths, tariff)
    method = Method.CEILING
    if seen:
        method = Method.PILOT if look.pilot else Method.HISTORY
    rates = {m: r for m, r in measured_rates(seen).items() if m in census.models}
    more, note = other_rates(job, inputs, census, rates)
    return parts_of(census, seen, method, {**rates, **more}, tariff), note


def _expectation(
    parts: Parts, census: Census, chance: Callable[[], float]
) -> Expectation | None:
    if parts.method is Method.CEILING:
        return None
    return expect_total(
        [Stratum(rows=rows, values=values) for rows, values in parts.strata],
        chance,
        fixed=parts.fixed,
        margin=parts.margin,
        ceiling=None if census.unbounded else census.ceiling,
    )


def _made(
    job: Job,
    inputs: Inputs,
    name: str,
    census: Census,
    parts: Parts,
    expectation: Expectation | None,
) -> NewEstimate:
    methods = sorted({model.input_method for model in parts.models})
    return NewEstimate(
        run_key=job.key,
        made_at=inputs.now_us,
        basis=name,
        method=parts.method.value,
        input_method="+".join(methods),
        sampled=parts.sampled,
        requests=census.requests,
        unbounded=census.unbounded,
        expected=expectation.expected if expectation else None,
        low=expectation.low if expectation else None,
        high=expectation.high if expectation else None,
        ceiling=census.ceiling,
    )


def _keep(job: Job, made: NewEstimate) -> tuple[int, bool]:
    """(number of the estimate, whether the database was made for it)."""
    with engine_at(job.database) as database:
        created = prepare(database).created
        with writing(database) as connection:
            return save_estimate(connection, made), created


@contextmanager
def _ledger(url: str) -> Iterator[Engine | None]:
    """The job's ledger, to be read; `None` while there is none."""
    path = parse_url(url).path
    if path is not None and not path.is_file():
        yield None
        return
    with engine_at(url, read_only=True) as engine:
        there = current(engine) is not None
        if there:
            require_head(engine)
        yield engine if there else None


def _run_id(database: Engine | None, job: Job) -> int | None:
    if database is None:
        return None
    with reading(database) as connection:
        return run_of_key(connection, job.key)

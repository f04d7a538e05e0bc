"""From a job to ready objects: the only place where concrete classes meet."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Final

from batcher.clock import SystemClock
from batcher.config.keys import check_not_typed, read_key
from batcher.errors import BatcherError, CannotCreate, ConfigurationError, did_you_mean
from batcher.ledger.connect import engine_at, parse_url, reading
from batcher.ledger.migrate import current, require_head
from batcher.ledger.money.estimates import EndpointTimes, endpoint_times
from batcher.outputs import Guard, is_url
from batcher.pacing.pacer import Pacer
from batcher.pipeline.choices import IfRunning
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.job import Job, Services, SignalWays
from batcher.pipeline.progress import Ended, Observer
from batcher.pipeline.run.holding import hold
from batcher.pipeline.run.row_checks import Inspection, inspect
from batcher.pipeline.run.run import run_by_deadline, run_job, run_with_cache
from batcher.pricing.book.book import PriceBook, age_warning, load_file, load_shipped
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.out.output import open_writer
from batcher.rows.read.check import check_source, hidden_rows
from batcher.rows.read.source import STDIN, Place, SourceFile, find_sources, input_naming
from batcher.transport.endpoint import SHORTEST_HIDDEN, Endpoint, Secret, quota_fingerprint
from batcher.wiring.connecting import batches_maker, carried, packing_maker, phase_notes
from batcher.wiring.fallbacks import fallback_notes, fallback_services, live_lane, rules_of
from batcher.wiring.process import OwnProcess, Process, loop_factory
from batcher.wiring.resolve import Asked, resolve

_PROVIDERS: Final = "anthropic"  # the list of the provider itself


def price_words(typed: Asked) -> str:
    """Whose prices a run would count with, in one sentence; needs no inputs.

    Raises `ConfigurationError` for a list that the endpoint names and that is not there.
    """
    job = resolve(replace(typed, inputs=typed.inputs or ("-",), day=None))
    book = price_book(job)
    if missing := _missing_list(job, book):
        raise ConfigurationError(missing)
    return price_note(job, book)


def _missing_list(job: Job, book: PriceBook) -> str:
    """What to say of a price list that nobody has; else nothing."""
    name = price_list(job, book)
    if name is None or name in book.lists:
        return ""
    return (
        f"the price list {name} of endpoint {job.endpoint.name} is not in price book"
        f" {book.version}: its answers stay unpriced{did_you_mean(name, book.lists)}"
    )


def price_book(job: Job) -> PriceBook:
    """The shipped prices, extended by the user's own file when there is one."""
    if job.prices in {None, "none"}:
        return load_shipped()
    return load_file(Path(str(job.prices)))


def price_list(job: Job, book: PriceBook) -> str | None:
    """The name of the list that the endpoint's answers are priced with; `None`: unpriced."""
    return list_for(job, job.endpoint, book)


def list_for(job: Job, endpoint: Endpoint, book: PriceBook) -> str | None:
    """The same for another endpoint of the job."""
    if job.prices == "none":
        return None
    nearer = endpoint.price_list == _PROVIDERS and not endpoint.simulated
    if endpoint.name in book.lists and (nearer or endpoint.price_list is None):
        return endpoint.name  # a price file that names the endpoint means it
    return endpoint.price_list


def rater_of(job: Job, book: PriceBook) -> Rater:
    """Prices what the job sends, wherever it goes."""
    further = tuple(
        (Rater(book, list_for(job, each.endpoint, book)), each.model) for each in job.fallback
    )
    return Rater(book, price_list(job, book), further, in_batches=job.lane.packs)


def price_note(job: Job, book: PriceBook) -> str:
    """Whose prices count, in one sentence, and whether they are old."""
    name = price_list(job, book)
    if name is None:
        return f"no price list for endpoint {job.endpoint.name}: answers stay unpriced"
    if missing := _missing_list(job, book):
        return missing
    note = f"priced with list {name} of price book {book.version}"
    model = job.settings.model
    unknown = book.no_price_words(name, model) if model else ""
    now_us = SystemClock().now_us()
    retires = book.retirement_words(name, model, now_us) if model else ""
    warning = age_warning(book, now_us, job.price_book_max_age_days)
    return "; ".join(filter(None, [note, unknown, retires, warning]))


def services_for(
    job: Job,
    observer: Observer,
    files: Sequence[SourceFile] = (),
    process: Process = OwnProcess(),  # noqa: B008 - has no state
) -> Services:
    """Everything that `job` needs to run; raises before anything is opened or sent.

    `files` are the inputs when they were found before: standard input can be read once only.
    """
    process.begin(job.limits.concurrency)  # before anything looks into a Parquet file
    book = price_book(job)
    _check_caps(job, book)
    builder = request_builder(job)
    clock = SystemClock()
    files = files or checked_files(job, builder)
    _refuse_hidden(job, files)
    check_output(job, files)
    pacer = Pacer(job.limits.quota, job.limits.concurrency, clock.monotonic())
    key = read_key(job.endpoint)
    check_not_typed(job.endpoint, key, job.kept_words, job.tags)
    rater = rater_of(job, book)
    fallbacks = tuple(fallback_services(job, rater, clock, files, builder))
    return Services(
        builder=builder,
        files=files,
        rater=rater,
        make_lane=partial(live_lane, job.endpoint, key, clock, pacer),
        make_batches=batches_maker(job.endpoint, key, clock),
        make_packing=packing_maker(job, key, clock),
        carries=carried(job),
        spool=spool_folder(job.database),
        pacer=pacer,
        fingerprint=partial(quota_fingerprint, job.endpoint, key),
        clock=clock,
        observer=observer,
        price_note=price_note(job, book),
        notes=(*_key_notes(key), *fallback_notes(job), *phase_notes(job)),
        fallbacks=fallbacks,
        largest_output=rules_of(job.endpoint).largest_output
        if job.answers.raise_factor
        else None,
    )


def _key_notes(key: Secret | None) -> tuple[str, ...]:
    if key is None or len(key.reveal()) >= SHORTEST_HIDDEN:
        return ()
    return (
        f"the key has fewer than {SHORTEST_HIDDEN} characters: where a server repeats it in an"
        " error it is not hidden",
    )


def request_builder(job: Job) -> RequestBuilder:
    """Makes requests of the job's rows, and refuses those that its endpoint would refuse."""
    return RequestBuilder(
        job.settings, rules_of(job.endpoint).problem if job.preflight else None
    )


def _check_caps(job: Job, book: PriceBook) -> None:
    """A cap in USD needs prices in USD."""
    if job.limits.max_cost is None and job.limits.max_cost_month is None:
        return
    name = price_list(job, book)
    if name is None or name not in book.lists or book.lists[name].currency != "USD":
        raise ConfigurationError(
            f"--max-cost needs prices in USD, and endpoint {job.endpoint.name} has none; give "
            "them with --prices FILE, where a factor makes USD of credits"
        )


def checked_files(job: Job, builder: RequestBuilder) -> tuple[SourceFile, ...]:
    """The job's inputs; raises for one that is missing or holds nothing a prompt is made of."""
    found = find_sources(
        job.inputs,
        base=job.base,
        spool=spool_folder(job.database),
        may_be_missing=job.may_be_missing,
    )
    for file in found:
        check_source(file, builder)
    return found


def _refuse_hidden(job: Job, files: Sequence[SourceFile]) -> None:
    """Raise for rows that a stray quote hides, unless `--max-bad` says that they may be."""
    limit = job.limits.max_bad
    for file in files:
        found = hidden_rows(file)
        if found is None or (limit is not None and limit.allows(found.hidden, found.rows)):
            continue
        raise ConfigurationError(
            f"{found.words}; nothing was sent: close the quote or double it, or say that so "
            f"many rows may be lost with --max-bad {found.hidden}"
        )


def inspect_inputs(job: Job) -> Inspection:
    """See `inspect`; needs no key and no database."""
    builder = request_builder(job)
    book = price_book(job)
    rater = rater_of(job, book)
    return inspect(checked_files(job, builder), builder, rater, SystemClock().now_us())


def check_output(job: Job, files: Sequence[SourceFile]) -> None:
    """Raise now for an output that could not be written, or must not be, at the end."""
    if job.output in {None, "-"} or _is_pipe(str(job.output)):
        return
    from batcher.report.export.answers import ANSWER_COLUMNS  # noqa: PLC0415 - seldom needed

    _require_outside(job, str(job.output))
    guard = _guard_of(job, [file.place for file in files])
    open_writer(str(job.output), guard=guard, declared=ANSWER_COLUMNS).discard()


def _require_outside(job: Job, output: str) -> None:
    """Raise where the next start would read the answers as rows, and send and pay them."""
    if given := input_naming(job.inputs, job.base, output):
        raise CannotCreate(
            f"{output}: the input {given} would name it the next time, and its answers would be"
            " sent as rows; name another folder or ending for the output"
        )


def guard_of_run(typed: Asked) -> Guard:
    """What a log or a metrics file of this run may not touch: also the files that it reads."""
    with suppress(BatcherError):  # the run itself says what is wrong
        job = resolve(typed)
        return _guard_of(job, [*_inputs(job), *_settings(typed, job)])
    return Guard()


def _guard_of(job: Job, inputs: Sequence[Place]) -> Guard:
    """The run's own inputs and ledger, and those that the ledger knows where it can be read."""
    from batcher.report.ledgers import guard_of, ledger_to_read  # noqa: PLC0415 - as above

    kept = Guard()
    with suppress(BatcherError), ledger_to_read(job.database) as engine:
        kept = guard_of([engine])
    own = parse_url(job.database).path
    return replace(
        kept,
        inputs=(*kept.inputs, *(place for place in inputs if isinstance(place, Path))),
        stored_inputs=(
            *kept.stored_inputs,
            *(place.url for place in inputs if not isinstance(place, Path)),
        ),
        ledgers=(*kept.ledgers, *([own] if own else [])),
        force=job.replace_output,
    )


def _inputs(job: Job) -> Iterator[Place]:
    for name in job.inputs:
        if name != STDIN and not is_url(name):  # a log or a metrics file is one of this machine
            with suppress(BatcherError):
                found = find_sources([name], base=job.base, spool=None)
                yield from (file.place for file in found)


def _settings(typed: Asked, job: Job) -> Iterator[Path]:
    named = (typed.job_path, typed.config_path, job.prices)
    yield from (Path(name) for name in named if name and Path(name).is_file())


def _is_pipe(target: str) -> bool:
    return Path(target).is_fifo() or Path(target).is_char_device()


def run_here(
    job: Job,
    observer: Observer,
    before: Callable[[Services], None] | None = None,
    files: Sequence[SourceFile] = (),
    signals: SignalWays = SignalWays(),  # noqa: B008 - frozen
    process: Process = OwnProcess(),  # noqa: B008 - has no state
) -> Ended:
    """See `run_job`, with the fastest event loop there is; `files`: see `services_for`."""
    process.begin(job.limits.concurrency)
    here = _Here(observer, signals, process, before, files)
    if job.deadline is None and job.limits.cached and job.lane.packs:
        return run_with_cache(job, SystemClock(), here.run, lambda: bool(here.heard))
    if job.deadline is None:
        return here.run(job)
    seen, missed = _seen_times(job)
    job = replace(job, deadline=replace(job.deadline, missed_us=missed))
    ended = run_by_deadline(job, seen, SystemClock(), here.run, lambda: bool(here.heard))
    return replace(ended, missed_at=missed)


class _Here:
    """Runs a job, or one phase of it after the other: what is asked and read once is kept."""

    def __init__(
        self,
        observer: Observer,
        signals: SignalWays,
        process: Process,
        before: Callable[[Services], None] | None,
        files: Sequence[SourceFile],
    ) -> None:
        self._observer = observer
        self._signals = replace(signals, pass_on=partial(self._hear, signals.pass_on))
        self._process = process
        self._before = before
        self._files = files
        self.heard: list[Signals] = []

    def _hear(self, pass_on: Callable[[Signals], None], number: Signals) -> None:
        self.heard.append(number)
        pass_on(number)

    def run(self, job: Job) -> Ended:
        """One invocation of it."""
        with ExitStack() as stack:
            held = None
            if job.if_running is not IfRunning.FAIL:  # inputs are looked at when it is our turn
                held = stack.enter_context(hold(job, self._observer, SystemClock()))
            made = services_for(job, self._observer, self._files, self._process)
            services = replace(made, signals=self._signals)
            of_arrow = any(file.format == "parquet" for file in services.files)
            self._process.send(of_arrow=of_arrow)
            before, self._before, self._files = self._before, None, services.files
            return run_job(job, services, loop_factory(), before, held)


def _seen_times(job: Job) -> tuple[EndpointTimes, int | None]:
    """What the job's ledger knows of its endpoint, and a deadline that nobody saw pass.

    Nothing where there is no ledger yet.
    """
    from batcher.report.status import deadline_missed_unseen  # noqa: PLC0415 - seldom needed

    path = parse_url(job.database).path
    if path is not None and not path.is_file():
        return EndpointTimes(), None
    with engine_at(job.database, read_only=True) as engine:
        if current(engine) is None:
            return EndpointTimes(), None
        require_head(engine)
        with reading(engine) as connection:
            where = job.endpoint.name, job.endpoint.spellings
            seen = endpoint_times(connection, *where)
        return seen, deadline_missed_unseen(engine, job.key)


def spool_folder(database: str) -> Path:
    """Where rows without a file are kept: beside a database file, else here."""
    return Path() if "://" in database else Path(database).parent

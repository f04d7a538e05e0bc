"""From settings to ready objects: the only place where concrete classes meet."""

import gc
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from batcher import config
from batcher.clock import Clock, SystemClock
from batcher.config import ConfigFile, JobFile, Settings
from batcher.errors import ConfigurationError, UsageError
from batcher.ledger.address import without_passwords
from batcher.pacing.breaker import BreakerPolicy
from batcher.pacing.limits import quota_limits
from batcher.pacing.pacer import Pacer
from batcher.pacing.retry import RetryPolicy
from batcher.pipeline.choices import answer_choices
from batcher.pipeline.dry_run import Inspection, inspect
from batcher.pipeline.events import Ended, Observer
from batcher.pipeline.job import Job, Limits, OnUnknown
from batcher.pipeline.kit import Kit
from batcher.pipeline.preflight import Preflight, check_dialect
from batcher.pipeline.preflight_rules import shipped_rules
from batcher.pipeline.rater import Rater
from batcher.pipeline.run import LoopFactory, run_job
from batcher.pricing.book import PriceBook, load_file, load_shipped
from batcher.rows.build import RequestBuilder
from batcher.rows.check import check_source
from batcher.rows.output import open_writer
from batcher.rows.settings import RequestSettings
from batcher.rows.source import SourceFile, find_sources
from batcher.transport.endpoint import Endpoint, Secret, check_url
from batcher.transport.lane import Lane

DEFAULT_MAX_TOKENS: Final = 1024  # for rows that name none; a row's own wins


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was typed: inputs or a job file, and the options as a layer of settings."""

    command: str
    inputs: tuple[str, ...] = ()
    job_path: Path | None = None
    config_path: str | None = None
    accept_change: bool = False
    options: Settings = field(default_factory=Settings)


def asked(
    inputs: tuple[str, ...],
    job_path: Path | None,
    config_path: str | None,
    *,
    accept_change: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Asked:
    """What was typed, from the parts of a command line; texts like `@file` are read."""
    given = dict(options or {})
    for name in ("system", "prompt"):
        if given.get(name):
            given[name] = config.text_or_file(given[name], Path())
    return Asked(
        command=without_passwords(shlex.join(["batcher", *sys.argv[1:]])),
        inputs=inputs,
        job_path=job_path,
        config_path=config_path,
        accept_change=accept_change,
        options=Settings(**given),
    )


def job_files(path: Path) -> list[Path]:
    """A job file itself, or those of a folder, sorted; raises `UsageError` when missing."""
    if path.is_dir():
        return sorted(path.glob("*.toml"))
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder; name a job file")
    return [path]


def job_file(path: Path) -> JobFile:
    """What a job file says, alone."""
    return config.read_toml(path, JobFile)


def resolve(typed: Asked) -> Job:
    """The job that was asked for; options win over environment, job file and config.toml."""
    job_file = config.read_toml(typed.job_path, JobFile) if typed.job_path else JobFile()
    inputs = typed.inputs or job_file.inputs
    if not inputs:
        raise UsageError("nothing to run: name input files, or a job file with --job")
    config_file = config.read_config(typed.config_path, typed.job_path)
    layers = (typed.options, config.environment_settings(), job_file, config_file)
    merged = _merge(layers)
    base = typed.job_path.parent if typed.job_path and not typed.inputs else Path()
    name = None
    if typed.job_path:
        name = job_file.name or typed.job_path.stem
    return Job(
        key=name or shlex.join(inputs),
        name=name,
        command=typed.command,
        inputs=tuple(inputs),
        base=base,
        database=merged.database or str(_database_folder(typed) / config.DATABASE_NAME),
        endpoint=_endpoint(merged, config_file),
        settings=_request_settings(merged, layers),
        limits=_limits(merged),
        on_unknown=_on_unknown(merged.on_unknown),
        accept_change=typed.accept_change,
        strict=bool(merged.strict),
        tags=_tables(layers, "tags"),
        output=merged.output,
        prices=merged.prices,
        preflight=merged.preflight is not False,
        ask_above=config.pico_usd("ask_above", merged.ask_above),
        answers=answer_choices(
            merged.on_truncate,
            merged.on_invalid,
            tools=job_file.tools,
            validate=job_file.validate,
            folder=(typed.job_path or Path()).resolve().parent,
            environment=config.environment_of,
        ),
    )


def place_of(typed: Asked) -> tuple[str, Endpoint]:
    """The database and the endpoint that a run would use; needs no inputs."""
    job = resolve(replace(typed, inputs=typed.inputs or ("-",)))
    return job.database, job.endpoint


def price_words(typed: Asked) -> str:
    """Whose prices a run would count with, in one sentence; needs no inputs."""
    job = resolve(replace(typed, inputs=typed.inputs or ("-",)))
    return price_note(job, price_book(job))


def price_book(job: Job) -> PriceBook:
    """The shipped prices, extended by the user's own file when there is one."""
    if job.prices in {None, "none"}:
        return load_shipped()
    return load_file(Path(str(job.prices)))


def price_list(job: Job, book: PriceBook) -> str | None:
    """The name of the list that the endpoint's answers are priced with; `None`: unpriced."""
    if job.prices == "none":
        return None
    endpoint = job.endpoint
    if endpoint.price_list is None and endpoint.name in book.lists:
        return endpoint.name  # a price file that names the endpoint means it
    return endpoint.price_list


def price_note(job: Job, book: PriceBook) -> str:
    """Whose prices count, in one sentence."""
    name = price_list(job, book)
    if name is None:
        return f"no price list for endpoint {job.endpoint.name}: answers stay unpriced"
    return f"priced with list {name} of price book {book.version}"


def kit_for(job: Job, observer: Observer) -> Kit:
    """Everything that `job` needs to run; raises before anything is opened or sent."""
    book = price_book(job)
    _check_caps(job, book)
    builder = request_builder(job)
    clock = SystemClock()
    files = checked_files(job, builder)
    _check_output(job, files)
    pacer = Pacer(job.limits.quota, job.limits.concurrency, clock.monotonic())
    key = config.read_key(job.endpoint)
    return Kit(
        builder=builder,
        files=files,
        rater=Rater(book, price_list(job, book)),
        make_lane=lambda: _live_lane(job.endpoint, key, clock, pacer),
        pacer=pacer,
        clock=clock,
        observer=observer,
        price_note=price_note(job, book),
        largest_output=_rules(job.endpoint).largest_output
        if job.answers.raise_factor
        else None,
    )


def request_builder(job: Job) -> RequestBuilder:
    """Makes requests of the job's rows, and refuses those that its endpoint would refuse."""
    return RequestBuilder(job.settings, _rules(job.endpoint).problem if job.preflight else None)


def _rules(endpoint: Endpoint) -> Preflight:
    return Preflight(
        shipped_rules(),
        api_version=endpoint.anthropic_version,
        dialect=endpoint.dialect,
        endpoint_name=endpoint.name,
        betas=endpoint.betas,
    )


def _check_caps(job: Job, book: PriceBook) -> None:
    """A cap in USD needs prices in USD."""
    if job.limits.max_cost is None and job.limits.max_cost_month is None:
        return
    name = price_list(job, book)
    if name is None or name not in book.lists or book.lists[name].currency != "USD":
        raise ConfigurationError(
            f"--max-cost needs prices in USD, and endpoint {job.endpoint.name} has none; give "
            "them with --prices FILE"
        )


def checked_files(job: Job, builder: RequestBuilder) -> tuple[SourceFile, ...]:
    """The job's inputs; raises for one that is missing or holds nothing a prompt is made of."""
    found = find_sources(job.inputs, base=job.base, spool=_spool_folder(job.database))
    for file in found:
        check_source(file, builder)
    return found


def _check_output(job: Job, files: Sequence[SourceFile]) -> None:
    """Raise now for an output that could not be written, or takes an input's place, later."""
    target = Path(job.output or "-")
    if job.output in {None, "-"} or target.is_fifo() or target.is_char_device():
        return
    if any(target.exists() and target.samefile(file.path) for file in files):
        raise UsageError(f"{job.output}: is an input too; name another file for the answers")
    open_writer(str(job.output)).discard()


def inspect_inputs(job: Job) -> Inspection:
    """See `inspect`; needs no key and no database."""
    builder = request_builder(job)
    book = price_book(job)
    rater = Rater(book, price_list(job, book))
    return inspect(checked_files(job, builder), builder, rater, SystemClock().now_us())


def run(job: Job, observer: Observer, before: Callable[[Kit], None] | None = None) -> Ended:
    """See `run_job`, with the fastest event loop there is."""
    kit = kit_for(job, observer)
    _share_the_interpreter()
    return run_job(job, kit, _loop_factory(), before)


def _live_lane(endpoint: Endpoint, key: Secret | None, clock: Clock, pacer: Pacer) -> Lane:
    from batcher.transport.client import HttpClient  # noqa: PLC0415 - aiohttp, late
    from batcher.transport.live import LiveLane  # noqa: PLC0415

    def hear(model: str, status: int, headers: Mapping[str, str]) -> None:
        pacer.hear(model, status, headers, clock.monotonic())

    return LiveLane(HttpClient(endpoint, key, clock), endpoint, clock, hear)


def _share_the_interpreter() -> None:
    """Settings of the whole process for one that sends, and does nothing else.

    A run makes millions of objects and hardly a cycle: looking for them cost 15 % of it. The
    ledger's thread needs the interpreter for moments: with Python's 5 ms it waited so long for
    each that requests and commits took turns instead of going on side by side.
    """
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    sys.setswitchinterval(0.001)


def _loop_factory() -> LoopFactory | None:
    """The loop of uvloop where it is installed, for a quarter less CPU; else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _spool_folder(database: str) -> Path:
    """Where standard input is kept: beside a database file, else here."""
    return Path() if "://" in database else Path(database).parent


def _database_folder(typed: Asked) -> Path:
    return typed.job_path.parent if typed.job_path else Path()


def _merge(layers: Sequence[Settings]) -> Settings:
    """The first layer that says something wins, setting by setting."""
    merged: dict[str, Any] = {}
    for name in Settings.__struct_fields__:
        values = (getattr(layer, name) for layer in layers)
        merged[name] = next((value for value in values if value is not None), None)
    return Settings(**merged)


def _tables(layers: Sequence[Settings], name: str) -> dict[str, Any]:
    """A table setting, merged key by key."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged |= getattr(layer, name) or {}
    return merged


def _endpoint(merged: Settings, config_file: ConfigFile) -> Endpoint:
    """The endpoint by name; a base URL alone means the anthropic dialect, key and prices."""
    named = config.endpoint_named(merged.endpoint or "anthropic", config_file.endpoints)
    check_dialect(shipped_rules(), named.dialect, named.name)
    if merged.stream is not None:
        named = replace(named, stream=merged.stream)
    if not merged.base_url:
        return named
    changed = replace(named, base_url=merged.base_url)
    check_url(changed)
    return changed


def _request_settings(merged: Settings, layers: Sequence[Settings]) -> RequestSettings:
    max_tokens = DEFAULT_MAX_TOKENS if merged.max_tokens is None else merged.max_tokens
    if max_tokens < 1:
        raise ConfigurationError(f"max_tokens is {max_tokens}; it must be at least 1")
    return RequestSettings(
        model=merged.model,
        max_tokens=max_tokens,
        system=merged.system,
        prompt=merged.prompt,
        parameters=_tables(layers, "parameters"),
        betas=merged.betas or (),
        pass_fields=merged.request.passed if merged.request else (),
    )


def _limits(merged: Settings) -> Limits:
    retry = merged.retry or config.Retry()
    concurrency = 64 if merged.concurrency is None else merged.concurrency
    _at_least_one("concurrency", concurrency)
    if merged.limit is not None:
        _at_least_one("limit", merged.limit)
    return Limits(
        concurrency=concurrency,
        row_limit=merged.limit,
        max_runtime_seconds=config.seconds(merged.max_runtime) if merged.max_runtime else None,
        max_cost=config.pico_usd("max_cost", merged.max_cost),
        max_cost_month=config.pico_usd("max_cost_month", merged.max_cost_month),
        retry=RetryPolicy(**_given(retry, RetryPolicy)),
        quota=quota_limits(merged.rpm, merged.itpm, merged.otpm, merged.quota_share),
        breaker=BreakerPolicy(**_given(retry, BreakerPolicy)),
        **_given(retry, Limits),
    )


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ConfigurationError(f"{name} is {value}; it must be at least 1")


def _given(
    table: config.Retry, policy: type[RetryPolicy | BreakerPolicy | Limits]
) -> dict[str, Any]:
    """The settings of `table` that are fields of `policy` and were given."""
    shared = set(table.__struct_fields__) & {known.name for known in fields(policy)}
    return {n: getattr(table, n) for n in shared if getattr(table, n) is not None}


def _on_unknown(value: str | None) -> OnUnknown:
    try:
        return OnUnknown(value or "retry")
    except ValueError as exc:
        raise ConfigurationError(f"on_unknown is {value!r}, not retry, hold or fail") from exc

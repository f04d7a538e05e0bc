"""From what was typed to a job: the layers of settings, merged and checked."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace as replace_settings

from batcher.clock import SystemClock
from batcher.config.endpoints import at, endpoint_named
from batcher.config.files import (
    DATABASE_NAME,
    environment_of,
    environment_settings,
    find_config,
    in_schema,
    lifeboat_folders,
    option_settings,
    pod_uid,
    read_config,
    read_toml,
)
from batcher.config.tables import (
    DEFAULTS,
    ConfigFile,
    JobFile,
    Retry,
    SettingInForce,
    Settings,
    settings_in_force,
)
from batcher.config.values import (
    checked_days,
    checked_tags,
    checked_text,
    lease_seconds,
    pico_usd,
    seconds,
    size_bytes,
)
from batcher.errors import ConfigurationError, UsageError
from batcher.pacing.backoff import BreakerPolicy, RetryPolicy
from batcher.pacing.limits import quota_limits
from batcher.pipeline.choices import CacheMode, answer_choices, guard_limits
from batcher.pipeline.job import Job, RunLimits
from batcher.pipeline.run.row_checks import bad_limit
from batcher.preflight.preflight import check_dialect
from batcher.preflight.rules import shipped_rules
from batcher.rows.build.settings import RequestSettings
from batcher.transport.endpoint import Endpoint
from batcher.wiring.connecting import check_alone, check_lane, deadline_of, lane_limits, lane_of
from batcher.wiring.dated import DatedFiles, command_of, key_of, local_day, of_day, parsed_day
from batcher.wiring.fallbacks import (
    FallbackOptions,
    fallback_options,
    fallback_rules,
    fallbacks_of,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was typed: inputs or a job file, and the options as a layer of settings.

    `day` is that of `--date`, `None`: the one of `asked_at`, in microseconds UTC.
    """

    command: str
    inputs: tuple[str, ...] = ()
    job_path: Path | None = None
    config_path: str | None = None
    accept_change: bool = False
    force: bool = False
    again: bool = False
    wait: bool = True
    cancel: bool = False
    name: str | None = None
    day: date | None = None
    asked_at: int = 0
    fallback: FallbackOptions = field(default_factory=FallbackOptions)
    options: Settings = field(default_factory=Settings)


def asked(
    inputs: tuple[str, ...],
    job_path: Path | None,
    config_path: str | None,
    *,
    accept_change: bool = False,
    force: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Asked:
    """What was typed, from the parts of a command line; texts like `@file` are read.

    A `.toml` among the inputs is the job file. Some of the `options` are no settings: the
    `name` of the run, whether it is done `again`, the `date` of its inputs, what becomes of its
    batches, and to whom else rows may go.
    """
    inputs, job_path = _job_among(inputs, job_path)
    options = dict(options or {})
    _refuse_empty(options)
    name, again = options.pop("name", None), options.pop("again", False)
    day = options.pop("date", None)
    wait, cancel = not options.pop("no_wait", False), options.pop("cancel", False)
    fallback = fallback_options(options)
    return Asked(
        command=command_of(sys.argv[1:]),
        inputs=inputs,
        job_path=job_path,
        config_path=config_path,
        accept_change=accept_change,
        force=force,
        again=again,
        wait=wait,
        cancel=cancel,
        name=name,
        day=None if day is None else parsed_day(day),
        asked_at=SystemClock().now_us(),
        fallback=fallback,
        options=option_settings(options),
    )


def _refuse_empty(options: Mapping[str, Any]) -> None:
    """An empty name is a variable that is not set, not the wish for none."""
    for name in ("database", "output", "log_file", "metrics_file", "ping_url"):
        if options.get(name) == "":
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is empty: is the variable that should name it set?")


def _job_among(
    inputs: tuple[str, ...], job_path: Path | None
) -> tuple[tuple[str, ...], Path | None]:
    jobs = [name for name in inputs if name.endswith(".toml")]
    if not jobs:
        return inputs, job_path
    if len(jobs) > 1 or job_path is not None:
        raise UsageError(f"{jobs[-1]}: is a second job file; name one at a time")
    return tuple(name for name in inputs if name not in jobs), Path(jobs[0])


def job_files(path: Path) -> list[Path]:
    """A job file itself, or those of a folder, sorted; raises `UsageError` when missing."""
    if path.is_dir():
        return sorted(path.glob("*.toml"))
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder; name a job file")
    return [path]


def job_file(path: Path) -> JobFile:
    """What a job file says, alone."""
    return read_toml(path, JobFile)


def resolve(typed: Asked) -> Job:
    """The job that was asked for; options win over environment, job file and config.toml."""
    job_file = read_toml(typed.job_path, JobFile) if typed.job_path else JobFile()
    inputs = typed.inputs or job_file.inputs
    if not inputs:
        raise UsageError("nothing to run: name input files, or a job file (.toml)")
    config_file = read_config(typed.config_path, typed.job_path)
    layers = (typed.options, environment_settings(), job_file, config_file, DEFAULTS)
    merged = _merge(layers)
    lifeboat_folder, spare_folders = lifeboat_folders(merged.lifeboat_folder)
    base = typed.job_path.parent if typed.job_path and not typed.inputs else Path()
    name = _name(typed, job_file)
    check_lane(merged, typed.options, wait=typed.wait, cancel=typed.cancel)
    lane = lane_of(merged, cancel=typed.cancel)
    check_alone(merged)
    day = typed.day or local_day(typed.asked_at, job_file.schedule.tz)
    files = of_day(day, inputs, merged.output, base, may_be_empty=job_file.empty == "ok")
    files.check(typed.day, again=typed.again)
    endpoint = _endpoint(merged, layers, config_file)
    return Job(
        key=name or key_of(files.inputs),
        name=name,
        command=_continuing(typed, files, day),
        inputs=files.inputs,
        base=base,
        database=in_schema(
            merged.database or str(_database_folder(typed) / DATABASE_NAME), merged.schema
        ),
        endpoint=endpoint,
        settings=_request_settings(merged, layers, job_file),
        limits=lane_limits(_limits(merged, wait=typed.wait), lane, cancel=typed.cancel),
        on_unknown=stated(merged.on_unknown),
        accept_change=typed.accept_change,
        again=typed.again,
        dedup=stated(merged.dedup),
        lane=lane,
        deadline=deadline_of(merged, lane, typed.asked_at, job_file.schedule.tz),
        wait=typed.wait,
        cancel=typed.cancel,
        strict=stated(merged.strict),
        tags=checked_tags(_tables(layers, "tags")),
        output=files.output,
        replace_output=typed.force,
        dated=files.dated,
        output_of_inputs=files.output_is_dated,
        may_be_missing=files.may_be_missing,
        prices=merged.prices,
        price_book_max_age_days=checked_days(merged.price_book_max_age_days),
        preflight=stated(merged.preflight),
        ask_above=pico_usd("ask_above", merged.ask_above),
        answers=answer_choices(
            merged.on_truncate,
            merged.on_invalid,
            tools=job_file.tools,
            validate=job_file.validate,
            folder=(typed.job_path or Path()).resolve().parent,
            environment=environment_of,
        ),
        guard=guard_limits(job_file.guard),
        store=stated(merged.store),
        if_running=stated(merged.if_running),
        join=stated(merged.join),
        processes=_at_least_one("processes", merged.processes),
        on=merged.on,
        workers=None if merged.workers is None else _at_least_one("workers", merged.workers),
        lease_seconds=lease_seconds(stated(merged.lease)),
        pod=pod_uid(),
        database_wait_seconds=seconds(stated(merged.database_wait)),
        min_free_space=size_bytes("min_free_space", merged.min_free_space),
        lifeboat_folder=lifeboat_folder,
        spare_folders=spare_folders,
        fallback=fallbacks_of(typed.fallback, job_file, endpoint, config_file.endpoints),
        fallback_rules=fallback_rules(typed.fallback, job_file),
    )


def _continuing(typed: Asked, files: DatedFiles, day: date) -> str:
    """The command that goes on with this day on another one, too."""
    typed_so = typed.day or not (files.dated or files.output_is_dated)
    return typed.command if typed_so else f"{typed.command} --date {day}"


def _name(typed: Asked, job_file: JobFile) -> str | None:
    """The job's name, else the one that was typed; `None` for a run without a name."""
    if typed.name is None:
        named = (job_file.name or typed.job_path.stem) if typed.job_path else None
        return named if named is None else checked_text("the name of the job", named)
    if typed.job_path:
        raise UsageError("--name: a job has its name in its file; name runs without a job only")
    if not typed.name.strip() or "/" in typed.name:
        raise UsageError(f"--name {typed.name!r}: a name has a letter at least, and no /")
    return checked_text("--name", typed.name)


def settings_of(typed: Asked) -> list[SettingInForce]:
    """Every setting that a run would go by, and where it comes from; needs no inputs."""
    job = read_toml(typed.job_path, JobFile) if typed.job_path else JobFile()
    found = find_config(typed.config_path, typed.job_path)
    database = str(_database_folder(typed) / DATABASE_NAME)
    layers = (
        ("option", typed.options),
        ("environment", environment_settings()),
        (str(typed.job_path), job),
        (str(found), read_config(typed.config_path, typed.job_path)),
        ("default", replace_settings(DEFAULTS, database=database)),
    )
    return list(settings_in_force(layers))


def merged_settings(typed: Asked) -> Settings:
    """What all layers say together; needs no inputs."""
    job = read_toml(typed.job_path, JobFile) if typed.job_path else JobFile()
    found = read_config(typed.config_path, typed.job_path)
    return _merge((typed.options, environment_settings(), job, found, DEFAULTS))


def place_of(typed: Asked) -> tuple[str, Endpoint]:
    """The database and the endpoint that a run would use; needs no inputs."""
    job = resolve(replace(typed, inputs=typed.inputs or ("-",), day=None))
    return job.database, job.endpoint


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


def _endpoint(
    merged: Settings, layers: Sequence[Settings], config_file: ConfigFile
) -> Endpoint:
    """The endpoint by name; a base URL alone means the anthropic dialect, key and prices."""
    named = endpoint_named(stated(merged.endpoint), config_file.endpoints)
    check_dialect(shipped_rules(), named.dialect, named.name)
    if merged.stream is not None:
        named = replace(named, stream=merged.stream)
    headers = _tables(layers, "headers")
    if not merged.base_url:
        return at(named, named.base_url, headers) if headers else named
    return at(named, merged.base_url, headers)


def _request_settings(
    merged: Settings, layers: Sequence[Settings], job_file: JobFile
) -> RequestSettings:
    if job_file.messages and merged.prompt is not None:
        raise ConfigurationError("prompt and [[messages]] are two templates; give one of them")
    return RequestSettings(
        model=merged.model,
        max_tokens=_at_least_one("max_tokens", merged.max_tokens),
        system=merged.system,
        prompt=merged.prompt,
        messages=tuple((each.role, each.parts) for each in job_file.messages),
        parameters=_tables(layers, "parameters"),
        betas=merged.betas or (),
        pass_fields=merged.request.passed if merged.request else (),
        ignored=merged.request.ignore if merged.request else (),
        attachments=stated(merged.attachments),
        models=merged.models.map if merged.models else {},
    )


def _limits(merged: Settings, *, wait: bool) -> RunLimits:
    retry = merged.retry or Retry()
    if merged.limit is not None:
        _at_least_one("limit", merged.limit)
    return RunLimits(
        concurrency=_at_least_one("concurrency", merged.concurrency),
        row_limit=merged.limit,
        max_runtime_seconds=seconds(merged.max_runtime) if merged.max_runtime else None,
        max_cost=pico_usd("max_cost", merged.max_cost),
        max_cost_month=pico_usd("max_cost_month", merged.max_cost_month),
        max_bad=bad_limit(merged.max_bad),
        retry=RetryPolicy(**_given(retry, RetryPolicy)),
        quota=quota_limits(merged.rpm, merged.itpm, merged.otpm, merged.quota_share),
        breaker=BreakerPolicy(**_given(retry, BreakerPolicy)),
        cached=_is_cached(merged, wait=wait),
        **_given(retry, RunLimits),
    )


def _is_cached(merged: Settings, *, wait: bool) -> bool:
    """Whether the prompt cache is used; in batches by a run that sends all, and stays."""
    mode = merged.cache.mode if merged.cache else CacheMode.OFF
    whole = wait and merged.limit is None
    return mode is CacheMode.AUTO and (whole or not stated(merged.lane).packs)


def stated(value: T | None) -> T:
    """A setting that the built-in defaults state where nothing else does."""
    if value is None:
        raise TypeError("a setting without a built-in default")
    return value


def _at_least_one(name: str, value: int | None) -> int:
    if stated(value) < 1:
        raise ConfigurationError(f"{name} is {value}; it must be at least 1")
    return stated(value)


def _given(
    table: Retry, policy: type[RetryPolicy | BreakerPolicy | RunLimits]
) -> dict[str, Any]:
    """The settings of `table` that are fields of `policy` and were given."""
    shared = set(table.__struct_fields__) & {known.name for known in fields(policy)}
    return {n: getattr(table, n) for n in shared if getattr(table, n) is not None}

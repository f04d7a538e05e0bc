"""The endpoints that a run falls back to: from its settings, checked; and what sends to one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import msgspec

from batcher.clock import Clock
from batcher.config.endpoints import endpoint_named
from batcher.config.keys import check_not_typed, read_key
from batcher.config.tables import EndpointTable, FallbackTable, JobFile
from batcher.config.values import seconds
from batcher.errors import ConfigurationError
from batcher.messages.request import Request
from batcher.pacing.pacer import Pacer
from batcher.pipeline.choices import FallbackRules
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.job import Fallback, FallbackServices, Job
from batcher.preflight.preflight import Preflight, check_dialect
from batcher.preflight.rules import Problem, shipped_rules
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.reader import read_rows
from batcher.rows.read.source import SourceFile
from batcher.transport.endpoint import Endpoint, Lane, Secret, quota_fingerprint
from batcher.transport.room import AnswerRoom
from batcher.wiring.connecting import connect

_Judge = Callable[[Request], Problem | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackOptions:
    """What was typed of it; each wins over what the job file says. Endpoints are NAME=MODEL."""

    endpoints: tuple[str, ...] = ()
    after: str | None = None
    on_doubt: bool | None = None


def fallback_options(options: dict[str, Any]) -> FallbackOptions:
    """Taken out of the options of a command line."""
    return FallbackOptions(
        endpoints=tuple(options.pop("fallback", None) or ()),
        after=options.pop("fallback_after", None),
        on_doubt=options.pop("fallback_on_doubt", None),
    )


def fallbacks_of(
    typed: FallbackOptions,
    job_file: JobFile,
    endpoint: Endpoint,
    tables: Mapping[str, EndpointTable],
) -> tuple[Fallback, ...]:
    """The endpoints in order; raises `ConfigurationError` for one that is unknown or twice.

    They get no headers of the job: those may be secrets of the run's own endpoint.
    """
    found: list[Fallback] = []
    seen: set[tuple[str, str | None]] = {(endpoint.name, None)}
    for name, model in _named(typed, job_file):
        if (name, model) in seen:
            raise ConfigurationError(
                f"fallback: endpoint {name} is asked already; name another, or another model"
            )
        seen.add((name, model))
        other = endpoint_named(name, tables)
        check_dialect(shipped_rules(), other.dialect, other.name)
        found.append(Fallback(endpoint=other, model=model))
    return tuple(found)


def fallback_rules(typed: FallbackOptions, job_file: JobFile) -> FallbackRules:
    """When rows go to the next endpoint."""
    after = typed.after if typed.after is not None else job_file.fallback_after
    on_doubt = typed.on_doubt if typed.on_doubt is not None else job_file.fallback_on_doubt
    rules = FallbackRules(on_doubt=bool(on_doubt))
    if after is None:
        return rules
    return FallbackRules(on_doubt=rules.on_doubt, after_seconds=seconds(after))


def _named(typed: FallbackOptions, job_file: JobFile) -> Iterator[tuple[str, str | None]]:
    for each in typed.endpoints or job_file.fallback:
        if isinstance(each, FallbackTable):
            yield each.endpoint, each.model
        else:
            name, _, model = each.partition("=")
            yield name.strip(), model.strip() or None


def live_lane(
    endpoint: Endpoint,
    key: Secret | None,
    clock: Clock,
    pacer: Pacer,
    may_send: Callable[[], bool],
    room: AnswerRoom,
) -> Lane:
    """The lane to `endpoint`, whose pacer hears of limits; see `Services.make_lane`."""
    from batcher.transport.live.live_lane import LiveLane  # noqa: PLC0415 - aiohttp, late

    client = connect(endpoint, key, clock, may_send, room)
    return LiveLane(client, endpoint, clock, pacer.hear)


def rules_of(endpoint: Endpoint) -> Preflight:
    """What `endpoint` is known to refuse."""
    return Preflight(
        shipped_rules(),
        api_version=endpoint.anthropic_version,
        dialect=endpoint.dialect,
        endpoint_name=endpoint.name,
        betas=endpoint.betas,
    )


def fallback_notes(job: Job) -> Iterator[str]:
    """To whom prompts may go besides the run's endpoint."""
    before = job.endpoint.name
    for each in job.fallback:
        host = urlsplit(each.endpoint.base_url).hostname
        asked = f", which is asked for {each.model}" if each.model else ""
        yield (
            f"rows that endpoint {before} does not answer go to endpoint {each.endpoint.name}"
            f" at {host}{asked}"
        )
        yield from each.endpoint.sentences
        before = each.endpoint.name


def fallback_services(
    job: Job, rater: Rater, clock: Clock, files: Sequence[SourceFile], builder: RequestBuilder
) -> Iterator[FallbackServices]:
    """What sends to each endpoint that the job falls back to; raises where one would not do.

    `AccessRefused` for a missing key, `ConfigurationError` for what has no price there under a
    cap, a model that has none in a list of prices, and a first row that is known to be refused.
    """
    first = _first_request(files, builder) if job.fallback else None
    for each, (prices, _) in zip(job.fallback, rater.further, strict=True):
        key = read_key(each.endpoint)
        check_not_typed(each.endpoint, key, job.kept_words, job.tags)
        _check_prices(job, each, prices)
        rules = rules_of(each.endpoint)
        problem = partial(_problem, rules) if job.preflight else _no_problem
        if first is not None:
            _check_first(each, prices, problem, first)
        pacer = Pacer(job.limits.quota, job.limits.concurrency, clock.monotonic())
        yield FallbackServices(
            fallback=each,
            rater=prices,
            make_lane=partial(live_lane, each.endpoint, key, clock, pacer),
            accepts=partial(_is_accepted, problem),
            pacer=pacer,
            fingerprint=partial(quota_fingerprint, each.endpoint, key),
            largest_output=rules.largest_output if job.answers.raise_factor else None,
        )


def _first_request(files: Sequence[SourceFile], builder: RequestBuilder) -> Request | None:
    for file in files:
        rows = AllBut(RowRanges())
        for batch in read_rows(file, source_id=0, builder=builder, rows=rows):
            for item in batch.items:
                if isinstance(item, Request):
                    return item
    return None


def _check_prices(job: Job, each: Fallback, prices: Rater) -> None:
    if job.limits.max_cost is None and job.limits.max_cost_month is None:
        return
    name = prices.price_list
    if name is None or prices.book.lists[name].currency != "USD":
        raise ConfigurationError(
            f"--max-cost needs prices in USD, and endpoint {each.endpoint.name}, which the run"
            " falls back to, has none: give them with --prices FILE, or leave it out"
        )


def _check_first(each: Fallback, prices: Rater, problem: _Judge, first: Request) -> None:
    name = each.endpoint.name
    request = each.asked(first)
    listed = prices.price_list
    unknown = prices.book.no_price_words(listed, request.model) if listed else ""
    if unknown:
        raise ConfigurationError(
            f"fallback to endpoint {name}: {unknown}; name the model as it is called there:"
            f' {{ endpoint = "{name}", model = "NAME" }}'
        )
    found = problem(request)
    if found is not None:
        raise ConfigurationError(
            f"fallback to endpoint {name}: it is known to refuse rows like the first one"
            f" ({found.message}); nothing was sent: leave it out, or send all the same with"
            " --no-preflight"
        )


def _problem(rules: Preflight, request: Request) -> Problem | None:
    return rules.problem(msgspec.json.decode(request.body), request.betas)


def _no_problem(_: Request) -> None:
    return None


def _is_accepted(problem: _Judge, request: Request) -> bool:
    return problem(request) is None

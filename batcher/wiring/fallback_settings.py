"""Which endpoints a run falls back to: from a job file or from what was typed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batcher.config.endpoints import endpoint_named
from batcher.config.tables import EndpointTable, FallbackTable, JobFile
from batcher.config.values import seconds
from batcher.errors import ConfigurationError
from batcher.pipeline.choices import FallbackRules
from batcher.pipeline.job import Fallback
from batcher.preflight.preflight import check_dialect
from batcher.preflight.rules import shipped_rules
from batcher.transport.endpoint import Endpoint


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

"""What a provider tells page after page: its models, and its reports of usage and costs.

Models come in both shapes of lists that there are; the reports from the Admin API.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, Protocol

import msgspec

from batcher.clock import Clock
from batcher.errors import AccessRefused, BatcherError, ConfigurationError, ProviderUnavailable
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.failure import Verdict, classify
from batcher.pacing.backoff import RetryPolicy
from batcher.transport.endpoint import Endpoint, shown_url
from batcher.transport.live.client import Reply
from batcher.transport.live.connections import SendError

USAGE: Final = "usage_report/messages"
COSTS: Final = "cost_report"
_GROUPS: Final = {
    USAGE: ("model", "service_tier", "inference_geo", "workspace_id"),
    COSTS: ("description", "workspace_id"),
}
_DAYS_OF_A_PAGE: Final = 31  # the most that there is
_MOST_PAGES: Final = 1000
PAGE_SIZE: Final = 1000  # the most that the first party gives at once
_PASSING: Final = frozenset({Verdict.RETRY_ROW, Verdict.PAUSE_QUOTA, Verdict.OVERLOADED})
_PATIENCE: Final = RetryPolicy(max_attempts=5, first_wait_seconds=1.0)
_LONGEST_WAIT_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """One model, as far as the server says; `created` is a date or moment in ISO 8601."""

    id: str
    display_name: str | None = None
    created: str | None = None
    owner: str | None = None
    lifecycle: str | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class Lister(Protocol):
    """The part of `HttpClient` that is needed here."""

    async def get_models(self, *, limit: int | None, after_id: str | None) -> Reply:
        """One page of the list; raises `SendError`."""


async def list_models(
    client: Lister, endpoint: Endpoint, now_us: int, page_size: int = PAGE_SIZE
) -> list[ListedModel]:
    """All models, in the server's order, page after page where it gives pages.

    Raises `AccessRefused`, `ConfigurationError` for a server that lists none, and
    `ProviderUnavailable` where it cannot be reached or what it says is no list.
    """
    models: list[ListedModel] = []
    after: str | None = None
    for _ in range(_MOST_PAGES):
        page = await _models_page(client, endpoint, now_us, (page_size, after))
        models += [_model(item) for item in page.get("data") or () if _has_id(item)]
        after = page.get("last_id")
        if page.get("object") == "list" or not page.get("has_more") or type(after) is not str:
            return models
    raise ProviderUnavailable(f"{endpoint.models_url}: the list of models does not end")


async def _models_page(
    client: Lister, endpoint: Endpoint, now_us: int, wanted: tuple[int, str | None]
) -> dict[str, Any]:
    where = f"endpoint {endpoint.name} at {endpoint.models_url}"
    try:
        reply = await client.get_models(limit=wanted[0], after_id=wanted[1])
    except SendError as exc:
        raise ProviderUnavailable(f"{where} cannot be reached: {exc.message}") from exc
    if reply.status != 200:
        raise _refusal(where, endpoint, reply, now_us)
    page = _table(reply.body)
    if page is None or type(page.get("data", 0)) not in {list, type(None)}:
        raise ProviderUnavailable(f"{where} answers with something else than a list of models")
    return page


def _refusal(where: str, endpoint: Endpoint, reply: Reply, now_us: int) -> BatcherError:
    if reply.status == 404:
        return ConfigurationError(
            f"{where} lists no models (HTTP 404); look them up in its documentation"
        )
    failure = classify(reply.status, reply.headers, reply.body, now_us, endpoint.verdicts)
    words = f"{where} refuses (HTTP {reply.status}): {failure.message:.300}"
    if reply.status in {401, 402, 403}:
        return AccessRefused(words)
    return ProviderUnavailable(words)


def _has_id(item: object) -> bool:
    return type(item) is dict and type(item.get("id")) is str


def _model(item: dict[str, Any]) -> ListedModel:
    return ListedModel(
        id=item["id"],
        display_name=_text(item.get("display_name") or item.get("name")),
        created=_moment(item.get("created_at") or item.get("created")),
        owner=_text(item.get("owned_by")),
        lifecycle=_text(item.get("lifecycle")),
        max_input_tokens=_count(item.get("max_input_tokens")),
        max_tokens=_count(item.get("max_tokens")),
    )


def _text(value: object) -> str | None:
    return value if type(value) is str and value else None


def _count(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


def _moment(value: object) -> str | None:
    """ISO 8601, also from the seconds since 1970 that OpenAI's shape has."""
    if type(value) is int and 0 < value < 10**11:
        return datetime.fromtimestamp(value, tz=UTC).isoformat().replace("+00:00", "Z")
    return _text(value)


@dataclass(frozen=True, slots=True)
class Days:
    """UTC days, from `first` to before `until`."""

    first: date
    until: date


class Reporter(Protocol):
    """The part of `HttpClient` that is needed here."""

    async def get_report(self, url: str, asked: "list[tuple[str, str]]") -> Reply:
        """One page of a report; raises `SendError`."""


async def fetch_report(
    client: Reporter,
    endpoint: Endpoint,
    name: str,
    days: Days,
    clock: Clock,
    say: Callable[[str], object] = str,
) -> bytes:
    """All pages of a report of these days, as they came, in one JSON list.

    `name` is `USAGE` or `COSTS`. A page that is refused for now (429, 5xx) is asked for again
    when the server says, five times at most; `say` is told of each wait. Raises
    `AccessRefused`, `ConfigurationError` where there is no such report, and
    `ProviderUnavailable` where none came or what came is none.
    """
    pages: list[bytes] = []
    page: str | None = None
    seen = set[str]()
    for _ in range(_MOST_PAGES):
        asked = _asked(name, days, page)
        content, said = await _report_page(client, endpoint, name, asked, clock, say)
        pages.append(content)
        page = said.get("next_page") if said.get("has_more") else None
        if type(page) is not str or page in seen:  # what has no end is told by `has_more`
            return b"[" + b",".join(pages) + b"]"
        seen.add(page)
    raise ProviderUnavailable(
        f"{shown_url(endpoint.report_url(name))}: the report does not end"
    )


def _asked(name: str, days: Days, page: str | None) -> list[tuple[str, str]]:
    asked = [
        ("starting_at", f"{days.first}T00:00:00Z"),
        ("ending_at", f"{days.until}T00:00:00Z"),
        ("bucket_width", "1d"),
        ("limit", str(_DAYS_OF_A_PAGE)),
        *(("group_by[]", group) for group in _GROUPS[name]),
    ]
    return [*asked, ("page", page)] if page is not None else asked


async def _report_page(
    client: Reporter,
    endpoint: Endpoint,
    name: str,
    asked: list[tuple[str, str]],
    clock: Clock,
    say: Callable[[str], object],
) -> tuple[bytes, dict[str, Any]]:
    where = f"the Admin API at {shown_url(endpoint.report_url(name))}"
    tries = 0
    while True:
        tries += 1
        try:
            reply = await client.get_report(endpoint.report_url(name), asked)
        except SendError as exc:
            raise ProviderUnavailable(f"{where} cannot be reached: {exc.message}") from exc
        if reply.status == 200:
            return reply.body, _read(where, reply.body)
        await _wait(where, endpoint, reply, tries, clock, say)


def _read(where: str, body: bytes) -> dict[str, Any]:
    page = _table(body)
    if page is None or type(page.get("data")) is not list:
        raise ProviderUnavailable(f"{where} answers with something else than a report")
    return page


async def _wait(
    where: str,
    endpoint: Endpoint,
    reply: Reply,
    tries: int,
    clock: Clock,
    say: Callable[[str], object],
) -> None:
    """Until the page may be asked for again; raises where that makes no sense."""
    if reply.status == 404:
        raise ConfigurationError(f"{where} has no such report (HTTP 404): check admin_url")
    failure = classify(
        reply.status, reply.headers, reply.body, clock.now_us(), endpoint.verdicts
    )
    words = f"{where} refuses (HTTP {reply.status}): {failure.message:.300}"
    if reply.status in {401, 403}:
        raise AccessRefused(f"{words}; it takes admin keys only, not those of requests")
    if failure.verdict not in _PASSING or tries == _PATIENCE.max_attempts:
        raise ProviderUnavailable(words)
    seconds = _PATIENCE.wait_seconds(failure, used_up=0, tries=tries, chance=clock.random())
    if seconds is None or seconds > _LONGEST_WAIT_SECONDS:
        asks = f"it asks to wait {failure.retry_after_seconds or 0:,.0f} s"
        raise ProviderUnavailable(f"{words}; {asks}: type the command again then")
    say(f"{words}; asking again in {seconds:.0f} s")
    await clock.sleep(seconds)


def _table(body: bytes) -> dict[str, Any] | None:
    """A page as a table; `None` for what is none."""
    try:
        page = msgspec.json.decode(body)
    except CODEC_ERRORS:
        return None
    return page if type(page) is dict else None

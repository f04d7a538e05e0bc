"""The provider's own reports of usage and costs, read page after page from its Admin API."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Protocol

import msgspec

from batcher.clock import Clock
from batcher.errors import AccessRefused, ConfigurationError, ProviderUnavailable
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.failure import Verdict, classify
from batcher.pacing.backoff import RetryPolicy
from batcher.transport.endpoint import Endpoint, shown_url
from batcher.transport.live.client import Reply
from batcher.transport.live.send_errors import SendError

USAGE: Final = "usage_report/messages"
COSTS: Final = "cost_report"
_GROUPS: Final = {
    USAGE: ("model", "service_tier", "inference_geo", "workspace_id"),
    COSTS: ("description", "workspace_id"),
}
_DAYS_OF_A_PAGE: Final = 31  # the most that there is
_MOST_PAGES: Final = 1000


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
    for _ in range(_MOST_PAGES):
        asked = _asked(name, days, page)
        content, said = await _page(client, endpoint, name, asked, clock, say)
        pages.append(content)
        before, page = page, said.get("next_page") if said.get("has_more") else None
        if type(page) is not str or page == before:  # what has no end is told by `has_more`
            return b"[" + b",".join(pages) + b"]"
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


async def _page(
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
    try:
        page = msgspec.json.decode(body)
    except CODEC_ERRORS:
        page = None
    if type(page) is not dict or type(page.get("data")) is not list:
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


_PASSING: Final = frozenset({Verdict.RETRY_ROW, Verdict.PAUSE_QUOTA, Verdict.OVERLOADED})
_PATIENCE: Final = RetryPolicy(max_attempts=5, first_wait_seconds=1.0)
_LONGEST_WAIT_SECONDS: Final = 120.0

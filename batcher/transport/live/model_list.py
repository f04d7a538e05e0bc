"""What models an endpoint offers, from both shapes of model lists."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from batcher.errors import AccessRefused, BatcherError, ConfigurationError, ProviderUnavailable
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.failure import classify
from batcher.transport.endpoint import Endpoint
from batcher.transport.live.client import Reply
from batcher.transport.live.send_errors import SendError

PAGE_SIZE: Final = 1000  # the most that the first party gives at once
_MOST_PAGES: Final = 1000


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
        page = await _page(client, endpoint, now_us, (page_size, after))
        models += [_model(item) for item in page.get("data") or () if _has_id(item)]
        after = page.get("last_id")
        if page.get("object") == "list" or not page.get("has_more") or type(after) is not str:
            return models
    raise ProviderUnavailable(f"{endpoint.models_url}: the list of models does not end")


async def _page(
    client: Lister, endpoint: Endpoint, now_us: int, wanted: tuple[int, str | None]
) -> dict[str, Any]:
    where = f"endpoint {endpoint.name} at {endpoint.models_url}"
    try:
        reply = await client.get_models(limit=wanted[0], after_id=wanted[1])
    except SendError as exc:
        raise ProviderUnavailable(f"{where} cannot be reached: {exc.message}") from exc
    if reply.status != 200:
        raise _refusal(where, endpoint, reply, now_us)
    try:
        page = msgspec.json.decode(reply.body)
    except CODEC_ERRORS:
        page = None
    if type(page) is not dict or type(page.get("data", 0)) not in {list, type(None)}:
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

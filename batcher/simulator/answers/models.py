"""Which model ids exist here, and what differs between their generations."""

import re
from functools import lru_cache
from typing import Any, Final

SHOWN: Final = (
    ("claude-opus-5-5", "Claude Opus 5.5", "2026-09-22T00:00:00Z"),
    ("claude-sonnet-5-5", "Claude Sonnet 5.5", "2026-09-28T00:00:00Z"),
    ("claude-haiku-5-5", "Claude Haiku 5.5", "2026-10-07T00:00:00Z"),
    ("claude-sonnet-4-6", "Claude Sonnet 4.6", "2026-02-17T00:00:00Z"),
    ("claude-haiku-4-5", "Claude Haiku 4.5", "2025-10-15T00:00:00Z"),
)
_VERSION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


@lru_cache(maxsize=1024)
def is_known(model: str) -> bool:
    """Whether the id is served: it starts with claude-, after a vendor prefix if any."""
    return _bare(model).startswith("claude-") and "unknown" not in model


@lru_cache(maxsize=1024)
def generation(model: str) -> tuple[int, int]:
    """The version in the id, such as (5, 5); (99, 0) where it names none."""
    found = _VERSION.match(_bare(model))
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)


@lru_cache(maxsize=1024)
def quota_group(model: str) -> str:
    """The class of models that shares one quota."""
    bare = _bare(model)
    for line in ("claude-opus-4", "claude-sonnet-4"):
        if bare.startswith(line):
            return line
    return bare


@lru_cache(maxsize=1024)
def speed_of(model: str, asked: str) -> str | None:
    """The speed a request runs at, `None` where the model refuses what is asked."""
    if asked == "standard" or (_is_opus(model) and generation(model) >= (4, 8)):
        return asked
    # Opus 4.6 lost its fast mode without a word.
    return "standard" if _is_opus(model) and generation(model) == (4, 6) else None


def shown(model: tuple[str, str, str]) -> dict[str, Any]:
    """One entry of `GET /v1/models`."""
    identifier, name, created = model
    return {
        "type": "model",
        "id": identifier,
        "display_name": name,
        "created_at": created,
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": identifier.split("-")[1],
        "max_input_tokens": 1_000_000 if generation(identifier) > (4, 5) else 200_000,
        "max_tokens": max_output_tokens(identifier),
    }


def openai_page() -> dict[str, Any]:
    """The same list in the shape of servers that speak OpenAI's API as well; one page."""
    models = [
        {"id": identifier, "object": "model", "created": 1_767_225_600, "owned_by": "simulator"}
        for identifier, _, _ in SHOWN
    ]
    return {"object": "list", "data": models}


def max_output_tokens(model: str) -> int:
    """The most that `max_tokens` may ask for."""
    return 128_000 if generation(model) > (4, 5) else 64_000


def _is_opus(model: str) -> bool:
    return _bare(model).startswith("claude-opus-")


def _bare(model: str) -> str:
    return model.rpartition("/")[2]

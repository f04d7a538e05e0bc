"""From the many spellings of a model id to the one that price books use."""

import re
from typing import Final

# A reseller's or cloud's prefix names the road, not the model (messages-api, 8.3).
_VENDORS: Final = frozenset(
    {"anthropic", "azure_ai", "bedrock", "converse", "crun", "openrouter", "sunra", "vertex_ai"}
)
_REGION: Final = re.compile(r"(us|eu|apac|jp|au|us-gov|global)\.(?=anthropic\.)")
_WINDOW: Final = re.compile(r"\[1m\]$")
_BEDROCK_VERSION: Final = re.compile(r"-v[0-9]+(:[0-9]+)?$")
_VERTEX_VERSION: Final = re.compile(r"@([0-9]{8}|default|latest)$")
_SNAPSHOT: Final = re.compile(r"-20[0-9]{6}$")
_DOTTED_VERSION: Final = re.compile(r"(?<=[0-9])\.(?=[0-9])")


def normalise(model: str) -> tuple[str, bool]:
    """The plain Anthropic id of `model`, and whether the id names a region with its own price.

    `anthropic/claude-…`, `us.anthropic.claude-…-v1:0`, `claude-…@20251001`,
    `claude-…-20251001`, `claude-…[1m]` and `claude-opus-4.5` become `claude-…`. Any other
    suffix stays: `claude-opus-4-8-fast` is not `claude-opus-4-8`. What is no Claude id comes
    back unchanged.
    """
    name = _without_vendor(model)
    region = _REGION.match(name)
    name = name[region.end() :] if region else name
    name = name.removeprefix("anthropic.")
    if not name.startswith("claude-"):
        return model, False
    for suffix in (_WINDOW, _BEDROCK_VERSION, _VERTEX_VERSION, _SNAPSHOT):
        name = suffix.sub("", name)
    name = _DOTTED_VERSION.sub("-", name)
    return name, region is not None and region[1] != "global"


def _without_vendor(model: str) -> str:
    while "/" in model:
        vendor, rest = model.split("/", 1)
        if vendor not in _VENDORS:
            break
        model = rest
    return model

"""What a request and an answer's content tell of its bill, beside what usage says of it.

Kept with an answer where it is needed to say how much a charge is to be trusted: neither the
request's body nor all of an answer's words are there when it is rated again. And whose key a
gateway used, by which its cost is told to somebody else.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from batcher.messages.answer import Answer, Evidence
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.usage import stated_cost

NO_LIMIT: Final = -1

_CHARACTERS_PER_TOKEN: Final = 16  # four times what ordinary text has
_LITTLE_TEXT: Final = 200  # characters, of which no number of tokens would be remarkable
_NOT_TEXT: Final = 500  # bytes of a body that name its fields


class RequestMeters(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a body makes possible to be billed, of one that is more than text.

    `input_most` and `output_most` are tokens, `None`: no bound. `text_characters` are those of
    its text. `cache_lifetimes` is 0 where nothing is to be cached, 1 for five minutes, 2 where
    an hour is asked for. `searches` is the most web searches, `NO_LIMIT` where there is none.
    `samplings` is how often the model may run, 0: as often as it likes. `geography`, `speed`
    and `tier` are what was asked for, `None` where it is the ordinary.
    """

    input_most: int | None
    output_most: int | None
    text_characters: int
    cache_lifetimes: int = 0
    searches: int = 0
    samplings: int = 1
    runs_code: bool = False
    geography: str | None = None
    speed: str | None = None
    tier: str | None = None


def cache_lifetimes(params: Mapping[str, Any]) -> int:
    """See `RequestMeters`: of `cache_control` at the top, or on a block or tool."""
    found = _lifetime(params)
    for name in ("system", "tools", "messages"):
        found = max(found, _cached(params.get(name)))
    return found


def text_characters(params: Mapping[str, Any]) -> int:
    """How much text a body holds: of the system prompt and the messages, and no data."""
    total = _text_in(params.get("system"))
    for message in params.get("messages") or ():
        total += _text_in(message.get("content") if isinstance(message, dict) else None)
    return total


def gather(answer: Answer, asked: RequestMeters) -> Evidence:
    """What can be said of `answer`, which the request `asked` for."""
    results, failed, code, other = _tool_results(answer.content)
    letters = len(answer.text)
    known = answer.evidence or Evidence()
    return Evidence(
        input_least=max(asked.text_characters // _CHARACTERS_PER_TOKEN, 1),
        input_most=asked.input_most,
        output_least=letters // _CHARACTERS_PER_TOKEN if letters >= _LITTLE_TEXT else 0,
        output_most=asked.output_most,
        spoke=bool(answer.text) or b'"tool_use"' in answer.content,
        silent=answer.is_empty,
        cache_lifetimes=asked.cache_lifetimes,
        searches=asked.searches,
        search_results=results,
        failed_searches=failed,
        code=code or asked.runs_code,
        other_results=other,
        several=asked.samplings != 1,
        geography=asked.geography,
        speed=asked.speed,
        tier=asked.tier,
        fell=known.fell,
    )


def ordinary(body_bytes: int, max_tokens: int | None) -> RequestMeters:
    """What a body asks for that is nothing but text: its length bounds its tokens."""
    return RequestMeters(
        input_most=body_bytes,
        output_most=max_tokens,
        text_characters=max(body_bytes - _NOT_TEXT, 0),
    )


def is_plain(answer: Answer, body_bytes: int, max_tokens: int | None) -> bool:
    """Whether an answer to nothing but text leaves no question open."""
    usage = answer.usage
    if usage is None or usage.input_tokens is None or answer.evidence is not None:
        return False
    prompt = (
        usage.input_tokens + (usage.cache_write_tokens or 0) + (usage.cache_read_tokens or 0)
    )
    output, letters = usage.output_tokens, len(answer.text)
    return (
        not usage.odd
        and (
            not usage.iterations
            or all(step.is_known and not step.odd for step in usage.iterations)
        )
        and max((body_bytes - _NOT_TEXT) // _CHARACTERS_PER_TOKEN, 1) <= prompt <= body_bytes
        and output is not None
        and 0 < output <= (max_tokens or output)
        and (usage.thinking_tokens or 0) <= output
        and (letters < _LITTLE_TEXT or letters // _CHARACTERS_PER_TOKEN <= output)
        and b"tool_" not in answer.content
        and answer.stop_reason != "refusal"
    )


def _lifetime(block: Mapping[str, Any]) -> int:
    control = block.get("cache_control")
    if not isinstance(control, dict):
        return 0
    return 2 if control.get("ttl") == "1h" else 1


def _cached(blocks: object) -> int:
    if not isinstance(blocks, list):
        return 0
    return max(
        (
            max(_lifetime(block), _cached(block.get("content")))
            for block in blocks
            if isinstance(block, dict)
        ),
        default=0,
    )


def _text_in(content: object) -> int:
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list):
        return 0
    texts = (block.get("text") for block in content if isinstance(block, dict))
    return sum(len(text) for text in texts if isinstance(text, str))


class _Block(msgspec.Struct):
    type: str = ""
    content: msgspec.Raw = msgspec.Raw()


_BLOCKS: Final = msgspec.json.Decoder(list[_Block])
_RESULT: Final = "_tool_result"
_SEARCH: Final = "web_search_tool_result"
_CODE: Final = ("code_execution", "bash_code_execution", "text_editor_code_execution")
_FREE: Final = ("web_fetch", "tool_search", "mcp", "advisor")


def _tool_results(content: bytes) -> tuple[int, int, bool, bool]:
    """Searches that worked, that did not, whether code ran, and whether anything else did."""
    if b'_tool_result"' not in content:
        return 0, 0, False, False
    try:
        blocks = _BLOCKS.decode(content)
    except CODEC_ERRORS:
        return 0, 0, False, True
    found = [block for block in blocks if block.type.endswith(_RESULT)]
    searches = [block for block in found if block.type == _SEARCH]
    failed = sum(b'"web_search_tool_result_error"' in bytes(each.content) for each in searches)
    kinds = {block.type.removesuffix(_RESULT) for block in found} - {"web_search"}
    return (
        len(searches) - failed,
        failed,
        not kinds.isdisjoint(_CODE),
        not kinds <= {*_CODE, *_FREE},
    )


# --- Whose key a gateway used


class OwnKey(msgspec.Struct, frozen=True, gc=False):
    """An answer that a gateway got with our own key at the provider, which bills us itself.

    `upstream` is what the gateway says that the provider bills, as it came, if it says so.
    """

    upstream: str | None


class _OwnKeyFields(msgspec.Struct):
    is_byok: Any = None
    cost_details: Any = None


_OWN_KEY: Final = msgspec.json.Decoder(_OwnKeyFields)


def own_key(usage: str | None) -> OwnKey | None:
    """Whether raw usage says so; then its cost is the gateway's fee alone, often 0."""
    if usage is None or '"is_byok"' not in usage:
        return None
    try:
        fields = _OWN_KEY.decode(usage)
    except CODEC_ERRORS:
        return None
    if fields.is_byok is not True:  # a cost upstream is told of other answers, too
        return None
    details = fields.cost_details if isinstance(fields.cost_details, dict) else {}
    return OwnKey(stated_cost(details.get("upstream_inference_cost")))

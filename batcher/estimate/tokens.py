"""How many input tokens a byte of a model's bodies makes: measured, counted or guessed.

By the answers of the run where there are enough, else by the endpoint's own count_tokens on a
sample, else by what kinds of letters the sample holds.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt
from typing import Any, Final, Protocol

import msgspec

from batcher.clock import SystemClock
from batcher.config.keys import read_key
from batcher.errors import BatcherError
from batcher.estimate.census import Census, Inputs, read_chosen
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.request import Request
from batcher.pipeline.job import Job
from batcher.rows.ranges import RowRanges
from batcher.transport.endpoint import Endpoint
from batcher.wiring.connecting import connect

MEASURED: Final = "measured"
COUNTED: Final = "counted"
GUESSED: Final = "guessed"

_COUNT_FIELDS: Final = (
    "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config",
    "cache_control", "speed", "context_management", "mcp_servers",
)  # fmt: skip
_AT_ONCE: Final = 8
_ENOUGH_COUNTS: Final = 3
_QUANTILE: Final = Fraction(17, 10)  # of Student's t, 90 %, for samples of about twenty

_GUESS_MARGIN: Final = Fraction(15, 100)
# Characters per token by script, measured; the tokenizer of Claude 4.7 and later cuts finer.
_NEW_LATIN, _OLD_LATIN = Fraction(3), Fraction(41, 10)
_DIGITS, _OTHER, _WIDE = Fraction(2), Fraction(11, 4), Fraction(1)
_WIDE_FROM: Final = "\u2e80"  # Chinese, Japanese, Korean
_FRAME_TOKENS: Final = 10
_IMAGE_TOKENS, _DOCUMENT_TOKENS = 1_568, 3_000
_VERSION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


class CountRefused(Exception):  # noqa: N818 - it says that there is no count
    """The endpoint counts nothing; the text says why."""


class TokenCounter(Protocol):
    """Asks the endpoint how many tokens a body has."""

    async def __call__(self, body: bytes, betas: tuple[str, ...]) -> int:
        """The count; raises `CountRefused`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRate:
    """Tokens per byte of a model's bodies, as a fraction; wrong by `margin` of it at most.

    That is the half of a 90 % interval, and for guesses what the guess is known to be worth.
    """

    model: str
    tokens: int
    body_bytes: int
    method: str
    margin: Fraction

    def of(self, body_bytes: int) -> int:
        """The tokens of so many bytes."""
        return self.tokens * body_bytes // self.body_bytes


def measured_rate(model: str, pairs: Sequence[tuple[int, int]]) -> TokenRate:
    """From the (body bytes, input tokens) of answers."""
    return _rate(model, pairs, MEASURED)


def guessed_rate(model: str, requests: Sequence[Request]) -> TokenRate:
    """From the letters of a few bodies."""
    pairs = [(len(request.body), _guess(model, request.body)) for request in requests]
    tokens, body_bytes = sum(t for _, t in pairs), sum(b for b, _ in pairs)
    return TokenRate(
        model=model,
        tokens=max(tokens, 1),
        body_bytes=max(body_bytes, 1),
        method=GUESSED,
        margin=_GUESS_MARGIN,
    )


async def counted_rates(
    samples: Mapping[str, Sequence[Request]], count: TokenCounter
) -> dict[str, TokenRate]:
    """From the endpoint's count of a few bodies of each model; models it refuses are missing.

    The first body goes alone. Raises `CountRefused` when the endpoint does not count it.
    """
    rates: dict[str, TokenRate] = {}
    first = True
    for model, requests in samples.items():
        pairs = await _counted(requests, count, alone=first)
        first = False
        if len(pairs) >= min(_ENOUGH_COUNTS, len(requests)):
            rates[model] = _rate(model, pairs, COUNTED)
    return rates


async def _counted(
    requests: Sequence[Request], count: TokenCounter, *, alone: bool
) -> list[tuple[int, int]]:
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(request: Request) -> tuple[int, int] | None:
        async with places:
            try:
                tokens = await count(_countable(request.body), request.betas)
            except CountRefused:
                return None
            return len(request.body), tokens

    pairs: list[tuple[int, int] | None] = []
    if alone and requests:
        body = requests[0].body
        pairs.append((len(body), await count(_countable(body), requests[0].betas)))
    pairs += await asyncio.gather(*(one(request) for request in requests[len(pairs) :]))
    return [pair for pair in pairs if pair is not None]


def _countable(body: bytes) -> bytes:
    """A Messages body as count_tokens takes it: without max_tokens and its like."""
    fields = msgspec.json.decode(body)
    return msgspec.json.encode({name: fields[name] for name in _COUNT_FIELDS if name in fields})


def _rate(model: str, pairs: Sequence[tuple[int, int]], method: str) -> TokenRate:
    """The ratio estimator, and half of its 90 % interval relative to it."""
    body_bytes, tokens = sum(b for b, _ in pairs), sum(t for _, t in pairs)
    ratio = Fraction(tokens, body_bytes)
    squares = sum(((t - ratio * b) ** 2 for b, t in pairs), Fraction())
    margin = Fraction(1)
    if len(pairs) > 1 and tokens:
        n = len(pairs)
        error = isqrt(int(squares * n * 10**12 / (n - 1)))  # millionths of the total's error
        margin = min(_QUANTILE * error / (tokens * 10**6), Fraction(1))
    return TokenRate(
        model=model, tokens=max(tokens, 1), body_bytes=body_bytes, method=method, margin=margin
    )


def _guess(model: str, body: bytes) -> int:
    fields = msgspec.json.decode(body)
    latin = _NEW_LATIN if _has_new_tokenizer(model) else _OLD_LATIN
    total = Fraction(_FRAME_TOKENS)
    for name in ("system", "messages", "tools"):
        for text in _texts(fields.get(name)):
            total += _letters(text, latin) if isinstance(text, str) else text
    return int(total)


def _letters(text: str, latin: Fraction) -> Fraction:
    if text.isascii():
        digits = sum(map(text.count, "0123456789"))
        return (len(text) - digits) / latin + digits / _DIGITS
    plain = sum(char < "\u0250" for char in text)
    wide = sum(char >= _WIDE_FROM for char in text)
    return plain / latin + wide / _WIDE + (len(text) - plain - wide) / _OTHER


def _texts(value: object) -> Iterator[str | int]:
    """The text in a part of a body; a picture or document as its usual number of tokens."""
    match value:
        case str():
            yield value
        case list():
            for entry in value:
                yield from _texts(entry)
        case {"type": "image"}:
            yield _IMAGE_TOKENS
        case {"type": "document", "source": {"type": "base64" | "url" | "file"}}:
            yield _DOCUMENT_TOKENS
        case dict():
            yield from _texts_of_object(value)
        case _:
            pass


def _texts_of_object(value: dict[str, Any]) -> Iterator[str | int]:
    for name, entry in value.items():
        if name not in {"type", "role", "cache_control"}:
            yield from _texts(entry)


def _has_new_tokenizer(model: str) -> bool:
    """Claude 4.7 and later; other makers' models count like the older ones."""
    found = _VERSION.match(model.rpartition("/")[2])
    return found is not None and (int(found[1]), int(found[2] or 0)) >= (4, 7)


_COUNTED_ROWS = 20  # bodies of each model
_MOST_MODELS = 20  # of which bodies are looked at; others count like these


def other_rates(
    job: Job, inputs: Inputs, census: Census, known: Mapping[str, TokenRate]
) -> tuple[dict[str, TokenRate], str]:
    """Of the models whose answers do not tell: counted by the endpoint, else guessed."""
    models = sorted(census.models.keys() - known.keys(), key=lambda m: -census.models[m])
    samples = _bodies(inputs, census, models[:_MOST_MODELS])
    counted: dict[str, TokenRate] = {}
    note = ""
    if samples:
        try:
            counted = asyncio.run(_asked(job.endpoint, samples))
        except (CountRefused, BatcherError) as exc:
            note = str(exc)
    rates = {
        model: counted.get(model) or guessed_rate(model, samples[model]) for model in samples
    }
    some = next(iter((*rates.values(), *known.values())))
    return {model: rates.get(model) or replace(some, model=model) for model in models}, note


def _bodies(inputs: Inputs, census: Census, models: Sequence[str]) -> dict[str, list[Request]]:
    """A few random bodies of each model."""
    chosen: dict[str, RowRanges] = {}
    for model in models:
        cells = [cell for key, cell in census.cells.items() if key[0] == model]
        drawn = sorted(ticket for cell in cells for ticket in cell.drawn())
        for ticket in drawn[:_COUNTED_ROWS]:
            chosen.setdefault(ticket.source, RowRanges()).add(ticket.row_number)
    samples: dict[str, list[Request]] = {}
    for request in read_chosen(inputs, chosen):
        samples.setdefault(request.model, []).append(request)
    return samples


async def _asked(
    endpoint: Endpoint, samples: Mapping[str, Sequence[Request]]
) -> dict[str, TokenRate]:
    from batcher.transport.live.connections import SendError

    client = connect(endpoint, read_key(endpoint), SystemClock())

    async def count(body: bytes, betas: tuple[str, ...]) -> int:
        try:
            reply = await client.count_tokens(body, betas)
        except SendError as exc:
            raise CountRefused(f"endpoint {endpoint.name}: {exc.message}") from exc
        return _count_in(endpoint.name, reply.status, reply.body)

    try:
        return await counted_rates(samples, count)
    finally:
        await client.close()


class _Count(msgspec.Struct):
    input_tokens: int


def _count_in(name: str, status: int, body: bytes) -> int:
    try:
        if status == 200:
            return msgspec.json.decode(body, type=_Count).input_tokens
    except CODEC_ERRORS:
        pass
    raise CountRefused(f"endpoint {name} does not count tokens (HTTP {status})")

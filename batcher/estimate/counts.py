"""Input tokens per byte where no answer tells: counted by the endpoint, else guessed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from batcher.clock import SystemClock
from batcher.config.keys import read_key
from batcher.errors import BatcherError
from batcher.estimate.census import Census, Inputs, read_chosen
from batcher.estimate.tokens import CountRefused, TokenRate, counted_rates, guessed_rate
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.request import Request
from batcher.pipeline.job import Job
from batcher.rows.ranges import RowRanges
from batcher.transport.endpoint import Endpoint
from batcher.wiring.connecting import connect

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
            counted = asyncio.run(_counted(job.endpoint, samples))
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


async def _counted(
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

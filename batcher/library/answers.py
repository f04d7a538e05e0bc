"""Answers as objects, with the fields of the view `v_answers`."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, Final

import msgspec


class RowAnswer(msgspec.Struct, frozen=True):
    """A row's current final answer, as `v_answers` has it; docs/database.md says what is what.

    `content` is the list of content blocks, `answered_at` an aware moment, `cost_usd` exact;
    `None` stands for what is not known.
    """

    run_id: int
    invocation_id: int
    job: str | None
    endpoint: str | None
    lane: str | None
    source: str
    row_number: int
    custom_id: str | None
    attempt_uid: str | None
    request_id: int | None
    final: int
    state: str
    leg: int
    requested_model: str | None
    model: str | None
    message_id: str | None
    stop_reason: str | None
    stop_sequence: str | None
    stop_details: str | None
    text: str
    text_repaired: int
    content: Any
    valid: int | None
    invalid_reason: str | None
    input_tokens: int | None
    cache_write_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    cache_read_tokens: int | None
    output_tokens: int | None
    thinking_tokens: int | None
    web_search_requests: int | None
    service_tier: str | None
    inference_geo: str | None
    speed: str | None
    attempts: int
    legs: int
    latency_ms: int | None
    first_token_ms: int | None
    answered_at: datetime
    cost_pico_usd: int | None
    cost_status: str | None
    provider_reported_cost: str | None
    paid_by_attempt_uid: str | None
    trust: str | None
    cost_usd: Decimal | None
    cost_low_pico_usd: int | None
    cost_high_pico_usd: int | None
    container_id: str | None
    thinking: str | None
    cost_low_usd: Decimal | None
    cost_high_usd: Decimal | None
    workspace_id: str | None
    key_fingerprint: str | None


def as_answers(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[RowAnswer]:
    """The rows of `v_answers`, whose columns are `names`, as objects."""
    fields = RowAnswer.__struct_fields__
    in_order, content = itemgetter(*map(names.index, fields)), fields.index("content")
    for row in rows:
        cells = list(in_order(row))
        cells[content] = _decoded(cells[content])
        yield RowAnswer(*cells)


_decoded: Final = msgspec.json.Decoder().decode

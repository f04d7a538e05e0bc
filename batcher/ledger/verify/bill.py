"""The ledger beside a simulator's bill: the second book, written by another process.

What was billed must be an attempt of the ledger, what was billed twice must be explained, and
every attempt must cost what its bill says.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Engine, case, func, select

from batcher.errors import UsageError
from batcher.ledger.connect import Connection, reading
from batcher.ledger.rate.stored_answers import (
    Pricing,
)
from batcher.ledger.runs import database_uid
from batcher.ledger.schema import attempts, charges
from batcher.ledger.verify.answers import (
    pricings,
)
from batcher.ledger.verify.findings import (
    Findings,
)
from batcher.messages.answer import Answer
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.request import IN_DOUBT, Purpose, State
from batcher.messages.usage import Usage
from batcher.pricing.rate.rating import rate

_KIND: Final = "bill"
_MAY_BE_BILLED_AGAIN: Final = frozenset(
    {*(state.value for state in IN_DOUBT), State.LATE.value, State.OPEN.value}
)
_SENT_AGAIN_ON_PURPOSE: Final = frozenset(
    {Purpose.TRUNCATION.value, Purpose.INVALID.value, Purpose.PILOT.value}
)
_ANSWERED: Final = frozenset({State.ANSWERED.value, State.LATE.value})


class BilledAttempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a simulator would charge for one accepted request; see its documentation."""

    attempt_uid: str | None
    request_id: str
    model: str
    input_tokens: int
    cache_creation_5m: int
    cache_creation_1h: int
    cache_read: int
    output_tokens: int
    web_search_requests: int
    stop_reason: str | None
    billed: bool
    inference_geo: str
    speed: str
    service_tier: str | None = None  # `batch` costs half


def read_bill(path: Path) -> list[BilledAttempt]:
    """All lines of a bill; the whole bill is kept in memory.

    Raises `UsageError` for a file that is no bill.
    """
    decoder = msgspec.json.Decoder(BilledAttempt)
    try:
        with path.open("rb") as file:
            return [decoder.decode(line) for line in file]
    except (OSError, *CODEC_ERRORS) as error:
        raise UsageError(f"{path}: that is no bill of a simulator: {error}") from error


def check_bill(engine: Engine, bill: list[BilledAttempt], findings: Findings) -> None:
    """Compare the attempts with a bill; lines for the uids of other ledgers are left aside."""
    with reading(engine) as connection:
        mine = f"{database_uid(connection)}-"
        priced_by = pricings(connection, Findings())
        lines = {line.attempt_uid: line for line in _of_ledger(bill, mine, findings)}
        if priced_by:
            _compare(connection, lines, priced_by, findings)
    for line in lines.values():
        text = f"attempt {line.attempt_uid} was billed and is not in the ledger"
        findings.add(_KIND, text)


def _of_ledger(
    bill: list[BilledAttempt], mine: str, findings: Findings
) -> Iterator[BilledAttempt]:
    seen: set[str] = set()
    for line in bill:
        if line.attempt_uid is None:
            findings.add(
                _KIND, f"request {line.request_id} was billed without an attempt's uid"
            )
        elif line.attempt_uid in seen:
            findings.add(_KIND, f"attempt {line.attempt_uid} was billed twice")
        elif line.attempt_uid.startswith(mine):
            seen.add(line.attempt_uid)
            yield line


def _compare(
    connection: Connection,
    lines: dict[str | None, BilledAttempt],
    priced_by: Mapping[int, Pricing],
    findings: Findings,
) -> None:
    """Takes what is found in the ledger out of `lines`."""
    newest = max(priced_by)
    explained: dict[tuple[int, int], int] = {}
    for attempt in _attempts(connection):
        line = lines.pop(attempt.attempt_uid, None)
        _check_legs(attempt, explained, findings, billed=line is not None)
        pricing = priced_by.get(attempt.rating_id or newest)
        if pricing is not None:
            _check_cost(attempt, line, pricing, findings)


def _attempts(connection: Connection) -> Iterator[Any]:
    """All attempts, with the sum of their current charges and how many have no amount."""
    table = attempts.c
    charged = (charges.c.attempt_id == table.attempt_id) & (charges.c.current == 1)
    statement = (
        select(
            table.attempt_uid,
            table.request_id,
            table.invocation_id,
            table.leg,
            table.purpose,
            table.state,
            table.requested_model,
            func.coalesce(table.sent_at, table.opened_at).label("sent_at"),
            table.cost_low,
            table.cost_high,
            func.max(charges.c.rating_id).label("rating_id"),
            func.sum(charges.c.total_amount).label("charged"),
            func.sum(func.coalesce(charges.c.high_amount, charges.c.total_amount)).label(
                "at_most"
            ),
            func.count(case((charges.c.total_amount.is_(None), charges.c.line))).label(
                "unpriced"
            ),
        )
        .outerjoin(charges, charged)
        .group_by(table.attempt_id)
        .order_by(table.attempt_id)
    )
    yield from connection.execute(statement, execution_options={"yield_per": 10_000})


def _check_legs(
    attempt: Any,  # noqa: ANN401  a record of the database
    explained: dict[tuple[int, int], int],
    findings: Findings,
    *,
    billed: bool,
) -> None:
    """Of the bills of one leg, one needs no explanation, and one more for each purpose.

    What is sent again on purpose may have been refused or lost, so that its retry has the bill.
    """
    leg = attempt.request_id, attempt.leg
    if attempt.purpose in _SENT_AGAIN_ON_PURPOSE:
        explained[leg] = explained.get(leg, 0) - 1
    if not billed or attempt.state in _MAY_BE_BILLED_AGAIN:
        return
    explained[leg] = explained.get(leg, 0) + 1
    if explained[leg] > 1:
        text = f"attempt {attempt.attempt_uid} was billed after another of the same leg"
        findings.add(_KIND, f"{text}, and is {attempt.state}")


def _check_cost(
    attempt: Any,  # noqa: ANN401  a record of the database
    line: BilledAttempt | None,
    pricing: Pricing,
    findings: Findings,
) -> None:
    billed = 0 if line is None else _price(line, attempt, pricing)
    if billed is None:
        return  # a model without a price: unpriced, or in doubt without a bound
    low, high = attempt.cost_low, attempt.cost_high
    if attempt.state in _ANSWERED:
        low = int(attempt.charged or 0)
        high = None if attempt.unpriced else int(attempt.at_most or 0)
    if billed < low or (high is not None and billed > high):
        bound = "without a bound" if high is None else f"to {high}"
        findings.add(
            _KIND,
            f"attempt {attempt.attempt_uid} was billed {billed} pico-units and costs {low}"
            f" {bound} here ({attempt.state})",
        )


def _price(
    line: BilledAttempt,
    attempt: Any,  # noqa: ANN401  a record of the database
    pricing: Pricing,
) -> int | None:
    if not line.billed:
        return 0
    usage = Usage(
        input_tokens=line.input_tokens,
        cache_write_tokens=line.cache_creation_5m + line.cache_creation_1h,
        cache_write_5m_tokens=line.cache_creation_5m,
        cache_write_1h_tokens=line.cache_creation_1h,
        cache_read_tokens=line.cache_read,
        output_tokens=line.output_tokens,
        web_search_requests=line.web_search_requests,
        inference_geo=line.inference_geo,
        speed=line.speed,
        service_tier=line.service_tier,
    )
    answer = Answer(
        message_id=None,
        model=line.model,
        stop_reason=line.stop_reason,
        stop_sequence=None,
        content=b"[{}]",
        text="",
        text_repaired=False,
        usage=usage,
        usage_raw=None,
    )
    (charge,) = rate(
        answer,
        requested_model=attempt.requested_model,
        price_list=pricing.price_lists.get(attempt.invocation_id),
        sent_at=attempt.sent_at if pricing.as_of_us is None else pricing.as_of_us,
        book=pricing.book,
    )
    return charge.total

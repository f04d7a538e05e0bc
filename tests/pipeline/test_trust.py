"""Whatever a server says of its work, the ledger's interval holds the bill."""

import json
import os
from collections import Counter

import msgspec
import pytest
from msgspec.structs import replace

from batcher.messages.answer import Answer, Evidence, parse_answer
from batcher.messages.request import Answered, Attempt, Exchange, Purpose, Request
from batcher.messages.stream import MessageStream
from batcher.pipeline.engine.rater import Rater
from batcher.pricing.book.book import load_shipped
from batcher.pricing.rate.rating import Charge, ChargeStatus
from tests.pricing.provider_model import Case, make

# Read at import: no test sees an environment variable of the person who runs it.
CAMPAIGN_CASES = int(os.environ.get("BATCHER_TRUST_CASES", "1000000"))
NOVEMBER = 1_795_219_200_000_000
RATER = Rater(load_shipped(), "anthropic")
CLEAR = {ChargeStatus.PRICED, ChargeStatus.UNBILLED}


def attempt_of(body: dict) -> Attempt:
    text = json.dumps(body).encode()
    request = Request(
        source_id=1, row_number=1, byte_offset=0, custom_id=None, params_hash=b"", body=text,
        model=body["model"], max_tokens=body["max_tokens"],
    )  # fmt: skip
    return Attempt(
        attempt_id=1, uid="1", request_id=1, request=request, number=1, leg=1,
        purpose=Purpose.FIRST, body=text, opened_at=NOVEMBER, cost_high=None,
        asked=RATER.asked(text),
    )  # fmt: skip


def answered(case: Case) -> Answered:
    exchange = Exchange(sent_at=NOVEMBER, settled_at=NOVEMBER + 1)
    if not case.falls:
        return Answered(exchange, parse_answer(msgspec.json.encode(case.message)))
    stream = MessageStream()
    stream.feed(events(case))
    stream.finish()
    return Answered(exchange, stream.answer(stream.message()))


def events(case: Case) -> bytes:
    """The answer as a stream, in which some counts begin higher than they end."""
    message = {**case.message, "content": [], "stop_reason": None}
    message["usage"] = {**message["usage"], **dict(case.falls)}
    told = [{"type": "message_start", "message": message}]
    for index, block in enumerate(case.message["content"]):
        told.append({"type": "content_block_start", "index": index, "content_block": block})
        told.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": case.message["stop_reason"]}
    told.append({"type": "message_delta", "delta": end, "usage": case.message["usage"]})
    told.append({"type": "message_stop"})
    return b"".join(b"data: " + msgspec.json.encode(each) + b"\n\n" for each in told)


def charges(case: Case) -> tuple[tuple[Charge, ...], Answer]:
    outcome = RATER.weighed(attempt_of(case.body), answered(case))
    assert isinstance(outcome, Answered)
    return RATER.charges_of(outcome, case.body["model"]), outcome.answer


def as_stored(answer: Answer) -> Answer:
    """What a ledger has of it when it is rated again."""
    kept = answer.evidence and msgspec.json.decode(
        msgspec.json.encode(answer.evidence), type=Evidence
    )
    return replace(answer, text="", content=answer.content[:64], evidence=kept)


def judge(case: Case) -> str:
    """What the charges say; fails where they do not hold the bill."""
    found, answer = charges(case)
    said = {charge.status for charge in found}
    low = sum(charge.total or 0 for charge in found)
    assert low <= case.bill, f"low {low} above {case.bill}: {found} {case.words}"
    if ChargeStatus.UNPRICED in said:
        assert not case.bounded, f"bounded, and {found} {case.words}"
    else:
        high = sum(charge.high or 0 for charge in found)
        assert case.bill <= high, f"{case.bill} above {high}: {found} {case.words}"
    if said <= CLEAR:
        assert low == case.bill, f"{low} is not {case.bill}: {found} {case.words}"
    if case.plain:
        assert said <= CLEAR, f"plain, and {found} {case.words}"
    assert RATER.charges(as_stored(answer), case.body["model"], NOVEMBER) == found
    return "+".join(sorted(said))


def judge_all(first: int, count: int) -> Counter[str]:
    return Counter(judge(make(number)) for number in range(first, first + count))


def test_every_interval_holds_the_bill_and_what_is_plain_is_priced():
    seen = judge_all(0, 10_000)
    assert seen["priced"] > 3_000
    assert seen["assumed"] > 1_500


@pytest.mark.campaign
def test_a_million_intervals_hold_their_bills():
    judge_all(10**6, CAMPAIGN_CASES)

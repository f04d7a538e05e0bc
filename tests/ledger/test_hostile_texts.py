"""Every text that comes from outside, of every length and kind, on both databases.

No one text stops a commit or an import: what a database cannot hold settles as unusable with
its bytes, everything else lands as it is.
"""

import asyncio
import random

import pytest
from msgspec.structs import replace

from batcher.clock import SystemClock
from batcher.ledger.connect import reading
from batcher.ledger.lifeboat.lifeboat import Lifeboat, places_for
from batcher.ledger.schema import KEY_CHARACTERS
from batcher.ledger.verify.findings import Findings
from batcher.ledger.verify.totals import rollups_agree
from batcher.ledger.write.records import (
    Intent,
    Quarantine,
    RowFailure,
    Settlement,
)
from batcher.ledger.write.transaction import Recorder
from batcher.ledger.write.writer import Writer
from batcher.messages.failure import Failure, FailureKind, Verdict
from batcher.messages.request import Answered, BadRow, State, Unknown
from tests.ledger.settling import RunLedger
from tests.simulator.asking import asynchronous


def noise(length: int) -> str:
    """Text that no database can compress to fit an index."""
    return random.Random(length).randbytes(length // 2).hex()[:-1] + "中"


VALUES = {
    "nothing": "", "one": "x", "hundred": noise(100), "3 kB": noise(3_000),
    "9 kB": noise(9_000), "1 MB": noise(2**20), "NUL": "a\0b", "half a pair": "a\ud800b",
    "half at the end": noise(202) + "\udfff", "bidi": "\u202eabc\u2066",
    "controls": "\x1b[2J\x9b",
}  # fmt: skip
KEYS = ("model", "stop_reason")
BAD = ("\0", "\ud800", "\udfff")

ANSWER = ("model", "stop_reason", "stop_sequence", "message_id", "container_id", "text")
USAGE = ("service_tier", "inference_geo", "speed", "provider_reported_cost")
EXCHANGE = ("provider_request_id", "workspace_id", "reported_cost")
SETTLEMENT = ("joined_text", "joined_content", "invalid_reason")
CHARGE = ("model", "reason")
FAILURE = ("error_type", "error_code", "message")
REQUEST = ("custom_id", "model")
BAD_ROW = ("custom_id", "reason", "message")
NAMES = (
    *(f"answer.{name}" for name in ANSWER),
    *(f"usage.{name}" for name in USAGE),
    *(f"exchange.{name}" for name in EXCHANGE),
    *(f"settlement.{name}" for name in SETTLEMENT),
    *(f"charge.{name}" for name in CHARGE),
    *(f"failure.{name}" for name in FAILURE),
    *(f"row failure.{name}" for name in ("reason", "message")),
    *(f"request.{name}" for name in REQUEST),
)


def with_text(ledger: RunLedger, place: str, text: str) -> list:  # noqa: C901 - a case a place
    """An attempt and how it ended, with `text` in one place."""
    kind, name = place.split(".")
    if name in KEYS and kind != "charge":
        text = text.replace("\0", "\ud800")  # no NUL gets there: SQLite's substr ends at one
    change = {name: text}
    if kind == "request":
        attempt = ledger.attempt()
        attempt = replace(attempt, request=replace(attempt.request, **change))
        return ledger.answered(attempt=attempt)
    intent, settled = ledger.answered()
    outcome = settled.outcome
    match kind:
        case "answer":
            outcome = Answered(outcome.exchange, replace(outcome.answer, **change))
        case "usage":
            usage = replace(outcome.answer.usage, **change)
            outcome = Answered(outcome.exchange, replace(outcome.answer, usage=usage))
        case "exchange":
            outcome = Answered(replace(outcome.exchange, **change), outcome.answer)
        case "settlement":
            settled = replace(settled, **change)
        case "charge":
            charges = tuple(replace(charge, **change) for charge in settled.charges)
            settled = replace(settled, charges=charges)
        case "failure":
            said = {"error_type": "t", "message": "m", "verdict": Verdict.FAIL_ROW} | change
            outcome = Unknown(outcome.exchange, Failure(**said))
            settled = replace(settled, state=State.UNKNOWN, final=False, charges=())
        case "row failure":
            said = {"reason": "r", "message": "m"} | change
            failure = RowFailure(kind=FailureKind.FAILED, transient=False, **said)
            settled = replace(settled, failure=failure)
    return [intent, replace(settled, outcome=outcome)]


def everything(ledger: RunLedger) -> list[list]:
    return [with_text(ledger, place, text) for place in NAMES for text in VALUES.values()]


def is_bad(number: int) -> bool:
    """Whether the text of that record, in order, is one that no database can hold."""
    text = list(VALUES.values())[number % len(VALUES)]
    return any(each in text for each in BAD)


def check(ledger: RunLedger, records: list[list], *, is_server: bool) -> None:
    """Everything is settled, and what is unusable is what had to be."""
    states = dict(ledger.ask("SELECT attempt_id, state FROM attempts"))
    for number, (intent, _) in enumerate(records):
        state = states[intent.attempt.attempt_id]
        assert state != "open"
        if not is_bad(number):
            assert state != "unusable", (NAMES[number // len(VALUES)], number % len(VALUES))
        elif is_server or "\0" not in list(VALUES.values())[number % len(VALUES)]:
            assert state == "unusable", (NAMES[number // len(VALUES)], number % len(VALUES))
    bodies = ledger.ask("SELECT attempt_id FROM unusable_bodies")
    assert len(bodies) == list(states.values()).count("unusable")
    findings = Findings()
    with reading(ledger.engine) as connection:
        rollups_agree(connection, findings)
    assert not findings.some
    (longest,) = ledger.ask("SELECT max(length(model)) FROM rollups")[0]
    assert longest == KEY_CHARACTERS
    (whole,) = ledger.ask("SELECT max(length(model)) FROM answers")[0]
    assert whole == 2**20


@pytest.fixture
def ledger(database_url):
    yield (made := RunLedger(database_url))
    made.engine.dispose()


@asynchronous
async def test_no_text_stops_a_commit(ledger, database_url):
    loop = asyncio.get_running_loop()
    batch = Recorder(ledger.engine.dialect, ledger.scope, SystemClock())
    failures: list[BaseException] = []
    writer = Writer(ledger.engine, batch, loop, failures.append)
    records = everything(ledger)
    acknowledged: list[int] = []
    for number, (intent, settled) in enumerate(records):
        writer.put(intent, lambda: None)
        writer.put(settled, lambda number=number: acknowledged.append(number))
    await asyncio.wrap_future(writer.call(lambda _: None))
    await asyncio.to_thread(writer.close)
    assert not failures
    assert acknowledged == list(range(len(records)))
    check(ledger, records, is_server=ledger.engine.dialect.name == "postgresql")


@asynchronous
async def test_no_text_of_a_refused_row_stops_a_commit(ledger):
    loop = asyncio.get_running_loop()
    batch = Recorder(ledger.engine.dialect, ledger.scope, SystemClock())
    failures: list[BaseException] = []
    writer = Writer(ledger.engine, batch, loop, failures.append)
    count = 0
    for name in BAD_ROW:
        for text in VALUES.values():
            count += 1
            said = {"custom_id": "c", "reason": "r", "message": "m"} | {name: text}
            row = BadRow(source_id=ledger.source_id, row_number=count, byte_offset=None, **said)
            writer.put(Quarantine(row=row), lambda: None)
    await asyncio.wrap_future(writer.call(lambda _: None))
    await asyncio.to_thread(writer.close)
    assert not failures
    assert ledger.ask("SELECT count(*) FROM failures") == [(count,)]


_TRIGGERS = {
    "sqlite": "CREATE TRIGGER picky BEFORE INSERT ON answers WHEN NEW.text = 'poison'"
    " BEGIN SELECT RAISE(ABORT, 'not with me'); END",
    "postgresql": "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF NEW.text = 'poison' THEN RAISE EXCEPTION 'not with me' USING ERRCODE = '54000';"
    " END IF; RETURN NEW; END $$",
}  # fmt: skip


@asynchronous
async def test_a_refusal_that_nobody_thought_of_costs_one_answer(ledger):
    name = ledger.engine.dialect.name
    ledger.execute(_TRIGGERS[name])
    if name == "postgresql":
        ledger.execute(
            "CREATE TRIGGER picky BEFORE INSERT ON answers"
            " FOR EACH ROW EXECUTE FUNCTION picky()"
        )
    loop = asyncio.get_running_loop()
    batch = Recorder(ledger.engine.dialect, ledger.scope, SystemClock())
    failures: list[BaseException] = []
    writer = Writer(ledger.engine, batch, loop, failures.append)
    for number in range(63):
        text = "poison" if number == 40 else "fine"
        for record in with_text(ledger, "answer.text", text):
            writer.put(record, lambda: None)
    await asyncio.wrap_future(writer.call(lambda _: None))
    await asyncio.to_thread(writer.close)
    assert not failures
    found = ledger.ask("SELECT state, count(*) FROM attempts GROUP BY state ORDER BY state")
    assert found == [("answered", 62), ("unusable", 1)]
    ((body,),) = ledger.ask("SELECT body FROM unusable_bodies")
    assert b'"model":"claude-sonnet-5"' in bytes(body)
    assert b"Hello" in bytes(body)


def test_no_text_keeps_a_lifeboat_hostage(ledger, tmp_path):
    records = everything(ledger)
    ledger.write([Intent(attempt=ledger.attempt())])
    intents = [intent for number, (intent, _) in enumerate(records) if not is_bad(number)]
    for start in range(0, len(intents), 100):
        ledger.write(intents[start : start + 100])
    settled: list[Settlement] = [each for _, each in records]
    places = places_for(str(ledger.url), ledger.uid(), tmp_path)
    boat = Lifeboat(places, ledger.scope, SystemClock())
    boat.save(settled)
    boat.close()
    assert places.import_into(ledger.engine, SystemClock()).outcomes == len(records)
    assert not places.found()
    check(ledger, records, is_server=ledger.engine.dialect.name == "postgresql")

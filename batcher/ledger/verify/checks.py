"""Recomputes what the ledger says, and lists where it contradicts itself. Only reads.

Works while a run is on: each check sees one moment of the database, and the long one, over all
charges, reads chunk by chunk, so that no reader holds back the log of a writer for long.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, select

from batcher.ledger.connect import place, reading
from batcher.ledger.damage import check_whole
from batcher.ledger.owner.database_file import check_log
from batcher.ledger.rate.stored_answers import (
    answers_with_charges,
    read_rate_sets,
)
from batcher.ledger.schema import NOT_KEPT, answers
from batcher.ledger.verify.bill import check_bill, read_bill
from batcher.ledger.verify.budgets import budgets_agree
from batcher.ledger.verify.charges import ChargeChecker, broken_streams_agree, pricings
from batcher.ledger.verify.findings import Findings, Verified
from batcher.ledger.verify.queries import contradictions, keys_in_plain_sight
from batcher.ledger.verify.rollups import rollups_agree
from batcher.ledger.write.records import checksum_of
from batcher.messages.answer import NotAMessage, text_of

_CHUNK: Final = 50  # answers may be large
_READ: Final = tuple(
    answers.c[name]
    for name in (
        "attempt_id", "content", "usage", "joined_content", "joined_text", "text", "checksum",
    )
)  # fmt: skip


def verify(engine: Engine, bill: Path | None = None) -> Verified:
    """Check the whole ledger, beside the `bill` of a simulator if there is one.

    Raises `UsageError` for a file that is no bill, `StorageError` for a damaged SQLite file.
    """
    if path := place(engine).path:
        check_log(path.resolve())
        check_whole(path)
    findings = Findings()
    if bill is not None:
        check_bill(engine, read_bill(bill), findings)
    with reading(engine) as connection:
        priced_by = pricings(connection, findings)
        rate_sets = read_rate_sets(connection)
    checker = ChargeChecker(priced_by, rate_sets, findings)
    for chunk in answers_with_charges(partial(reading, engine)):
        checker.check(chunk)
    with reading(engine) as connection:
        broken_streams_agree(connection, priced_by, findings)
        rollups = rollups_agree(connection, findings)
    for check in (contradictions, budgets_agree, keys_in_plain_sight):
        with reading(engine) as connection:
            check(connection, findings)
    return Verified(
        answers=checker.answers,
        charges=checker.charges,
        rollups=rollups,
        findings=findings.some,
        problems=findings.count,
    )


def contents_agree(engine: Engine, findings: Findings) -> None:
    """Compare each answer with its checksum, and its text with its content."""
    for chunk in _chunks(engine):
        for row in chunk:
            if said := what_changed(row):
                findings.add("content", f"the answer of attempt {row.attempt_id}: {said}")


def _chunks(engine: Engine) -> Iterator[Sequence[Any]]:
    after = -1
    while rows := _after(engine, after):
        yield rows
        after = rows[-1].attempt_id


def _after(engine: Engine, after: int) -> Sequence[Any]:
    query = select(*_READ).where(answers.c.attempt_id > after).order_by(answers.c.attempt_id)
    with reading(engine) as connection:
        return connection.execute(query.limit(_CHUNK)).all()


def what_changed(row: Any) -> str | None:  # noqa: ANN401 - a row with these columns
    """How an answer is not what was recorded, in words; `None`: it is, or has no checksum."""
    if row.checksum is None:
        return None
    usage = None if row.usage is None else row.usage.encode()
    found = checksum_of(row.content.encode(), usage, row.joined_content, row.joined_text)
    if row.checksum != found:
        return "content or usage is not what was recorded"
    if row.content == NOT_KEPT:
        return None
    try:
        text = text_of(row.content.encode())
    except NotAMessage as error:
        return str(error)
    return None if text == row.text else "its text is not that of its content"

"""Recomputes what the ledger says, and lists where it contradicts itself. Only reads.

Works while a run is on: each check sees one moment of the database, and the long one, over all
charges, reads chunk by chunk, so that no reader holds back the log of a writer for long.
"""

from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from batcher.ledger.connect import place, reading
from batcher.ledger.damage import check_whole
from batcher.ledger.owner.database_file import check_log
from batcher.ledger.rate.stored_answers import (
    answers_with_charges,
    read_rate_sets,
)
from batcher.ledger.verify.bill import check_bill, read_bill
from batcher.ledger.verify.budgets import budgets_agree
from batcher.ledger.verify.charges import ChargeChecker, pricings
from batcher.ledger.verify.findings import Findings, Verified
from batcher.ledger.verify.queries import contradictions, keys_in_plain_sight
from batcher.ledger.verify.rollups import rollups_agree


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

"""The judge is judged: books that were tampered with do not pass."""

from dataclasses import replace

import pytest

from tests.e2e.inputs import varied_rows, write_jsonl
from tests.e2e.invariants import check_at_the_end, check_report, open_books

INPUTS = {"rows.jsonl": 60}


def without_an_attempt(books):
    uid = next(iter(books.bill))
    return replace(books, attempts={k: v for k, v in books.attempts.items() if k != uid})


def with_an_attempt(books, **changes):
    uid, line = next((k, v) for k, v in books.attempts.items() if v["cost_low_pico_usd"])
    return replace(books, attempts={**books.attempts, uid: {**line, **changes}})


def sent_twice(books):
    uid, attempt = next(iter(books.attempts.items()))
    bill, attempts = dict(books.bill), dict(books.attempts)
    bill["again"] = {**bill[uid], "attempt_uid": "again"}
    attempts["again"] = {**attempt, "attempt_uid": "again"}
    return replace(books, bill=bill, attempts=attempts)


def with_a_wrong_charge(books):
    first, *others = books.charges
    return replace(books, charges=[{**first, "quantity": first["quantity"] + 1}, *others])


TAMPERED = {
    "an attempt is missing": without_an_attempt,
    "an attempt is still open": lambda books: with_an_attempt(books, state="open"),
    "one is too dear": lambda books: with_an_attempt(books, cost_low_pico_usd=10**12),
    "one is too cheap": lambda books: with_an_attempt(books, cost_high_pico_usd=1),
    "a row was paid twice": sent_twice,
    "an answer is missing": lambda books: replace(books, answers=books.answers[1:]),
    "an answer is there twice": lambda b: replace(b, answers=[*b.answers, b.answers[0]]),
    "a row is answered and failed": lambda b: replace(b, failures=[b.answers[0]]),
    "a charge is wrong": with_a_wrong_charge,
    "a checkpoint says too much": lambda books: replace(
        books,
        sources=[{"name": "rows.jsonl", "superseded_by": None, "done_ranges": "[[1,61]]"}],
    ),
}


def passes(books) -> bool:
    try:
        check_at_the_end(books, INPUTS)
    except AssertionError:
        return False
    return True


def test_only_the_true_books_pass(folder, simulate):
    simulator = simulate()
    write_jsonl(folder.path / "rows.jsonl", varied_rows(60))
    where = ("--endpoint", "simulator", "--base-url", simulator.url)
    assert folder.batcher("run", "rows.jsonl", *where).code == 0
    books = open_books(str(folder.path / "batcher.db"), simulator.bill())
    check_at_the_end(books, INPUTS)
    unnoticed = [name for name, tamper in TAMPERED.items() if passes(tamper(books))]
    assert unnoticed == []

    report = folder.batcher("report", "--format", "json").json
    check_report(books, report)
    report["total"]["cost"]["USD"]["pico"] += "0"
    with pytest.raises(AssertionError):
        check_report(books, report)

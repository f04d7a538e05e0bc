"""The promises of the ledger, checked against the simulator's bill.

The bill is the second book: written by another process, which no crash of the program touches,
and priced by `tests.bill` with a table of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.bill import cost_pico_usd
from tests.e2e.ledgers import Query, opened
from tests.e2e.processes import Folder, Simulator

Line = dict[str, Any]
IN_DOUBT = {"partial", "unknown", "unusable"}
SENT_AGAIN_ON_PURPOSE = {"truncation", "invalid", "pilot"}
TOKENS = {
    "input_tokens": "input_tokens",
    "cache_write_5m_tokens": "cache_creation_5m",
    "cache_write_1h_tokens": "cache_creation_1h",
    "cache_read_tokens": "cache_read",
    "output_tokens": "output_tokens",
    "web_search_requests": "web_search_requests",
}
METERS = {
    "input": "input_tokens",
    "cache_write_5m": "cache_creation_5m",
    "cache_write_1h": "cache_creation_1h",
    "cache_read": "cache_read",
    "output": "output_tokens",
    "web_search": "web_search_requests",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Both books of one database. `bill` is by attempt uid, as `attempts` are."""

    attempts: Mapping[str, Line]
    answers: list[Line]
    answers_all: list[Line]
    failures: list[Line]
    charges: list[Line]
    sources: list[Line]
    bill: Mapping[str, Line]


def open_books(url: str, bill: Iterable[Line]) -> Books:
    """Read everything; `bill` was read before the ledger, so the ledger must know it all."""
    billed = list(bill)
    with opened(url) as ask:
        return read_books(ask, billed)


def read_books(ask: Query, billed: list[Line]) -> Books:
    """Both books, the ledger by asking its views."""
    assert all(line["attempt_uid"] for line in billed)
    by_uid = {line["attempt_uid"]: line for line in billed}
    assert len(by_uid) == len(billed), "an attempt was billed twice"
    attempts = ask("SELECT * FROM v_attempts")
    placed = "run_id, job, source, row_number, custom_id"
    books = Books(
        attempts={line["attempt_uid"]: line for line in attempts},
        answers=ask(f"SELECT {placed} FROM v_answers"),
        answers_all=ask("SELECT attempt_uid FROM v_answers_all"),
        failures=ask(f"SELECT {placed} FROM v_failures"),
        charges=ask("SELECT attempt_uid, meter, quantity, rate, amount, status FROM v_charges"),
        sources=ask("SELECT name, superseded_by, done_ranges FROM sources"),
        bill=by_uid,
    )
    assert len(books.attempts) == len(attempts)
    return books


def check_after_crash(books: Books, inputs: Mapping[str, int]) -> None:
    """What holds at any moment, also before a crash was recovered from."""
    every_row_is_in_one_place(books, inputs)
    checkpoints_claim_nothing_unfinished(books)
    all_that_was_billed_is_known(books)
    extra_bills_are_in_doubt(books)
    every_attempt_costs_what_its_bill_says(books)
    charges_say_what_the_bill_says(books)


def check_at_the_end(books: Books, inputs: Mapping[str, int]) -> None:
    """What holds besides when a run has come to its end."""
    check_after_crash(books, inputs)
    assert not [line for line in books.attempts.values() if line["state"] == "open"]
    placed = len(books.answers) + len(books.failures)
    assert placed == sum(inputs.values()), "rows are left to do"


def every_row_is_in_one_place(books: Books, inputs: Mapping[str, int]) -> None:
    """1: answered, failed, quarantined, held, or else to do."""
    places = Counter((line["source"], line["row_number"]) for line in books.answers)
    places.update((line["source"], line["row_number"]) for line in books.failures)
    assert not [row for row, times in places.items() if times > 1]
    for source, number in places:
        assert 1 <= number <= inputs[source]


def checkpoints_claim_nothing_unfinished(books: Books) -> None:
    """1: a row that a checkpoint calls done has an answer or a failure."""
    finished = {(line["source"], line["row_number"]) for line in books.answers}
    finished |= {(line["source"], line["row_number"]) for line in books.failures}
    for source in books.sources:
        if source["superseded_by"] is None:
            for first, last in msgspec.json.decode(source["done_ranges"]):
                claimed = {(source["name"], number) for number in range(first, last + 1)}
                assert claimed <= finished


def all_that_was_billed_is_known(books: Books) -> None:
    """2: the ledger holds an attempt for every line of the bill, and for the same row."""
    assert not set(books.bill) - set(books.attempts)
    for uid, line in books.bill.items():
        attempt = books.attempts[uid]
        assert line["custom"] in {attempt["custom_id"], None}
        assert attempt["provider_request_id"] in {line["request_id"], None}


def extra_bills_are_in_doubt(books: Books) -> None:
    """3: of the bills of one leg, all but the first are in doubt, late, or sent on purpose.

    A leg is that of a row, by its custom_id where it has one: sending a row as another request
    would be no excuse.
    """
    legs = defaultdict(list)
    for uid in books.bill:
        attempt = books.attempts[uid]
        legs[attempt["custom_id"] or attempt["request_id"], attempt["leg"]].append(attempt)
    for attempts in legs.values():
        unexplained = [
            attempt
            for attempt in attempts
            if attempt["state"] not in {*IN_DOUBT, "late", "open"}
            and attempt["purpose"] not in SENT_AGAIN_ON_PURPOSE
        ]
        assert len(unexplained) <= 1, unexplained


def every_attempt_costs_what_its_bill_says(books: Books) -> None:
    """4: low ≤ bill ≤ high, for each attempt and so for the sums; exact when answered.

    A charge that is assumed, since usage leaves out a meter that the answer used, is not exact.
    """
    assumed = {c["attempt_uid"] for c in books.charges if c["status"] == "assumed"}
    for uid, attempt in books.attempts.items():
        low, high = attempt["cost_low_pico_usd"], attempt["cost_high_pico_usd"]
        billed = cost_pico_usd(books.bill[uid]) if uid in books.bill else 0
        assert low <= billed, attempt
        assert high is None or billed <= high, attempt
        exact = attempt["state"] in {"answered", "late"} and uid not in assumed
        if exact and high is not None:
            assert low == billed == high


def charges_say_what_the_bill_says(books: Books) -> None:
    """6: quantities are the bill's, amounts are quantity times rate; unpriced is never 0."""
    quantities: dict[str, dict[str, int]] = defaultdict(dict)
    for charge in books.charges:
        quantities[charge["attempt_uid"]][charge["meter"]] = charge["quantity"]
        if charge["status"] == "unpriced" or charge["meter"] == "unknown":
            assert charge["amount"] is None
        elif charge["status"] != "unbilled":
            assert charge["amount"] == charge["quantity"] * charge["rate"]
    for uid, meters in quantities.items():
        if "unknown" not in meters:
            billed = {meter: books.bill[uid][name] for meter, name in METERS.items()}
            assert meters == {meter: number for meter, number in billed.items() if number}


def check_report(books: Books, report: dict[str, Any]) -> None:
    """The report per model, in JSON, says what the views and the bill say."""
    answered = {line["attempt_uid"]: line for line in books.answers_all}
    by_model = defaultdict(list)
    for uid in answered:
        by_model[books.bill[uid]["model"]].append(books.bill[uid])
    lines = {line["key"]["model"]: line for line in report["lines"]}
    for model, bills in by_model.items():
        _check_sums(lines[model], bills)
    _check_sums(report["total"], [line for lines in by_model.values() for line in lines])
    total, states = report["total"], Counter(line["state"] for line in books.attempts.values())
    assert total["requests"] == len(books.answers)
    assert total["attempts"] == sum(states.values())
    assert total["in_doubt_attempts"] == sum(states[state] for state in IN_DOUBT)
    assert total["refused_attempts"] == states["rejected"]
    doubtful = [line for line in books.attempts.values() if line["state"] in IN_DOUBT]
    for name in ("low", "high"):
        summed = sum(line[f"cost_{name}_pico_usd"] for line in doubtful)
        assert int(total[f"in_doubt_{name}"]["pico"]) == summed


def _check_sums(line: Line, bills: list[Line]) -> None:
    for column, name in TOKENS.items():
        assert line[column] == sum(bill[name] for bill in bills)
    assert int(line["cost"]["USD"]["pico"]) == sum(map(cost_pico_usd, bills))


def check_everything(
    folder: Folder, url: str, simulator: Simulator, inputs: Mapping[str, int]
) -> Books:
    """All promises at the end of a run, and the report."""
    books = open_books(url, simulator.bill())
    check_at_the_end(books, inputs)
    told = folder.batcher("report", "--format", "json", "--database", url)
    assert told.code == 0, told.err
    check_report(books, told.json)
    return books

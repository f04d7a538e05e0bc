import json

import pytest

from batcher.errors import UsageError
from batcher.pricing.book.book import load_shipped
from batcher.report.render.request_text import (
    matches_json,
    render_matches,
    render_request,
    request_json,
)
from batcher.report.request import find_requests, read_request
from tests.report.ledger_rows import NOON, SECOND


@pytest.fixture
def here(rows):
    rows.run()
    rows.invocation(1)
    rows.source(1)
    return rows


def shown(engine, word):
    (match,) = find_requests(engine, word)
    return render_request(read_request(engine, match))


def priced(here):
    rates = here.rate_set(input_rate=3_000_000, output_rate=15_000_000, web_search_rate=10**10)
    attempt = here.answer(1, 1, 1)
    here.charge(
        attempt, 10_000_030_000_000, rate_set_id=rates, web_search_quantity=1_000,
        input_amount=30_000_000, output_amount=75_000_000, web_search_amount=10 * 10**12,
    )  # fmt: skip


def test_both_ends_of_an_assumed_charge_are_shown(here, engine):
    rates = here.rate_set(input_rate=3_000_000)
    here.charge(
        here.answer(1, 1, 1), 30_000_000, rate_set_id=rates, input_amount=30_000_000,
        status="assumed", reason="searches_not_reported", high_amount=10_030_000_000,
    )  # fmt: skip
    text = shown(engine, "row-1")
    assert "assumed: searches not reported" in text
    assert "    total 0.00003 USD at least, 0.01003 USD at most\n" in text
    (match,) = find_requests(engine, "row-1")
    (attempt,) = json.loads(request_json(read_request(engine, match)))["request"]["attempts"]
    assert attempt["lines"][0]["at_most"] == {"amount": "0.01003", "pico": "10030000000"}


def test_a_cost_that_a_gateway_states_is_called_what_it_is(here, engine):
    details = '{"is_byok":true,"cost_details":{"upstream_inference_cost":0.0123}}'
    here.answer(1, 1, 1, provider_reported_cost="0", usage=details)
    here.answer(1, 1, 2, provider_reported_cost="0")
    here.answer(1, 1, 3, provider_reported_cost="0.5")
    said = "its fee was 0, and that the provider bills 0.0123 for our own key"
    assert said in shown(engine, "row-1")
    assert "says it cost 0: what it bills itself, not a price\n" in shown(engine, "row-2")
    assert "says it cost 0.5\n" in shown(engine, "row-3")


def test_a_refused_attempt_that_may_be_billed_shows_what_it_may_have_cost(here, engine):
    here.attempt(1, 1, 1, state="rejected", cost_high=10**12)
    here.attempt(1, 1, 2, state="rejected", cost_high=0)
    assert "may have cost $0.00 to $1.00" in shown(engine, "row-1")
    assert "may have cost" not in shown(engine, "row-2")


@pytest.mark.parametrize("word", ["row-1", "rows.jsonl:1", "uid-1", "req_1", "msg_1"])
def test_a_request_is_found_by_each_of_its_names(here, engine, word):
    here.answer(1, 1, 1)
    here.answer(1, 1, 2)
    (match,) = find_requests(engine, word)
    assert (match.request_id, match.source, match.row_number) == (1, "rows.jsonl", 1)


@pytest.mark.parametrize(
    "word", ["row-9", "rows.jsonl:9", "other.jsonl:1", "rows.jsonl:", ":1", "%", "row-", "a:²",
             "rows.jsonl:99999999999999999999"],
)  # fmt: skip
def test_a_name_of_nothing_is_refused(here, engine, word):
    here.answer(1, 1, 1)
    with pytest.raises(UsageError, match="nothing here is called"):
        find_requests(engine, word)


def test_every_amount_is_shown_as_quantity_times_rate(here, engine):
    priced(here)
    assert shown(engine, "row-1") == (
        "rows.jsonl:1 row-1 (run 1, claude-sonnet-5, first 2026-01-05T12:00:00Z)\n"
        "\n"
        "attempt 1 (first): answered  uid-1\n"
        "  claude-sonnet-5 by anthropic, lane live\n"
        "  sent 2026-01-05T12:00:00.000000Z, settled after 2,000 ms\n"
        "  HTTP 200, request id req_1\n"
        "  served by claude-sonnet-5, message msg_1, stop reason end_turn\n"
        '  usage {"input_tokens":10,"output_tokens":5}\n'
        "  answer 'Hello'\n"
        "  usage line 0 claude-sonnet-5: priced\n"
        "    input 10 x 3 USD per million = 0.00003 USD\n"
        "    output 5 x 15 USD per million = 0.000075 USD\n"
        "    web_search 1,000 x 10 USD per thousand searches = 10 USD\n"
        "    total 10.00003 USD\n"
        "    price book 2026-01, rating 1, list anthropic, claude-sonnet-5 standard from"
        " 2026-01-01\n"
        "    source of the rates: the provider's page\n"
    )


def test_what_failed_says_why_and_what_it_may_have_cost(here, engine):
    here.attempt(
        1, 1, 1, http_status=None, error_type="timeout", error_message="no answer in 600 s",
        provider_request_id=None, cost_low=0, cost_high=25 * 10**9,
    )  # fmt: skip
    retry = {
        "request_id": 1,
        "number": 2,
        "purpose": "retry",
        "sent_at": None,
        "cost_high": None,
    }
    here.attempt(1, 1, 1, state="open", settled_at=None, provider_request_id=None, **retry)
    here.failure(1, 1, 1, attempt_id=1, reason="timeout", message="no answer", transient=1)
    assert shown(engine, "row-1") == (
        "rows.jsonl:1 row-1 (run 1, claude-sonnet-5, first 2026-01-05T12:00:00Z)\n"
        "failed, to be tried again: no answer (timeout)\n"
        "\n"
        "attempt 1 (first): unknown  uid-1\n"
        "  claude-sonnet-5 by anthropic, lane live\n"
        "  sent 2026-01-05T12:00:00.000000Z, settled after 2,000 ms\n"
        "  no HTTP status\n"
        "  timeout: no answer in 600 s\n"
        "  may have cost $0.00 to $0.025\n"
        "\n"
        "attempt 2 (retry): open  uid-2\n"
        "  claude-sonnet-5 by anthropic, lane live\n"
        "  not sent, still open\n"
        "  no HTTP status\n"
        "  may have cost $0.00 or more: there is no upper bound\n"
    )


def test_a_row_that_was_never_sent_shows_its_reason(here, engine):
    here.failure(1, 1, 4, kind="quarantined", reason="BAD_JSON", message="not JSON",
                 byte_offset=1_200)  # fmt: skip
    assert shown(engine, "rows.jsonl:4") == (
        "rows.jsonl:4 row-4 (run 1, never sent)\n"
        "quarantined at byte 1,200: not JSON (BAD_JSON)\n"
    )


def test_legs_of_one_request_stand_together(here, engine):
    here.answer(1, 1, 1, final=0, stop_reason="pause_turn")
    leg = {"request_id": 1, "leg": 2, "purpose": "continuation"}
    here.answer(1, 1, 1, attempt=leg, legs=2, joined_text="Hello world")
    text = shown(engine, "uid-2")
    assert "attempt 1 (first): answered  uid-1" in text
    assert "attempt 1, leg 2 (continuation): answered  uid-2" in text
    assert "answer 'Hello world'" in text


def test_several_requests_of_one_name_are_listed(here, engine):
    here.answer(1, 1, 1, custom_id="same", attempt={"custom_id": "same"})
    here.answer(1, 1, 2, custom_id="same", attempt={"custom_id": "same"})
    matches = find_requests(engine, "same")
    assert render_matches(matches) == (
        "rows.jsonl:1 same (run 1, claude-sonnet-5, first 2026-01-05T12:00:00Z)\n"
        "rows.jsonl:2 same (run 1, claude-sonnet-5, first 2026-01-05T12:00:00Z)\n"
    )
    assert [m["row_number"] for m in json.loads(matches_json(matches))["matches"]] == [1, 2]


def test_an_answer_is_found_where_its_row_has_moved_to(here, engine):
    here.source(1, superseded_by=None)
    here.insert_many("sources", [
        {"source_id": 3, "run_id": 1, "name": "old.jsonl", "location": "", "fingerprint": "",
         "settings_digest": "", "matched": 1, "superseded_by": 2}
    ])  # fmt: skip
    here.answer(1, 3, 1, source_id=2, row_number=8)
    (match,) = find_requests(engine, "rows.jsonl:8")
    assert (match.source, match.row_number) == ("rows.jsonl", 8)


def test_the_source_of_a_rate_comes_from_the_price_book_itself(here, engine):
    book = load_shipped()
    period = book.lists["anthropic"].periods[0]
    here.insert_many("price_books", [
        {"price_book_id": 2, "version": book.version, "sha256": book.sha256,
         "source": "the whole book", "content": book.content}
    ])  # fmt: skip
    here.insert_many("ratings", [
        {"rating_id": 2, "price_book_id": 2, "created_at": NOON, "reason": "initial"}
    ])  # fmt: skip
    rates = here.rate_set(price_book_id=2, model=period.model, terms=period.terms,
                          valid_from=period.valid_from.isoformat())  # fmt: skip
    here.charge(here.answer(1, 1, 1), 5, rating_id=2, rate_set_id=rates)
    assert f"source of the rates: {period.source}\n" in shown(engine, "row-1")


def test_a_model_cannot_steer_the_terminal(here, engine):
    here.answer(1, 1, 1, text="\x1b[2J" + "x" * 10_000, model="a\x1b]0;b\x07")
    text = shown(engine, "row-1")
    assert not set(text) & {"\x1b", "\x07"}
    assert len(text) < 1_500


def test_json_has_everything_unshortened(here, engine):
    priced(here)
    here.answer(1, 1, 2, text="x" * 10_000)
    (match,) = find_requests(engine, "row-1")
    request = json.loads(request_json(read_request(engine, match)))["request"]
    (attempt,) = request["attempts"]
    assert attempt["answer"]["content"] == [{"type": "text", "text": "Hello"}]
    assert attempt["sent_at"] == "2026-01-05T12:00:00.000000Z"
    assert attempt["lines"][0]["meters"][0] == {
        "name": "input",
        "quantity": 10,
        "rate": {"amount": "0.000003", "pico": "3000000"},
        "amount": {"amount": "0.00003", "pico": "30000000"},
    }
    (long,) = find_requests(engine, "row-2")
    text = json.loads(request_json(read_request(engine, long)))
    assert len(text["request"]["attempts"][0]["answer"]["text"]) == 10_000


def test_an_attempt_that_was_rejected_is_in_no_doubt(here, engine):
    here.attempt(1, 1, 1, state="rejected", http_status=400, error_type="invalid_request_error",
                 error_message="bad", settled_at=NOON + SECOND)  # fmt: skip
    text = shown(engine, "row-1")
    assert "may have cost" not in text
    assert "  HTTP 400, request id req_1\n  invalid_request_error: bad\n" in text


def test_the_numbers_of_an_old_rating_are_walked_back_too(here, engine):
    attempt = here.answer(1, 1, 1)
    here.charge(attempt, 5, current=0, rate_set_id=here.rate_set())
    again = {"rating_id": 2, "price_book_id": 1, "created_at": NOON, "position": 1}
    here.insert_many("ratings", [again | {"reason": "reprice"}])
    here.charge(attempt, 7, rating_id=2, rate_set_id=1)
    (match,) = find_requests(engine, "row-1")
    totals = [
        [line.total for line in read_request(engine, match, rating=rating).attempts[0].lines]
        for rating in (None, 1, 2)
    ]
    assert totals == [[7], [5], [7]]
    with pytest.raises(UsageError, match="there is no rating 3"):
        read_request(engine, match, rating=3)

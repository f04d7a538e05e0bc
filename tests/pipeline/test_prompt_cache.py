"""The prompt cache on purpose: what is paid, at a simulator that caches by the rules."""

from dataclasses import replace
from itertools import pairwise, product

import pytest

from batcher.clock import SystemClock
from batcher.ledger.connect import open_engine
from batcher.pacing.limits import QuotaLimits
from batcher.pipeline.choices import LaneChoice
from batcher.pipeline.run.run import run_with_cache
from batcher.report.query import ReportQuery
from batcher.report.views.catalogue import View, look
from batcher.simulator.settings import BatchSettings
from tests.bill import cost_pico_usd, total_pico_usd
from tests.making_runs import Case, endpoint_of, row, simulating

RULES = "rule {} " + "of the house " * 1_400  # 4,550 tokens
SHORT = "rule {} of the house"
LATENCY = (5, 10)


def lines(prefixes, rows, text=RULES):
    """Rows whose prefixes take turns."""
    numbered = product(range(rows), range(prefixes))
    return [
        row(f"[[output:100]] question {n} about {p}", f"{p}-{n}", system=text.format(p))
        for n, p in numbered
    ]


def run(case: Case, listed, **settings):
    """The bill of a run, and the case."""
    case.write(listed)
    with simulating(latency_ms=LATENCY, **settings) as simulator:
        at = replace(case, endpoint=endpoint_of(simulator))
        assert at.run().exit_code == 0
        return list(map(_shown, simulator.bill))


def _shown(line):
    return {name: getattr(line, name) for name in line.__struct_fields__}


def cheapest(bill, writes):
    """What the same answers cost with that many writes at least, and nothing but reads."""
    prompt = max(bill, key=lambda line: line["cache_creation_5m"])
    reads = prompt | {"cache_creation_5m": 0, "cache_read": prompt["cache_creation_5m"]}
    return writes * cost_pico_usd(prompt) + (len(bill) - writes) * cost_pico_usd(reads)


def test_each_prefix_is_written_once_and_read_by_all_others(case):
    case = case.limit(cached=True, concurrency=16)
    bill = run(case, lines(6, 10))
    assert len(bill) == 60
    assert sum(line["cache_creation_5m"] > 0 for line in bill) == 6
    assert sum(line["cache_read"] > 0 for line in bill) == 54
    assert total_pico_usd(bill) <= 1.02 * cheapest(bill, 6)
    noted = case.ask(
        "SELECT cache_note, COUNT(DISTINCT cache_prefix), COUNT(*) FROM attempts GROUP BY 1"
    )
    assert noted == [("5m", 6, 60)]


def test_a_report_tells_of_each_prefix_what_it_saved(case):
    case = case.limit(cached=True)
    mixed = [*lines(2, 5), *lines(1, 3, SHORT), row("once", "once", system=RULES.format("x"))]
    bill = run(case, mixed)
    engine = open_engine(case.database)
    table = look([engine], ReportQuery(), View.PREFIXES)
    engine.dispose()
    names = [field.name for field in table.fields]
    told = [dict(zip(names, cells, strict=True)) for cells in table.rows]
    size = max(line["cache_creation_5m"] for line in bill)
    assert [(r["cache"], r["answers"], r["writes"], r["reads"]) for r in told] == [
        ("5m", 5, 1, 4), ("5m", 5, 1, 4), ("too short", 3, 0, 0), ("used once", 1, 0, 0),
    ]  # fmt: skip
    assert told[0]["saved"] == 4 * size * 27 * 10**5
    assert told[0]["lost"] == size * 75 * 10**4
    assert table.totals[0][names.index("saved")] == 2 * told[0]["saved"]


def test_without_it_the_body_is_sent_as_it_is_and_costs_three_times_as_much(case, tmp_path):
    listed = lines(3, 20)
    plain = run(case.limit(concurrency=16), listed)
    other = replace(case, database=str(tmp_path / "other.db"))
    cached = run(other.limit(cached=True, concurrency=16), listed)
    assert not any(line["cache_creation_5m"] or line["cache_read"] for line in plain)
    assert total_pico_usd(plain) >= 3 * total_pico_usd(cached)
    assert case.ask("SELECT DISTINCT cache_note FROM attempts") == [(None,)]
    same = "SELECT row_number, params_hash FROM attempts ORDER BY 1"
    assert case.ask(same) == other.ask(same)


@pytest.mark.parametrize(
    ("prefixes", "rows", "text", "note"),
    [(1, 8, SHORT, "too_short"), (8, 1, RULES, "alone")],
)
def test_what_would_not_save_anything_is_left_alone(case, prefixes, rows, text, note):
    bill = run(case.limit(cached=True), lines(prefixes, rows, text))
    assert not any(line["cache_creation_5m"] or line["cache_read"] for line in bill)
    assert case.ask("SELECT DISTINCT cache_note FROM attempts") == [(note,)]


def test_a_model_without_prices_is_left_alone(case):
    case.write(lines(1, 8))
    with simulating(latency_ms=LATENCY) as simulator:
        endpoint = endpoint_of(simulator, price_list=None)
        at = replace(case.limit(cached=True), endpoint=endpoint)
        assert at.run().exit_code == 0
        assert not any(line.cache_creation_5m for line in simulator.bill)
    assert case.ask("SELECT DISTINCT cache_note FROM attempts") == [("model",)]


def test_parts_that_more_rows_share_are_cached_too(case):
    document = "document {} " + "says a lot " * 1_400

    def asked(n, p):
        content = [
            {"type": "text", "text": document.format(p)},
            {"type": "text", "text": f"[[output:5]] question {n}"},
        ]
        return row(
            "", f"{p}-{n}", system=RULES, messages=[{"role": "user", "content": content}]
        )

    bill = run(case.limit(cached=True), [asked(n, p) for n in range(5) for p in range(4)])
    written = sorted(line["cache_creation_5m"] for line in bill if line["cache_creation_5m"])
    assert len(written) == 4
    assert written[-1] > 2 * written[0] - 300  # rules and a document once, then documents
    assert all(line["cache_read"] for line in bill if line["cache_creation_5m"] != written[-1])


def test_breakpoints_of_the_rows_own_stay_and_no_request_has_more_than_four(case):
    mark = {"cache_control": {"type": "ephemeral"}}
    blocks = [{"type": "text", "text": f"{n} " + RULES[:9_000]} for n in range(6)]

    def asked(n):
        own = [block | mark if n in (4, 5) else block for n, block in enumerate(blocks)]
        return row(f"[[output:5]] {n}", f"{n}", system=own)

    bill = run(case.limit(cached=True), [asked(n) for n in range(8)])
    assert sum(line["cache_creation_5m"] > 0 for line in bill) == 1
    assert sum(line["cache_read"] > 0 for line in bill) == 7


def test_rows_wait_for_no_first_that_failed(case):
    listed = lines(1, 6)
    listed[0]["params"]["messages"][0]["content"] = "[[fault:529*2]] [[output:9]] first"
    bill = run(case.limit(cached=True), listed)
    assert len(bill) == 6
    assert sum(line["cache_creation_5m"] > 0 for line in bill) == 1


def test_a_server_that_caches_nothing_is_believed_at_once(case):
    listed = [row(f"[[usage:two_fields]] {n}", f"{n}", system=RULES) for n in range(12)]
    run(case.limit(cached=True), listed)
    notes = dict(case.ask("SELECT cache_note, COUNT(*) FROM attempts GROUP BY 1"))
    assert notes == {"5m": 1, "too_short": 11}


@pytest.mark.parametrize("limits", [{}, {"quota": QuotaLimits(requests=60_000)}])
def test_what_was_written_is_read_before_more_is_written(case, limits):
    run(case.limit(cached=True, concurrency=2, **limits), lines(10, 6))
    sent = [p for (p,) in case.ask("SELECT cache_prefix FROM attempts ORDER BY attempt_id")]
    changes = sum(one != other for one, other in pairwise(sent))
    assert changes < 30  # of 59: taking turns would be as many


def test_a_cap_holds_with_the_cache(case):
    bill = run(case.limit(cached=True, max_cost=10**12), lines(2, 6))
    assert sum(line["cache_creation_5m"] > 0 for line in bill) == 2


# --- In batches

WRITES = "SELECT COUNT(*) FROM v_answers WHERE cache_write_1h_tokens > 0"
READS = "SELECT COUNT(*) FROM v_answers WHERE cache_read_tokens > 0"


SENT = "SELECT COUNT(*) FROM attempts GROUP BY invocation_id ORDER BY invocation_id"


def in_phases(case, simulator, **more):
    at = replace(case.limit(cached=True), endpoint=endpoint_of(simulator))

    def phase(job):
        return at.in_batches(limits=job.limits, again=job.again, **more)

    return run_with_cache(at.job(), SystemClock(), phase, lambda: False)


def test_in_batches_the_first_of_each_prefix_travel_before_the_others(case):
    case.write(lines(3, 8))
    with simulating() as simulator:
        assert in_phases(case, simulator).exit_code == 0
        bill = list(map(_shown, simulator.bill))
    assert case.ask(SENT) == [(3,), (21,)]
    assert sum(line["cache_creation_1h"] > 0 for line in bill) == 3
    assert sum(line["cache_read"] > 0 for line in bill) == 21
    assert case.ask("SELECT DISTINCT cache_note, lane FROM attempts") == [("1h", "batch")]
    assert case.ask("SELECT DISTINCT trust FROM v_answers") == [("priced",)]
    assert case.one("SELECT SUM(cost_pico_usd) FROM v_answers") == total_pico_usd(bill)


def test_more_rows_than_are_read_ahead_do_not_wait_for_what_is_behind_them(case):
    case.write(lines(2, 270, RULES[:4_400]))
    with simulating() as simulator:
        assert in_phases(case, simulator, pack=300).exit_code == 0
    assert (case.one(WRITES), case.one(READS)) == (2, 538)


def test_a_job_without_anything_to_share_takes_one_batch(case):
    case.write([*lines(4, 2), *lines(2, 4, SHORT)])
    with simulating() as simulator:
        assert in_phases(case, simulator).exit_code == 0
    assert case.ask(SENT) == [(16,)]
    notes = case.ask("SELECT cache_note, COUNT(*) FROM attempts GROUP BY 1 ORDER BY 1")
    assert notes == [("alone", 8), ("too_short", 8)]


def test_where_the_first_row_got_no_answer_another_one_writes(case):
    listed = lines(1, 12)
    listed[2]["params"]["messages"] = []  # the third makes it worth writing
    case.write(listed)
    with simulating() as simulator:
        in_phases(case, simulator)
    assert (case.one(WRITES), case.one(READS)) == (1, 10)


def test_what_a_run_that_ended_early_wrote_is_read_by_the_next(case):
    case.write(lines(2, 6))
    with simulating() as simulator:
        at = replace(case.limit(cached=True, leading=True), endpoint=endpoint_of(simulator))
        at.in_batches()
        assert case.one("SELECT COUNT(*) FROM v_answers") == 2
        assert in_phases(case, simulator).exit_code == 0
    assert (case.one(WRITES), case.one(READS)) == (2, 10)


def test_further_legs_in_batches_read_what_the_first_ones_wrote(case):
    listed = lines(1, 5)
    for each in listed[1:4]:
        each["params"]["messages"][0]["content"] += " [[pause:1]]"
    case.write(listed)
    with simulating() as simulator:
        assert in_phases(case, simulator).exit_code == 0
        bill = list(map(_shown, simulator.bill))
    assert sum(line["cache_creation_1h"] > 0 for line in bill) == 1
    assert sum(line["cache_read"] > 0 for line in bill) == 7
    assert case.one("SELECT SUM(cost_pico_usd) FROM v_answers") == total_pico_usd(bill)


def test_first_rows_that_are_not_back_in_time_keep_nobody(case):
    case = case.limit(cached=True)
    case.write(lines(2, 4))
    slow = BatchSettings(queue_seconds=(9_000, 9_000))
    with simulating(batches=slow) as simulator:
        case = replace(case, endpoint=endpoint_of(simulator))
        early = case.limit(leading=True, max_runtime_seconds=1)
        assert early.in_batches().exit_code == 75
        assert case.in_batches(wait=False).exit_code == 75
        assert case.ask(SENT) == [(2,), (6,)]
        simulator.end_batches()
        assert case.in_batches(lane=LaneChoice.LIVE).exit_code == 0
        assert len(simulator.bill) == 8
    assert case.one("SELECT COUNT(*) FROM v_answers") == 8
    notes = case.ask("SELECT cache_note, COUNT(*) FROM attempts GROUP BY 1 ORDER BY 1")
    assert notes == [("1h", 2), ("late", 6)]

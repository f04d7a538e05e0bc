from fractions import Fraction

import pytest

from batcher.errors import UsageError
from batcher.finance.reconcile.comparison import reconcile
from tests.finance.provider_files import DAY, MODEL, RIGHT, begin, charge, costs, usage
from tests.report.ledger_rows import NOON
from tests.report.mostly_sqlite import BOTH, database_url  # noqa: F401


@pytest.fixture
def here(rows):
    return begin(rows)


def causes(engine, *files, every=False, endpoint=None):
    """The cause of each line by its kind."""
    found = reconcile([engine], files, endpoint=endpoint, every=every)
    return {row[4]: row[-1] for row in found.table.rows}


@BOTH
def test_what_agrees_is_no_line_and_no_difference(here, engine, tmp_path):
    files = (usage(tmp_path), costs(tmp_path, RIGHT))
    found = reconcile([engine], files, endpoint=None, every=False)
    assert (found.differing, found.table.rows) == (0, ())
    assert found.table.sentences[0].endswith("3 agree, 0 do not.")
    assert len(reconcile([engine], files, endpoint=None, every=True).table.rows) == 3


def test_cents_are_cents(here, engine, tmp_path):
    found = reconcile([engine], [costs(tmp_path, RIGHT)], endpoint=None, every=True)
    output = next(row for row in found.table.rows if row[4] == "output")
    assert output[8:13] == ("USD", 4_000_000_000, Fraction(4_000_000_000), None, 0)


def test_a_hundred_times_is_a_matter_of_units(here, engine, tmp_path):
    wrong = RIGHT | {"output_tokens": "40"}
    found = causes(engine, usage(tmp_path), costs(tmp_path, wrong))
    assert found == {"output": "units: times 100"}


def test_equal_tokens_and_another_cost_is_a_rate_and_it_is_told(here, engine, tmp_path):
    found = causes(engine, usage(tmp_path), costs(tmp_path, RIGHT | {"output_tokens": "0.37"}))
    assert found == {"output": "rate: theirs $18.50, ours $20.00 per million"}


def test_more_than_ours_is_somebody_else(here, engine, tmp_path):
    found = causes(engine, usage(tmp_path, used=(1000, 0, 0, 500, 300, 0)))
    assert found == {"output": "other users"}


def test_more_than_ours_may_be_what_is_in_doubt(here, engine, tmp_path):
    here.attempt(1, 1, 2, requested_model=MODEL, state="unknown", cost_low=10**9,
                 cost_high=9 * 10**9)  # fmt: skip
    found = causes(engine, usage(tmp_path, used=(1000, 0, 0, 500, 300, 0)))
    assert found["output"].startswith("in doubt: 1 attempt, $0.001 to $0.009")


def test_less_than_ours_is_coverage(here, engine, tmp_path):
    found = causes(engine, usage(tmp_path, used=(400, 0, 0, 500, 200, 0)))
    assert found["input"].startswith("coverage: ours only")


def test_refusals_that_are_reported_and_not_billed_are_named(here, engine, tmp_path):
    refused = here.answer(1, 1, 2, model=MODEL)
    free = {"rate_set_id": None, "currency": None, "total_amount": 0, "input_amount": 0}
    charge(here, refused, (30, 0, 0, 0, 0, 0), status="unbilled", **free)
    found = causes(engine, usage(tmp_path, used=(1030, 0, 0, 500, 200, 0)))
    assert found["input"].startswith("refusals: 30 tokens")


def test_what_has_no_price_here_is_named(here, engine, tmp_path):
    bare = here.answer(1, 1, 2, model=MODEL)
    here.charge(bare, None, model=MODEL, input_quantity=7, output_quantity=0)
    files = (usage(tmp_path, used=(1007, 0, 0, 500, 200, 0)),
             costs(tmp_path, RIGHT | {"uncached_input_tokens": "0.4028"}))  # fmt: skip
    assert causes(engine, *files) == {"input": "rate: 7 tokens without a price here"}


def test_a_part_of_a_day_is_coverage(here, engine, tmp_path):
    path = usage(tmp_path, used=(1, 0, 0, 0, 0, 0))
    text = (tmp_path / "usage.json").read_text()
    (tmp_path / "usage.json").write_text(
        text.replace("2026-01-06T00:00:00Z", f"{DAY}T06:00:00Z")
    )
    assert set(causes(engine, path).values()) == {"coverage: part of the day"}


def test_a_further_page_is_told_and_makes_all_of_it_coverage(here, engine, tmp_path):
    path = usage(tmp_path, used=(1, 0, 0, 0, 0, 0))
    text = (tmp_path / "usage.json").read_text()
    (tmp_path / "usage.json").write_text(text.replace('"has_more": false', '"has_more": true'))
    found = reconcile([engine], [path], endpoint=None, every=False)
    assert {row[-1].split(":")[0] for row in found.table.rows} == {"coverage"}
    assert any(
        sentence.startswith("There is a further page") for sentence in found.table.sentences
    )


def test_costs_that_only_the_provider_knows_are_told(here, engine, tmp_path):
    path = costs(tmp_path, {"": "5"}, cost_type="code_execution", token_type=None, model=None)
    assert causes(engine, usage(tmp_path), path)["code execution"].startswith(
        "not metered here"
    )


def test_files_that_tell_less_apart_are_compared_as_far_as_they_do(here, engine, tmp_path):
    bare = usage(tmp_path, model=None, service_tier=None, inference_geo=None)
    found = reconcile([engine], [bare], endpoint=None, every=True)
    assert found.differing == 0
    assert {row[1:4] for row in found.table.rows} == {("all", "all", "all")}


def test_rounded_amounts_agree_within_their_last_digit(here, engine, tmp_path):
    charge(here, here.answer(1, 1, 2, model=MODEL), (0, 0, 0, 1, 0, 0))
    rounded = RIGHT | {"cache_read_input_tokens": "0.01002"}  # 501 x 0.2 = 0.01002
    assert causes(engine, costs(tmp_path, rounded)) == {}
    off = RIGHT | {"cache_read_input_tokens": "0.010019"}
    assert "cache read" in causes(engine, costs(tmp_path, off, name="off.json"))


def test_each_cause_that_occurs_is_explained_once_below(here, engine, tmp_path):
    files = [usage(tmp_path, used=(400, 0, 0, 400, 300, 0))]
    found = reconcile([engine], files, endpoint=None, every=False)
    words = [sentence.split(":")[0] for sentence in found.table.sentences]
    assert words == ["Compared", "Coverage", "Other users"]


def test_days_of_ours_that_no_file_covers_are_told_and_not_compared(here, engine, tmp_path):
    later = NOON + 86_400_000_000
    charge(here, here.answer(1, 1, 2, model=MODEL, attempt={"sent_at": later}))
    found = reconcile([engine], [usage(tmp_path)], endpoint=None, every=False)
    assert found.differing == 0
    assert found.table.sentences[-1].startswith("Not compared: 1 day of ours, $0.0081")


def test_the_consoles_exports_are_read_too(here, engine, tmp_path):
    tokens, money = tmp_path / "t.csv", tmp_path / "c.csv"
    tokens.write_text(
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,"
        "usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
        "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,"
        "web_search_count,inference_geo,speed\n"
        f"{DAY},{MODEL}-20260922,k,Default,standard,≤ 200k,1000,0,0,500,200,0,not_available,\n"
    )
    head = ("usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,"
            "cost_usd,list_price_usd,cost_type,inference_geo,speed\n")  # fmt: skip
    money.write_text(head + "".join(
        f"{DAY},Claude Opus 5.5,Default,k,message,≤ 200k,{kind},{usd},{usd},token,global,\n"
        for kind, usd in (("input_no_cache", "0.004"), ("input_cache_read", "0.0001"),
                          ("output", "0.004"))
    ))  # fmt: skip
    found = reconcile([engine], [str(tokens), str(money)], endpoint=None, every=True)
    assert (found.differing, len(found.table.rows)) == (0, 3)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is no JSON"),
        (b'{"data": "\xff"}', "is no JSON"),
        (b'{"data":' + b"[" * 100_000, "is no JSON"),
        (b'{"data": [{"results": []}]}', "is no saved usage or cost report"),
        (b'{"error": {"type": "authentication_error"}}', "is no saved usage or cost report"),
        (b"a,b\n1,2\n", "is no known report"),
        (b"\xff\xfe\x00", "is neither JSON nor CSV"),
        (b"usage_date_utc,cost_usd,cost_type\n2026-13-01,1,token\n", "line 2 cannot be read"),
        (
            b"usage_date_utc,cost_usd,token_type\n2026-01-01,1e3,output\n",
            "line 2 cannot be read",
        ),
    ],
)
def test_a_file_that_is_no_report_is_refused_by_name(here, engine, tmp_path, content, sentence):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence) as caught:
        causes(engine, str(path))
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_given_twice_is_refused(here, engine, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        causes(engine, str(tmp_path / "none"))
    path = usage(tmp_path)
    with pytest.raises(UsageError, match="each counts once"):
        causes(engine, path, path)


def test_other_currencies_in_a_cost_report_are_refused(here, engine, tmp_path):
    with pytest.raises(UsageError, match="currency EUR"):
        causes(engine, costs(tmp_path, RIGHT, currency="EUR"))


def test_of_several_endpoints_one_must_be_chosen(here, engine, tmp_path):
    here.invocation(1, endpoint="crun")
    charge(here, here.answer(2, 1, 2, model=MODEL))
    path = usage(tmp_path)
    with pytest.raises(UsageError, match="choose one with --endpoint, of anthropic, crun"):
        causes(engine, path)
    with pytest.raises(UsageError, match="nothing was sent to endpoint 'sunra'"):
        causes(engine, path, endpoint="sunra")
    assert causes(engine, path, endpoint="crun") == {}

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from batcher.errors import UsageError
from batcher.finance.reconcile.comparison import comparison_table
from batcher.finance.reconcile.lines import compare
from batcher.report.table import Table
from tests.finance.provider_files import DAY, MODEL, RIGHT, begin, charge, costs, usage
from tests.report.ledger_rows import NOON
from tests.report.mostly_sqlite import BOTH, database_url  # noqa: F401


@dataclass(frozen=True)
class Reconciled:
    """The table, and how many of the lines compared do not agree, or files are not whole."""

    table: Table
    differing: int


def reconcile(engines, names, *, endpoint, every):
    found = compare(engines, names, endpoint=endpoint)
    return Reconciled(comparison_table(found, every=every), found.findings)


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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_report_may_be_saved_as_shells_of_windows_do(here, engine, tmp_path, encoding):
    file = Path(costs(tmp_path, RIGHT))
    file.write_bytes(file.read_text(encoding="utf-8").encode(encoding))
    assert reconcile([engine], [str(file)], endpoint=None, every=False).differing == 0


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


@pytest.mark.parametrize("nothing", [None, "", "None", "null"], ids=repr)
def test_files_that_tell_less_apart_are_compared_as_far_as_they_do(
    here, engine, tmp_path, nothing
):
    bare = usage(tmp_path, model=nothing, service_tier=nothing, inference_geo=nothing)
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


@pytest.mark.parametrize("count", [12.5, "30", True, [1]])
def test_a_count_of_theirs_that_cannot_be_read_is_no_zero(here, engine, tmp_path, count):
    with pytest.raises(UsageError, match=r"output_tokens is .*, which is no count"):
        causes(engine, usage(tmp_path, output_tokens=count))


def test_of_several_endpoints_one_must_be_chosen(here, engine, tmp_path):
    here.invocation(1, endpoint="crun")
    charge(here, here.answer(2, 1, 2, model=MODEL))
    path = usage(tmp_path)
    with pytest.raises(UsageError, match="choose one with --endpoint, of anthropic, crun"):
        causes(engine, path)
    with pytest.raises(UsageError, match="nothing was sent to endpoint 'sunra'"):
        causes(engine, path, endpoint="sunra")
    assert causes(engine, path, endpoint="crun") == {}


# --- it cannot be fooled


def sentences(engine, *files):
    return reconcile([engine], files, endpoint=None, every=True).table.sentences


def changed(path, name, old, new):
    """The same file under another name, with something else in it."""
    other = path.replace(path.rsplit("/", 1)[1], name)
    text = Path(path).read_text()
    assert old in text
    Path(other).write_text(text.replace(old, new))
    return other


def test_a_report_saved_twice_counts_once(here, engine, tmp_path):
    path = costs(tmp_path, RIGHT)
    again = changed(path, "again.json", '"has_more": false', '"has_more":  false')
    found = reconcile([engine], [path, again], endpoint=None, every=False)
    assert found.differing == 0
    assert any(
        "both have 3 figures: counted once" in each for each in sentences(engine, path, again)
    )


def test_two_reports_that_differ_about_the_same_are_refused_with_both_names(
    here, engine, tmp_path
):
    path = costs(tmp_path, RIGHT)
    other = changed(path, "other.json", '"0.4"', '"0.5"')
    with pytest.raises(
        UsageError, match=r"costs\.json and .*other\.json differ about the same"
    ):
        causes(engine, path, other)


def test_one_page_twice_in_a_list_counts_once(here, engine, tmp_path):
    page = json.loads(Path(usage(tmp_path)).read_text())
    (tmp_path / "list.json").write_text(json.dumps([page, page]))
    assert (
        reconcile([engine], [str(tmp_path / "list.json")], endpoint=None, every=False).differing
        == 0
    )


def test_one_bucket_twice_in_a_page_counts_once_and_two_that_differ_are_refused(
    here, engine, tmp_path
):
    page = json.loads(Path(costs(tmp_path, RIGHT)).read_text())
    path = tmp_path / "joined.json"
    path.write_text(json.dumps({**page, "data": page["data"] * 2}))
    found = reconcile([engine], [str(path)], endpoint=None, every=False)
    assert found.differing == 0
    assert any("joined.json again both have" in each for each in sentences(engine, str(path)))
    other = json.loads(json.dumps(page["data"][0]))
    other["results"][0]["amount"] = "77"
    path.write_text(json.dumps({**page, "data": [*page["data"], other]}))
    with pytest.raises(UsageError, match="differ about the same"):
        causes(engine, str(path))


def test_the_reports_and_the_export_of_one_day_count_once_or_are_refused(
    here, engine, tmp_path
):
    export = tmp_path / "c.csv"
    head = "usage_date_utc,model,token_type,cost_usd,cost_type\n"
    lines = [("input_no_cache", "0.004"), ("input_cache_read", "0.0001"), ("output", "0.004")]
    body = "".join(f"{DAY},Claude Opus 5.5,{kind},{usd},token\n" for kind, usd in lines)
    export.write_text(head + body)
    path = costs(tmp_path, RIGHT)
    assert reconcile([engine], [path, str(export)], endpoint=None, every=False).differing == 0
    assert any(
        "say the same of 2026-01-05" in each for each in sentences(engine, path, str(export))
    )
    export.write_text(head + body.replace("0.0001", "0.0002"))
    with pytest.raises(UsageError, match="both tell of 2026-01-05"):
        causes(engine, path, str(export))


def test_an_empty_cost_report_beside_money_of_ours_is_a_finding(here, engine, tmp_path):
    path = costs(tmp_path, {})
    for files in ([path], [usage(tmp_path), path]):
        found = reconcile([engine], files, endpoint=None, every=False)
        assert found.differing == 3
        assert {row[-1] for row in found.table.rows} <= {
            "coverage: ours only", "rate: theirs $0.00, ours $4.00 per million",
            "rate: theirs $0.00, ours $0.20 per million",
            "rate: theirs $0.00, ours $20.00 per million",
        }  # fmt: skip


@pytest.mark.parametrize("amounts", [("0.00", "0.01", "0.40"), ("0", "0", "0")])
def test_lines_rounded_to_nothing_agree_within_half_a_digit(here, engine, tmp_path, amounts):
    cents = dict(zip(("uncached_input_tokens", "cache_read_input_tokens", "output_tokens"),
                     ("0.40", "0.01", "0.40"), strict=True))  # fmt: skip
    rounded = dict(zip(cents, amounts, strict=True))
    agree = causes(engine, costs(tmp_path, rounded)) == {}
    assert agree == (amounts == ("0", "0", "0"))  # half a cent is more than all of it


def test_unknown_token_types_and_new_fields_are_lines_of_their_own(here, engine, tmp_path):
    path = costs(tmp_path, RIGHT | {"cache_write_30d": "5"})
    assert causes(engine, usage(tmp_path), path) == {"cache write 30d": "not metered here"}
    new = '"output_tokens": 200, "moon_tokens": 7'
    more = changed(usage(tmp_path), "more.json", '"output_tokens": 200', new)
    assert causes(engine, more) == {"moon tokens": "not metered here"}


def test_a_further_page_is_a_finding_even_where_all_agrees(here, engine, tmp_path):
    path = changed(usage(tmp_path), "more.json", '"has_more": false', '"has_more": true')
    assert reconcile([engine], [path], endpoint=None, every=False).differing == 1


def test_what_stands_elsewhere_is_named(here, engine, tmp_path):
    charge(here, here.answer(1, 1, 2, model=MODEL), (0, 60, 0, 0, 0, 0))
    swapped = usage(tmp_path, used=(1000, 0, 60, 500, 200, 0))
    assert causes(engine, swapped) == {
        "cache write 5m": "lifetime: cache write 1h",
        "cache write 1h": "lifetime: cache write 5m",
    }  # fmt: skip
    other = usage(tmp_path, used=(1000, 60, 0, 500, 200, 0), service_tier="priority")
    assert set(causes(engine, other).values()) == {"tier: priority"}


def test_what_was_booked_on_the_next_day_is_named(here, engine, tmp_path):
    path = usage(tmp_path, used=(0, 0, 0, 0, 0, 0), end="2026-01-06")
    page = json.loads(Path(path).read_text())
    text = Path(usage(tmp_path, name="right.json")).read_text()
    later = text.replace("2026-01-06T", "2026-01-07T").replace(f"{DAY}T", "2026-01-06T")
    (tmp_path / "both.json").write_text(json.dumps([page, json.loads(later)]))
    found = reconcile([engine], [str(tmp_path / "both.json")], endpoint=None, every=False)
    assert {row[-1].split(":")[0] for row in found.table.rows} == {"midnight"}


def test_another_workspace_s_files_are_named(here, engine, tmp_path):
    path = usage(
        tmp_path, used=(0, 0, 0, 0, 9, 0), model="claude-haiku-4-5", workspace_id="wrkspc_1"
    )
    assert set(causes(engine, path).values()) == {"workspace: theirs wrkspc_1"}

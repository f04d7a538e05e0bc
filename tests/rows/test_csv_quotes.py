"""A stray quote in a CSV file hides rows: they are counted, and the place is the quote's."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.pipeline.run.row_checks import bad_limit
from batcher.rows.read.check import hidden_rows
from batcher.rows.read.csv_dialect import quote_place
from batcher.rows.read.csv_rows import scan_quotes
from tests.estimate.test_preflight_sample import run
from tests.rows.making import items, reasons, source


def table(count=1_000, **strange):
    rows = [f"r{n},{strange.get(f'r{n}', f'text {n}')}\n" for n in range(1, count + 1)]
    return "".join(["custom_id,prompt\n", *rows]).encode()


def quote_of(path, content):
    """(line, byte, hidden rows) of the first quote, and all hidden rows."""
    scan = scan_quotes(source(path, content))
    first = scan.first
    return (first.line, first.offset, first.rows), scan.hidden


def test_an_open_quote_counts_the_rows_behind_it(tmp_path):
    content = table(r5='"text 5')
    place = content.index(b'"')
    assert quote_of(tmp_path / "a.csv", content) == ((6, place, 995), 995)
    found = items(source(tmp_path / "a.csv"))
    assert reasons(found) == ["ok"] * 4 + ["BAD_CSV"]
    assert found[4].message == (
        f"the quote in line 6 (byte {place}) is not closed, or not at the end of a cell: hides"
        " 995 rows"
    )


def test_a_quote_that_another_stray_one_ends_counts_the_rows_between(tmp_path):
    content = table(r5='"text 5', r500='"text 500')
    assert quote_of(tmp_path / "a.csv", content)[1] == 495
    assert reasons(items(source(tmp_path / "a.csv"))).count("ok") == 4 + 500


def test_rows_that_became_the_text_of_a_good_record_are_counted_too(tmp_path):
    content = table(r5='"text 5', r500='text 500"', r700='"text, ""7""\nand more"')
    (line, offset, rows), hidden = quote_of(tmp_path / "a.csv", content)
    assert (line, offset, rows, hidden) == (6, content.index(b'"'), 495, 495)


def test_rows_behind_a_quote_are_counted_where_the_cells_are_too_many(tmp_path):
    rows = [f"r{n},p{n},x{n},y{n}\n" for n in range(1, 21)]
    rows[4], rows[8] = 'r5,"open,x,y\n', 'r9,p,shut",y9\n'
    content = "".join(["custom_id,prompt,x,y\n", *rows]).encode()
    assert quote_of(tmp_path / "a.csv", content) == ((6, content.index(b'"'), 4), 4)
    assert reasons(items(source(tmp_path / "a.csv"))).count("BAD_CSV") == 1


def test_a_missing_an_extra_and_an_inner_quote_take_what_they_take(tmp_path):
    lines = [
        '"custom_id","prompt"', '"g1","p"', '"b1","p', '"g2","p"', '"b2","p""', '"g3","p"',
        '"b3","Mid"dle"', '"g4","p"',
    ]  # fmt: skip
    content = "\n".join(lines).encode()
    assert quote_of(tmp_path / "a.csv", content)[1] == 2
    found = items(source(tmp_path / "a.csv"))
    assert reasons(found) == ["ok", "BAD_CSV", "BAD_CSV", "BAD_CSV", "ok"]


def test_blanks_after_commas_do_not_make_quotes_part_of_texts(tmp_path):
    content = b'"custom_id", "prompt"\n"a", "b, with a comma"\nc, d\n'
    texts = [json.loads(row.body)["messages"][0]["content"]
             for row in items(source(tmp_path / "a.csv", content))]  # fmt: skip
    assert texts == ["b, with a comma", "d"]
    kept = items(source(tmp_path / "b.csv", b"custom_id,prompt\na, b\n"))
    assert json.loads(kept[0].body)["messages"][0]["content"] == " b"


def test_the_place_is_the_quotes_and_not_that_of_another_cell(tmp_path):
    content = b'a,b,c\n"x, ""y""\nz",\xc3\xa9,"open\n1,2,3\n4,5,6\n'
    (line, offset, rows), _ = quote_of(tmp_path / "a.csv", content)
    assert (line, offset, rows) == (3, content.index(b'"open'), 2)


@pytest.mark.parametrize(
    "content",
    [
        b'prompt\n"cut',
        b'prompt\n"cut\nin, a\ntext',
        b'a,b\n1,"cut\nbetween the lines of\na text',
    ],
)
def test_a_text_that_is_cut_at_the_end_hides_nothing(tmp_path, content):
    file = source(tmp_path / "a.csv", content)
    assert hidden_rows(file) is None
    assert reasons(items(file))[-1] == "TRUNCATED_TAIL"


LINES = "\n".join(f"{n}. a line, with a comma" for n in range(9))
MORE = "\n".join(f"{n}. a line" + ", comma" * (n % 3) for n in range(40))


@pytest.mark.parametrize(
    "text", ["plain", LINES, MORE, 'He said "no",\nand left', '"', ",\n\n,"]
)
def test_texts_of_many_lines_hide_nothing(tmp_path, text):
    with io.StringIO(newline="") as made:
        csv.writer(made).writerows([["custom_id", "prompt"], ["a", text], ["b", text]])
        file = source(tmp_path / "a.csv", made.getvalue().encode())
    assert hidden_rows(file) is None
    assert reasons(items(file)) == ["ok", "ok"] if text.strip(",\n") else True


CELLS = st.text('a",\n', max_size=6)


@given(st.lists(CELLS, min_size=1, max_size=4), st.text("a,\n", max_size=9))
def test_the_quote_that_stays_open_is_found_behind_any_good_cells(cells, tail):
    with io.StringIO(newline="") as made:
        csv.writer(made, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(cells)
        before = made.getvalue()[:-1] + ","
    assert quote_place(f'{before}"{tail}') == len(before)


def test_a_file_without_quotes_is_not_parsed(tmp_path):
    assert scan_quotes(source(tmp_path / "a.csv", table())).records == 0


def test_a_run_stops_before_it_sends_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stray.csv").write_bytes(table(r5='"text 5'))
    model = ("--model", "claude-haiku-4-5")
    for told in ((), ("--max-bad", "10"), ("--max-bad", "99%")):
        result, sent = run(*model, *told, words=("stray.csv",))
        assert (type(result.exception), sent) == (ConfigurationError, 0)
        assert "line 6" in str(result.exception)
    assert "hides 995 rows; nothing was sent" in str(result.exception)
    result, sent = run(*model, "--max-bad", "995", words=("stray.csv",))
    assert (result.return_value, sent) == (65, 4)


def test_a_check_finds_rows_that_became_a_text(tmp_path, monkeypatch):
    from tests.preflight.test_commands import inspected

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_bytes(table(60, r5='"text 5', r50='text 50"'))
    found = inspected("a.csv", model="claude-haiku-4-5")
    assert (found.bad_rows, found.is_clean) == (0, False)
    assert "takes in 45 rows" in found.hidden[0]


@pytest.mark.parametrize(
    ("limit", "bad", "rows", "allowed"),
    [("5", 5, 9, True), ("5", 6, 9, False), ("50%", 1, 2, True), ("50%", 2, 3, False)],
)
def test_a_limit_allows_up_to_its_number(limit, bad, rows, allowed):
    assert bad_limit(limit).allows(bad, rows) is allowed

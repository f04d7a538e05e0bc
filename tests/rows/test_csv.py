import json

import pytest

from batcher.errors import ConfigurationError
from batcher.rows.build.settings import RequestSettings
from batcher.rows.read.check import check_source, column_names
from batcher.rows.read.reader import original_columns
from tests.rows.making import batches, builder, items, reasons, source


def test_cells_become_fields_of_their_own_type(tmp_path):
    content = (
        b'custom_id,prompt,max_tokens,temperature,system\n1,"a\nb",5,0.5,\n2,c,,,be kind\n'
    )
    one, two = items(source(tmp_path / "a.csv", content))
    assert json.loads(one.body) == {
        "model": "m",
        "max_tokens": 5,
        "temperature": 0.5,
        "messages": [{"role": "user", "content": "a\nb"}],
    }
    assert (two.custom_id, two.max_tokens, two.row_number) == ("2", 10, 2)
    assert [one.byte_offset, two.byte_offset] == [47, content.index(b"2,c")]


def test_messages_and_params_may_be_json_text(tmp_path):
    content = b'params\n"{""messages"":[{""role"":""user"",""content"":""x""}]}"\n{}\n'
    assert reasons(items(source(tmp_path / "a.csv", content))) == ["ok", "NO_PROMPT"]


def test_in_a_template_an_empty_cell_is_an_empty_text(tmp_path):
    settings = RequestSettings(model="m", max_tokens=1, prompt="[{{ a }}{{ b }}]")
    (row,) = items(source(tmp_path / "a.csv", b"a,b\n1,\n"), settings)
    assert json.loads(row.body)["messages"][0]["content"] == "[1]"


def test_rows_of_commas_alone_are_blank_lines(tmp_path):
    file = source(tmp_path / "a.csv", b"id,prompt\n,\n1,hi\n,,,\n\n2,yo\n" + b",\n" * 9_999)
    found = batches(file)
    rows = [(row.custom_id, row.row_number) for batch in found for row in batch.items]
    assert rows == [("1", 2), ("2", 4)]
    blank = [number for batch in found for number in batch.blank_rows]
    assert blank == [1, 3, *range(5, 10_004)]
    assert found[-1].rows_read == 10_003
    assert [number for number, _ in original_columns(file)] == [2, 4]
    assert sum(batch.skipped for batch in batches(file, skip=[(1, 5_000)])) == 5_000


def test_columns_without_a_name_are_called_by_their_place(tmp_path):
    content = b"\n,prompt, ,column_4_,\n7,hi,,x,9\n"
    file = source(tmp_path / "a.csv", content)
    names = ["column_1", "prompt", "column_3", "column_4_", "column_5"]
    assert column_names(file) == names
    check_source(file, builder())
    assert reasons(items(file)) == ["ok"]
    assert list(original_columns(file)) == [
        (1, dict(zip(names, ["7", "hi", "", "x", "9"], strict=True)))
    ]
    settings = RequestSettings(model="m", max_tokens=1, prompt="{{ column_1 }}{{ column_5 }}")
    (row,) = items(file, settings)
    assert json.loads(row.body)["messages"][0]["content"] == "79"


def test_a_carriage_return_among_line_feeds_is_named(tmp_path):
    (bad,) = items(source(tmp_path / "a.csv", b"id,prompt\r\na,hi\rb,yo\r\n"))
    assert (bad.reason, bad.message[:32]) == ("BAD_CSV", "a carriage return stands alone, ")


def test_a_place_that_is_a_name_already_is_not_one_column_twice(tmp_path):
    file = source(tmp_path / "a.csv", b",column_1,prompt\n")
    assert column_names(file) == ["column_1_", "column_1", "prompt"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"a,b\n", "BAD_CSV"),
        (b'"a"b\n', "BAD_CSV"),
        (b"\xff\n", "BAD_UNICODE"),
        (b'"a', "TRUNCATED_TAIL"),
        (b'"a\n\n', "TRUNCATED_TAIL"),
        (b'"a"b', "BAD_CSV"),
        (b'""\n', "NO_PROMPT"),
    ],
)
def test_a_bad_record_is_refused_alone(tmp_path, record, reason):
    found = items(source(tmp_path / "a.csv", b"prompt\nfine\n" + record))
    assert reasons(found) == ["ok", reason]
    assert (found[1].row_number, found[1].byte_offset) == (2, 12)


def test_reading_goes_on_after_a_bad_record(tmp_path):
    found = items(source(tmp_path / "a.csv", b'\xef\xbb\xbfprompt\r\n"a"b\r\n\r\nfine\r\n'))
    assert reasons(found) == ["BAD_CSV", "ok"]
    assert found[1].row_number == 2


def test_a_cut_packed_file_is_never_complete(make_file):
    file = make_file("a.csv.gz", [{"prompt": f"say {n}"} for n in range(500)])
    file.path.write_bytes(file.path.read_bytes()[:-5])
    assert reasons(items(file))[-1] == "TRUNCATED_FILE"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2\n", "none of the needed columns"),
        (b"prompt,x,x\n", "several columns called x"),
        (b'"a"b\n', "the header is no CSV"),
    ],
)
def test_a_wrong_header_is_refused_before_the_run(tmp_path, content, words):
    with pytest.raises(ConfigurationError, match=words):
        check_source(source(tmp_path / "a.csv", content), builder())

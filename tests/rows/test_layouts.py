"""JSON texts whose rows are no lines."""

import gzip
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.rows.batch import InputBroken
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings
from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.check import check_source, column_names, estimated_rows, reading_notes
from batcher.rows.read.reader import original_columns, original_lines
from batcher.rows.read.values import TextLayout, ValueSplitter, recognised
from tests.rows.making import batches, builder, built, items, reasons, source

ROWS = [{"custom_id": "a", "prompt": "hi"}, {"custom_id": "b", "prompt": 'é "{[,\\'}]
BOM = b"\xef\xbb\xbf"


def encoded(rows, indent=None, ascii_only=True):
    return json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode()


def one_by_one(rows, between, indent=None):
    return between.join(encoded(row, indent) for row in rows)


TEXTS = {
    "an array on one line": (encoded(ROWS), TextLayout.ARRAY),
    "an array over many lines": (encoded(ROWS, 2) + b"\n", TextLayout.ARRAY),
    "an array of lines": (b"[\n" + one_by_one(ROWS, b",\n") + b"\n]\n", TextLayout.ARRAY),
    "an array behind a mark": (BOM + encoded(ROWS, 1, ascii_only=False), TextLayout.ARRAY),
    "an array behind another": (encoded(ROWS[:1]) + encoded(ROWS[1:]), TextLayout.ARRAY),
    "an array a line": (one_by_one([[row] for row in ROWS], b"\n"), TextLayout.ARRAY),
    "arrays with marks": (
        BOM + one_by_one([[row] for row in ROWS], b"\n" + BOM, 1),
        TextLayout.ARRAY,
    ),
    "requests": (encoded({"requests": ROWS}), TextLayout.REQUESTS),
    "requests over many lines": (encoded({"requests": ROWS}, 4), TextLayout.REQUESTS),
    "objects over many lines": (one_by_one(ROWS, b"\n", 2) + b"\n", TextLayout.VALUES),
    "objects on one line": (one_by_one(ROWS, b""), TextLayout.VALUES),
    "objects and blanks on one line": (one_by_one(ROWS, b" ") + b"\n", TextLayout.VALUES),
    "carriage returns": (one_by_one(ROWS, b"\r") + b"\r", TextLayout.RETURNS),
    "lines": (one_by_one(ROWS, b"\n"), TextLayout.LINES),
    "lines with carriage returns": (one_by_one(ROWS, b"\r\n"), TextLayout.LINES),
    "files with marks": (BOM + one_by_one(ROWS, b"\n" + BOM), TextLayout.LINES),
}
BY_TEXT = pytest.mark.parametrize(("text", "layout"), TEXTS.values(), ids=TEXTS)
BODIES = [built(row, model="m", max_tokens=10).body for row in ROWS]


@BY_TEXT
def test_every_layout_gives_the_rows_and_where_they_are(tmp_path, text, layout):
    file = source(tmp_path / "a.json", text)
    found = items(file)
    assert [row.body for row in found] == BODIES
    assert [(row.custom_id, row.row_number) for row in found] == [("a", 1), ("b", 2)]
    for row in found:
        assert text[row.byte_offset :].lstrip(BOM).startswith(b"{")
    check_source(file, builder())
    assert column_names(file) == ["custom_id", "prompt"]
    assert estimated_rows(file) == 2
    assert recognised(iter([text]))[0] is layout
    assert [note.partition(": read as ")[2] for note in reading_notes([file])] == (
        [layout.value] if layout.value else []
    )


@BY_TEXT
def test_rows_that_are_done_are_passed_over(tmp_path, text, layout):
    (row,) = items(source(tmp_path / "a.json", text), skip=[(1, 1)])
    assert (row.row_number, row.custom_id) == (2, "b")
    found = batches(source(tmp_path / "a.json"), skip=[(1, 2)])
    assert not any(batch.items for batch in found)
    assert (sum(batch.skipped for batch in found), found[-1].rows_read) == (2, 2)


@BY_TEXT
def test_exports_see_the_rows_too(tmp_path, text, layout):
    file = source(tmp_path / "a.json", text)
    assert [fields for _, fields in original_columns(file)] == ROWS
    lines = [line for _, line in original_lines(file)]
    assert not any(b"\n" in line for line in lines)
    assert [json.loads(line.strip().removeprefix(BOM)) for line in lines] == ROWS


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=3), min_size=1, max_size=6)


@given(st.data())
def test_blocks_of_any_size_give_the_same_values_at_the_same_places(data):
    rows = data.draw(OBJECTS)
    indent = data.draw(st.sampled_from([None, 0, 2]))
    layout = data.draw(
        st.sampled_from([TextLayout.ARRAY, TextLayout.REQUESTS, TextLayout.VALUES])
    )
    if layout is TextLayout.VALUES:
        text = one_by_one(rows, data.draw(st.sampled_from([b"", b"\n", b" ", b"\r\n"])), indent)
    elif layout is TextLayout.ARRAY:
        half = data.draw(st.integers(0, len(rows)))
        between = data.draw(st.sampled_from([b"", b"\n", b" \n" + BOM]))
        text = encoded(rows[:half], indent) + between + encoded(rows[half:], indent)
    else:
        text = encoded({"requests": rows}, indent)
    size = data.draw(st.integers(1, 40))
    done = RowRanges()
    for number in data.draw(st.sets(st.integers(1, 6))):
        done.add(number)
    found = {}
    splitter = ValueSplitter(AllBut(done), layout)
    for batch in splitter.split(iter(cut(text, size))):
        offset = batch.offset
        for number, line in enumerate(batch.lines, batch.first_row):
            assert text[offset : offset + len(line)] == line
            offset += len(line) + 1
            found[number] = json.loads(line)
    assert found == {n: row for n, row in enumerate(rows, 1) if n not in done}


def cut(text, size):
    return [text[start : start + size] for start in range(0, len(text), size)]


@given(st.data())
def test_an_array_that_is_cut_never_looks_complete(data):
    text = encoded(data.draw(st.sampled_from([ROWS, {"requests": ROWS}])), 1)
    layout = TextLayout.ARRAY if text.startswith(b"[") else TextLayout.REQUESTS
    end = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(InputBroken):
        list(ValueSplitter(AllBut(RowRanges()), layout).split(iter([text[:end]])))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'[{"prompt":"a"}, 5, "x, y", [1], null]', ["ok"] + ["NOT_OBJECT"] * 4),
        (b'[{"prompt":"a"}, {"prompt" "b"}, {"prompt":"c"}]', ["ok", "BAD_JSON", "ok"]),
        (b'[{"prompt":"a"}', ["ok", "TRUNCATED_FILE"]),
        (b'[{"prompt":"a"}, {"prom', ["ok", "TRUNCATED_FILE"]),
        (b'[{"prompt":"a"}]]', ["ok", "TRUNCATED_FILE"]),
        (b'{"requests":[{"prompt":"a"}], "model":"m"}', ["NO_PROMPT"]),
        (b'{\n"requests":[{"prompt":"a"}],\n"model":"m"}', ["NO_PROMPT"]),
        (b'{"requests":[{"prompt":"a"}]', ["ok", "TRUNCATED_FILE"]),
        (b"[]", []),
        (b'[{"prompt":"a"}][{"prompt":"b"}', ["ok", "ok", "TRUNCATED_FILE"]),
        (b'[{"prompt":"a"}],[{"prompt":"b"}]', ["ok", "TRUNCATED_FILE"]),
        (b"[1]\n{}\n", ["NOT_OBJECT", "NO_PROMPT"]),
        (b'{"prompt":"a"}{"prompt":"b"\n', ["ok", "TRUNCATED_TAIL"]),
        (b'{"prompt":"a"}{"prompt":"b"}\nwhat is\n{}', ["ok", "ok", "BAD_JSON", "NO_PROMPT"]),
        (b'{\n"prompt":"a"}\n}\n{"prompt":"c"}', ["ok", "BAD_JSON", "ok"]),
    ],
)  # fmt: skip
def test_what_is_no_row_is_refused_and_counted(tmp_path, text, expected):
    assert reasons(items(source(tmp_path / "a.json", text))) == expected


FRAME = {"id": {"0": "a", "1": "b"}, "prompt": {"0": "hi", "1": "yo"}}
BY_INDEX = {"0": {"id": "a", "prompt": "hi"}, "1": {"id": "b", "prompt": "yo"}}
TABLES = {
    "by columns": (FRAME, "is a whole table in one object; write one object a row"),
    "by its index": (BY_INDEX, "is a whole table in one object"),
    "by names": ({"a": {"prompt": "hi"}, "b": {"prompt": "yo"}}, "a whole table in one object"),
    "split": (
        {"columns": ["id", "prompt"], "index": [0], "data": [["a", "hi"]]},
        "is a whole table in lists",
    ),
    "with a schema": (
        {"schema": {"fields": [{"name": "x"}]}, "data": [{"prompt": "hi"}]},
        "holds its rows in the list 'data'",
    ),
    "lists": ({"id": ["a", "b"], "prompt": ["hi", "yo"]}, "is a whole table in lists"),
    "rows beside others": ({"n": 1, "rows": [{"prompt": "hi"}]}, "in the list 'rows'"),
}


@pytest.mark.parametrize(("table", "words"), TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_table_in_one_object_is_named_before_a_run(tmp_path, table, words, indent):
    file = source(tmp_path / "a.json", encoded(table, indent))
    with pytest.raises(ConfigurationError, match=f"a.json: .*{words}"):
        check_source(file, builder())


def test_a_frame_is_named_also_where_a_template_would_print_its_columns(tmp_path):
    settings = RequestSettings(model="m", max_tokens=1, prompt="{{ prompt }}")
    file = source(tmp_path / "a.json", encoded(FRAME))
    with pytest.raises(ConfigurationError, match="a whole table"):
        check_source(file, RequestBuilder(settings))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi", "tags": [{"a": 1}], "data": [1]},
        {"messages": [{"role": "user", "content": "x"}]},
        {"conversations": [{"from": "human", "value": "x"}]},
        {"id": 1, "dialog": [{"role": "user", "content": "x"}]},
        {"request": {"messages": [{"role": "user", "content": "x"}]}},
        {"params": {"0": 1}, "custom_id": "a"},
        {"a": {"x": 1}, "b": {"y": 2}},
    ],
)  # fmt: skip
def test_a_file_of_one_row_is_no_table(tmp_path, row):
    check_source(source(tmp_path / "a.json", encoded(row)), builder())


def test_columns_for_a_template_may_be_objects_and_lists(tmp_path):
    settings = RequestSettings(model="m", max_tokens=1, prompt="{{ a }}{{ b }}")
    for row in ({"a": [1], "b": [{"x": 1}]}, {"a": {"x": 1}, "b": {"x": 2}}):
        check_source(source(tmp_path / "a.json", encoded(row)), RequestBuilder(settings))


def test_a_table_is_not_looked_for_in_a_file_of_several_rows(tmp_path):
    check_source(source(tmp_path / "a.json", one_by_one([FRAME, FRAME], b"\n")), builder())


def test_what_a_long_object_around_requests_says_is_not_lost(tmp_path):
    rows = [{"prompt": "x" * 100_000}]
    text = encoded({"requests": rows})[:-1] + b', "model": "m"}'
    found = items(source(tmp_path / "a.json", text))
    assert reasons(found) == ["ok", "TRUNCATED_FILE"]
    assert "something follows the end of the JSON array" in found[1].message


def test_a_packed_file_need_not_say_so(tmp_path):
    file = source(tmp_path / "a.jsonl", gzip.compress(encoded(ROWS)))
    assert [row.body for row in items(file)] == BODIES
    assert reading_notes([file]) == [
        "a.jsonl: read as packed (gz)",
        f"a.jsonl: read as {TextLayout.ARRAY.value}",
    ]


def test_notes_of_many_files_are_one_line(tmp_path):
    files = [source(tmp_path / f"{n}.json", encoded(ROWS)) for n in range(3)]
    assert reading_notes(files) == [f"0.json and 2 more: read as {TextLayout.ARRAY.value}"]


def test_an_array_is_never_in_memory_whole(tmp_path):
    row = encoded({"prompt": "x" * 1_000, "tags": list(range(20))})
    with (tmp_path / "a.json").open("wb") as file:
        file.write(b"[" + row)
        for _ in range(12_000):
            file.write(b", " + row)
        file.write(b"]")
    tracemalloc.start()
    batch_sizes = [len(batch.items) for batch in batches_of(source(tmp_path / "a.json"))]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (sum(batch_sizes), most < 8 * 2**20) == (12_001, True)
    assert len(batch_sizes) < 200, "rows are handed on together"


def batches_of(file):
    from batcher.rows.read.reader import read_rows

    return read_rows(
        file, source_id=1, builder=builder(model="m", max_tokens=1), rows=AllBut(RowRanges())
    )


def test_an_entry_may_be_as_long_as_a_line(tmp_path):
    long = encoded({"prompt": "x" * (40 * 2**20)})
    found = items(source(tmp_path / "a.json", b'[{"prompt":"a"},' + long + b"]"))
    assert reasons(found) == ["ok", "TRUNCATED_FILE"]
    assert "longer than 33,554,432 bytes" in found[1].message

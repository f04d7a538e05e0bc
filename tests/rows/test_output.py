import csv
import gzip
import io
import json
import os
import pty
import resource
import stat
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from batcher.errors import CannotCreate, StorageError, UsageError
from batcher.outputs import Guard
from batcher.rows.out.lines import JsonLines
from batcher.rows.out.output import open_writer
from batcher.rows.out.sink import Sink
from batcher.rows.out.typed import CellKind, TypedColumn, write_typed
from batcher.rows.read.reader import original_columns
from tests.rows.making import prompts, source

ROWS = [
    {"custom_id": "a", "text": "=1+1", "tokens": -5, "cost": "0.5", "content": [{"x": 1}]},
    {"custom_id": "b", "text": 'say "hi",\nbye', "tokens": None, "late": True},
    {"custom_id": "c", "tokens": 7, "content": msgspec.Raw(b'{"raw":1}'), "share": 0.25},
]


def written(path, rows=ROWS, **options):
    with open_writer(str(path), **options) as writer:
        writer.write(rows[:1])
        writer.write(rows[1:])
    return path


def test_jsonl_keeps_rows_as_they_are(tmp_path):
    lines = written(tmp_path / "o.jsonl").read_text().splitlines()
    assert lines[2] == '{"custom_id":"c","tokens":7,"content":{"raw":1},"share":0.25}'
    assert json.loads(lines[0]) == ROWS[0]


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@given(st.lists(st.dictionaries(NAMES.map("r{}".format), st.integers() | NAMES, max_size=3)))
@example([{'r"': 1}, {"r\\": 2}, {"r\n": 3}, {"r\x7f": 4}])  # names that JSON escapes
@example([{f"r{n}": n} for n in range(100)])  # more kinds of rows than are remembered
def test_lines_are_those_of_plain_objects_whatever_columns_rows_have(rows):
    cells = ("done", msgspec.Raw(b"[1]"), None)
    lines = JsonLines(("status", "\u00e4", 'no "name"')).encode([(row, cells) for row in rows])
    result = {"status": "done", "\u00e4": [1], 'no "name"': None}
    assert lines == msgspec.json.Encoder().encode_lines([{**row, **result} for row in rows])
    plain = JsonLines(("status", "\u00e4")).encode([(row, cells[:2]) for row in rows])
    del result['no "name"']
    assert plain == msgspec.json.Encoder().encode_lines([{**row, **result} for row in rows])


def test_csv_has_all_columns_and_no_formula(tmp_path):
    assert written(tmp_path / "o.csv").read_text() == (
        "custom_id,text,tokens,cost,content,late,share\n"
        'a,\'=1+1,-5,0.5,"[{""x"":1}]",,\n'
        'b,"say ""hi"",\nbye",,,,true,\n'
        'c,,7,,"{""raw"":1}",,0.25\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "=a",
        "+1",
        "-1",
        "@x",
        "\tx",
        "\rx",
        "\n=a",
        "\uff1da",
        "\uff0b1",
        "\uff0d1",
        "\uff20x",
        "\ufeff=a",
    ],
)
def test_text_a_spreadsheet_would_run_gets_an_apostrophe(tmp_path, text):
    path = written(tmp_path / "o.csv", [{text: text}])
    records = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert records == [["'" + text]] * 2


@pytest.mark.parametrize("format_", ["jsonl", "csv"])
def test_a_terminal_shows_what_would_steer_it(format_):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "wb") as terminal:
        with open_writer("-", format_, stdout=terminal) as writer:
            writer.write([{"text": "a\x9b31mb\u202ec\x1b[0m"}])
        shown = os.read(ours, 1000).decode()
    os.close(ours)
    assert not any(sign in shown for sign in "\x1b\x9b\u202e")
    if format_ == "jsonl":
        assert json.loads(shown) == {"text": "a\x9b31mb\u202ec\x1b[0m"}


def test_in_csv_nothing_steers_a_terminal(tmp_path):
    text = "\x1b[31mred\x07\x00\x7f\x9b31m tab\tline\nü"
    path = written(tmp_path / "o.csv", [{"text": text, "content": [text]}])
    found = path.read_text()
    assert "␛[31mred␇␀␡\ufffd31m tab\tline\nü" in found
    assert not {"\x1b", "\x07", "\x9b", "\x7f"} & set(found)


def test_parquet_has_the_types_of_all_rows(tmp_path):
    table = pq.read_table(written(tmp_path / "o.parquet"))
    assert {field.name: str(field.type) for field in table.schema} == {
        "custom_id": "string",
        "text": "string",
        "tokens": "int64",
        "cost": "string",
        "content": "string",
        "late": "bool",
        "share": "double",
    }
    assert table.column("content").to_pylist() == ['[{"x":1}]', None, '{"raw":1}']
    assert (
        pq.ParquetFile(tmp_path / "o.parquet").metadata.row_group(0).column(0).compression
        == "ZSTD"
    )


def test_no_row_group_of_parquet_is_larger_than_fits_into_memory(tmp_path):
    with open_writer(str(tmp_path / "o.parquet")) as writer:
        writer.write({"custom_id": str(n), "text": "x" * 2**20} for n in range(40))
    about = pq.read_metadata(tmp_path / "o.parquet")
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    assert sum(group.num_rows for group in groups) == 40
    assert max(group.num_rows for group in groups) <= 17


def test_pages_that_fit_no_row_group_exactly_are_cut(tmp_path):
    columns = [TypedColumn("n", CellKind.INTEGER)]
    pages = [[(n,) for n in range(first, first + 15_000)] for first in (0, 15_000, 30_000)]
    with (tmp_path / "o.parquet").open("wb") as file:
        assert write_typed(columns, pages, file) == 45_000
    about = pq.read_metadata(tmp_path / "o.parquet")
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    assert [group.num_rows for group in groups] == [20_000, 10_000, 15_000]
    assert pq.read_table(tmp_path / "o.parquet")["n"].to_pylist() == [*range(45_000)]


def test_a_parquet_column_of_several_types_is_text(tmp_path):
    rows = [{"x": 1, "n": None}, {"x": "a", "n": None}, {"x": True, "n": None}, {"x": 2**70}]
    table = pq.read_table(written(tmp_path / "o.parquet", rows))
    assert table.to_pydict() == {"x": ["1", "a", "true", str(2**70)], "n": [None] * 4}


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
def test_chosen_columns_come_in_their_order(tmp_path, name):
    path = written(tmp_path / name, [{"b": 1, "c": 2, "a": 3}], columns=["a", "b", "x"])
    columns = {
        "o.jsonl": lambda: list(json.loads(path.read_text())),
        "o.csv": lambda: path.read_text().splitlines()[0].split(","),
        "o.parquet": lambda: pq.read_table(path).column_names,
    }
    assert columns[name]() == ["a", "b", "x"]


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
def test_no_rows_make_a_file_with_its_columns(tmp_path, name):
    path = written(tmp_path / name, [], columns=["a"])
    assert path.exists()
    assert name != "o.csv" or path.read_text() == "a\n"
    assert name != "o.parquet" or pq.read_table(path).column_names == ["a"]


@pytest.mark.parametrize("name", ["o.jsonl.gz", "o.csv.gz"])
def test_gz_is_packed_and_always_the_same(tmp_path, name):
    plain = written(tmp_path / name.removesuffix(".gz")).read_bytes()
    packed = written(tmp_path / name).read_bytes()
    assert gzip.decompress(packed) == plain
    (tmp_path / name).unlink()
    assert written(tmp_path / name).read_bytes() == packed


def test_zst_is_packed(tmp_path):
    path = written(tmp_path / "o.jsonl.zst")
    with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
        assert stream.read() == written(tmp_path / "o.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet", "o.csv.gz"])
def test_a_failed_export_leaves_what_was_there(tmp_path, name):
    (tmp_path / name).write_text("before")

    def rows():
        yield {"a": 1}
        raise RuntimeError

    anything = Guard(force=True)
    path = str(tmp_path / name)
    with pytest.raises(RuntimeError), open_writer(path, guard=anything) as writer:
        writer.write(rows())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "before"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_what_is_given_up_is_closed(tmp_path, name):
    """A packer that is not would complain on standard error when it is collected."""
    sink = Sink(str(tmp_path / name))
    sink.stream.write(b"row")
    file, stream = sink._file, sink.stream
    sink.discard()
    assert file.closed
    assert getattr(stream, "closed", True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_for_its_owner_only_and_nothing_else_is_left(tmp_path):
    path = written(tmp_path / "o.csv")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("format_", [None, "csv", "parquet"])
def test_a_dash_is_standard_output(format_):
    stdout = io.BytesIO()
    with open_writer("-", format_, stdout=stdout) as writer:
        writer.write([{"a": 1}])
    starts = {None: b'{"a":1}\n', "csv": b"a\n1\n", "parquet": b"PAR1"}
    assert stdout.getvalue().startswith(starts[format_])


def test_a_device_is_written_as_it_goes(tmp_path):
    written("/dev/null", format_="jsonl")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("name", ["o", "o.xlsx", "o.parquet.gz"])
def test_an_unknown_ending_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=name):
        open_writer(str(tmp_path / name))


def test_a_target_that_cannot_be_written_is_refused(tmp_path):
    for target in (tmp_path, tmp_path / "missing" / "o.jsonl"):
        with pytest.raises(CannotCreate, match=str(target)):
            open_writer(str(target), "jsonl")


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(tmp_path):
    words = "/dev/full: writing failed: No space left"
    with pytest.raises(StorageError, match=words), open_writer("/dev/full", "jsonl") as writer:
        writer.write([{"a": "x" * 1000}] * 100)


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
def test_rows_that_no_longer_fit_are_a_storage_error_and_leave_nothing(tmp_path, name):
    """What is held back is not written while the output is given up."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, usual[1]))
    try:
        words = f"{name}: writing failed: File too large"
        with (
            pytest.raises(StorageError, match=words),
            open_writer(str(tmp_path / name)) as writer,
        ):
            writer.write([{"a": "x" * 1000}] * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_went_away_is_a_broken_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
        open_writer("-", stdout=pipe).write([{"a": 1}])


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.csv", "a.parquet"])
def test_original_columns_come_in_order(make_file, name):
    found = list(original_columns(make_file(name, prompts(3000))))
    assert found == list(enumerate(prompts(3000), 1))


def test_rows_that_cannot_be_read_have_no_original_columns(tmp_path):
    content = b'{"a":1}\n\nbroken\n[1]\n{"a":null}'
    found = list(original_columns(source(tmp_path / "a.jsonl", content)))
    assert found == [(1, {"a": 1}), (3, {}), (4, {}), (5, {"a": None})]


def test_a_cut_file_ends_in_a_row_without_original_columns(make_file):
    file = make_file("a.jsonl.gz", prompts(10))
    file.path.write_bytes(file.path.read_bytes()[:-3])
    assert list(original_columns(file))[-1] == (11, {})


CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)  # fmt: skip
NAMES = st.sampled_from("abcd")


@given(st.lists(st.dictionaries(NAMES, CELLS), max_size=6))
def test_any_rows_can_be_written_and_are_all_there(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("o")
    table = pq.read_table(written(folder / "o.parquet", rows))
    assert table.num_rows == len(rows) or not table.column_names
    text = written(folder / "o.csv", rows).read_bytes().decode()
    records = list(csv.reader(io.StringIO(text, newline="")))
    assert len(records) == len(rows) + 1 or not records[0]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_added_in_blocks_keep_their_columns_whatever_block_brings_them(tmp_path, form):
    """Also a block of rows without any, and one in which a type differs from earlier ones."""
    target = tmp_path / f"rows.{form}"
    with open_writer(str(target)) as writer:
        writer.write([{"a": "text"}, {"a": None}])
        writer.write([{}, {}])
        writer.write([{"b": 1, "a": [1]}])
    if form == "csv":
        assert target.read_text() == "a,b\ntext,\n,\n,\n,\n[1],1\n"
        return
    assert pq.read_table(target).to_pydict() == {
        "a": ["text", None, None, None, "[1]"],
        "b": [None, None, None, None, 1],
    }

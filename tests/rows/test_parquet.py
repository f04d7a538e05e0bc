import base64
import contextlib
import datetime as dt
import decimal
import json
import random
import struct
import uuid

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from batcher.errors import ConfigurationError, StorageError
from batcher.rows.build.settings import RequestSettings
from batcher.rows.read.arrow_values import as_interval, column_cells
from batcher.rows.read.check import check_source
from batcher.rows.read.parquet import _broken, _validate
from batcher.rows.read.reader import original_columns
from tests.rows.making import (
    batches,
    builder,
    items,
    lines_of,
    params,
    prompts,
    reasons,
    source,
)


def parquet(path, table, **options):
    pq.write_table(table, path, **options)
    return source(path)


def template_prompts(file, template):
    settings = RequestSettings(model="m", max_tokens=1, prompt=template)
    return [json.loads(row.body)["messages"][0]["content"] for row in items(file, settings)]


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
MESSAGE = st.builds(lambda role, content: {"role": role, "content": content},
                    st.sampled_from(["user", "assistant"]), TEXT)  # fmt: skip
BODY = st.fixed_dictionaries(
    {"model": st.sampled_from(["m", "é"]), "max_tokens": st.integers(0, 21_333)}
    | {"messages": st.lists(MESSAGE, min_size=1, max_size=3)},
    optional={"temperature": st.floats(0, 1), "system": TEXT, "stop_sequences": st.lists(TEXT)},
)


@given(st.lists(BODY, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_parquet_and_jsonl_give_the_same_identities(
    tmp_path_factory, bodies, as_params, as_text
):
    folder = tmp_path_factory.mktemp("p")
    rows = [{"custom_id": str(n), "params": body} for n, body in enumerate(bodies)]
    lines = items(source(folder / "a.jsonl", lines_of(rows if as_params else bodies)))
    names = ("params",) if as_params else ("messages", "stop_sequences")
    columns = rows if as_params else bodies
    if as_text:
        columns = [
            {n: json.dumps(v) if n in names else v for n, v in row.items()} for row in columns
        ]
    records = items(parquet(folder / "a.parquet", pa.Table.from_pylist(_full(columns))))
    assert [r.params_hash for r in records] == [r.params_hash for r in lines]
    assert {r.byte_offset for r in records} == {None}


def _full(rows):
    """Arrow takes its columns from the first row."""
    return [{name: row.get(name) for name in {n for r in rows for n in r}} for row in rows]


def test_a_null_in_a_struct_is_absent(tmp_path):
    blocks = [{"type": "text", "text": "x", "source": None}]
    messages = [{"role": "user", "content": blocks}]
    table = pa.Table.from_pylist([{"messages": messages, "top_k": None, "system": None}])
    (row,) = items(parquet(tmp_path / "a.parquet", table))
    assert json.loads(row.body)["messages"][0]["content"] == [{"type": "text", "text": "x"}]
    assert set(json.loads(row.body)) == {"messages", "model", "max_tokens"}


def test_integers_written_as_floats_are_integers(tmp_path):
    table = pa.Table.from_pylist([{"prompt": "a", "max_tokens": 5.0, "id": 3.0}])
    (row,) = items(parquet(tmp_path / "a.parquet", table))
    assert (row.max_tokens, row.custom_id) == (5, "3")


def test_every_type_with_a_rule_becomes_its_text(tmp_path):
    moment = pa.array([1_234_567_890_123_456_789], pa.timestamp("ns", tz="Europe/Berlin"))
    columns = {
        "moment": moment,
        "local": pa.array([1_767_323_045], pa.timestamp("s")),
        "day": pa.array([dt.date(2026, 1, 2)]),
        "time": pa.array([3_723_000_000_123], pa.time64("ns")),
        "price": pa.array([decimal.Decimal("1.50")]),
        "whole": pa.array([decimal.Decimal("12")]),
        "bytes": pa.array([b"abc"]),
        "word": pa.array(["x"]).dictionary_encode(),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        "uid": pa.array([uuid.UUID(int=5).bytes], pa.uuid()),
        "nested": pa.array([[{"at": dt.date(2026, 1, 2)}]]),
        "half": pa.array([0.5], pa.float16()),
        "lasts": pa.array([90_000_001_500], pa.duration("ns")),
        "less": pa.array([-1_500], pa.duration("ms")),
        "moments": pa.array([[("k", 10**9)]], pa.map_(pa.string(), pa.timestamp("ns"))),
        "two": pa.array([[10**9, 1]], pa.list_(pa.timestamp("ns"), 2)),
    }
    template = "|".join("{{ " + name + " }}" for name in columns)
    (text,) = template_prompts(parquet(tmp_path / "a.parquet", pa.table(columns)), template)
    assert text.split("|") == [
        "2009-02-13T23:31:30.123456Z",
        "2026-01-02T03:04:05",
        "2026-01-02",
        "01:02:03",
        "1.50",
        "12",
        "abc",
        "x",
        "{'k': 1}",
        "00000000-0000-0000-0000-000000000005",
        "[{'at': '2026-01-02'}]",
        "0.5",
        "PT90.000001S",
        "-PT1.5S",
        "{'k': '1970-01-01T00:00:01'}",
        "['1970-01-01T00:00:01', '1970-01-01T00:00:00']",
    ]


def test_a_view_of_a_list_is_a_list(tmp_path):
    table = pa.table({"view": pa.array([[1, 2]], pa.list_view(pa.int64()))})
    try:
        file = parquet(tmp_path / "a.parquet", table)
    except pa.ArrowNotImplementedError:
        pytest.skip("this pyarrow writes no views of lists, so that nobody's file has them")
    assert template_prompts(file, "{{ view }}") == ["[1, 2]"]


def test_an_interval_is_iso_8601():
    assert as_interval(struct.pack("<3I", 1, 2, 3_500)) == "P1M2DT3.5S"
    assert as_interval(struct.pack("<3I", 0, 0, 86_399_999)) == "P0M0DT86399.999S"


def test_a_template_that_goes_through_the_row_gets_every_column(tmp_path):
    file = parquet(tmp_path / "a.parquet", pa.table({"q": ["hello"], "a": [1]}))
    template = (
        "{{ q }}: {% for name, value in row.items() %}{{ name }}={{ value }};{% endfor %}"
    )
    assert template_prompts(file, template) == ["hello: q=hello;a=1;"]
    assert template_prompts(file, "{{ q }}{{ row.get('a') }}") == ["hello1"]


def of_duckdb(path, columns):
    duckdb.sql(f"COPY (SELECT {columns}) TO '{path}' (FORMAT parquet)")
    return source(path)


def test_an_interval_inside_of_something_is_no_text_of_nul_bytes(tmp_path):
    columns = """map {'k': INTERVAL '1 month 2 days 3 seconds'} AS "in.map",
        [INTERVAL 1 DAY] AS list, {'a': INTERVAL 1 DAY, 'b': 'text'} AS struct"""
    template = '{{ row["in.map"] }}|{{ list }}|{{ struct }}'
    assert template_prompts(of_duckdb(tmp_path / "a.parquet", columns), template) == [
        "{'k': 'P1M2DT3S'}|['P0M1DT0S']|{'a': 'P0M1DT0S', 'b': 'text'}"
    ]


def test_intervals_among_other_bytes_are_refused_by_name(tmp_path):
    columns = "{'a': INTERVAL 1 DAY, 'b': 'abc'::BLOB} AS both, 'hi' AS prompt"
    file = of_duckdb(tmp_path / "a.parquet", columns)
    (bad,) = items(file, RequestSettings(model="m", max_tokens=1, prompt="{{ both }}"))
    assert bad.reason == "BAD_VALUE"
    assert "column 'both' holds bytes of several kinds" in bad.message
    assert template_prompts(file, "{{ prompt }}") == ["hi"]


def wide_integers(path, numbers):
    """A file as polars writes it, with a type of Arrow's that pyarrow cannot read."""
    note = pa.schema([("prompt", pa.string()), ("wide", pa.int64())]).serialize().to_pybytes()
    width = b"\x40\x00\x00\x00"
    assert note.count(width) == 1
    columns = {
        "prompt": ["hi"] * len(numbers),
        "wide": pa.array(
            [number.to_bytes(16, "little", signed=True) for number in numbers], pa.binary(16)
        ),
    }
    noted = {b"ARROW:schema": base64.b64encode(note.replace(width, b"\x80\x00\x00\x00"))}
    table = pa.table(columns)
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(noted)
    with pytest.raises(pa.ArrowNotImplementedError, match="more than 64 bits"):
        pq.ParquetFile(path)
    return source(path)


def test_integers_of_128_bits_are_read(tmp_path):
    file = wide_integers(tmp_path / "a.parquet", [2**63, 1, 2**127 - 1])
    assert template_prompts(file, "{{ wide }}") == [str(2**63), "1", str(2**127 - 1)]
    assert [row["wide"] for _, row in original_columns(file)] == [2**63, 1, 2**127 - 1]


def test_an_integer_of_128_bits_that_may_have_a_sign_is_refused_by_name_where_needed(tmp_path):
    file = wide_integers(tmp_path / "a.parquet", [-1])
    settings = RequestSettings(model="m", max_tokens=1, prompt="{{ wide }}")
    (bad,) = items(file, settings)
    assert bad.reason == "BAD_VALUE"
    assert "column 'wide' holds an integer of 128 bits" in bad.message
    assert template_prompts(file, "{{ prompt }}") == ["hi"]


def test_what_arrow_cannot_read_is_not_called_damaged():
    error = pa.ArrowNotImplementedError("Integers with more than 64 bits not implemented")
    assert "a type that cannot be read (Integers with more than 64 bits" in str(_broken(error))


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([float("nan"), 1.0]), "BAD_NUMBER"),
        (pa.array([[float("inf")], [1.0]]), "BAD_NUMBER"),
        (pa.array([b"\xff", b"a"]), "BAD_UNICODE"),
        (pa.array([2**40, 0], pa.timestamp("s")), "BAD_VALUE"),
    ],
)
def test_a_value_without_a_rule_refuses_its_row_alone(tmp_path, column, reason):
    table = pa.table({"x": column})
    settings = RequestSettings(model="m", max_tokens=1, prompt="{{ x or 'none' }}")
    found = items(parquet(tmp_path / "a.parquet", table), settings)
    assert reasons(found) == [reason, "ok"]


def test_text_that_is_not_utf8_refuses_its_row_alone(tmp_path):
    broken = pa.array([b"\xff", b"fine"]).view(pa.string())
    found = items(parquet(tmp_path / "a.parquet", pa.table({"prompt": broken})))
    assert reasons(found) == ["BAD_UNICODE", "ok"]


BROKEN = pa.array([b"\xff", b"fine"]).view(pa.string())
NESTED = [
    pa.array([b"\xff", b"fine"]).cast(pa.large_binary()).view(pa.large_string()),
    pa.ListArray.from_arrays([0, 1, 2], BROKEN),
    pa.LargeListArray.from_arrays([0, 1, 2], BROKEN),
    pa.FixedSizeListArray.from_arrays(BROKEN, 1),
    pa.StructArray.from_arrays([BROKEN, pa.array([1, 2])], ["a", "b"]),
    pa.MapArray.from_arrays([0, 1, 2], BROKEN, pa.array([1, 2])),
    pa.MapArray.from_arrays([0, 1, 2], pa.array(["a", "b"]), BROKEN),
    pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), BROKEN),
    pa.ListArray.from_arrays([0, 1, 2], pa.StructArray.from_arrays([BROKEN], ["a"])),
    pa.ExtensionArray.from_storage(pa.json_(), BROKEN),
]


@pytest.mark.parametrize("column", NESTED, ids=lambda column: str(column.type))
def test_broken_text_is_found_in_the_bytes_wherever_it_is(tmp_path, column):
    settings = RequestSettings(model="m", max_tokens=1, prompt="{{ x }}")
    found = items(parquet(tmp_path / "a.parquet", pa.table({"x": column})), settings)
    assert reasons(found) == ["BAD_UNICODE", "ok"]
    assert found[0].message == "column 'x' is not valid UTF-8: invalid start byte (byte 0)"


def test_a_broken_text_does_not_excuse_what_else_is_damaged():
    offsets = pa.array([0, 9, 1], pa.int32()).buffers()[1]  # the second ends before it begins
    one = pa.array([1], pa.int8())
    lists = pa.Array.from_buffers(pa.list_(pa.int8()), 2, [None, offsets], children=[one])
    batch = pa.RecordBatch.from_arrays([BROKEN, lists], ["a", "b"])
    with pytest.raises(pa.ArrowException):
        _validate(batch)
    _validate(batch.select(["a"]))


def test_text_that_is_no_json_where_json_is_needed_refuses_its_row(tmp_path):
    table = pa.Table.from_pylist(
        [{"messages": "[{"}, {"messages": json.dumps(params()["messages"])}]
    )
    found = items(parquet(tmp_path / "a.parquet", table))
    assert reasons(found) == ["BAD_JSON", "ok"]
    assert "column 'messages'" in found[0].message


def test_system_may_be_text_or_blocks(tmp_path):
    blocks = json.dumps([{"type": "text", "text": "kind"}])
    table = pa.Table.from_pylist(
        [{"prompt": "a", "system": s} for s in (blocks, "[sic] be", "x")]
    )
    found = [
        json.loads(row.body)["system"] for row in items(parquet(tmp_path / "a.parquet", table))
    ]
    assert found == [[{"type": "text", "text": "kind"}], "[sic] be", "x"]


def test_columns_that_do_not_matter_are_not_read(tmp_path):
    table = pa.table({"prompt": ["a"], "x": pa.array([5], pa.duration("ns"))})
    assert reasons(items(parquet(tmp_path / "a.parquet", table))) == ["ok"]


def test_a_template_may_need_no_column_at_all(tmp_path):
    table = pa.table({"x": [1, 2]})
    assert template_prompts(parquet(tmp_path / "a.parquet", table), "{{ row_number }}") == [
        "1",
        "2",
    ]


def test_column_names_may_hold_dots_and_structs_their_prefix(tmp_path):
    table = pa.Table.from_pylist([{"prompt": "x", "a.b": 1, "system": "s", "system.x": "no"}])
    (row,) = items(parquet(tmp_path / "a.parquet", table))
    assert json.loads(row.body)["system"] == "s"


def test_finished_row_groups_are_passed_unread(tmp_path):
    table = pa.Table.from_pylist(prompts(100))
    file = parquet(tmp_path / "a.parquet", table, row_group_size=10, compression="none")
    content = file.path.read_bytes()
    file.path.write_bytes(
        content[:4] + b"\0" * 100 + content[104:]
    )  # the first group is damaged
    found = batches(file, skip=[(1, 10)])
    assert reasons(item for batch in found for item in batch.items) == ["ok"] * 90
    assert found[0].skipped == 10


def test_every_row_of_a_damaged_row_group_is_refused_and_the_rest_goes_on(tmp_path):
    table = pa.Table.from_pylist(prompts(100))
    options = {"row_group_size": 10, "compression": "none", "write_page_checksum": True}
    file = parquet(tmp_path / "a.parquet", table, use_dictionary=False, **options)
    content = file.path.read_bytes()
    file.path.write_bytes(
        content.replace(b"say 15", b"say 99", 1)
    )  # only the checksum can tell
    found = items(file)
    assert [row.row_number for row in found] == list(range(1, 101))
    assert reasons(found) == ["ok"] * 10 + ["TRUNCATED_FILE"] * 10 + ["ok"] * 80


@pytest.mark.parametrize("seed", range(3))
def test_a_mutated_file_is_refused_or_read_and_never_crashes(tmp_path, seed):
    table = pa.Table.from_pylist([{"params": params(f"say {n}")} for n in range(40)])
    file = parquet(tmp_path / "a.parquet", table, row_group_size=10)
    content, chance = file.path.read_bytes(), random.Random(seed)
    for _ in range(100):
        broken = bytearray(content)
        broken[chance.randrange(len(broken))] = chance.randrange(256)
        file.path.write_bytes(broken)
        with contextlib.suppress(ConfigurationError):
            check_source(file, builder())
        assert all(batch.skipped >= 0 for batch in batches(file))
        assert list(original_columns(file))


def test_a_footer_that_breaks_after_the_check_is_a_bad_row(tmp_path):
    file = parquet(tmp_path / "a.parquet", pa.Table.from_pylist(prompts(5)))
    file.path.write_bytes(file.path.read_bytes()[:-20])
    assert reasons(items(file)) == ["TRUNCATED_FILE"]


def test_a_file_that_is_gone_is_not_called_damaged(tmp_path):
    file = parquet(tmp_path / "a.parquet", pa.Table.from_pylist(prompts(5)))
    file.path.unlink()
    with pytest.raises(StorageError, match="reading failed"):
        items(file)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"{}\n" * 10, b"x" * 5000])
def test_what_is_no_parquet_file_is_refused_before_the_run(tmp_path, content):
    with pytest.raises(ConfigurationError, match=r"a\.parquet: is no readable Parquet file"):
        check_source(source(tmp_path / "a.parquet", content), builder())


def test_a_file_with_none_of_the_needed_columns_is_refused(tmp_path):
    file = parquet(tmp_path / "a.parquet", pa.table({"question": ["a"], "topic": ["b"]}))
    with pytest.raises(ConfigurationError) as caught:
        check_source(file, builder())
    assert str(caught.value) == (
        "a.parquet: has none of the needed columns (messages, params, prompt); "
        "its columns are question, topic; rename one or give a prompt template"
    )
    check_source(file, builder(prompt="{{ question }} {{ other | default('') }}"))
    check_source(file, builder(prompt="row {{ row_number }}"))


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    with pytest.raises(ConfigurationError, match="several columns called prompt"):
        check_source(parquet(tmp_path / "a.parquet", table), builder())


def test_small_floats_are_the_shortest_numbers_that_are_stored_so():
    numbers = [0.1, 0.7, 1 / 3, 16777216.0, 3.4028235e38, 1e-45, -2.5, 0.0, 12345.678]
    cells = column_cells("f", pa.array(numbers, pa.float32()))
    assert pa.array(cells, pa.float32()).equals(pa.array(numbers, pa.float32()))
    assert [str(cell) for cell in cells[:3]] == ["0.1", "0.7", "0.33333334"]
    assert cells[-1] == 12345.678
    halves = pa.array([0.1, 65504.0], pa.float32()).cast(pa.float16())
    assert column_cells("h", halves) == [0.1, 65500.0]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_small_float_reads_back_as_itself(number):
    (cell,) = column_cells("f", pa.array([number], pa.float32()))
    assert pa.scalar(cell, pa.float32()).as_py() == number
    assert len(repr(cell)) <= len(repr(number))

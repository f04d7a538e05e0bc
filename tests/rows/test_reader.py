import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import StorageError
from batcher.messages.request import Request
from batcher.rows.read.check import layout_note
from batcher.rows.read.lines import MAX_LINE_BYTES
from tests.rows.making import batches, items, lines_of, prompts, reasons, source


def test_rows_are_numbered_by_physical_line_and_know_their_offset(tmp_path):
    content = b'\n{"prompt":"a"}\r\n  \n{"prompt":"b"}'
    found = items(source(tmp_path / "a.jsonl", content))
    assert [(row.row_number, row.byte_offset, row.source_id) for row in found] == [
        (2, 1, 7),
        (4, 20, 7),
    ]
    assert batches(source(tmp_path / "a.jsonl"))[0].blank_rows == (1, 3)


@pytest.mark.parametrize("blank", [b"\n", b" \t\r\n"])
def test_a_million_blank_lines_are_passed_at_once_and_what_follows_is_found(tmp_path, blank):
    content = b'{"prompt":"a"}\n' + blank * 10**6 + b'{"prompt":"b"}\n' + blank
    found = batches(source(tmp_path / "a.jsonl", content))
    rows = [row for batch in found for row in batch.items]
    assert [(row.row_number, row.byte_offset) for row in rows] == [
        (1, 0),
        (10**6 + 2, 15 + len(blank) * 10**6),
    ]
    blanks = [number for batch in found for number in batch.blank_rows]
    assert blanks == [*range(2, 10**6 + 2), 10**6 + 3]
    assert len(found) < 5_000, "not by the 256"


def test_only_line_feeds_end_a_line(tmp_path):
    content = '{"prompt":"a"}\n{"prompt":"a\u2028b\x85c\u2029"}\r{"x":1}\n'.encode()
    assert reasons(items(source(tmp_path / "a.jsonl", content))) == ["ok", "BAD_JSON"]
    content = '{"prompt":"a\u2028b\x85c\u2029"}\n'.encode()
    assert reasons(items(source(tmp_path / "a.jsonl", content))) == ["ok"]


def test_a_byte_order_mark_is_dropped_at_the_start_of_lines(tmp_path):
    line = b'\xef\xbb\xbf{"prompt":"a\xef\xbb\xbf"}\n'
    found = items(source(tmp_path / "a.jsonl", line * 20_000))
    assert {item.body for item in found} == {found[0].body}
    assert (len(found), b"a\xef\xbb\xbf" in found[0].body) == (20_000, True)
    assert [item.byte_offset for item in found[:3]] == [3, len(line), 2 * len(line)]


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b'{"prompt":"a"}', "ok"),
        (b'{"prompt":"a', "TRUNCATED_TAIL"),
        (b'{"prompt":"\xc3', "TRUNCATED_TAIL"),
        (b'{"prompt":5}', "WRONG_TYPE"),
        (b'{"prompt":"a\n', "BAD_JSON"),
    ],
)
def test_a_last_line_without_a_line_feed(tmp_path, tail, reason):
    content = lines_of(prompts(2)) + tail
    assert reasons(items(source(tmp_path / "a.jsonl", content))) == ["ok", "ok", reason]


_SEPARATED = "which is no number; write digits alone, decimals after a point"


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        ("NaN", "BAD_NUMBER", "holds NaN, which JSON has not; write null"),
        ("[1, -Infinity]", "BAD_NUMBER", "holds -Infinity, which JSON has not; write null"),
        ("nan", "BAD_NUMBER", "holds nan, which JSON has not; write null"),
        ("1,000", "BAD_NUMBER", f"holds 1,000, {_SEPARATED}"),
        ("[1,000,000]", "BAD_NUMBER", f"holds 1,000,000, {_SEPARATED}"),
        ("1 000", "BAD_NUMBER", f"holds 1 000, {_SEPARATED}"),
        ("None", "BAD_JSON", "holds None, which JSON has not; write null"),
        ("N/A", "BAD_JSON", "holds N/A, which JSON has not; write null"),
        ("True", "BAD_JSON", "holds True, which JSON has not; write true"),
        (
            "{'a': 1}",
            "BAD_JSON",
            "has single quotes, as Python prints values; write JSON, with double quotes",
        ),
        ("nano", "BAD_JSON", "is not JSON"),
        ("[100, 200 x]", "BAD_JSON", "is not JSON"),
    ],
)
def test_values_as_other_tools_write_them_are_told_by_their_names(
    tmp_path, value, reason, words
):
    row = b'{"prompt":"x","n":%b}\n' % value.encode()
    (item,) = items(source(tmp_path / "a.jsonl", row))
    assert (item.reason, item.message[: len(words) + 8]) == (reason, f"the row {words}")
    cell = value.replace('"', '""')
    table = f'prompt,temperature\nx,"{cell}"\n'.encode()
    (item,) = items(source(tmp_path / "a.csv", table))
    told = f"column 'temperature' {words}"
    assert (item.reason, item.message[: len(told)]) == (reason, told)


def test_a_line_that_is_too_long_is_one_bad_row(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(lines_of(prompts(1)))
        file.write(b'{"prompt":"' + b"x" * (MAX_LINE_BYTES + 10) + b'"}\n')
        file.write(lines_of(prompts(1)))
    found = items(source(path))
    assert reasons(found) == ["ok", "LINE_TOO_LONG", "ok"]
    assert found[2].byte_offset == path.stat().st_size - len(lines_of(prompts(1)))


def test_a_long_line_within_the_limit_is_read_whole(tmp_path):
    content = lines_of([*prompts(1), {"prompt": "x" * 5_000_000}, *prompts(1)])
    found = items(source(tmp_path / "a.jsonl", content))
    assert [len(row.body) > 5_000_000 for row in found] == [False, True, False]


def test_an_empty_file_has_no_rows(tmp_path):
    assert batches(source(tmp_path / "a.jsonl", b"")) == []


def test_batches_are_small_and_say_how_far_they_are(tmp_path):
    found = batches(source(tmp_path / "a.jsonl", lines_of(prompts(600))))
    assert [(len(batch.items), batch.rows_read) for batch in found] == [
        (256, 256),
        (256, 512),
        (88, 600),
    ]


@pytest.mark.parametrize("format_", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"])
@pytest.mark.parametrize("seed", range(4))
def test_skipping_gives_exactly_the_other_rows(make_file, format_, seed):
    file = make_file(format_, prompts(30_000))
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(1, 30_001), 10))
    skip = [(first, last) for first, last in zip(cuts[::2], cuts[1::2], strict=True)]
    kept = [n for n in range(1, 30_001) if not any(a <= n <= b for a, b in skip)]
    found = batches(file, skip=skip)
    rows = [item for batch in found for item in batch.items]
    assert [row.row_number for row in rows] == kept
    assert [row.custom_id for row in rows] == [f"r{number}" for number in kept]
    assert sum(batch.skipped for batch in found) == 30_000 - len(kept)
    assert found[-1].rows_read == 30_000


def test_offsets_after_skipped_rows_are_right(tmp_path):
    file = source(tmp_path / "a.jsonl", lines_of(prompts(40_000)))
    whole = {row.row_number: row for row in items(file)}
    for row in items(file, skip=[(2, 9), (11, 30_000), (30_002, 39_999)]):
        assert row == whole[row.row_number]


def test_skip_may_change_while_rows_are_read(tmp_path):
    from batcher.rows.ranges import AllBut, RowRanges
    from batcher.rows.read.reader import read_rows
    from tests.rows.making import builder

    skip = RowRanges()
    file = source(tmp_path / "a.jsonl", lines_of(prompts(1000)))
    reading = read_rows(
        file, source_id=1, builder=builder(model="m", max_tokens=1), rows=AllBut(skip)
    )
    skip.add_range(1, 1000)
    assert sum(len(batch.items) for batch in reading) == 1000


def test_a_file_that_went_away_is_a_storage_error(tmp_path):
    file = source(tmp_path / "a.jsonl", b"")
    file.path.unlink()
    with pytest.raises(StorageError, match=r"a\.jsonl: reading failed: No such file"):
        items(file)


def mutated(data, content):
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(content)))
        piece = data.draw(
            st.one_of(
                st.binary(max_size=4), st.sampled_from([b"\n", b"\r\n", b'"', b"{", b"\\u0000"])
            )
        )
        content = content[:at] + piece + content[at + data.draw(st.integers(0, 3)) :]
    return content


@given(st.data())
def test_mutated_files_lose_no_line_and_never_crash(tmp_path_factory, data):
    rows = [
        {"custom_id": "a", "params": {"model": "m", "max_tokens": 1, "messages": []}},
        {"prompt": "é\u2028"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
    ]
    content = mutated(data, lines_of(rows))
    path = tmp_path_factory.mktemp("m") / "a.jsonl"
    found = batches(source(path, content))
    if layout_note(source(path)):  # objects that are no lines any more
        return
    handled = sum(len(batch.items) + len(batch.blank_rows) for batch in found)
    assert handled == content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    for item in (item for batch in found for item in batch.items):
        if isinstance(item, Request):
            json.loads(item.body)

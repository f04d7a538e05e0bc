"""Broken files of every kind: what is read of them is right, and they never look complete."""

import contextlib
import random
import struct

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from batcher.errors import ConfigurationError
from batcher.messages.request import Request
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.read.check import check_source
from tests.rows.conftest import packed
from tests.rows.making import FULL, items, lines_of, prompts, source

ROWS = 60
WRONG_ENDS = {
    "encrypted": lambda whole: whole[:-4] + b"PARE",
    "of a footer longer than the file": lambda whole: whole[:-8] + b"\xff\xff\xff\x7fPAR1",
    "of a footer of nothing": lambda whole: whole[:-8] + struct.pack("<i", 0) + b"PAR1",
    "of a footer of noise": lambda whole: whole[:-200] + b"\xa5" * 192 + whole[-8:],
    "with garbage behind it": lambda whole: whole + b"garbage!",
    "of two files": lambda whole: whole[:-8] + whole[-8:-4] + b"PAR2",
    "of lines": lambda _: lines_of(prompts(3)),
    "of text with its name at both ends": lambda _: b"PAR1" + b"{}\n" * 99 + b"PAR1",
}
SUMMED = {"row_group_size": 20, "compression": "none", "write_page_checksum": True}


def parquet(tmp_path, **options) -> bytes:
    path = tmp_path / "whole.parquet"
    pq.write_table(pa.Table.from_pylist(prompts(ROWS)), path, **SUMMED | options)
    return path.read_bytes()


def refused(tmp_path, content: bytes) -> bool:
    try:
        check_source(source(tmp_path / "a.parquet", content), RequestBuilder(FULL))
    except ConfigurationError:
        return True
    return False


def read(tmp_path, content: bytes) -> list:
    found = items(source(tmp_path / "a.parquet", content))
    return [row for row in found if isinstance(row, Request)]


def test_a_parquet_file_cut_anywhere_is_refused_before_the_run(tmp_path):
    content = parquet(tmp_path)
    for cut in {*range(0, len(content), 61), *range(len(content) - 12, len(content))}:
        assert refused(tmp_path, content[:cut]), cut
        assert read(tmp_path, content[:cut]) == []


@pytest.mark.parametrize("kind", sorted(WRONG_ENDS))
def test_a_parquet_file_whose_end_is_wrong_is_refused_before_the_run(tmp_path, kind):
    assert refused(tmp_path, WRONG_ENDS[kind](parquet(tmp_path)))


def test_with_checksums_no_changed_byte_of_the_data_becomes_another_prompt(tmp_path):
    content = parquet(tmp_path)
    whole = {row.row_number: row.params_hash for row in read(tmp_path, content)}
    end = len(content) - struct.unpack("<i", content[-8:-4])[0] - 8
    chance = random.Random(5)
    for at in [*range(4, min(end, 200)), *chance.sample(range(4, end), 150)]:
        changed = bytearray(content)
        changed[at] ^= 1 << chance.randrange(8)
        with contextlib.suppress(ConfigurationError):
            check_source(source(tmp_path / "a.parquet", bytes(changed)), RequestBuilder(FULL))
        found = {row.row_number: row.params_hash for row in read(tmp_path, bytes(changed))}
        assert found.items() <= whole.items(), at


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst"])
def test_a_packed_file_cut_at_every_byte_is_never_complete_and_gives_only_its_rows(
    tmp_path, ending
):
    content = packed(lines_of(prompts(40)), ending)
    whole = items(source(tmp_path / f"a.jsonl{ending}", content))
    for cut in range(len(content)):
        found = items(source(tmp_path / f"a.jsonl{ending}", content[:cut]))
        assert found[-1].reason == "TRUNCATED_FILE", cut
        assert found[:-1] == whole[: len(found) - 1]


@pytest.mark.parametrize("ending", [".gz", ".bz2"])
def test_a_packed_file_with_any_byte_changed_gives_its_rows_or_says_that_it_is_broken(
    tmp_path, ending
):
    content = packed(lines_of(prompts(40)), ending)
    whole = items(source(tmp_path / f"a.jsonl{ending}", content))
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        found = items(source(tmp_path / f"a.jsonl{ending}", bytes(changed)))
        if found != whole:  # a name or a time in the header is of no interest
            assert found[-1].reason == "TRUNCATED_FILE", at


@pytest.mark.parametrize("format_", ["a.jsonl", "a.csv", "a.jsonl.gz", "a.parquet"])
@pytest.mark.parametrize("count", [0, 1])
def test_a_file_of_one_row_or_none_is_read(tmp_path, make_file, format_, count):
    file = make_file(format_, prompts(1))
    if not count:
        name = format_ if "parquet" not in format_ else "b.parquet"
        empty = {
            "a.jsonl": b"",
            "a.csv": b"custom_id,prompt\n",
            "a.jsonl.gz": packed(b"", ".gz"),
        }
        if name in empty:
            file = source(tmp_path / name, empty[name])
        else:
            pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / name)
            file = source(tmp_path / name)
    check_source(file, RequestBuilder(FULL))
    assert len(items(file)) == count


def test_line_ends_may_be_mixed(tmp_path):
    first, second, third = (lines_of([row]).strip() for row in prompts(3))
    found = items(source(tmp_path / "a.jsonl", first + b"\r\n" + second + b"\n\r\n" + third))
    assert [row.row_number for row in found] == [1, 2, 4]
    assert not any(b"\r" in row.body for row in found)


def test_a_link_is_the_file_behind_it(tmp_path):
    file = source(tmp_path / "a.jsonl", lines_of(prompts(2)))
    (tmp_path / "link.jsonl").symlink_to(file.path)
    assert items(source(tmp_path / "link.jsonl")) == items(file)

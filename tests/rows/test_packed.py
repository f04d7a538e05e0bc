import random
import subprocess
import sys

import pytest

from tests.rows.conftest import packed
from tests.rows.making import batches, items, lines_of, params, reasons, source

ENDINGS = pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst"])


def rows_of(count, seed=1):
    chance = random.Random(seed)  # noise, so that packed bytes and rows go together
    return [{"custom_id": f"r{n}", "prompt": chance.randbytes(12).hex()} for n in range(count)]


@ENDINGS
def test_a_packed_file_reads_like_a_plain_one(tmp_path, ending):
    plain = lines_of(rows_of(5000))
    expected = items(source(tmp_path / "a.jsonl", plain))
    assert items(source(tmp_path / f"a.jsonl{ending}", packed(plain, ending))) == expected


@ENDINGS
def test_a_file_of_several_members_is_read_to_the_end(tmp_path, ending):
    parts = [packed(lines_of(rows_of(100, seed)), ending) for seed in range(3)]
    found = items(source(tmp_path / f"a.jsonl{ending}", b"".join(parts)))
    assert reasons(found) == ["ok"] * 300


@ENDINGS
def test_a_cut_file_is_never_complete(tmp_path, ending):
    content = packed(lines_of(rows_of(2000)), ending)
    whole = items(source(tmp_path / f"a.jsonl{ending}", content))
    cuts = {*range(40), *range(len(content) - 40, len(content))}
    cuts |= set(random.Random(3).sample(range(len(content)), 60))
    for cut in sorted(cuts):
        found = items(source(tmp_path / f"a.jsonl{ending}", content[:cut]))
        assert found[-1].reason == "TRUNCATED_FILE", cut
        assert found[:-1] == whole[: len(found) - 1]
        assert found[-1].row_number == len(found)


@ENDINGS
def test_a_cut_second_member_is_noticed(tmp_path, ending):
    member = packed(lines_of(rows_of(50)), ending)
    for cut in (*range(1, 20), *range(20, len(member), 31), len(member) - 1):
        found = items(source(tmp_path / f"a.jsonl{ending}", member + member[:cut]))
        assert found[-1].reason == "TRUNCATED_FILE", cut
        assert reasons(found[:50]) == ["ok"] * 50


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_cut_costs_few_of_the_rows_before_it(tmp_path, ending):
    plain = lines_of(rows_of(20_000))
    content = packed(plain, ending)
    found = items(source(tmp_path / f"a.jsonl{ending}", content[: len(content) // 2]))
    assert len(found) > 7_000


@ENDINGS
def test_garbage_after_the_data_is_noticed_and_costs_no_row(tmp_path, ending):
    content = packed(lines_of(rows_of(50)), ending) + b"garbage!"
    found = items(source(tmp_path / f"a.jsonl{ending}", content))
    assert reasons(found) == ["ok"] * 50 + ["TRUNCATED_FILE"]


@pytest.mark.parametrize("ending", [".gz", ".bz2"])  # zstd: only where it has a checksum
def test_a_flipped_bit_is_noticed(tmp_path, ending):
    content = bytearray(packed(lines_of(rows_of(500)), ending))
    content[len(content) // 2] ^= 0x10
    found = items(source(tmp_path / f"a.jsonl{ending}", bytes(content)))
    assert not set(reasons(found)) <= {"ok"}


def test_gzip_padding_with_zeros_is_no_damage(tmp_path):
    content = packed(lines_of(rows_of(5)), ".gz") + b"\0" * 600_000
    assert reasons(items(source(tmp_path / "a.jsonl.gz", content))) == ["ok"] * 5


@ENDINGS
def test_a_file_that_is_not_packed_at_all_is_noticed(tmp_path, ending):
    found = items(source(tmp_path / f"a.jsonl{ending}", lines_of(rows_of(5))))
    assert reasons(found) == ["TRUNCATED_FILE"]


@ENDINGS
def test_a_decompression_bomb_is_stopped(tmp_path, ending):
    bomb = packed(b'{"prompt":"a"}\n' + b" " * 120_000_000, ending)
    file = source(tmp_path / f"a.jsonl{ending}", bomb)
    found = batches(file)
    assert found[-1].items[-1].reason == "TRUNCATED_FILE"
    assert "1,000 times" in found[-1].items[-1].message


def test_a_broken_end_is_not_told_twice(tmp_path):
    content = packed(lines_of(rows_of(50)), ".gz")[:-4]
    file = source(tmp_path / "a.jsonl.gz", content)
    last = items(file)[-1]
    assert items(file, skip=[(1, last.row_number)]) == []


READ_ALL = """
import sys
from tests.rows.making import items, source
from pathlib import Path
assert len(items(source(Path(sys.argv[1])))) == 3
assert "pyarrow" not in sys.modules and "jinja2" not in sys.modules
"""


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
def test_pyarrow_is_not_loaded_for_plain_gzip_and_bzip2(tmp_path, ending):
    content = lines_of([{"params": params()}] * 3)
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(packed(content, ending) if ending else content)
    subprocess.run([sys.executable, "-c", READ_ALL, path], check=True)

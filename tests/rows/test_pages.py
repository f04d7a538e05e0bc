"""What pages of a Parquet column become, told by their headers."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from batcher.rows.read.decoded_size import _Header, pages
from tests.rows.making import items, source

MB = 2**20


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("statistics", [True, False])
def test_the_pages_of_a_column_add_up_to_it(
    tmp_path, version, compression, dictionary, statistics
):
    path = tmp_path / "t.parquet"
    table = pa.table(
        {
            "text": [f"some text {n % 97} " * 20 for n in range(5_000)],
            "list": [[n, None, n + 1] for n in range(5_000)],
        }
    )
    pq.write_table(
        table, path, compression=compression, use_dictionary=dictionary, data_page_size=4_000,
        data_page_version=version, write_statistics=statistics, write_batch_size=100,
        write_page_checksum=statistics,
    )  # fmt: skip
    group = pq.ParquetFile(path).metadata.row_group(0)
    for number in range(group.num_columns):
        column = group.column(number)
        found = list(pages(source(path), column))
        assert len(found) > 1
        assert [page.is_dictionary for page in found] == [dictionary] + [False] * (
            len(found) - 1
        )
        headers = column.total_compressed_size - sum(page.packed for page in found)
        assert headers == column.total_uncompressed_size - sum(p.unpacked for p in found)
        assert 0 < headers < 1_000 * len(found)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_none(data):
    header = _Header(data)
    try:
        header.integers_of_struct()
    except (LookupError, ValueError):
        return
    assert header.place <= len(data)


def test_a_long_list_of_nothing_ends_where_the_header_does():
    with pytest.raises((LookupError, ValueError)):
        _Header(b"\x19\xf1\xff\xff\xff\xff\x7f").integers_of_struct()


def test_a_page_that_packs_as_only_a_bomb_does_is_refused_by_its_size(tmp_path):
    path = tmp_path / "bomb.parquet"
    rows = pa.table({"prompt": ["x" * (30 * MB)] * 5})
    pq.write_table(rows, path, compression="zstd", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    page = next(pages(source(path), column))
    assert page.unpacked > 150 * MB
    refused = items(source(path))
    assert [row.reason for row in refused] == ["TRUNCATED_FILE"] * 5
    assert f"unpacks a page of {page.unpacked:,} bytes" in refused[0].message

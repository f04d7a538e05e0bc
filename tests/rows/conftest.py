import bz2
import csv
import gzip
import io

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from tests.rows.making import lines_of, source


def csv_of(rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def packed(data, ending):
    if ending == ".zst":
        return pa.compress(data, "zstd", asbytes=True)
    return gzip.compress(data) if ending == ".gz" else bz2.compress(data)


@pytest.fixture
def make_file(tmp_path):
    """Makes a source of rows in the format and packing that its name says."""

    def make(name, rows):
        path = tmp_path / name
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7_000)
            return source(path)
        content = csv_of(rows) if ".csv" in name else lines_of(rows)
        if path.suffix in {".gz", ".bz2", ".zst"}:
            content = packed(content, path.suffix)
        return source(path, content)

    return make

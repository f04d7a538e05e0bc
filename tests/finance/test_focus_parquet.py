from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batcher.errors import CannotCreate
from batcher.finance.focus.columns import Grain, Version, columns_of
from batcher.finance.focus.parquet import focus_parquet
from batcher.finance.focus.write import FocusOptions
from batcher.ledger.connect import open_engine
from batcher.outputs import Guard
from batcher.report.query import ReportQuery
from batcher.report.render.formats import target_file
from batcher.report.summary import summarise
from tests.finance.test_focus import written
from tests.report.months import filled
from tests.report.test_adjusted import book


@pytest.fixture
def database_url(sqlite_url):
    """What differs between databases is tested with the CSV."""
    return sqlite_url


@pytest.fixture(scope="module")
def weeks(sqlite_template, tmp_path_factory):
    """A ledger of some weeks, read only."""
    database = tmp_path_factory.mktemp("weeks") / "weeks.db"
    database.write_bytes(sqlite_template.read_bytes())
    filled(str(database), days=9, each_day=20)
    engine = open_engine(str(database), read_only=True)
    yield engine
    engine.dispose()


def in_parquet(engine, tmp_path, at_once=1000, **options):
    target = tmp_path / "focus.parquet"
    options = FocusOptions(**options)
    with target_file(str(target), Guard(force=True)) as file:
        said = focus_parquet([engine], ReportQuery(), options, file, at_once=at_once)
    return pq.read_table(target), said


@pytest.mark.parametrize("grain", list(Grain))
def test_parquet_has_the_rows_of_the_csv_to_the_last_digit(weeks, tmp_path, grain):
    rows, said = written(weeks, grain)
    table, said_here = in_parquet(weeks, tmp_path, grain=grain)
    assert said_here == said
    assert len(rows) == table.num_rows > 0
    for row, found in zip(rows, table.to_pylist(), strict=True):
        for name, value in found.items():
            if isinstance(value, Decimal):
                assert value == Decimal(row[name])
            elif isinstance(value, datetime):
                assert value == datetime.fromisoformat(row[name])
            else:
                assert (value or "") == row[name]


def test_its_costs_add_up_to_the_ledger_as_decimals(weeks, tmp_path):
    table, _ = in_parquet(weeks, tmp_path)
    assert table.schema.field("BilledCost").type == pa.decimal128(38, 12)
    total = sum(table.column("BilledCost").to_pylist())
    assert total == Decimal(summarise([weeks], ReportQuery()).total.cost()).scaleb(-12)


def test_many_rows_are_written_a_part_at_a_time(weeks, tmp_path):
    whole, _ = in_parquet(weeks, tmp_path)
    parts, _ = in_parquet(weeks, tmp_path, at_once=7)
    assert parts.equals(whole)
    assert pq.ParquetFile(tmp_path / "focus.parquet").num_row_groups == -(-whole.num_rows // 7)


@pytest.mark.parametrize("version", list(Version))
def test_an_empty_ledger_gives_a_file_with_every_column(engine, tmp_path, version):
    table, _ = in_parquet(engine, tmp_path, version=version)
    assert (table.num_rows, tuple(table.column_names)) == (0, columns_of(version))


def test_the_same_ledger_gives_the_same_bytes(weeks, tmp_path):
    in_parquet(weeks, tmp_path)
    before = (tmp_path / "focus.parquet").read_bytes()
    in_parquet(weeks, tmp_path)
    assert (tmp_path / "focus.parquet").read_bytes() == before


def test_adjustments_are_rows_so_that_the_file_adds_up_to_the_bill(rows, engine, tmp_path):
    rows.run()
    rows.invocation(1)
    book(rows, 7)
    table, said = in_parquet(engine, tmp_path)
    (row,) = table.to_pylist()
    assert (row["ChargeCategory"], row["BilledCost"] * 10**12) == ("Adjustment", 7)
    assert said == ()


def test_a_folder_that_is_not_there_cannot_be_written_to(engine, tmp_path):
    with pytest.raises(CannotCreate, match="cannot be written"):
        in_parquet(engine, tmp_path / "none")

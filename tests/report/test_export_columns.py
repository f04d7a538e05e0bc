"""Exports have one schema, chosen columns and rows, several runs side by side, all views."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import text

from batcher.errors import CannotCreate, UsageError
from batcher.ledger.connect import reading
from batcher.report.export.answers import (
    ANSWER_COLUMNS,
    ExportOptions,
    export_answers,
    export_beside,
    export_views,
    runs_named,
    the_run,
    where_filters,
)
from batcher.report.export.columns import STABLE_VIEWS, kind_of, parse_filters
from batcher.rows.out.typed import CellKind
from batcher.rows.read.source import fingerprint
from tests.report.mostly_sqlite import BOTH, database_url  # noqa: F401


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "in" / "rows.jsonl"
    path.parent.mkdir()
    lines = [{"custom_id": f"row-{n}", "prompt": f"p{n}"} for n in range(1, 5)]
    lines[2]["late"] = 1  # a column that comes after others
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def here(rows, file):
    rows.run(job="haiku")
    rows.invocation(1)
    rows.source(1, location=str(file), fingerprint=fingerprint(file))
    return rows


def exported(engine, **options):
    stdout, warnings = io.BytesIO(), []
    export_answers(engine, 1, ExportOptions(stdout=stdout, **options), warnings.append)
    return [json.loads(line) for line in stdout.getvalue().splitlines()]


@BOTH
@pytest.mark.parametrize("answers", [0, 2])
def test_parquet_has_one_schema_whatever_the_values_are(here, engine, tmp_path, answers):
    """Without any answer, too: a union of the files of a job must be possible."""
    for number in range(1, answers + 1):
        here.charge(here.answer(1, 1, number), 3_405_000_000)
    target = tmp_path / "out.parquet"
    export_answers(engine, 1, ExportOptions(target=str(target)), print)
    schema = parquet.read_schema(target)
    types = {name: schema.field(name).type for name in ANSWER_COLUMNS}
    assert types["output_tokens"] == types["web_search_requests"] == pa.int64()
    assert types["cost"] == pa.decimal128(38, 12)
    assert types["answered_at"] == pa.timestamp("us", tz="UTC")
    assert types["content"] == types["message"] == types["service_tier"] == pa.string()
    assert schema.names == ["prompt", "late", *ANSWER_COLUMNS]
    if answers:
        first = parquet.read_table(target).to_pylist()[0]
        assert first["cost"] == Decimal("0.003405")
        assert first["answered_at"] == datetime(2026, 1, 5, 12, 0, 2, tzinfo=UTC)
        assert json.loads(first["content"]) == [{"type": "text", "text": "Hello"}]


def test_csv_has_own_columns_first_and_the_same_order(here, engine, tmp_path):
    here.charge(here.answer(1, 1, 1), 5)
    target = tmp_path / "out.csv"
    export_answers(engine, 1, ExportOptions(target=str(target)), print)
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    assert list(rows[0]) == ["prompt", "late", *ANSWER_COLUMNS]
    assert [row["late"] for row in rows] == ["", "", "1", ""]
    assert rows[0]["cost"] == "0.000000000005"


def test_chosen_columns_come_in_their_order_and_unknown_ones_are_refused(
    here, engine, tmp_path
):
    here.charge(here.answer(1, 1, 1), 5)
    (first, *_) = exported(engine, columns=("text", "late", "prompt"))
    assert list(first.items()) == [("text", "Hello"), ("late", None), ("prompt", "p1")]
    target = tmp_path / "out.csv"
    with pytest.raises(UsageError, match="no row has a column 'txet'"):
        export_answers(engine, 1, ExportOptions(target=str(target), columns=("txet",)), print)
    assert not target.exists()


@pytest.mark.parametrize("asked", [{"columns": ("text", "txet")}, {"where": ["txet=a"]}])
def test_unknown_columns_are_refused_before_any_row_is_written(here, engine, asked):
    here.charge(here.answer(1, 1, 1), 5)
    words = {**asked, "where": parse_filters(asked.get("where", ()))}
    stdout = io.BytesIO()
    with pytest.raises(UsageError, match="no row has a column 'txet'"):
        export_answers(engine, 1, ExportOptions(stdout=stdout, **words), print)
    assert stdout.getvalue() == b""


@pytest.mark.parametrize("name", ["cost_usd", "cost_pico_usd"])
def test_the_cost_of_a_view_is_called_by_its_name_here(here, engine, name):
    here.charge(here.answer(1, 1, 1), 5)
    for asked in ({"columns": (name,)}, {"where": parse_filters([f"{name}>1"])}):
        with pytest.raises(UsageError, match="did you mean 'cost'"):
            exported(engine, **asked)


def test_columns_of_an_input_that_is_gone_are_unknown_unless_there_is_no_row(
    here, engine, file
):
    file.unlink()
    assert exported(engine, columns=("prompt",)) == []
    here.charge(here.answer(1, 1, 1), 5)
    with pytest.raises(UsageError, match="no row has a column 'prompt'"):
        exported(engine, columns=("prompt",))


@pytest.mark.parametrize("words", ["stop_reson=end_turn", "stop_reson!=end_turn"])
def test_a_filter_on_a_column_that_is_not_there_is_refused(here, engine, words):
    here.charge(here.answer(1, 1, 1), 5)
    with pytest.raises(UsageError, match=r"no row has a column 'stop_reson'.*'stop_reason'"):
        exported(engine, where=parse_filters([words]))


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["status=answered"], [1, 2]),
        (["status==answered"], [1, 2]),
        (["status!=answered"], [3, 4]),
        (["output_tokens>5"], [2]),
        (["output_tokens >= 5"], [1, 2]),
        (["output_tokens<7", "custom_id=row-1"], [1]),
        (["cost>0.000000000005"], [2]),
        (["text~HELL"], [1, 2]),
        (["late=1.0"], [3]),
        (["late="], [1, 2, 4]),
        (["reason!="], [3]),
        (['content~"type"'], [1, 2]),
        (["prompt>p2"], [3, 4]),
    ],
)
def test_filters_keep_rows(here, engine, words, numbers):
    here.charge(here.answer(1, 1, 1), 5)
    here.charge(here.answer(1, 1, 2, output_tokens=10), 6)
    here.failure(1, 1, 3)
    found = exported(engine, where=where_filters(words))
    assert [row["row_number"] for row in found] == numbers


@pytest.mark.parametrize("words", ["", "status", "=x", "  "])
def test_what_is_no_comparison_is_refused(words):
    with pytest.raises(UsageError, match="write a column, one of"):
        parse_filters([words])


def test_two_runs_are_set_side_by_side(here, engine, file):
    here.run("sonnet", job="sonnet")
    here.invocation(2)
    here.source(2, location=str(file), fingerprint=fingerprint(file))
    here.charge(here.answer(1, 1, 1), 5)
    here.charge(here.answer(2, 2, 1), 9)
    here.charge(here.answer(2, 2, 2), 9)
    here.failure(1, 1, 2)
    runs = runs_named(engine, ["haiku", "2"])
    assert the_run(engine, "sonnet") == 2
    stdout = io.BytesIO()
    done = export_beside(engine, runs, ExportOptions(stdout=stdout), print)
    rows = [json.loads(line) for line in stdout.getvalue().splitlines()]
    assert (done.rows, done.answered) == (4, 1)
    assert [(row["haiku_status"], row["sonnet_status"]) for row in rows] == [
        ("answered", "answered"),
        ("failed", "answered"),
        ("to_do", "to_do"),
        ("to_do", "to_do"),
    ]
    assert (rows[0]["haiku_cost"], rows[0]["sonnet_cost"]) == (
        "0.000000000005",
        "0.000000000009",
    )
    assert list(rows[0])[:4] == ["prompt", "custom_id", "source", "row_number"]
    assert [row["custom_id"] for row in rows] == ["row-1", "row-2", "row-3", "row-4"]


def test_runs_that_read_different_versions_are_not_set_side_by_side(here, engine, file):
    here.run("sonnet", job="sonnet")
    here.invocation(2)
    here.source(2, location=str(file), fingerprint="other")
    with pytest.raises(UsageError, match="different versions"):
        export_beside(
            engine, runs_named(engine, ["1", "2"]), ExportOptions(stdout=io.BytesIO()), print
        )
    for wrong in (["1", "gone"], ["1", "haiku"]):
        with pytest.raises(UsageError):
            runs_named(engine, wrong)


def test_a_value_that_cannot_be_written_is_told(rows, engine, tmp_path):
    path = tmp_path / "rows.parquet"
    columns = {
        "prompt": ["a", "b"],
        "score": pa.array([float("nan"), 1.5]),
        "took": pa.array([1_500, None], pa.duration("ms")),
        "raw": pa.array([b"\xff\x00", b"text"]),
    }
    parquet.write_table(pa.table(columns), path)
    rows.run()
    rows.invocation(1)
    rows.source(1, name="rows.parquet", location=str(path), fingerprint=fingerprint(path))
    stdout, warnings = io.BytesIO(), []
    export_answers(engine, 1, ExportOptions(stdout=stdout), warnings.append)
    found = [json.loads(line) for line in stdout.getvalue().splitlines()]
    assert [(row["score"], row["took"], row["raw"]) for row in found] == [
        (None, "PT1.5S", "/wA="),
        (1.5, None, "text"),
    ]
    assert warnings == [
        "rows.parquet: 1 values of its own are left empty: column 'score' holds nan, which JSON"
        " has not"
    ]


@BOTH
def test_all_views_are_written_with_their_types(here, engine, tmp_path):
    here.charge(here.answer(1, 1, 1), 3_405_000_000)
    here.failure(1, 1, 2)
    folder = tmp_path / "deep" / "views"
    counts = export_views(engine, str(folder), force=False)
    assert {f"{view}.parquet" for view in counts} == {path.name for path in folder.iterdir()}
    assert (counts["v_answers"], counts["v_failures"]) == (1, 1)
    answers = parquet.read_table(folder / "v_answers.parquet")
    assert answers.schema.field("cost_usd").type == pa.decimal128(38, 12)
    assert answers["cost_usd"].to_pylist() == [Decimal("0.003405")]
    assert parquet.read_table(folder / "v_texts.parquet")["cost_usd"][0].as_py() == Decimal(
        "0.003405"
    )
    days = parquet.read_schema(folder / "v_cost_by_model_day.parquet")
    assert days.field("day").type == pa.date32()
    assert export_views(engine, str(folder), force=False) == counts  # an earlier one is ours
    (folder / "v_texts.parquet").write_text("mine")
    with pytest.raises(CannotCreate):
        export_views(engine, str(folder), force=False)


@BOTH
def test_every_stable_view_is_listed_and_its_columns_have_their_kinds(engine):
    """Whoever adds a view or a column looks here: kinds follow from names."""
    postgresql = engine.dialect.name == "postgresql"
    listing = (
        "SELECT table_name FROM information_schema.views WHERE table_schema = 'public'"
        if postgresql
        else "SELECT name FROM sqlite_master WHERE type = 'view'"
    )
    with reading(engine) as connection:
        views = {row[0] for row in connection.execute(text(listing))}
        assert views == {*STABLE_VIEWS}
        if not postgresql:
            return
        columns = connection.execute(
            text(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_name LIKE 'v\\_%'"
            )
        ).all()
    kinds = {
        "bigint": CellKind.INTEGER, "integer": CellKind.INTEGER, "smallint": CellKind.INTEGER,
        "numeric": CellKind.MONEY, "date": CellKind.DAY,
        "timestamp with time zone": CellKind.TIME,
    }  # fmt: skip
    wrong = {
        (name, data_type)
        for name, data_type in columns
        if kind_of(name) is not kinds.get(data_type, CellKind.TEXT)
        and (data_type, kind_of(name)) != ("text", CellKind.JSON)
    }
    assert not wrong


def test_row_groups_say_what_can_be_skipped(tmp_path):
    from batcher.rows.out.output import open_writer

    target = tmp_path / "a.parquet"
    with open_writer(str(target), declared={"row_number": CellKind.INTEGER}) as writer:
        writer.write({"row_number": n} for n in range(45_000))
    about = parquet.read_metadata(target)
    ranges = [
        (group.column(0).statistics.min, group.column(0).statistics.max)
        for group in map(about.row_group, range(about.num_row_groups))
    ]
    assert ranges == [(0, 19_999), (20_000, 39_999), (40_000, 44_999)]
    assert Path(target).stat().st_size

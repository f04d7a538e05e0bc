"""The pages for DuckDB, pandas and Datasette: what they show runs, on a ledger of a real run.

None of the three is needed by the program: where one is missing, its page is not tested. DuckDB
comes with the extra `test`.
"""

import asyncio
import doctest
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

import batcher
from batcher.ledger.connect import open_engine
from batcher.report.export.answers import export_views
from tests.making_runs import MODEL, simulating

DOCS = Path(__file__).parent.parent.parent / "docs"


def missing(name: str) -> str:
    return f"{name} is not installed: its page is not tested"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-nobody")
    lines = [{"custom_id": f"id-{n}", "prompt": f"row {n}"} for n in range(1, 21)]
    Path("rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with simulating() as simulator:
        batcher.run(
            "rows.jsonl", base_url=simulator.base_url, model=MODEL, database="batcher.db"
        )
    engine = open_engine("batcher.db", read_only=True)
    export_views(engine, "ledger", force=False)
    engine.dispose()
    return tmp_path / "batcher.db"


@pytest.mark.usefixtures("ledger")
def test_the_queries_for_duckdb_run():
    duckdb = pytest.importorskip("duckdb", reason=missing("DuckDB"))
    queries = re.findall(r"```sql\n(.*?)```", (DOCS / "duckdb.md").read_text(), re.DOTALL)
    with duckdb.connect() as connection:
        models, by_id, by_number, days = (connection.sql(q).fetchall() for q in queries)
    ((model, answers, usd, _),) = models
    assert (model, answers, type(usd)) == (MODEL, 20, Decimal)
    assert [row[:2] for row in by_id[:2]] == [("id-1", "row 1"), ("id-2", "row 2")]
    assert all(prompt in text for prompt, text in by_number)
    assert len(by_number) == 20
    assert sum(row[3] for row in days) == usd


def test_the_examples_for_pandas_give_what_they_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("pandas", reason=missing("pandas"))
    monkeypatch.chdir(tmp_path)
    with simulating() as simulator:
        monkeypatch.setenv("BATCHER_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-nobody")
        page = str(DOCS / "pandas.md")
        done = doctest.testfile(page, module_relative=False, encoding="utf-8")
    assert done.attempted > 5
    assert not done.failed


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
def test_the_views_are_pages_of_datasette(ledger: Path):
    app = pytest.importorskip("datasette.app", reason=missing("Datasette"))
    yaml = pytest.importorskip("yaml")
    (text,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "datasette.md").read_text(), re.DOTALL)
    metadata = yaml.safe_load(text)
    shown = metadata["databases"]["batcher"]

    async def pages() -> dict[str, int]:
        datasette = app.Datasette([str(ledger)], metadata=metadata)
        await datasette.invoke_startup()
        paths = [f"/batcher/{name}" for name in (*shown["tables"], *shown["queries"])]
        return {path: (await datasette.client.get(path)).status_code for path in paths}

    assert set(asyncio.run(pages()).values()) == {200}

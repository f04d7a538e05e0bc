"""batcher.run and batcher.Ledger: rows of a program, the rules of the command."""

import asyncio
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest

import batcher
from batcher.cli.menu import group
from batcher.errors import AccessRefused, Busy, ChangedSettings, ConfigurationError, UsageError
from batcher.ledger.owner.lock import hold_database
from batcher.library.ledgers import RowAnswer
from batcher.library.running import RunOptions
from batcher.rows.read.spool import spool_rows
from batcher.simulator.server import Simulator
from tests.making_runs import MODEL, simulating

# What asks or prints is the command's own.
_OF_THE_COMMAND = {
    "on",
    "workers",
    "dry_run",
    "pilot",
    "format",
    "json",
    "quiet",
    "help",
    "verbose",
}


@pytest.fixture
def simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-nobody")
    with simulating() as simulator:
        yield simulator


def sent(rows: Any, simulator: Simulator, **options: Any) -> batcher.Run:
    given = {"base_url": simulator.base_url, "model": MODEL, "database": "a.db"} | options
    return batcher.run(rows, **given)


def prompts(count: int) -> Iterator[dict[str, str]]:
    return ({"custom_id": f"id-{n}", "prompt": f"row {n}"} for n in range(1, count + 1))


def test_the_keywords_are_the_options_of_the_command():
    command = group.get_command(click.Context(group), "run")
    assert command is not None
    long = {o.strip("-") for p in command.params for o in p.opts if o.startswith("--")}
    names = {name.replace("-", "_") for name in long}
    assert set(RunOptions.__annotations__) == names - _OF_THE_COMMAND


def test_the_same_rows_are_the_same_run_and_paid_once(simulator: Simulator):
    first = sent(prompts(3), simulator)
    second = sent(list(prompts(3)), simulator)
    assert (first.exit_code, first.error, first.summary["sent"]) == (0, "", 3)
    assert (second.run_id, second.summary["sent"]) == (first.run_id, 0)
    assert len(simulator.bill) == 3
    other = sent(prompts(4), simulator)  # another run; three answers are shared
    assert (other.summary["sent"], other.summary["shared"]) == (1, 3)
    assert [answer.custom_id for answer in other.answers()] == ["id-1", "id-2", "id-3", "id-4"]


def test_a_run_is_shown_as_one_line(simulator: Simulator):
    done = sent(prompts(2), simulator)
    cost = done.summary["cost_usd"]
    assert repr(done) == f"<Run 1: 2 sent, 2 answered, ${cost}; all rows are done>"
    bad = sent([{"prompt": ""}, *prompts(1)], simulator)
    assert repr(bad) == f"<Run 2: 0 sent, 0 answered, $0; exit code 65: {bad.error}>"


def test_rows_are_kept_beside_the_database_for_their_owner_only(
    simulator: Simulator, tmp_path: Path
):
    sent(prompts(1), simulator, database="deep/a.db")
    (file,) = (tmp_path / "deep").glob("rows-*.jsonl")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list((tmp_path / "deep").glob(".rows-*"))


def test_the_command_that_goes_on_with_it_is_recorded(simulator: Simulator):
    """A run of a program is continued from a shell, too."""
    run = sent(prompts(3), simulator, limit=1, tag={"team": "a"}, no_preflight=True)
    assert run.summary["rows_left"]
    with closing(sqlite3.connect("a.db")) as ledger:
        (command,) = ledger.execute("SELECT command FROM invocations").fetchone()
    words = command.replace(" --limit 1", "").split()
    assert words[:2] == ["batcher", "run"]
    assert "--no-preflight" in words
    done = subprocess.run(
        [sys.executable, "-m", *words, "--json"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f'"run_id":{run.run_id},' in done.stdout
    assert len(simulator.bill) == 3


def test_rows_of_strangers_name_no_files_beside_the_database(
    simulator: Simulator, tmp_path: Path
):
    (tmp_path / "secret.txt").write_text("secret")
    document = {"type": "document", "source": {"type": "path", "path": "secret.txt"}}
    messages = [{"role": "user", "content": [document, {"type": "text", "text": "hi"}]}]
    run = sent([{"messages": messages}, {"prompt": "hi"}], simulator)
    assert run.summary["rows_without_answer"] == {"quarantined": 1}
    assert not any("secret" in str(billed) for billed in simulator.bill)


def test_tables_of_arrow_are_rows(simulator: Simulator):
    table = pa.table({"First Name": ["Ada", "Bob"], "n": pa.array([1, None], pa.int64())})
    template = "{{ row['First Name'] }} {{ n if n is not none else '-' }}"
    for rows in (table, table.to_reader(), table.to_batches()[0]):
        run = sent(rows, simulator, prompt=template)
        assert [answer.text[:7] for answer in run.answers()] == ["On “Ada", "On “Bob"]
    assert len(simulator.bill) == 2


def test_frames_of_pandas_are_rows_without_their_index(simulator: Simulator):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    mixed = [
        [{"role": "user", "content": "one"}],
        [{"role": "user", "content": [{"type": "text", "text": "two"}]}],
        [{"role": "user", "content": "three"}],
    ]
    frame = pandas.DataFrame({"custom_id": ["a", "b", "c"], "messages": mixed})
    run = sent(frame[frame["custom_id"] != "a"], simulator)
    assert (run.exit_code, [each.custom_id for each in run.answers()]) == (0, ["b", "c"])
    found = run.to_pandas()
    assert list(found["custom_id"]) == ["b", "c"]
    assert found["input_tokens"].dtype == "int64"


def test_kinds_of_pandas_reach_the_rows_as_they_are_shown(simulator: Simulator):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(
        {
            "big": [2**70, 1],
            "month": pandas.period_range("2026-01", periods=2, freq="M"),
            "range": pandas.cut([1, 3], [0, 2, 4]),
            "mixed": [{"at": pandas.NaT, "of": pandas.NA}, "x"],
        }
    )
    template = "{{ big }} {{ month }} {{ range }} {{ mixed }}"
    run = sent(frame, simulator, prompt=template)
    first, second = (each.text for each in run.answers())
    assert '“1180591620717411303424 2026-01 (0, 2] {"at":null,"of":null}' in first
    assert '“1 2026-02 (2, 4] "x"' in second


@pytest.mark.parametrize("names", [("prompt", "prompt"), (1, "1")])
def test_columns_of_one_name_in_pandas_are_refused(simulator: Simulator, names: Any):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    with pytest.raises(ConfigurationError, match="has several columns called"):
        sent(pandas.DataFrame([["a", "b"]], columns=names), simulator)


def test_categories_of_polars_are_words(simulator: Simulator):
    words = pa.array(["one", "two"], pa.string_view())
    column = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.uint32()), words)
    table = pa.table({"word": column, "number": [1, 2, 3]})
    run = sent(table, simulator, prompt="{{ word or 'no' }} of {{ number }}")
    assert [each.text[:12] for each in run.answers()] == [
        "On “two of 1", "On “no of 2”", "On “one of 3"
    ]  # fmt: skip


class Missing:
    """Like the NaT of pandas, which has a name for files, and equals nothing."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return False

    def isoformat(self) -> str:
        return "NaT"


def test_what_is_missing_in_a_row_is_sent_as_missing(simulator: Simulator):
    run = sent([{"at": Missing()}], simulator, prompt="{{ at or 'some' }} day")
    assert [each.text[:13] for each in run.answers()] == ["On “some day”"]


def test_numbers_of_32_bits_are_the_shortest_that_read_back(tmp_path: Path):
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    row = {"a": np.float32(0.1), "b": np.array([0.1, 2], "float32"), "c": np.float64(0.1)}
    (line,) = spool_rows(tmp_path, [row]).read_bytes().splitlines()
    assert json.loads(line) == {"a": 0.1, "b": [0.1, 2.0], "c": 0.1}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"prompt": "x"}, 3], "row 2 is of type int: give each row as a dict"),
        ([{"prompt": "x", "y": object()}], "row 1 cannot be written as JSON"),
        ({"prompt": "x"}, "dict is nothing that has rows"),
        (3, "int is nothing that has rows"),
        (pa.table({"a": pa.array([None], pa.month_day_nano_interval())}), "cannot be kept as"),
        (pa.chunked_array([["a"]]), "ChunkedArray is one column: give a table"),
        ("nowhere.jsonl", "nowhere.jsonl: no such file"),
        (["a.jsonl", "b.jsonl"], "a.jsonl: no such file"),
    ],
)
def test_what_is_no_rows_is_refused_in_a_sentence(simulator: Simulator, rows: Any, words: str):
    with pytest.raises(UsageError, match=words):
        sent(rows, simulator)


def test_what_is_wrong_before_anything_is_sent_is_raised(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(UsageError, match="run\\(\\) takes no modle; did you mean 'model'"):
        sent(prompts(1), simulator, modle="x")
    with pytest.raises(ConfigurationError, match="unknown endpoint 'nowhere'"):
        sent(prompts(1), simulator, fallback="nowhere")
    with hold_database("a.db", "k", command="c", lease_seconds=30), pytest.raises(Busy):
        sent(prompts(1), simulator)
    sent(prompts(1), simulator)
    with pytest.raises(ChangedSettings):
        sent(prompts(1), simulator, max_tokens=7)
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(AccessRefused) as refused:
        sent(prompts(1), simulator, base_url="https://messages.example", database="b.db")
    assert refused.value.exit_code == 77


def test_answers_have_the_fields_of_the_view(simulator: Simulator):
    run = sent(prompts(2), simulator)
    with closing(sqlite3.connect("a.db")) as ledger:
        view = [each[0] for each in ledger.execute("SELECT * FROM v_answers").description]
    assert list(RowAnswer.__struct_fields__) == view == run.to_arrow().column_names
    first, _ = run.answers()
    assert first.content[0]["text"] == first.text
    assert (datetime.now(UTC) - first.answered_at).total_seconds() < 600
    assert first.cost_usd == Decimal(first.cost_pico_usd or 0) / 10**12 > 0


def test_the_output_is_written_as_the_command_writes_it(simulator: Simulator, tmp_path: Path):
    run = sent(prompts(2), simulator, output=Path("out.jsonl"))
    assert run.summary["rows_written"] == 2
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(Exception, match=r"mine\.csv"):
        sent(prompts(3), simulator, output="mine.csv")
    assert len(simulator.bill) == 2


def test_it_works_inside_a_running_loop(simulator: Simulator):
    async def inside() -> tuple[batcher.Run, batcher.Run]:
        here = sent(prompts(1), simulator)
        beside = await asyncio.to_thread(sent, prompts(2), simulator)
        return here, beside

    assert [run.exit_code for run in asyncio.run(inside())] == [0, 0]


def test_a_ledger_reports_and_says_what_it_does_not_know(simulator: Simulator):
    run = sent(prompts(2), simulator)
    ledger = batcher.Ledger("a.db")
    (line,) = ledger.report(by=["run", "model"], last=None, run=run.run_id)
    assert (line["run"], line["model"], line["requests"]) == (run.run_id, MODEL, 2)
    total = sum(answer.cost_usd or 0 for answer in ledger.answers())
    assert line["cost_usd"] == total
    (dearest,) = ledger.report(view="top", top=1)
    assert dearest["custom_id"] in {"id-1", "id-2"}
    for wrong in ({"by": "modle"}, {"view": "x"}, {"last": "x"}, {"sinse": "x"}):
        with pytest.raises(UsageError):
            ledger.report(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there is no database"):
        batcher.Ledger("gone.db").report()


PROGRAM = """if True:
    import asyncio, gc, os, resource, signal, sys, threading, warnings
    import batcher

    warnings.simplefilter("ignore")  # policies of loops go with Python 3.16

    seen = []
    sys.addaudithook(lambda event, a: seen.append(a[1]) if event == "ctypes.dlsym" else None)

    def state():
        return {
            "environment": dict(os.environ),
            "signals": [signal.getsignal(n) for n in sorted(signal.valid_signals())],
            "collecting": (gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()),
            "limits": [resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE,
                       resource.RLIMIT_CORE)],
            "interpreter": (sys.getswitchinterval(), sys.getrecursionlimit(), os.getcwd()),
            "loops": type(asyncio.get_event_loop_policy()),
            "threads": threading.active_count(),
            "masked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        }

    signal.signal(signal.SIGCHLD, lambda *_: None)
    before = state()
    run = batcher.run(sys.argv[1], base_url=sys.argv[2], model="claude-haiku-4-5")
    assert run.exit_code == 0, run
    after = state()
    assert after == before, [(k, before[k], after[k]) for k in before if after[k] != before[k]]
    assert "mallopt" not in seen, seen
"""


def test_nothing_of_the_process_is_changed(simulator: Simulator, tmp_path: Path):
    """Parquet, for which the command changes most."""
    table = pa.table({"prompt": ["a", "b"]})
    pa.parquet.write_table(table, tmp_path / "rows.parquet")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "rows.parquet", simulator.base_url],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_more_connections_than_the_process_may_have_are_refused(simulator: Simulator):
    with pytest.raises(
        Exception, match=r"which takes .* open files, and this process may have"
    ):
        sent(prompts(1), simulator, concurrency=10**9)


INTERRUPTED = """if True:
    import sys, batcher
    try:
        rows = ({"custom_id": str(n), "prompt": f"row {n}"} for n in range(2000))
        batcher.run(rows, base_url=sys.argv[1], model="claude-haiku-4-5", concurrency=2)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_ctrl_c_ends_a_run_in_order_and_is_raised_again(tmp_path: Path):
    with simulating(latency_ms=(50, 50)) as simulator:
        environment = os.environ | {"ANTHROPIC_API_KEY": "sk-of-nobody"}
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, simulator.base_url],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        while len(simulator.bill) < 4:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=300)
        billed = len(simulator.bill)
    assert (process.returncode, said) == (0, "interrupted\n")
    with closing(sqlite3.connect(tmp_path / "batcher.db")) as ledger:
        states = dict(
            ledger.execute("SELECT state, count(*) FROM attempts GROUP BY 1").fetchall()
        )
        (code,) = ledger.execute("SELECT exit_code FROM invocations").fetchone()
    assert (states, code) == ({"answered": billed}, 75)
    assert billed < 2000


def test_importing_it_costs_nothing():
    program = "import sys, batcher; print([m for m in sys.modules if m.startswith('batcher.')])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout == b"[]\n"


def test_a_notebook_proposes_the_interface_and_nothing_else():
    program = "import batcher; print(*dir(batcher))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["Ledger", "RowAnswer", "Run", "__version__", "run"]

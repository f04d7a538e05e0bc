"""What can be read of a damaged ledger is exported, and the rest is named."""

import io
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from batcher.errors import DamagedDatabase
from batcher.ledger.connect import open_engine
from batcher.ledger.write.records import checksum_of
from batcher.report.export.answers import ExportOptions, export_answers, export_failures
from batcher.report.export.stored import named
from batcher.rows.read.source import fingerprint
from tests.ledger.settling import RunLedger

ROWS = 60
PAGE = 4096


@pytest.fixture(scope="module")
def whole(sqlite_template, tmp_path_factory):
    """A ledger with answers of several pages, rows 1 to 60, in one file."""
    path = tmp_path_factory.mktemp("whole") / "batcher.db"
    shutil.copy(sqlite_template, path)
    ledger = RunLedger(str(path))
    for number in range(1, ROWS + 1):
        words = {"content": [{"type": "text", "text": f"answer {number}. " * 900}]}
        ledger.write(ledger.answered(message=words))
    ledger.execute("UPDATE sources SET rows = :rows", rows=ROWS)
    ledger.engine.dispose()
    return path.read_bytes()


def exported(path, **options):
    """Rows by number, and what was raised at last."""
    engine, stdout = open_engine(str(path), read_only=True), io.BytesIO()
    raised = None
    try:
        export_answers(engine, 1, ExportOptions(stdout=stdout, **options), lambda _: None)
    except DamagedDatabase as error:
        raised = str(error)
    finally:
        engine.dispose()
    rows = [json.loads(line) for line in stdout.getvalue().splitlines()]
    return {row["row_number"]: row for row in rows}, raised


def test_of_a_page_of_rubbish_the_rows_are_named_and_all_others_are_written(whole, tmp_path):
    path = tmp_path / "batcher.db"
    at = whole.index(b"answer 30. ") // PAGE * PAGE
    path.write_bytes(whole[:at] + bytes([0x55]) * PAGE + whole[at + PAGE :])
    rows, raised = exported(path)
    assert sorted(rows) == [*range(1, ROWS + 1)]
    lost = [number for number, row in rows.items() if row["status"] == "unreadable"]
    assert 30 in lost
    assert len(lost) < 5
    for number in set(rows) - set(lost):
        assert rows[number]["text"] == f"answer {number}. " * 900
    assert f"where {len(lost)} row" in raised
    assert f"first.jsonl: {named(lost)}" in raised


def test_an_answer_that_is_not_what_was_recorded_is_not_passed_off_as_one(whole, tmp_path):
    path = tmp_path / "batcher.db"
    middle = whole.index(b"answer 7. answer 7. ") + 9
    path.write_bytes(whole[:middle] + b"8" + whole[middle + 1 :])
    rows, raised = exported(path)
    assert [n for n, row in rows.items() if row["status"] == "unreadable"] == [7]
    assert "first.jsonl: 7" in raised
    rows, raised = exported(path, answered_only=True)
    assert 7 not in rows
    assert raised


def test_a_file_is_there_with_what_could_be_read(whole, tmp_path):
    path, target = tmp_path / "batcher.db", tmp_path / "answers.jsonl"
    middle = whole.index(b"answer 7. answer 7. ") + 9
    path.write_bytes(whole[:middle] + b"8" + whole[middle + 1 :])
    exported(path, target=str(target))
    assert len(target.read_text().splitlines()) == ROWS


def test_nothing_is_said_of_a_ledger_that_is_whole(whole, tmp_path):
    path = tmp_path / "batcher.db"
    path.write_bytes(whole)
    rows, raised = exported(path)
    assert {row["status"] for row in rows.values()} == {"answered"}
    assert raised is None


def test_rows_are_named_as_ranges():
    assert named([3, 17, 18, 19, 40]) == "3, 17-19, 40"
    assert named([*range(1, 41, 2)]).endswith("19 and 10 more")


def test_failures_past_damage_are_written_and_the_rest_is_named(sqlite_url, tmp_path):
    ledger = RunLedger(sqlite_url)
    source = tmp_path / "first.jsonl"
    source.write_text("".join(f"{json.dumps({'prompt': n})}\n" for n in range(ROWS)))
    ledger.execute(
        "UPDATE sources SET location = :place, fingerprint = :print",
        place=str(source), print=fingerprint(source),
    )  # fmt: skip
    for number in range(1, ROWS + 1):
        ledger.execute(
            "INSERT INTO failures (run_id, invocation_id, source_id, row_number, kind, reason,"
            " message, transient, failed_at) VALUES (1, 1, 1, :row, 'failed', 'BAD', :words, 0,"
            " 1)",
            row=number, words=f"failure {number}. " * 90,
        )  # fmt: skip
    ledger.engine.dispose()
    path = Path(sqlite_url)
    content = path.read_bytes()
    at = content.index(b"failure 30. ") // PAGE * PAGE
    path.write_bytes(content[:at] + bytes([0x55]) * PAGE + content[at + PAGE :])
    engine, stdout = open_engine(sqlite_url, read_only=True), io.BytesIO()
    with pytest.raises(DamagedDatabase, match=r"first\.jsonl"):
        export_failures(engine, 1, ExportOptions(stdout=stdout), lambda _: None)
    engine.dispose()
    assert ROWS - 5 < len(stdout.getvalue().splitlines()) < ROWS


ONE_TEXT = '[{"type":"text","text":"%s"}]'


@pytest.mark.parametrize(
    ("content", "told", "changed"),
    [
        (ONE_TEXT % "Hello", "Hello", False),
        (ONE_TEXT % r"caf\u00e9", "café", False),
        ('[{"type": "text", "text": "Hello"}]', "Hello", False),
        (ONE_TEXT % r"a\u0000b", "a\ufffdb", False),
        (ONE_TEXT % "Hello", "Hallo", True),
        (ONE_TEXT % r"say \"hi\"", 'say \\"hi\\"', True),
        (ONE_TEXT % "Hello" + " ", "Hello ", True),
    ],
)
def test_a_text_that_is_not_that_of_its_content_is_found(rows, engine, content, told, changed):
    """However the provider wrote the content; most are one text block as short as can be."""
    rows.run()
    rows.invocation(1)
    rows.source(1)
    checksum = checksum_of(content.encode(), None, None, None)
    rows.answer(1, 1, 1, content=content, text=told, usage=None, checksum=checksum)
    stdout = io.BytesIO()
    options = ExportOptions(stdout=stdout)
    with pytest.raises(DamagedDatabase) if changed else nullcontext():
        export_answers(engine, 1, options, lambda _: None)
    row = json.loads(stdout.getvalue())
    assert (row["status"], row["text"]) == (
        ("unreadable", None) if changed else ("answered", told)
    )

"""Damaged files: every command ends with a sentence, none with a traceback."""

import random
import shutil
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.errors import BatcherError
from tests.ledger.settling import RunLedger

COMMANDS = (
    ("verify",), ("db", "check"), ("report",), ("report", "--by", "day"), ("status",),
    ("export", "--run", "1"), ("export", "--run", "1", "--failures", "-o", "bad.jsonl"),
    ("db", "backup", "copy.db"), ("db", "purge", "--older-than", "1d"),
    ("retry", "--run", "1"), ("show", "x"),
)  # fmt: skip
ROWS = 120
SEEDS = 4


@pytest.fixture(scope="module")
def whole(sqlite_template, tmp_path_factory):
    """A ledger with answers of more than a page, and doubts, in one file."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copy(sqlite_template, folder / "batcher.db")
    ledger = RunLedger(str(folder / "batcher.db"))
    words = {"content": [{"type": "text", "text": "many words " * 900}]}
    ledger.write(*(ledger.answered(message=words) for _ in range(ROWS)))
    ledger.write(*(ledger.unknown() for _ in range(20)))
    ledger.engine.dispose()
    assert not Path(f"{ledger.url}-wal").exists()
    return Path(ledger.url).read_bytes()


def ended(*arguments):
    """The exit code, and what `main` would say of what was raised."""
    done = CliRunner().invoke(group, arguments)
    if isinstance(done.exception, BatcherError):
        return done.exception.exit_code, str(done.exception)
    if done.exception and not isinstance(done.exception, SystemExit):
        return 70, "".join(traceback.format_exception(done.exception))
    return done.exit_code, done.output


def flipped(content, seed, count=60):
    chance, changed = random.Random(seed), bytearray(content)
    for _ in range(count):
        changed[chance.randrange(len(changed))] ^= chance.randrange(1, 256)
    return bytes(changed)


def cut(content, seed):
    return content[: random.Random(seed).randrange(1, len(content))]


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("change", [flipped, cut])
def test_every_command_on_a_damaged_file_ends_with_a_sentence(
    whole, tmp_path, monkeypatch, change, seed
):
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        Path("batcher.db").write_bytes(change(whole, seed))
        code, said = ended(*command)
        # What is readable may be right, or be a finding.
        assert code in {0, 1, 2, 74}, (command, said)
        if code == 74:
            assert said.startswith("the database "), (command, said)
        assert not Path("copy.db").exists() or code == 0
        Path("copy.db").unlink(missing_ok=True)
        Path("bad.jsonl").unlink(missing_ok=True)


def test_a_page_of_rubbish_is_damage_and_never_a_finding(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages = len(whole) // 4096
    for page in range(pages // 2, pages // 2 + 3):
        content = whole[: page * 4096] + b"\x55" * 4096 + whole[(page + 1) * 4096 :]
        Path("batcher.db").write_bytes(content)
        for command in (("verify",), ("db", "check"), ("db", "backup", "copy.db")):
            code, said = ended(*command)
            assert (code, "is damaged" in said) == (74, True), (command, said)
        assert not Path("copy.db").exists()


def test_a_backup_that_was_verified_is_whole(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("batcher.db").write_bytes(whole)
    assert ended("db", "backup", "copy.db")[0] == 0
    assert [path.name for path in Path().glob("copy*")] == ["copy.db"]
    assert ended("db", "check", "--database", "copy.db")[0] == 0


# --- what can be read and is not what was recorded

CHANGES = (
    "content = replace(content, 'many words many', 'many words  any')",
    "usage = replace(usage, '1', '2')",
    "text = replace(text, 'many words many', 'many words  any')",
)


@pytest.fixture
def ledger(database_url):
    made = RunLedger(database_url)
    yield made
    made.engine.dispose()


@pytest.mark.parametrize("change", CHANGES)
def test_a_deep_check_names_each_answer_that_is_not_what_was_recorded(ledger, change):
    words = {"content": [{"type": "text", "text": "many words " * 9}]}
    ledger.write(ledger.answered(message=words), ledger.answered(message=words))
    ((second,),) = ledger.ask("SELECT MAX(attempt_id) FROM answers")
    assert ended("db", "check", "--deep", "-d", ledger.url)[0] == 0
    ledger.execute(f"UPDATE answers SET {change} WHERE attempt_id = {second}")
    assert ended("db", "check", "-d", ledger.url)[0] == 0
    code, said = ended("db", "check", "--deep", "-d", ledger.url)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"the answer of attempt {second}: ")


def test_a_deep_check_takes_no_offence_at_answers_without_words(ledger):
    ledger.write(ledger.answered(), ledger.answered())
    assert ended("db", "purge", "--older-than", "1d", "-d", ledger.url, "--yes")[0] == 0
    assert ended("db", "check", "--deep", "-d", ledger.url)[0] == 0

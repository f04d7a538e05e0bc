import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from batcher.ledger.connect import open_engine
from batcher.ledger.owner.session import LOOK_EVERY, Session, WriteAheadLog

BOUND = 2**20
READ = "SELECT COUNT(*) FROM ledger_info"
FORGOTTEN_SHELL = f"""
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
print(*connection.execute("{READ}").fetchone(), flush=True)
sys.stdin.read()
"""


class Written:
    def __init__(self, url, engine):
        self.path = Path(f"{url}-wal")
        self.words = []
        log = WriteAheadLog(Path(url), self.words.append, BOUND)
        self.session = Session(engine, log=log)

    def write(self, looks=1):
        """Two megabytes a look."""
        update = "UPDATE ledger_info SET value = ?"
        for number in range(looks * LOOK_EVERY):
            value = (str(number % 10) * 32_000,)
            self.session.transact(lambda c, value=value: c.exec_driver_sql(update, value))


@pytest.fixture
def written(sqlite_url):
    engine = open_engine(sqlite_url)
    written = Written(sqlite_url, engine)
    with written.session:
        yield written
    engine.dispose()


def test_without_a_reader_the_log_is_small_and_nothing_is_said(written):
    written.write(looks=6)
    assert written.path.stat().st_size < 8 * BOUND
    assert written.words == []


def test_a_log_that_a_reader_keeps_is_told_of_whenever_it_has_doubled(written, sqlite_url):
    with closing(sqlite3.connect(sqlite_url, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute(READ).fetchone()
        written.write(looks=5)
        (first, *further) = written.words
        assert f"{written.path} has " in first
        assert "another process has read from the database for long" in first
        assert 1 <= len(further) <= 2
        assert written.path.stat().st_size > 8 * BOUND


def test_when_the_reader_has_ended_the_log_begins_anew(written, sqlite_url):
    with closing(sqlite3.connect(sqlite_url, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute(READ).fetchone()
        written.write(looks=2)
    grown = written.path.stat().st_size
    written.write(looks=8)
    assert written.path.stat().st_size <= 2 * grown + 4 * BOUND
    said = len(written.words)
    written.write(looks=4)
    assert len(written.words) == said


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="Linux tells who has a lock")
def test_the_reader_is_named_by_its_process(written, sqlite_url):
    command = [sys.executable, "-c", FORGOTTEN_SHELL, sqlite_url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        try:
            shell.stdout.readline()
            written.write(looks=2)
            assert f"process {shell.pid} has read from the database" in written.words[0]
        finally:
            shell.stdin.close()

"""A disk that is full, a server that is gone, a file that is damaged: nothing paid is lost."""

import resource
import shutil
import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from batcher.errors import Fenced, StorageError
from batcher.ledger.lifeboat.lifeboat import Lifeboat, places_for
from batcher.messages.answer import Store
from batcher.pipeline.run.holding import Rescue
from tests.e2e.inputs import QUICK, rows, write_jsonl
from tests.e2e.invariants import check_everything, open_books
from tests.e2e.ledgers import count
from tests.e2e.processes import PIPES, Folder, finish, kill, wait_until
from tests.ledger.settling import RunLedger
from tests.making_runs import FastClock, Watcher
from tests.simulator.asking import asynchronous

ROWS = 240
INPUTS = {"rows.jsonl": ROWS}
# The run does not look beforehand how large its file may become.
UNASKED = {"environment": {"BATCHER_MIN_FREE_SPACE": "0"}, "stderr": subprocess.PIPE}


def options(way, database) -> tuple[object, ...]:
    """What is typed; `way` is a simulator, or the gate before one."""
    where = ("--endpoint", "simulator", "--base-url", way.url)
    return ("run", "rows.jsonl", *where, "--database", database, "--concurrency", 32)


def no_file_above(size: int):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def doubts(database) -> int:
    return count(str(database), "v_attempts", "state IN ('unknown', 'partial', 'unusable')")


def check_the_end(folder, database, simulator, ended) -> None:
    """The same command went on: what the lifeboat held was not paid again."""
    assert ended.code == 0, ended.err
    check_everything(folder, str(database), simulator, INPUTS)
    assert doubts(database) == 0
    assert simulator.billed() == ROWS
    assert not list(folder.path.glob("*.lifeboat-*")) + list(folder.path.glob("*.ballast-*"))


def test_a_file_that_cannot_grow_costs_no_answer(folder, simulate):
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    simulator, database = simulate("--latency-ms", "20-80"), folder.path / "batcher.db"
    command = options(simulator, database)
    assert folder.batcher("db", "upgrade", "--database", database).code == 0
    limit = no_file_above(database.stat().st_size + 5000)
    ended = finish(folder.start(*command, preexec_fn=limit, **UNASKED))
    assert ended.code == 74, ended.err
    (boat,) = folder.path.glob("batcher.db.lifeboat-*")
    assert f"wait in the lifeboat {boat}" in ended.err
    assert 0 < simulator.billed() < ROWS
    for asked in ("status", "verify"):
        told = folder.batcher(asked, "--database", database)
        assert "outcomes that are not in the ledger yet" in told.err
        assert ("the database failed, its last outcomes wait" in told.out) == (
            asked == "status"
        )
    told = folder.batcher("doctor", "--endpoint", "simulator", "--base-url", simulator.url)
    assert f"lifeboat: the lifeboat {boat} holds" in told.out
    ended = folder.batcher(*command, "--json")
    assert ended.json["imported_outcomes"] > 0
    assert ended.json["recovered_attempts"] == 0
    check_the_end(folder, database, simulator, ended)


def test_what_a_second_connection_can_write_needs_no_lifeboat(folder, simulate):
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    simulator, database = simulate("--latency-ms", "20-80"), folder.path / "batcher.db"
    command = options(simulator, database)
    limit = no_file_above(500_000)  # for the WAL, which is empty after a checkpoint
    ended = finish(folder.start(*command, preexec_fn=limit, **UNASKED))
    assert ended.code == 74, ended.err
    assert "that it had not taken are in it after all" in ended.err
    assert not list(folder.path.glob("*.lifeboat-*"))
    books = open_books(str(database), simulator.bill())
    assert not [line for line in books.attempts.values() if line["state"] == "open"]
    check_the_end(folder, database, simulator, folder.batcher(*command, "--json"))


def test_a_full_disk_takes_the_lifeboat_into_the_room_that_was_reserved(
    folder, simulate, gated
):
    disk = folder.path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if subprocess.run(mounting, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only who may mount can make a small disk; the limit on files is tested")
    try:
        write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
        simulator, database = simulate("--latency-ms", "20-80"), disk / "batcher.db"
        gate = gated(simulator, answers=100)
        command = options(gate, database)
        process = folder.start(*command, stderr=subprocess.PIPE)
        assert wait_until(lambda: simulator.billed() >= 40, process)
        fill(disk / "filler")
        gate.open()
        ended = finish(process)
        assert ended.code == 74, ended.err
        (disk / "filler").unlink()
        ended = folder.batcher(*command, "--json")
        check_the_end(folder, database, simulator, ended)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(file: Path) -> None:
    """Write until nothing is left."""
    with file.open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(b"x" * 4096)


def test_a_server_that_is_gone_for_good_costs_no_answer(
    folder, simulate, gated, postgres_server
):
    url = postgres_server.new_database()
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    (folder.path / "config.toml").write_text('database_wait = "1s"\n' + QUICK)
    simulator, name = simulate("--latency-ms", "20-80"), url.split("?")[0].rpartition("/")[2]
    gate = gated(simulator, answers=100)
    command = options(gate, url)
    process = folder.start(*command, stderr=subprocess.PIPE)
    assert wait_until(lambda: simulator.billed() >= 60, process)
    postgres_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    postgres_server.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    )
    gate.open()
    ended = finish(process)
    assert ended.code == 74, ended.err
    assert f"wait in the lifeboat {folder.path}/batcher-" in ended.err
    postgres_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    books = open_books(url, simulator.bill())
    assert [line for line in books.attempts.values() if line["state"] == "open"]
    ended = folder.batcher(*command, "--json")
    assert ended.json["imported_outcomes"] > 0
    check_the_end(folder, url, simulator, ended)


def test_too_little_free_space_sends_nothing_and_makes_nothing(folder, nobody):
    write_jsonl(folder.path / "rows.jsonl", rows(3))
    ended = folder.batcher(
        "run", "rows.jsonl", "--endpoint", "simulator", "--base-url", nobody.url,
        BATCHER_MIN_FREE_SPACE="900TB",
    )  # fmt: skip
    assert ended.code == 74
    assert "less than min_free_space (900,000,000.0 MB)" in ended.err
    assert not nobody.was_called()
    assert not (folder.path / "batcher.db").exists()


@pytest.mark.parametrize("value", ["much", "-1", "1.5 miles"])
def test_a_size_that_is_none_is_refused(folder, value):
    write_jsonl(folder.path / "rows.jsonl", rows(1))
    ended = folder.batcher("run", "rows.jsonl", BATCHER_MIN_FREE_SPACE=value)
    assert ended.code == 78
    assert "write a size, like 200 MB" in ended.err


class Shrinking:
    """A job whose disk has enough room at the first looks only."""

    def __init__(self, folder: Path) -> None:
        self.database = str(folder / "batcher.db")
        self.looks = 0

    @property
    def min_free_space(self) -> int:
        self.looks += 1
        return 10**18 if self.looks > 3 else 1


@asynchronous
async def test_a_disk_that_fills_up_stops_the_run_before_the_database_fails(tmp_path):
    stopped, watcher, job = [], Watcher(), Shrinking(tmp_path)
    rescue = Rescue(
        database=None, job=job, clock=FastClock(), began=0.0, lifeboat=SimpleNamespace()
    )
    await rescue.watch_space(watcher, stopped.append)
    assert job.looks == 4
    assert watcher.reasons == ["the disk is nearly full"]
    assert isinstance(stopped[0], StorageError)


@pytest.mark.parametrize(("failure", "code"), [(StorageError("full"), 74), (Fenced("f"), 75)])
def test_a_run_that_failed_with_nothing_unsaved_says_in_the_ledger_how_it_ended(
    sqlite_url, tmp_path, failure, code
):
    ledger = RunLedger(sqlite_url)
    job = SimpleNamespace(store=Store.FULL)
    boat = Lifeboat(places_for(sqlite_url, ledger.uid()), ledger.scope, FastClock())
    rescue = Rescue(
        database=ledger.engine, job=job, clock=FastClock(), began=0.0, lifeboat=boat
    )
    writer = SimpleNamespace(let_go=0, failure=failure, unsaved=[], close=lambda: None)
    assert str(rescue.end(writer, None)) == str(failure)
    assert ledger.ask("SELECT exit_code FROM invocations WHERE ended_at > 0") == [(code,)]
    ledger.engine.dispose()


def test_after_a_backup_was_put_back_no_attempt_has_the_uid_of_another(folder, simulate):
    """Or the provider's bill and the ledger would be joined wrongly."""
    write_jsonl(folder.path / "rows.jsonl", rows(5))
    simulator, database = simulate(), folder.path / "batcher.db"
    assert folder.batcher("db", "upgrade", "--database", database).code == 0
    assert folder.batcher("db", "backup", "backup.db").code == 0
    for name in ("batcher.db", "backup.db"):
        assert folder.batcher(*options(simulator, folder.path / name)).code == 0
    uids = [line["attempt_uid"] for line in simulator.bill()]
    assert len(set(uids)) == len(uids) == 10
    told = folder.batcher("verify", "--bill", simulator.bill_path)
    assert told.out.count("was billed and is not in the ledger") == 5


# --- After an unclean end


@pytest.fixture
def killed_run(folder, simulate, gated):
    """A command that was killed in the middle, its simulator and its database."""
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    simulator, database = simulate("--latency-ms", "20-80"), folder.path / "batcher.db"
    gate = gated(simulator, answers=100)
    command = options(gate, database)
    process = folder.start(*command)
    assert wait_until(lambda: simulator.billed() >= 60, process)
    kill(process)
    gate.open()
    assert list(folder.path.glob("batcher.db.ballast-*"))
    return command, simulator, database


def test_a_database_that_was_not_closed_is_checked_and_the_run_says_so(folder, killed_run):
    command, _, _ = killed_run
    ended = folder.batcher(*command)
    assert ended.code == 0, ended.err
    assert "did not end cleanly: the database was checked and is whole" in ended.err
    assert "not end cleanly" not in folder.batcher(*command).err
    assert not list(folder.path.glob("batcher.db.ballast-*"))


def test_a_damaged_database_sends_nothing_and_says_what_to_do(folder, killed_run):
    command, simulator, database = killed_run
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'attempts'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x55" * size)
    billed = simulator.billed()
    ended = folder.batcher(*command)
    assert ended.code == 74, ended.err
    assert "is damaged" in ended.err
    assert "backup" in ended.err
    assert simulator.billed() == billed
    checked = folder.batcher("db", "check", "--database", database)
    assert checked.code == 74


def test_a_log_that_was_removed_is_noticed_and_named(folder, killed_run):
    command, simulator, database = killed_run
    log = Path(f"{database}-wal")
    kept, billed = log.read_bytes(), simulator.billed()
    for change in (log.unlink, lambda: log.write_bytes(kept[: len(kept) // 2])):
        change()
        for words in (command, ("verify", "--database", database)):
            ended = folder.batcher(*words)
            assert ended.code == 74, ended.err
            assert f"{log} was removed or replaced" in ended.err
    assert simulator.billed() == billed
    assert folder.batcher("db", "backup", "copy.db").code == 0
    assert folder.batcher("verify", "--database", "copy.db").code in {0, 1}
    Path(f"{database}-shm").unlink(missing_ok=True)
    log.write_bytes(kept)
    assert folder.batcher("verify", "--database", database).code == 0
    assert folder.batcher(*command).code == 0


def test_a_file_of_a_killed_run_without_all_that_lay_beside_it_is_noticed(folder, killed_run):
    """Tidied up, copied alone or mounted elsewhere: nothing beside it says what it lacks."""
    command, simulator, database = killed_run
    billed, alone = simulator.billed(), str(folder.path / "alone.db")
    shutil.copy(database, alone)
    for words in ((*command, "-d", alone), ("verify", "-d", alone)):
        ended = folder.batcher(*words)
        assert ended.code == 74, ended.err
        assert f"lacks what was committed last: {alone}-wal was removed" in ended.err
    assert simulator.billed() == billed
    shutil.copy(f"{database}-wal", f"{alone}-wal")
    assert folder.batcher("verify", "-d", alone).code == 0


def test_a_backup_put_back_beside_the_log_of_another_state_is_noticed(folder, simulate):
    """SQLite reads both as one database, some of it older than the rest."""
    simulator = simulate("--latency-ms", "20-80")
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    database = folder.path / "batcher.db"
    command = options(simulator, database)
    assert folder.batcher(*command, "--limit", "20").code == 0
    assert folder.batcher("db", "backup", "kept.db").code == 0
    assert folder.batcher(*command, "--limit", "20").code == 0
    process = folder.start(*command)
    assert wait_until(lambda: simulator.billed() >= 60, process)
    kill(process)
    shutil.copy(folder.path / "kept.db", database)
    billed = simulator.billed()
    for words in (command, ("verify", "--database", database)):
        ended = folder.batcher(*words)
        assert ended.code == 74, ended.err
        assert "is damaged: restore a backup" in ended.err
    assert simulator.billed() == billed
    for end in ("-wal", "-shm"):
        Path(f"{database}{end}").unlink(missing_ok=True)
    shutil.copy(folder.path / "kept.db", database)
    assert folder.batcher("verify", "--database", database).code == 0


def test_a_folder_that_is_removed_under_a_run_is_said(folder, simulate):
    simulator = simulate("--latency-ms", "20-80")
    place = Folder(folder.path / "gone", forks=True)
    place.path.mkdir()
    write_jsonl(place.path / "rows.jsonl", rows(ROWS))
    process = place.start(*options(simulator, "batcher.db"), "-o", "o.jsonl", **PIPES)
    assert wait_until(lambda: simulator.billed() >= 20, process)
    shutil.rmtree(place.path)
    ended = finish(process)
    assert ended.code == 74, ended.err
    assert "Traceback" not in ended.err
    assert "removed" in ended.err


def test_a_copy_that_another_program_made_of_a_run_is_a_ledger(folder, killed_run):
    _, _, database = killed_run
    with (
        closing(sqlite3.connect(database)) as source,
        closing(sqlite3.connect(folder.path / "copy.db")) as copy,
    ):
        source.backup(copy)
    assert folder.batcher("verify", "--database", "copy.db").code == 0


def test_a_log_that_another_program_has_taken_in_is_not_missed(folder, killed_run):
    command, _, database = killed_run
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT COUNT(*) FROM attempts").fetchall()
    assert not Path(f"{database}-wal").exists()
    assert folder.batcher("verify", "--database", database).code == 0
    assert folder.batcher(*command).code == 0
    assert Path(f"{database}.lock").read_bytes() == b""


def test_a_run_does_not_end_well_on_pages_that_went_bad_under_it(folder, simulate, gated):
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    write_jsonl(folder.path / "more.jsonl", rows(30, first=ROWS))
    simulator, database = simulate(), folder.path / "batcher.db"
    assert folder.batcher(*options(simulator, database)).code == 0
    gate = gated(simulator, 10)
    words = ("run", "more.jsonl", *options(gate, database)[2:])
    process = folder.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert wait_until(lambda: simulator.billed() >= ROWS + 10, process)
    content = database.read_bytes()
    page = content.index(b'"type":"text"', len(content) // 3) // 4096
    with database.open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\x55" * 4096)
    gate.open()
    ended = finish(process)
    assert ended.code == 74, ended.err
    assert "is damaged" in ended.err
    assert simulator.billed() == ROWS + 30

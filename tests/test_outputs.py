"""No output takes the place of an input, a ledger or what lies beside one."""

import os
import sqlite3
from contextlib import closing

import pytest

from batcher.errors import CannotCreate
from batcher.outputs import NOTHING_KEPT, Guard, is_opened_already

ENDINGS = ["", "-wal", "-shm", "-journal", ".lock", ".lifeboat-3", ".ballast-12"]


@pytest.fixture
def folder(tmp_path):
    """A ledger that is in use, an input, and a file of somebody else."""
    with closing(sqlite3.connect(tmp_path / "batcher.db")) as database:
        database.execute("CREATE TABLE t (x)")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    (tmp_path / "notes.txt").write_text("mine\n")
    return tmp_path


def guard(folder, **changes):
    return Guard(inputs=(folder / "rows.jsonl",), ledgers=(folder / "batcher.db",), **changes)


def linked(folder, name, how):
    """The file of that name by another one."""
    target, other = folder / name, folder / f"link-{how}"
    match how:
        case "name":
            return target
        case "symlink":
            other.symlink_to(target)
        case "relative":
            other.symlink_to(os.path.relpath(target, folder))
        case "hard":
            if not target.exists():
                pytest.skip("nothing to link to")
            other.hardlink_to(target)
        case "folder":
            other.symlink_to(folder)
            return other / name
    return other


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("how", ["name", "symlink", "relative", "hard", "folder"])
@pytest.mark.parametrize("name", ["rows.jsonl", *(f"batcher.db{end}" for end in ENDINGS)])
@pytest.mark.parametrize("there", [False, True])
def test_inputs_and_ledgers_are_kept_by_every_name(folder, name, how, force, there):
    if there and name.startswith("batcher.db") and name != "batcher.db":
        (folder / name).write_bytes(b"x")
    target = linked(folder, name, how)
    with pytest.raises(CannotCreate, match="name another file"):
        guard(folder, force=force).check_replaceable(target, lambda _: True)


@pytest.mark.parametrize("name", [f"batcher.db{end}" for end in ENDINGS])
def test_a_ledger_that_nobody_named_is_kept_too(folder, name):
    with pytest.raises(CannotCreate, match="a database"):
        Guard(force=True).check(folder / name)


@pytest.mark.parametrize(
    "name", ["batcher.db", "batcher.db-wal", "batcher-0a1b.lifeboat-3", "batcher-ff.ballast-1"]
)
def test_the_place_of_a_ledger_that_is_to_come_is_kept(tmp_path, name):
    with pytest.raises(CannotCreate):
        Guard(ledgers=(tmp_path / "batcher.db",), force=True).check(tmp_path / name)


def test_a_renamed_part_of_a_database_is_known_by_its_beginning(tmp_path):
    for number, start in enumerate([b"\x37\x7f\x06\x82", b"batcher lifeboat\n"]):
        path = tmp_path / str(number)
        path.write_bytes(start + bytes(100))
        with pytest.raises(CannotCreate, match="a database"):
            Guard(force=True).check(path)


@pytest.mark.parametrize("name", ["rows.jsonl.lock", "batcher.dbs", "other.db-wal", "new.csv"])
def test_other_names_are_free(folder, name):
    guard(folder).check_replaceable(folder / name, lambda _: False)


def test_a_file_of_somebody_else_is_replaced_by_force_only(folder):
    notes = folder / "notes.txt"
    with pytest.raises(CannotCreate, match="--force"):
        guard(folder).check_replaceable(notes, lambda _: False)
    guard(folder).check_replaceable(notes, lambda _: True)
    guard(folder, force=True).check_replaceable(notes, lambda _: False)
    guard(folder).check(notes)  # a log is appended to


def test_an_empty_file_holds_nothing_to_keep(tmp_path):
    (tmp_path / "made-by-mktemp").touch()
    NOTHING_KEPT.check_replaceable(tmp_path / "made-by-mktemp", lambda _: False)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/12"])
def test_names_of_what_is_open_already_are_known(tmp_path, name):
    assert is_opened_already(tmp_path.__class__(name))
    assert not is_opened_already(tmp_path / "stdout")

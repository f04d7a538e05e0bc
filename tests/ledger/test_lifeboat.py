"""The lifeboat: what the database did not take is kept, and recorded once."""

import asyncio
import fcntl
import os
import resource
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from batcher.clock import SystemClock
from batcher.errors import SchemaVersionError, StorageError
from batcher.ledger.connect import reading
from batcher.ledger.lifeboat import files
from batcher.ledger.lifeboat.lifeboat import Lifeboat, places_for
from batcher.ledger.lifeboat.restore import import_lifeboats, record_late
from batcher.ledger.write.corrections import without_offending_values
from batcher.ledger.write.records import Intent, RowFailure, Settlement
from batcher.messages.answer import Store
from batcher.messages.failure import Failure, FailureKind, Verdict
from batcher.messages.request import NotSent, State
from tests.ledger.settling import RunLedger
from tests.ledger.test_writer import attempt, settlement, writer_on
from tests.making_runs import answered, not_sent, refused, unknown, until, unusable
from tests.simulator.asking import asynchronous

CLOCK = SystemClock()


def every_outcome() -> list[Settlement]:
    """One settlement of each kind, with everything that one can carry."""
    held = RowFailure(kind=FailureKind.HELD, reason="r", message="m", transient=True)
    return [
        settlement(1, answered(), final=True, joined_content="[]", joined_text="", valid=True),
        settlement(2, refused(429), state=State.REJECTED, pending=True),
        settlement(3, not_sent(), state=State.NOT_SENT, cost_high=0),
        settlement(4, unknown(), state=State.UNKNOWN, cost_high=None, failure=held),
        settlement(5, unusable(b"\xff\0"), state=State.UNUSABLE, invalid_reason="no"),
    ]


def bytes_of(settlements: list[Settlement]) -> bytes:
    header = files.LifeboatHeader(
        database_uid="u", scope=SCOPE, written_at=1, cause="c", store=Store.FULL
    )
    text, checksum = files.MAGIC, 0
    for payload in [files.pack_header(header), *map(files.pack, settlements)]:
        framed, checksum = files.frame(payload, checksum)
        text += framed
    return text


SCOPE = msgspec.convert(
    {"run_id": 1, "invocation_id": 1, "lane": "live", "rating_id": 1, "price_book_id": 1},
    type=files.Scope,
)
EVERY = every_outcome()
WHOLE = bytes_of(EVERY)
ENDS = {len(files.MAGIC), *(len(bytes_of(EVERY[:count])) for count in range(6))}


def test_every_outcome_comes_back_as_it_was_without_the_prompt():
    found = files.read_frames(WHOLE + b"\0" * 5000)
    saved = [
        replace(
            each,
            attempt=replace(
                each.attempt, body=b"", request=replace(each.attempt.request, body=b"")
            ),
        )
        for each in EVERY
    ]
    assert (found.settlements, found.cut) == (saved, False)


def test_a_lifeboat_carries_every_field_of_a_settlement():
    carried = {*files._Packed.__struct_fields__} - {"kind"}
    assert carried == set(Settlement.__struct_fields__)


@given(st.integers(0, len(WHOLE)))
def test_a_cut_tail_is_found_and_what_is_before_it_is_whole(length):
    found = files.read_frames(WHOLE[:length])
    count = len(found.settlements)
    assert list(found.settlements) == list(files.read_frames(WHOLE).settlements[:count])
    assert len(bytes_of(EVERY[:count])) <= length or count == 0
    assert found.cut == (length not in {0, *ENDS})


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_never_taken_for_an_answer(place, change):
    text = bytearray(WHOLE)
    text[place] ^= change
    found = files.read_frames(bytes(text))
    whole = files.read_frames(WHOLE).settlements
    assert len(found.settlements) < len(whole)
    assert found.cut
    assert list(found.settlements) == list(whole[: len(found.settlements)])


# --- In and out of a ledger


class Place:
    """A ledger with an invocation, and the folders its lifeboats may lie in."""

    def __init__(self, url: str, folder: Path) -> None:
        self.ledger = RunLedger(url)
        self.spare = folder / "spare"
        self.folder = folder / "boats"
        self.folder.mkdir(exist_ok=True)
        uid = self.ledger.uid()
        self.places = places_for(url, uid, self.folder, (self.spare,))
        self.uid = uid

    def open_attempts(self, count: int) -> list[Settlement]:
        """Attempts whose intent is durable, with the answers that came for them."""
        records = [self.ledger.answered() for _ in range(count)]
        self.ledger.write([intent for intent, _ in records])
        return [settled for _, settled in records]

    def save(self, settlements: list[Settlement], **options) -> Lifeboat:
        boat = Lifeboat(self.places, self.ledger.scope, CLOCK, **options)
        boat.save(settlements)
        boat.close()
        return boat

    def board(self):
        return self.places.import_into(self.ledger.engine, CLOCK)

    def waiting(self):
        with reading(self.ledger.engine) as connection:
            return self.places.waiting(connection)

    def states(self) -> list[str]:
        return [row[0] for row in self.ledger.ask("SELECT state FROM attempts ORDER BY 1")]


@pytest.fixture
def place(database_url, tmp_path):
    yield (made := Place(database_url, tmp_path))
    made.ledger.engine.dispose()


@pytest.fixture
def local(sqlite_url, tmp_path):
    yield (made := Place(sqlite_url, tmp_path))
    made.ledger.engine.dispose()


def test_what_was_saved_is_recorded_as_if_nothing_had_happened(place):
    first, second = place.open_attempts(2)
    place.ledger.write([first])
    place.save([second])
    assert place.board().outcomes == 1
    found = place.ledger.ask("SELECT text, cost_pico_usd, cost_status FROM v_answers")
    assert len(found) == 2
    assert found[0] == found[1]
    assert place.places.found() == []
    ended = "SELECT exit_code FROM invocations WHERE ended_at IS NOT NULL"
    assert place.ledger.ask(ended) == [(74,)]


def test_a_lifeboat_that_is_imported_twice_changes_nothing(place):
    boat = place.save(place.open_attempts(3))
    kept = boat.paths[0].read_bytes()
    assert place.board().outcomes == 3
    boat.paths[0].write_bytes(kept)
    assert place.board().outcomes == 0
    assert place.ledger.ask("SELECT SUM(answers), COUNT(*) FROM rollups") == [(3, 1)]


def test_what_a_later_start_gave_up_is_still_recorded(place):
    (saved,) = place.open_attempts(1)
    boat = place.save([saved])
    place.ledger.execute(
        "UPDATE attempts SET state = 'unknown', error_type = 'process_died', settled_at = 1"
    )
    assert place.board().outcomes == 1
    assert not boat.paths[0].exists()
    assert place.ledger.ask("SELECT state, pending FROM attempts") == [("answered", 0)]


def test_what_was_given_up_and_sent_again_is_late(place):
    (saved,) = place.open_attempts(1)
    place.save([saved])
    place.ledger.execute("UPDATE attempts SET state = 'unknown', error_type = 'process_died'")
    old = saved.attempt
    again = place.ledger.attempt(
        request=old.request, request_id=old.request_id, number=2, replaces=old.attempt_id
    )
    place.ledger.write(place.ledger.answered(attempt=again))
    place.board()
    assert place.states() == ["answered", "late"]
    assert place.ledger.ask("SELECT COUNT(*) FROM v_answers") == [(1,)]
    assert place.ledger.ask("SELECT COUNT(*) FROM v_answers_all") == [(2,)]


def test_an_intent_that_the_server_forgot_is_recorded_with_its_answer(place):
    (_, settled) = place.ledger.answered()
    place.save([settled])
    assert place.board().outcomes == 1
    assert place.states() == ["answered"]


def test_a_retry_that_the_server_forgot_with_its_first_try_leaves_nothing_pending(place):
    (_, doubted) = place.ledger.unknown()
    first = doubted.attempt
    again = replace(
        place.ledger.attempt(),
        request=first.request,
        request_id=first.attempt_id,
        number=2,
        replaces=first.attempt_id,
    )
    (_, settled) = place.ledger.answered(attempt=again)
    place.save([doubted, settled])
    assert place.board().outcomes == 2
    assert place.ledger.ask("SELECT state, pending FROM attempts ORDER BY attempt_id") == [
        ("unknown", 0),
        ("answered", 0),
    ]


def test_an_attempt_that_never_was_is_none_afterwards(place):
    failure = Failure(verdict=Verdict.RETRY_ROW, error_type="x", message="x")
    (_, settled) = place.ledger.answered()
    outcome = NotSent(settled.outcome.exchange, failure)
    never = replace(settled, outcome=outcome, state=State.NOT_SENT, charges=(), cost_high=0)
    place.save([never])
    assert place.board().outcomes == 0
    assert place.states() == []


def test_a_value_that_cannot_be_stored_is_mended_and_the_others_land(place):
    settlements = place.open_attempts(5)
    bad = settlements[2].outcome
    answer = replace(bad.answer, text="\ud800")
    settlements[2] = replace(settlements[2], outcome=replace(bad, answer=answer))
    place.save(settlements)
    assert place.board().outcomes == 5
    assert sorted(place.states()) == ["answered"] * 4 + ["unusable"]


def test_a_last_try_records_everything_and_the_end(place):
    settlements = place.open_attempts(2)
    record_late(
        place.ledger.engine, place.ledger.scope, settlements, CLOCK, store=Store.FULL,
        exit_code=74,
    )  # fmt: skip
    assert place.states() == ["answered", "answered"]
    assert place.ledger.ask("SELECT exit_code, clean FROM invocations") == [(74, 0)]


def test_a_last_try_with_nothing_to_save_records_the_end_alone(place):
    place.ledger.execute("UPDATE invocations SET clean = 1")  # somebody followed
    record_late(
        place.ledger.engine, place.ledger.scope, [], CLOCK, store=Store.FULL, exit_code=75
    )
    assert place.ledger.ask("SELECT exit_code, clean FROM invocations") == [(75, 1)]


@pytest.mark.parametrize("outcome", [unknown(), refused(429), unusable()])
def test_a_last_try_on_a_ledger_that_does_not_know_the_run_records_nothing(place, outcome):
    """As after a restore: the outcomes would belong to nothing, and to nobody's report."""
    doubt = {"outcome": outcome, "state": State.UNKNOWN, "charges": (), "final": False}
    settlements = [replace(each, **doubt) for each in place.open_attempts(2)]
    for table in ("attempts", "sources", "invocations"):
        place.ledger.execute(f"DELETE FROM {table}")
    with pytest.raises(StorageError, match="another history of this ledger"):
        record_late(
            place.ledger.engine, place.ledger.scope, settlements, CLOCK, store=Store.FULL,
            exit_code=74,
        )  # fmt: skip
    assert place.states() == []


def test_a_lifeboat_says_whose_outcomes_it_holds(local):
    local.save(local.open_attempts(1))
    (boat,) = local.waiting()
    assert boat.invocation_id == local.ledger.scope.invocation_id


def test_a_backup_that_was_put_back_is_noticed(local, tmp_path):
    before = tmp_path / "backup.db"
    shutil.copy(local.ledger.url, before)
    local.ledger.next_run("second")
    boat = local.save(local.open_attempts(1))
    local.ledger.engine.dispose()
    for suffix in ("-wal", "-shm"):
        Path(local.ledger.url + suffix).unlink(missing_ok=True)
    shutil.copy(before, local.ledger.url)
    with pytest.raises(StorageError, match="another history of this ledger"):
        local.board()
    assert boat.paths[0].exists()


def test_a_lifeboat_of_another_history_is_refused_though_all_its_numbers_are_known(
    local, tmp_path
):
    """The invocation that went on from the backup has the number of the one before."""
    before = tmp_path / "backup.db"
    shutil.copy(local.ledger.url, before)
    local.ledger.next_run("second", token="1111")
    boat = local.save(local.open_attempts(2))
    local.ledger.engine.dispose()
    shutil.copy(before, local.ledger.url)
    local.ledger.next_run("second", token="2222")
    local.ledger.begin_numbers_anew()
    local.open_attempts(2)
    with pytest.raises(StorageError, match="another history of this ledger"):
        local.board()
    assert boat.paths[0].exists()
    assert local.states() == ["open", "open"]
    (told,) = local.waiting()
    assert "another history of this ledger" in told.words
    assert told.invocation_id is None


def test_a_lifeboat_of_another_ledger_is_left_alone(local):
    boat = local.save(local.open_attempts(1))
    local.ledger.execute("UPDATE ledger_info SET value = 'other' WHERE name = 'database_uid'")
    imported = import_lifeboats(local.ledger.engine, local.places.found(), "other", CLOCK)
    assert imported.outcomes == 0
    assert "belongs to another ledger" in imported.notes[0]
    assert boat.paths[0].exists()


def test_a_lifeboat_that_lies_there_is_never_written_over(local):
    old = local.places.path(local.folder, ".lifeboat-", local.ledger.scope.invocation_id)
    old.write_bytes(b"of a ledger that was removed")
    boat = local.save(local.open_attempts(2), in_flight=1)
    assert old.read_bytes() == b"of a ledger that was removed"
    assert boat.saved == 2
    assert not list(local.folder.glob("*.ballast-*"))


def test_a_lifeboat_of_a_newer_program_stops_the_run_and_stays(local):
    header = msgspec.msgpack.encode({"format": 2})
    path = local.places.path(local.folder, ".lifeboat-", 7)
    path.write_bytes(files.MAGIC + files.frame(header, 0)[0])
    with pytest.raises(SchemaVersionError, match="format 2"):
        local.board()
    assert path.exists()


def test_a_lifeboat_into_which_somebody_still_writes_is_left_alone(local):
    boat = local.save(local.open_attempts(1))
    with boat.paths[0].open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert local.board().outcomes == 0
    assert local.board().outcomes == 1


def test_an_empty_lifeboat_is_removed_without_a_word(local):
    path = local.places.path(local.folder, ".lifeboat-", 7)
    path.write_bytes(b"\0" * 100)
    assert (local.board().notes, path.exists()) == ((), False)


def test_a_link_that_somebody_planted_is_not_followed(local, tmp_path):
    boat = local.save(local.open_attempts(1))
    elsewhere = boat.paths[0].rename(tmp_path / "elsewhere")
    boat.paths[0].symlink_to(elsewhere)
    assert local.board().outcomes == 0
    assert local.waiting() == []


# --- Where it lies


def test_it_is_readable_by_its_owner_only_and_says_what_it_holds(local):
    boat = local.save(local.open_attempts(3))
    assert boat.paths[0].stat().st_mode & 0o777 == 0o600
    (found,) = local.waiting()
    assert found.outcomes == 3
    assert "holds 3 outcomes that are not in the ledger yet" in found.words


def test_a_folder_that_takes_nothing_is_passed_over(local):
    shutil.rmtree(local.folder)
    local.folder.write_text("a file, no folder")
    boat = local.save(local.open_attempts(2))
    assert [path.parent for path in boat.paths] == [Path(local.ledger.url).parent]
    assert (boat.saved, local.board().outcomes) == (2, 2)


def test_the_spare_folder_is_made_when_all_others_fail(tmp_path, local):
    file = tmp_path / "file"
    file.write_text("")
    places = places_for(str(file / "gone.db"), local.uid, None, (local.spare,))
    boat = Lifeboat(places, local.ledger.scope, CLOCK)
    boat.save(EVERY)
    boat.close()
    assert boat.paths == [local.spare / f"batcher-{local.uid}.lifeboat-1"]


def test_what_no_folder_takes_is_counted(tmp_path, local):
    file = tmp_path / "file"
    file.write_text("")
    places = places_for(str(file / "gone.db"), local.uid, None, (file / "neither",))
    boat = Lifeboat(places, local.ledger.scope, CLOCK)
    boat.save(EVERY)
    assert (boat.saved, boat.lost, boat.paths) == (0, 5, [])


def test_a_lifeboat_that_fails_in_the_middle_goes_on_in_the_next_folder(local):
    settlements = local.open_attempts(60)
    boat = Lifeboat(local.places, local.ledger.scope, CLOCK)
    boat.save(settlements[:30])
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    with boat.paths[0].open("rb") as file:  # it may grow by a part of what comes
        size = os.fstat(file.fileno()).st_size + 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        boat.save(settlements[30:40])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    boat.save(settlements[40:])
    boat.close()
    assert [path.parent for path in boat.paths] == [
        local.folder,
        Path(local.ledger.url).parent,
    ]
    assert (boat.saved, boat.lost, local.board().outcomes) == (60, 0, 60)


def test_room_is_reserved_and_given_back(local):
    boat = Lifeboat(local.places, local.ledger.scope, CLOCK, in_flight=8)
    (reserved,) = local.folder.iterdir()
    assert reserved.stat().st_blocks * 512 >= 2**22
    boat.close()
    assert list(local.folder.iterdir()) == []


def test_the_reserved_room_becomes_the_lifeboat_without_a_new_block(local):
    settlements = local.open_attempts(20)
    boat = Lifeboat(local.places, local.ledger.scope, CLOCK, in_flight=8)
    (reserved,) = local.folder.iterdir()
    before = reserved.stat()
    boat.save(settlements)
    after = boat.paths[0].stat()
    assert (before.st_ino, before.st_blocks) == (after.st_ino, after.st_blocks)
    boat.close()
    assert boat.paths[0].stat().st_blocks < before.st_blocks
    assert local.board().outcomes == 20


def test_what_a_killed_run_had_reserved_is_swept_away_and_a_living_one_keeps_it(local):
    dead = local.places.path(local.folder, ".ballast-", 77)
    dead.write_bytes(b"\0" * 4096)
    living = Lifeboat(local.places, local.ledger.scope, CLOCK, in_flight=1)
    local.ledger.next_run("second")
    second = Lifeboat(local.places, local.ledger.scope, CLOCK, in_flight=1)
    assert len(list(local.folder.iterdir())) == 2
    assert not dead.exists()
    living.close()
    second.close()


def test_with_store_usage_no_word_of_an_answer_is_in_the_lifeboat(local):
    settlements = local.open_attempts(1)
    boat = local.save(settlements, store=Store.USAGE)
    assert b"Hello" not in boat.paths[0].read_bytes()
    local.board()
    assert local.ledger.ask("SELECT text, output_tokens FROM v_answers") == [("", 5)]


# --- The writer


@asynchronous
async def test_a_writer_whose_database_fails_keeps_every_outcome_and_refuses_intents(
    sqlite_url, tmp_path
):
    async with writer_on(sqlite_url) as ledger:
        for number in (1, 2):
            await ledger.writer.durable(Intent(attempt=attempt(number)))
        boat = Lifeboat(places_for(sqlite_url, "u", tmp_path), SCOPE, CLOCK)
        ledger.writer._lifeboat = boat
        with closing(sqlite3.connect(sqlite_url)) as connection:
            connection.execute("ALTER TABLE attempts RENAME TO elsewhere")
        ledger.writer.put(settlement(1, answered()), lambda: None)
        await until(lambda: ledger.failures)
        with pytest.raises(StorageError):
            await ledger.writer.durable(Intent(attempt=attempt(3)))
        ledger.writer.put(settlement(3, not_sent(), state=State.NOT_SENT), lambda: None)
        ledger.writer.put(settlement(2, unknown(), state=State.UNKNOWN), lambda: None)
        await asyncio.to_thread(ledger.writer.close)
        assert [each.attempt.attempt_id for each in ledger.writer.unsaved] == [1, 2]
        assert boat.saved == 2
        boat.discard()
        assert boat.paths == []


@asynchronous
async def test_what_a_lifeboat_took_is_let_go_of_so_that_memory_stays_bounded(
    sqlite_url, tmp_path, monkeypatch
):
    monkeypatch.setattr("batcher.ledger.write.writer.MOST_BYTES", 12)
    kept: list[int] = []
    async with writer_on(sqlite_url) as ledger:
        for number in (1, 2, 3):
            await ledger.writer.durable(Intent(attempt=attempt(number)))
        ledger.writer._lifeboat = Lifeboat(places_for(sqlite_url, "u", tmp_path), SCOPE, CLOCK)
        ledger.writer._on_kept = kept.extend
        with closing(sqlite3.connect(sqlite_url)) as connection:
            connection.execute("ALTER TABLE attempts RENAME TO elsewhere")
        for number in (1, 2, 3):
            ledger.writer.put(settlement(number, answered()), lambda: None)
            await until(lambda number=number: len(kept) == number)
        await asyncio.to_thread(ledger.writer.close)
        unsaved = len(ledger.writer.unsaved)
        assert (unsaved + ledger.writer.let_go, kept) == (3, [1, 2, 3])
        assert ledger.writer.let_go > 0
        assert ledger.writer._lifeboat.saved == 3
        ledger.writer._lifeboat.discard()


def test_what_is_mended_keeps_the_bytes_of_the_answer():
    mended = without_offending_values(settlement(1, answered("kept")))
    assert b"kept" in files.read_frames(bytes_of([mended])).settlements[0].outcome.body

"""What a start reads of what is there: as much as is unsaved, not as much as there is."""

from batcher.ledger import runs
from batcher.ledger.connect import writing
from batcher.ledger.resume import settled_since_checkpoint
from batcher.messages.request import attempt_ids_of
from tests.ledger.settling import RunLedger


def test_a_start_reads_no_answers_of_those_that_ended_cleanly(sqlite_url):
    ledger = RunLedger(sqlite_url)
    ledger.next_run("mine")
    ledger.write(*(ledger.answered() for _ in range(2_000)))
    first = ledger.scope.invocation_id
    with writing(ledger.engine) as connection:
        end = attempt_ids_of(first).stop
        runs.checkpoint(connection, first, settled_below=end, clean=True)
    ledger.next_run("mine")
    hundreds = []
    with writing(ledger.engine) as connection:
        raw = connection.connection.driver_connection
        raw.set_progress_handler(lambda: hundreds.append(1), 100)  # of SQLite's own steps
        found = list(settled_since_checkpoint(connection, ledger.scope.run_id))
        raw.set_progress_handler(None, 0)
    ledger.engine.dispose()
    assert found == []
    assert len(hundreds) < 10


def test_only_what_came_after_the_checkpoint_of_a_dead_process_is_read(database_url):
    ledger = RunLedger(database_url)
    ledger.next_run("mine")
    ledger.write(*(ledger.answered() for _ in range(5)))
    dead, source = ledger.scope.invocation_id, ledger.source_id
    below = ledger.ask("SELECT MAX(attempt_id) FROM answers")[0][0]
    with writing(ledger.engine) as connection:
        runs.checkpoint(connection, dead, settled_below=below, clean=False)
    rows = [row for (row,) in ledger.ask("SELECT row_number FROM answers ORDER BY attempt_id")]
    ledger.next_run("mine")
    ledger.write(ledger.answered())
    own = ledger.ask("SELECT row_number FROM answers ORDER BY attempt_id DESC LIMIT 1")[0][0]
    with writing(ledger.engine) as connection:
        found = set(settled_since_checkpoint(connection, ledger.scope.run_id))
    own_source = ledger.source_id
    ledger.engine.dispose()
    assert found == {(source, rows[-1]), (own_source, own)}

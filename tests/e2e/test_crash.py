"""The main promise: whatever kills the program, both books agree."""

from tests.e2e.crashes import CrashingRun, fault_options
from tests.e2e.inputs import varied_rows, write_jsonl, write_parquet
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count


def test_2000_rows_with_faults_survive_two_kills(folder, simulate, empty_database_url):
    write_jsonl(folder.path / "rows.jsonl", varied_rows(1000))
    write_parquet(folder.path / "rows.parquet", varied_rows(1000, first=1000))
    run = CrashingRun(
        folder=folder,
        simulator=simulate("--latency-ms", "1-20", "--seed", "11", *fault_options()),
        database=empty_database_url,
        inputs={"rows.jsonl": 1000, "rows.parquet": 1000},
        concurrency=48,
    )
    assert run.kill_after(400)
    assert run.kill_after(600)

    ended = run.finish()

    books = check_everything(folder, run.database, run.simulator, run.inputs)
    assert ended.code == (65 if books.failures else 0), ended.err
    assert min(run.opens) > 0, "the kills came too late to hit anything"
    assert ended.json["recovered_attempts"] == run.opens[-1]
    assert count(run.database, "attempts", "error_type = 'process_died'") == sum(run.opens)

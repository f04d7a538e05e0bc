"""What bad input gets: rows are set aside with the reason, wrong commands are refused."""

import json
import socket

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.inputs import QUICK, row, rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count, read

KEY = {"ANTHROPIC_API_KEY": "sk-ant-for-tests"}
BAD_LINES = {
    b"{not json\n": "BAD_JSON",
    b"[1, 2]\n": "NOT_OBJECT",
    b'{"custom_id": "x"}\n': "NO_PROMPT",
    b'{"messages": [{"role": "wizard", "content": "hi"}], "model": "claude-haiku-4-5"}\n': (
        "BAD_ROLE"
    ),
    b'{"prompt": 5, "model": "claude-haiku-4-5"}\n': "WRONG_TYPE",
    b'{"prompt": "\xff", "model": "claude-haiku-4-5"}\n': "BAD_UNICODE",
    b'{"prompt": "hi"}\n': "MISSING_MODEL",
}


def test_bad_rows_are_set_aside_with_place_and_reason_and_the_rest_goes_on(folder, simulate):
    simulator, good = simulate(), json.dumps(row(1)).encode() + b"\n"
    lines = [line for bad in BAD_LINES for line in (bad, good)]
    (folder.path / "rows.jsonl").write_bytes(b"".join(lines) + b'{"prompt": "cut o')
    ended = folder.batcher(
        *("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    )
    assert ended.code == 65
    database = str(folder.path / "batcher.db")
    found = read(database, "SELECT * FROM v_failures ORDER BY row_number")
    offsets = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
    assert [(f["row_number"], f["byte_offset"], f["reason"]) for f in found] == [
        *((2 * n + 1, offsets[2 * n], reason) for n, reason in enumerate(BAD_LINES.values())),
        (len(lines) + 1, offsets[-1], "TRUNCATED_TAIL"),
    ]
    assert {(f["source"], f["kind"]) for f in found} == {("rows.jsonl", "quarantined")}
    assert all(f["message"] for f in found)
    assert count(database, "v_answers") == len(BAD_LINES)


def test_a_corrected_file_sends_the_corrected_rows_alone(folder, simulate):
    simulator = simulate()
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    write_jsonl(folder.path / "rows.jsonl", [*rows(5), {"custom_id": "row-5"}])
    assert folder.batcher(*command).code == 65
    assert folder.batcher(*command).code == 65, "bad rows are still there"
    write_jsonl(folder.path / "rows.jsonl", rows(6))
    ended = folder.batcher(*command)
    assert ended.code == 0, ended.err
    books = check_everything(
        folder, str(folder.path / "batcher.db"), simulator, {"rows.jsonl": 6}
    )
    assert len(books.bill) == 6


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("missing.jsonl",), 2, "missing.jsonl"),
        (("*.nothing",), 2, "*.nothing"),
        (("--job", "missing.toml"), 2, "missing.toml"),
        ((), 2, "nothing to run"),
        (("rows.jsonl", "--no-such-option"), 2, "no-such-option"),
        (("rows.jsonl", "--endpoint", "nowhere"), 78, "nowhere"),
        (("other.parquet",), 78, "other.parquet"),
        (("rows.jsonl", "--base-url", "http://example.com"), 78, "http"),
        (("rows.jsonl", "--concurrency", "0"), 78, "concurrency"),
        (("rows.jsonl", "--max-runtime", "soon"), 78, "soon"),
        (("rows.jsonl", "--prices", "missing.toml"), 2, "missing.toml"),
        (("rows.jsonl", "--config", "missing.toml"), 2, "missing.toml"),
        (("rows.jsonl", "--config", "broken.toml"), 78, "no_such_setting"),
        (("rows.jsonl", "--prompt", "{{ text"), 78, "prompt"),
        (("rows.jsonl", "--prompt", "@missing.txt"), 2, "missing.txt"),
        (("rows.jsonl", "--tag", "nonsense"), 2, "nonsense"),
        (("rows.jsonl", "--database", "nowhere/batcher.db"), 73, "nowhere"),
        (("rows.jsonl", "--database", "mysql://host/name"), 78, "mysql"),
    ],
)
def test_a_wrong_command_is_refused_in_one_sentence_before_anything_is_sent(
    folder, nobody, arguments, code, words
):
    write_jsonl(folder.path / "rows.jsonl", rows(3))
    pq.write_table(pa.table({"colour": ["red"]}), folder.path / "other.parquet")
    (folder.path / "broken.toml").write_text("no_such_setting = 1\n")
    where = () if "--base-url" in arguments else ("--base-url", nobody.url)
    endpoint = () if "--endpoint" in arguments else ("--endpoint", "anthropic")
    ended = folder.batcher("run", *where, *endpoint, *arguments, **KEY)
    assert ended.code == code, ended.err
    assert words in ended.err
    assert len(ended.err.splitlines()) == (1 if ended.err.startswith("batcher: ") else 4)
    assert not nobody.was_called()


def test_a_missing_key_is_refused_before_anything_is_sent(folder):
    write_jsonl(folder.path / "rows.jsonl", rows(3))
    ended = folder.batcher("run", "rows.jsonl", "--base-url", "https://messages.example")
    assert ended.code == 77
    assert "ANTHROPIC_API_KEY" in ended.err
    assert not (folder.path / "batcher.db").exists()


def test_a_wrong_key_costs_one_request(folder, simulate):
    simulator = simulate("--expect-key-env", "RIGHT_KEY", RIGHT_KEY="right")
    write_jsonl(folder.path / "rows.jsonl", rows(300))
    command = ("run", "rows.jsonl", "--base-url", simulator.url)
    ended = folder.batcher(*command, ANTHROPIC_API_KEY="wrong")
    assert ended.code == 77
    assert "check the key" in ended.err
    database = str(folder.path / "batcher.db")
    assert count(database, "v_attempts") == 3, "one for each of the three models"
    assert folder.batcher(*command, ANTHROPIC_API_KEY="right").code == 0
    assert count(database, "v_answers") == 300


def test_an_unknown_model_stops_the_run(folder, simulate):
    simulator = simulate()
    write_jsonl(folder.path / "rows.jsonl", [{"prompt": f"hi {n}"} for n in range(300)])
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    ended = folder.batcher(*command, "--model", "claude-unknown-9")
    assert ended.code == 78
    assert "check the model" in ended.err
    database = str(folder.path / "batcher.db")
    assert count(database, "v_attempts") == 1
    assert folder.batcher(*command, "--model", "claude-haiku-4-5").code == 0
    assert count(database, "v_answers") == 300


def test_three_rows_refused_alike_stop_the_run(folder, simulate):
    simulator = simulate()
    items = [
        {"prompt": f"hi {n} [[fault:400]]", "model": "claude-haiku-4-5"} for n in range(99)
    ]
    write_jsonl(folder.path / "rows.jsonl", items)
    ended = folder.batcher(
        *("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    )
    assert ended.code == 78
    assert "refused on purpose" in ended.err
    assert count(str(folder.path / "batcher.db"), "v_attempts") == 3


@pytest.fixture
def unused_port():
    """Nobody listens there, and nobody is given it but who asks for it by its number."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_an_unreachable_endpoint_is_tried_again_then_given_up_and_nothing_is_lost(
    folder, simulate, unused_port
):
    (folder.path / "config.toml").write_text(f"{QUICK}first_contact_seconds = 1\n")
    write_jsonl(folder.path / "rows.jsonl", rows(50))
    url = f"http://127.0.0.1:{unused_port}"
    ended = folder.batcher("run", "rows.jsonl", "--base-url", url, **KEY)
    assert ended.code == 69
    assert "does not answer" in ended.err
    database = str(folder.path / "batcher.db")
    assert count(database, "v_attempts", "state = 'not_sent'") > 1
    assert count(database, "v_attempts", "state <> 'not_sent'") == 0
    assert count(database, "v_failures") == 0

    back = simulate("--port", str(unused_port))
    assert folder.batcher("run", "rows.jsonl", "--base-url", url, **KEY).code == 0
    check_everything(folder, database, back, {"rows.jsonl": 50})


def test_a_row_that_failed_for_good_waits_for_retry(folder, simulate):
    simulator = simulate()
    write_jsonl(folder.path / "rows.jsonl", [*rows(5), row(5, "[[fault:400*1]]")])
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    assert folder.batcher(*command).code == 65
    again = folder.batcher(*command)
    assert again.code == 65
    assert simulator.billed() == 5, "it was not sent again by itself"
    told = folder.batcher("retry")
    assert told.code == 0
    assert "1 row of run 1 is to do again" in told.out
    assert folder.batcher(*command).code == 0
    database = str(folder.path / "batcher.db")
    check_everything(folder, database, simulator, {"rows.jsonl": 6})


def test_a_row_in_doubt_three_times_is_held_until_retry(folder, simulate):
    simulator = simulate()
    write_jsonl(folder.path / "rows.jsonl", [*rows(5), row(5, "[[fault:close*3]]")])
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    assert folder.batcher(*command).code == 65
    database = str(folder.path / "batcher.db")
    (held,) = read(database, "SELECT * FROM v_failures")
    assert (held["kind"], held["reason"]) == ("held", "parked_in_doubt")
    assert count(database, "v_attempts", "state = 'unknown'") == 3
    assert folder.batcher("retry").code == 0
    assert folder.batcher(*command).code == 0
    check_everything(folder, database, simulator, {"rows.jsonl": 6})


@pytest.mark.parametrize("policy", ["hold", "fail"])
def test_a_row_in_doubt_is_not_sent_again_when_that_is_the_policy(folder, simulate, policy):
    simulator = simulate()
    write_jsonl(folder.path / "rows.jsonl", [*rows(5), row(5, "[[fault:close*1]]")])
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    for _ in range(2):
        assert folder.batcher(*command, "--on-unknown", policy).code == 65
    assert simulator.billed() == 6
    (found,) = read(str(folder.path / "batcher.db"), "SELECT * FROM v_failures")
    assert found["kind"] == {"hold": "held", "fail": "failed"}[policy]


def test_too_many_bad_rows_stop_a_run_before_anything_is_sent(folder, simulate):
    simulator = simulate()
    write_jsonl(folder.path / "rows.jsonl", [*rows(50), *[{"custom_id": "x"}] * 3])
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    for limit in ("2", "5%"):
        ended = folder.batcher(*command, "--max-bad", limit, "--json")
        assert ended.code == 65
        assert ended.json["rows_without_answer"] == {"quarantined": 3}
        assert f"more than --max-bad {limit} allows" in ended.json["error"]
    assert simulator.billed() == 0
    assert folder.batcher(*command, BATCHER_MAX_BAD="3").code == 65
    assert simulator.billed() == 50
    wrong = folder.batcher(*command, "--max-bad", "most")
    assert (wrong.code, len(wrong.err.splitlines())) == (78, 1)


def test_bad_rows_are_exported_mended_and_run_and_their_failures_go_away(folder, simulate):
    simulator = simulate()
    good = [json.dumps(item).encode() + b"\n" for item in rows(20)]
    path = folder.path / "rows.jsonl"
    path.write_bytes(b"".join([*good[:10], *BAD_LINES, *good[10:]]))
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    assert folder.batcher(*command).code == 65
    told = folder.batcher("export", "--failures", "-o", "bad.jsonl")
    assert told.code == 0
    assert "7 rows to bad.jsonl: " in told.err
    assert "BAD_ROLE 1" in told.err
    bad = folder.path / "bad.jsonl"
    assert bad.read_bytes() == b"".join(BAD_LINES), "byte for byte, be it JSON or not"
    assert bad.stat().st_mode & 0o777 == 0o600

    mended = rows(len(BAD_LINES), first=20)
    write_jsonl(path, [*mended, *rows(20)])
    ended = folder.batcher(*command)
    assert ended.code == 0, ended.err
    database = str(folder.path / "batcher.db")
    assert count(database, "v_failures") == 0
    check_everything(folder, database, simulator, {"rows.jsonl": 27})
    assert simulator.billed() == 27
    assert "0 rows to standard output: none" in folder.batcher("export", "--failures").err


def test_failed_rows_of_other_files_are_exported_as_objects(folder, simulate):
    simulator = simulate()
    (folder.path / "rows.csv").write_text("custom_id,prompt,colour\na,hi,red\nb,,blue\nc\n")
    command = ("run", "rows.csv", "--endpoint", "simulator", "--base-url", simulator.url)
    assert folder.batcher(*command, "--model", "claude-haiku-4-5").code == 65
    told = folder.batcher("export", "--failures")
    assert [json.loads(line) for line in told.out.splitlines()] == [
        {"custom_id": "b", "prompt": "", "colour": "blue"}
    ]
    assert "1 rows cannot be read, so they are left out" in told.err
    (folder.path / "rows.csv").write_text("prompt\nx\n")
    assert "has changed since the run read it" in folder.batcher("export", "--failures").err


@pytest.mark.parametrize(
    "options", [("-o", "bad.csv"), ("--format", "parquet"), ("--answered-only",)]
)
def test_failed_rows_are_written_as_lines_only(folder, simulate, options):
    write_jsonl(folder.path / "rows.jsonl", rows(2))
    url = simulate().url
    assert folder.batcher("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", url)
    assert folder.batcher("export", "--failures", *options).code == 2


def test_the_end_of_a_run_and_status_say_why_rows_have_no_answer(folder, simulate):
    refused = [row(n, "[[fault:413]]") for n in range(3)]
    write_jsonl(folder.path / "q.jsonl", [*refused, row(3), {"prompt": 5}])
    command = ("run", "q.jsonl", "--endpoint", "simulator", "--base-url", simulate().url)
    ended = folder.batcher(*command)
    failed = "3 failed with http_413, first at q.jsonl:1: 413 Request Entity Too Large"
    bad = "1 quarantined with WRONG_TYPE at q.jsonl:5: prompt is a number; it must be a string"
    status = folder.batcher("status").out
    assert (ended.code, failed in ended.err, bad in ended.err) == (65, True, True), ended.err
    assert (failed in status, bad in status) == (True, True), status
    assert "next: batcher export --run 1 -o answers.jsonl" in ended.err

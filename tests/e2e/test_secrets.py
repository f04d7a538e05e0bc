"""A key is nowhere but in the header it belongs to: not on disk, not in words, not in /proc."""

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from batcher.cli.care.ledger import moment
from tests.e2e.inputs import PAUSES, QUICK, row, rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import read
from tests.e2e.processes import kill, wait_until

CANARY = b"sk-ant-canary-7Qm2xW9-4fTz81LpVbNc"
FORMS = (CANARY, CANARY.hex().encode(), base64.b64encode(CANARY), CANARY[:16], CANARY[-12:])
WORDS = (
    ("report", "--format", "json"),
    ("report", "--by", "stop_reason"),
    ("status",),
    ("status", "--json"),
    ("show", "row-1"),
    ("show", "row-1", "--json"),
    ("export",),
    ("export", "-o", "answers.csv"),
    ("export", "-o", "answers.parquet"),
)


@pytest.fixture
def place(folder):
    """A folder whose environment holds the canary as the key."""
    folder.environment["ANTHROPIC_API_KEY"] = CANARY.decode()
    write_jsonl(folder.path / "rows.jsonl", [*rows(120), {"prompt": 5}])
    return folder


def assert_clean(where: str, data: bytes) -> None:
    assert not [form for form in FORMS if form in data], f"the key is in {where}"


def assert_nowhere_on_disk(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert_clean(path.name, path.read_bytes())


def assert_said_by_nobody(place) -> None:
    for words in WORDS:
        ended = place.batcher(*words)
        assert ended.code == 0, (words, ended.err)
        assert_clean(shown := " ".join(words), ended.out.encode())
        assert_clean(shown, ended.err.encode())


def test_the_key_is_nowhere_while_a_run_is_on_nor_after_a_kill_nor_at_the_end(
    place, folder_anew, simulate, gated
):
    simulator = simulate("--latency-ms", "5-20", "--fault", "500=0.1", "--fault", "close=0.1")
    gate = gated(simulator, answers=80)
    command = ("run", "rows.jsonl", "--base-url", gate.url, "--concurrency", "8")
    with (place.path / "log").open("wb") as log:
        process = folder_anew.start(*command, stdout=log, stderr=log)
        assert wait_until(lambda: simulator.billed() >= 60, process)
    assert_clean("cmdline", Path(f"/proc/{process.pid}/cmdline").read_bytes())
    limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    assert [line.split()[4] for line in limits if "core file" in line] == ["0"]
    kill(process)
    gate.open()
    assert (place.path / "batcher.db-wal").stat().st_size
    assert_nowhere_on_disk(place.path)

    ended = place.batcher(*command, "--json", "-o", "out.jsonl")
    assert ended.code == 65
    assert_clean("run --json", (ended.out + ended.err).encode())
    assert_said_by_nobody(place)
    assert_nowhere_on_disk(place.path)


def test_doctor_shows_where_the_key_is_from_and_never_the_key(place, simulate):
    url = f'base_url = "{simulate().url}"'
    (place.path / "config.toml").write_text(f"[endpoints.anthropic]\n{url}\n")
    told = place.batcher("doctor")
    assert told.code == 0, told.out + told.err
    assert "ANTHROPIC_API_KEY" in told.out
    assert_clean("doctor", (told.out + told.err).encode())
    assert place.batcher("doctor", ANTHROPIC_API_KEY="").code == 1


def test_a_refused_key_is_not_shown(place, simulate):
    simulator = simulate("--expect-key-env", "RIGHT_KEY", RIGHT_KEY="right")
    ended = place.batcher("run", "rows.jsonl", "--base-url", simulator.url)
    assert ended.code == 77
    assert_clean("run", (ended.out + ended.err).encode())
    assert_nowhere_on_disk(place.path)


@pytest.mark.parametrize("key", ["sk-ant canary-7Qm2xW9", "sk-ant-canary-7Qm2xW9\n x", "clé"])
def test_a_key_that_is_none_is_refused_without_being_shown(place, simulate, key):
    ended = place.batcher(
        *("run", "rows.jsonl", "--base-url", simulate().url), ANTHROPIC_API_KEY=key
    )
    assert ended.code == 77
    assert key not in ended.err
    assert "canary" not in ended.err


class Echo(BaseHTTPRequestHandler):
    """A server that says the key it got in its errors, and in an answer's headers and body."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        key = self.headers["x-api-key"]
        status = self.server.status
        words = getattr(self.server, "words", f"got {key}")
        error = {
            400: f'{{"error": {{"type": "x-{key}", "code": "{key}", "message": "{words}"}}}}',
            500: f"<html>Internal error, headers: x-api-key: {key}</html>",
            200: f"<html>Welcome, {key}</html>",
        }[status].encode()
        self.send_response(status)
        self.send_header("request-id", key)
        self.send_header("content-length", str(len(error)))
        self.end_headers()
        self.wfile.write(error)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def echo() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [400, 500, 200])
def test_a_server_that_repeats_the_key_puts_it_nowhere(place, echo, status):
    echo.status = status
    write_jsonl(place.path / "rows.jsonl", [row(1)])
    (place.path / "config.toml").write_text(f"{QUICK}first_contact_seconds = 1\n")
    url = f"http://127.0.0.1:{echo.server_port}"
    ended = place.batcher("run", "rows.jsonl", "--base-url", url)
    assert ended.code in {65, 69, 78}
    assert_clean("run", (ended.out + ended.err).encode())
    assert read(str(place.path / "batcher.db"), "SELECT * FROM v_attempts")
    assert_nowhere_on_disk(place.path)


@pytest.mark.parametrize("case", [bytes, bytes.upper])
def test_a_server_that_spells_the_key_otherwise_puts_it_nowhere(place, echo, case):
    spelled = [case(form).decode() for form in FORMS]
    percents = "".join(f"%{byte:02x}" for byte in CANARY)
    echo.status, echo.words = 400, " ".join([*spelled, percents, CANARY[5:17].decode()])
    write_jsonl(place.path / "rows.jsonl", [row(1)])
    url = f"http://127.0.0.1:{echo.server_port}?key={CANARY.decode()}"
    ended = place.batcher("run", "rows.jsonl", "--base-url", url, "--log-file", "log")
    assert ended.code in {65, 78}
    shown = place.batcher("show", "row-1").out
    for where in (ended.out, ended.err, shown, (place.path / "log").read_text()):
        assert not any(form in where for form in [*spelled, percents])
    assert_nowhere_on_disk(place.path)
    (stored,) = read(
        str(place.path / "batcher.db"), "SELECT base_url, command FROM invocations"
    )
    assert stored["base_url"] == url.replace(CANARY.decode(), "***")


def test_a_database_password_is_stored_and_shown_nowhere(folder, simulate, postgres_server):
    postgres_server.execute("CREATE ROLE keyed LOGIN SUPERUSER PASSWORD 'canary-7Qm2xW9'")
    plain = postgres_server.new_database()
    url = plain.replace("postgres@", "keyed:canary-7Qm2xW9@")
    write_jsonl(folder.path / "rows.jsonl", [*rows(5), {"prompt": 5}])
    simulator = simulate()
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    ended = folder.batcher(*command, "--database", url)
    assert ended.code == 65
    assert "canary" not in ended.out + ended.err
    stored = read(plain, "SELECT * FROM invocations")
    assert len(stored) == 1
    assert "canary" not in str(stored)
    for words in (("status",), ("status", "--json"), ("retry",), ("run", "missing.jsonl")):
        told = folder.batcher(*words, "--database", url)
        assert "canary" not in told.out + told.err
    wrong = folder.batcher("report", "--database", url.replace("canary", "canary-wrong"))
    assert wrong.code != 0
    assert "canary" not in wrong.err


SAID = "what-the-model-said"


def words_on_disk(folder: Path, words: str) -> list[str]:
    files = [path for path in folder.glob("batcher.db*") if path.is_file()]
    return [path.name for path in files if words.encode() in path.read_bytes()]


def stored_texts(folder) -> set[tuple[str, str]]:
    found = read(str(folder.path / "batcher.db"), "SELECT text, content FROM v_answers_all")
    return {(each["text"], each["content"]) for each in found}


def test_usage_stores_no_word_and_resumes_reports_and_verifies(folder, simulate):
    simulator = simulate("--fault", "close=0.05", "--fault", "200_html=0.05")
    write_jsonl(folder.path / "rows.jsonl", [row(n, PAUSES) for n in range(40)])
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    ended = folder.batcher(*command, "--store", "usage", "-o", "out.jsonl")
    assert ended.code == 0, ended.err
    assert "40 answers come without text and content" in ended.err
    assert stored_texts(folder) == {("", "null")}
    check_everything(folder, str(folder.path / "batcher.db"), simulator, {"rows.jsonl": 40})
    assert folder.batcher("verify").code == 0
    again = folder.batcher(*command, "--json").json
    assert (again["sent"], again["done_before"]) == (0, 40)
    assert "answer not kept" in folder.batcher("show", "row-1").out


def test_the_store_is_a_setting_and_nothing_else_is_one(folder, simulate):
    write_jsonl(folder.path / "rows.jsonl", rows(3))
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulate().url)
    wrong = folder.batcher(*command, BATCHER_STORE="nothing")
    assert (wrong.code, "BATCHER_STORE (store) is 'nothing'" in wrong.err) == (78, True)
    assert folder.batcher(*command, BATCHER_STORE="usage").code == 0
    assert stored_texts(folder) == {("", "null")}


def test_a_purge_asks_then_drops_every_word_and_reports_stay_the_same(folder, simulate):
    simulator = simulate()
    write_jsonl(folder.path / "rows.jsonl", [*rows(30), {"custom_id": SAID, "prompt": 5}])
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    assert folder.batcher(*command).code == 65
    texts = [text for text, _ in stored_texts(folder)]
    words = max(texts, key=len)[:30]
    assert words_on_disk(folder.path, words)
    reports = [
        ("report", "--format", "json"),
        ("report", "--by", "day", "--by", "model", "--format", "csv"),
    ]
    before = [folder.batcher(*report).out for report in reports]
    status = json.loads(folder.batcher("status", "--json").out)
    assert "would go" in folder.batcher("db", "purge", "--older-than", "0h", "--dry-run").out
    unasked = folder.batcher("db", "purge", "--older-than", "0h")
    assert (unasked.code, "add --yes" in unasked.err) == (2, True)
    assert words_on_disk(folder.path, words)

    done = folder.batcher("db", "purge", "--older-than", "0h", "--yes")
    assert done.code == 0, done.err
    assert done.out.startswith(
        "30 answers' texts, 0 unusable bodies, 0 tool results and 1 mess"
    )
    assert words_on_disk(folder.path, words) == []
    assert [folder.batcher(*report).out for report in reports] == before
    (reason,) = status["runs"][0]["reasons"]
    reason["message"] = "purged"  # what it says of the row may have the row's words
    assert json.loads(folder.batcher("status", "--json").out) == status
    assert folder.batcher("verify").code == 0
    assert folder.batcher(*command, "--json").json["sent"] == 0
    assert "0 answers' texts" in folder.batcher("db", "purge", "--older-than", "0h").out


def test_an_age_counts_to_the_microsecond_and_zero_of_it_is_now():
    now = datetime(2026, 10, 2, 12, 0, 0, 999_999, UTC)
    assert moment("0h", now) == now
    assert moment("12h", now) == now - timedelta(hours=12)
    assert moment("2026-10-01", now) == datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "when", ["", "d", "-1d", "30", "30m", "yesterday", "2026-13-01", "9" * 9]
)
def test_a_purge_wants_to_know_how_old(folder, when):
    ended = folder.batcher("db", "purge", "--older-than", when, "--yes")
    assert ended.code == 2
    assert "write 30d" in ended.err


def test_what_a_server_says_steers_no_terminal(place, echo):
    echo.status = 400
    write_jsonl(place.path / "rows.jsonl", [row(n) for n in (0, 3, 6, 9)])
    url = f"http://127.0.0.1:{echo.server_port}"
    echo.words = "\\u001b[31mred\\u0007 \\u202eback\\u009b1m"
    ended = place.batcher("run", "rows.jsonl", "--base-url", url)
    assert ended.code == 78
    assert "[31mred" in ended.err
    shown = [place.batcher(*words) for words in (("show", "row-0"), ("status",), ("report",))]
    said = "".join(each.out + each.err for each in [ended, *shown])
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(said)


def test_reports_and_exports_are_for_their_owner_only(folder, simulate):
    write_jsonl(folder.path / "rows.jsonl", rows(3))
    url = simulate().url
    ended = folder.batcher("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", url)
    assert ended.code == 0, ended.err
    targets = {
        "out.html": ("report", "--format", "html"),
        "out.md": ("report", "--format", "markdown"),
        "out.json": ("report", "--format", "json"),
        "sums.parquet": ("report", "--format", "parquet"),
        "focus.csv": ("report", "--format", "focus"),
        "answers.csv": ("export",),
        "answers.parquet": ("export",),
    }
    for name, command in targets.items():
        assert folder.batcher(*command, "-o", name).code == 0, name
        assert (folder.path / name).stat().st_mode & 0o777 == 0o600, name
    made = [path for path in folder.path.glob("batcher.db*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}


MINE = """
[endpoints.mine]
dialect = "anthropic"
base_url = "http://127.0.0.1:9"
api_key_file = "key"

[endpoints.other]
dialect = "anthropic"
base_url = "http://127.0.0.1:9"
auth = "none"
"""
TYPED = (
    ("--tag", "owner={}"),
    ("--tag", "{}=me"),
    ("--name", "{}"),
    ("--model", "{}"),
    ("--system", "You are {}."),
)


@pytest.mark.parametrize("fallback", [(), ("-e", "other", "--fallback", "mine")])
@pytest.mark.parametrize(("option", "value"), TYPED)
def test_a_key_from_a_file_that_is_typed_too_is_kept_nowhere(folder, option, value, fallback):
    key = folder.path / "key"
    key.write_text("a-plain-key-of-31-characters-xy")
    key.chmod(0o600)
    (folder.path / "config.toml").write_text(MINE)
    write_jsonl(folder.path / "rows.jsonl", rows(2))
    command = ("run", "rows.jsonl", "-m", "m", *(fallback or ("-e", "mine")))
    ended = folder.batcher(*command, option, value.format("plain-key-of-31-ch"), "-v")
    assert ended.code == 78, ended.err
    assert "take it out" in ended.err
    assert "plain-key" not in ended.err
    assert not (folder.path / "batcher.db").exists()

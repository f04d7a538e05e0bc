"""What watches a run: log, metrics, pings and messages, on whole commands and by themselves."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from urllib.error import HTTPError

import pytest

from batcher import wiring
from batcher.clock import SystemClock
from batcher.errors import CannotCreate, ConfigurationError, UsageError
from batcher.ledger.runs import Recovery
from batcher.monitoring.metrics_file import MARK, MetricsFile
from batcher.monitoring.monitors import Command, Monitors, Ping, Webhook, message_for, poster
from batcher.monitoring.run_log import LogFile, RunLog
from batcher.pacing.limits import Limit, QuotaUse
from batcher.pipeline.choices import LogFormat
from batcher.pipeline.progress import BindingLimit, Ended, Progress, Started
from batcher.simulator.server import Simulator
from batcher.transport.endpoint import Route, Secret


def started(progress: Progress) -> Started:
    return Started(
        run_id=1, invocation_id=2, database="x.db", database_created=False,
        recovery=Recovery(attempts=0, cost_high=0, unbounded=0), retrying=0,
        price_note="priced with list anthropic", progress=progress,
    )  # fmt: skip


def ended(code: int = 0, error: str = "", **progress: int) -> Ended:
    return Ended(
        exit_code=code, error=error, rows_left=False, seconds=1.0,
        progress=Progress(**progress), unfinished_rows={"failed": 2},
    )  # fmt: skip


class Moving(SystemClock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    def random(self) -> float:
        return 0.0

    def now_us(self) -> int:
        return 1_700_000_000_000_000 + int(self.at * 1e6)


@pytest.fixture
def log():
    lines: list[str] = []
    clock = Moving()
    made = RunLog(lines.append, LogFormat.JSON, clock)
    yield made, clock, lines
    made.finish(0, "", None)


def events(lines: list[str]) -> list[tuple[str, str]]:
    return [(line["event"], line["message"]) for line in map(json.loads, lines)]


def test_progress_is_told_ever_less_often(log):
    made, clock, lines = log
    made.started(started(Progress(total_rows=10)))
    lines.clear()
    for second in range(1, 400):
        clock.at = float(second)
        made._tick()
    moments = [json.loads(line)["time"] for line in lines if "progress" in line]
    seconds = [int(m[17:19]) + 60 * int(m[14:16]) for m in moments]
    gaps = [b - a for a, b in pairwise(seconds)]
    assert gaps[0] <= 10
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60


def test_each_change_of_state_is_told_once(log):
    made, _, lines = log
    progress = Progress()
    made.started(started(progress))
    lines.clear()
    away = "the server has not answered for 60 s"
    for outage in ("", away, away, ""):
        progress.outage = outage
        made._tick()
    progress.binding_limit_now = BindingLimit(
        name="concurrency", option="--concurrency", part=0.5
    )
    made._tick()
    assert events(lines) == [
        ("outage", away),
        ("outage", "the server answers again"),
        ("limit", "limited by concurrency"),
    ]


def test_a_quota_that_the_server_changes_is_told_once(log):
    made, _, lines = log
    progress = Progress()
    made.started(started(progress))
    lines.clear()
    for per_minute in (4_000.0, 4_000.0, 2_000.0, 2_000.0, 4_000.0):
        use = QuotaUse("claude-haiku-4-5", Limit.REQUESTS, per_minute, 0.5)
        progress.quota_used = [use]
        made._tick()
    name = "quota of claude-haiku-4-5: requests per minute"
    assert events(lines) == [
        ("quota", f"{name} fell from 4,000 to 2,000"),
        ("quota", f"{name} rose from 2,000 to 4,000"),
    ]
    fell, rose = map(json.loads, lines)
    assert (fell["level"], fell["per_minute_before"], fell["per_minute"]) == (
        "warning", 4_000, 2_000,
    )  # fmt: skip
    assert rose["level"] == "info"


def test_a_learned_pace_is_told_when_it_is_another_one(log):
    made, _, lines = log
    progress = Progress()
    made.started(started(progress))
    lines.clear()
    for per_minute in (1_000, 1_030, 700, 500, 515, 530, 500):
        progress.learned_per_minute = {"some-model": per_minute}
        made._tick()
    learned = "requests per minute learned from the server's refusals"
    assert events(lines) == [
        ("quota", f"quota of some-model: {learned} fell from 1,000 to 500"),
    ]


def test_a_request_that_takes_unusually_long_is_told_and_that_it_ended(log):
    made, _, lines = log
    progress = Progress(usual_seconds=5.0)
    made.started(started(progress))
    lines.clear()
    for minutes in (1, 2, 3, 8, 9, 1.5, 0.5, 0.5):
        progress.oldest_seconds = minutes * 60
        made._tick()
    progress.usual_seconds = 300.0  # long answers: 8 minutes are nothing unusual
    progress.oldest_seconds = 480.0
    made._tick()
    assert events(lines) == [
        ("oldest_request", "the oldest request is 2 min old"),
        ("oldest_request", "the oldest request is 8 min old"),
        ("oldest_request", "the oldest request has ended"),
    ]
    assert json.loads(lines[1])["oldest_seconds"] == 480


def test_changes_of_state_are_lines_of_text_too():
    lines: list[str] = []
    made = RunLog(lines.append, LogFormat.TEXT, Moving())
    progress = Progress(oldest_seconds=480.0)
    made.started(started(progress))
    lines.clear()
    made._tick()
    made.finish(0, "", None)
    assert lines[0] == "2023-11-14T22:13:20.000Z WARNING the oldest request is 8 min old"


def test_text_lines_cannot_steer_a_terminal():
    lines: list[str] = []
    made = RunLog(lines.append, LogFormat.TEXT, Moving())
    made.said("a\x1b[31mred\nline")
    assert lines == ["2023-11-14T22:13:20.000Z WARNING a\\x1b[31mred line"]


def test_a_log_is_found_anew_when_it_was_moved(tmp_path):
    log = LogFile(tmp_path / "run.log")
    log("one")
    (tmp_path / "run.log").rename(tmp_path / "run.log.1")
    log("two")
    assert (tmp_path / "run.log.1").read_text() == "one\n"
    assert (tmp_path / "run.log").read_text() == "two\n"


def test_a_log_that_nobody_reads_holds_nobody_up(tmp_path):
    pipe = tmp_path / "run.log"
    os.mkfifo(pipe)
    with pytest.raises(CannotCreate, match="nobody reads this pipe"):
        LogFile(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = LogFile(pipe)
    log("one")
    assert os.read(reading, 100) == b"one\n"
    with pytest.raises(BlockingIOError):
        log("x" * 1_000_000)
    os.close(reading)
    with pytest.raises(OSError, match="No such device"):
        log("two")


SAMPLE = re.compile(
    r'^(batcher_\w+)\{batcher_job="((?:[^"\\]|\\.)*)"(?:,(\w+)="([^"]*)")?\} (\S+)$'
)


def samples(path) -> dict[tuple[str, str | None], str]:
    lines = path.read_text().splitlines()
    assert lines[0] == MARK
    found = [SAMPLE.match(line) for line in lines if not line.startswith("#")]
    assert all(found)
    return {(each[1], each[4]): each[5] for each in found}


def test_metrics_are_whole_readable_and_remember_the_last_success(tmp_path):
    path = tmp_path / "batcher.prom"
    clock = Moving()
    first = MetricsFile(path, 'a "job"', clock)
    first.begin()
    assert samples(path)["batcher_running", None] == "1"
    first.finish(
        0,
        "",
        ended(
            answered=3, sent=4, cost=1_500_000_000_000, assumed=2, assumed_high=700_000_000_000
        ),
    )
    said = samples(path)
    assert said["batcher_rows", "answered"] == "3"
    assert said["batcher_cost_usd", None] == "1.500000000000"
    assert (said["batcher_assumed_answers", None], said["batcher_assumed_usd", "high"]) == (
        "2", "0.700000000000",
    )  # fmt: skip
    assert said["batcher_exit_code", None] == "0"
    assert said["batcher_last_success_timestamp_seconds", None] == "1700000000"
    assert path.stat().st_mode & 0o777 == 0o644
    clock.at = 86_400.0
    second = MetricsFile(path, "a job", clock)
    second.begin()
    second.finish(65, "", ended(65))
    assert samples(path)["batcher_exit_code", None] == "65"
    assert samples(path)["batcher_last_success_timestamp_seconds", None] == "1700000000"
    assert [each.name for each in tmp_path.iterdir()] == ["batcher.prom"]


def test_metrics_replace_nothing_that_is_not_theirs(tmp_path):
    (tmp_path / "other.prom").write_text("node_load1 3\n")
    with pytest.raises(CannotCreate, match="not written by batcher"):
        MetricsFile(tmp_path / "other.prom", "job", SystemClock())
    with pytest.raises(ConfigurationError, match="must end in"):
        MetricsFile(tmp_path / "batcher.txt", "job", SystemClock())
    assert (tmp_path / "other.prom").read_text() == "node_load1 3\n"


@pytest.fixture
def watch():
    """A server that keeps what it is asked; it refuses the first `refuse` times."""
    asked: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        refuse = 0

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.path, body))
            self.send_response(500 if len(asked) <= Handler.refuse else 200)
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815 - names of the standard library

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked, Handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("code", "path"), [(0, "/abc"), (65, "/abc/65")])
def test_a_ping_tells_how_it_ended_and_tries_again(watch, code, path):
    url, asked, handler = watch
    handler.refuse = 2
    Ping(Secret(f"{url}/abc/"), poster(Route()), SystemClock()).finish(code, "", None)
    assert [each[0] for each in asked] == [path] * 3


def test_a_watch_that_speaks_no_http_stops_no_run():
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_with_noise, args=(server, 3))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/abc"
        monitors = Monitors([Ping(Secret(url), poster(Route()), Moving())])
        monitors.finish(0)
        thread.join()
    words = "the ping was not heard: BadStatusLine; the run went on without it"
    assert monitors.troubles == [words]


def answer_with_noise(server: socket.socket, times: int) -> None:
    for _ in range(times):
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"220 mail.example ESMTP\r\n\r\n")


def test_a_webhook_gets_counts_and_codes_only(watch):
    url, asked, _ = watch
    hook = Webhook(Secret(url), poster(Route()), "nightly", SystemClock())
    hook.finish(0, "", ended())
    assert not asked
    hook.finish(65, "what a server said", ended(65, answered=3))
    (said,) = asked
    assert json.loads(said[1]) == {
        "text": "batcher: nightly ended with 65: 3 rows answered, 2 failed"
    }


def test_a_command_gets_the_message(tmp_path):
    program = f"import sys; open({str(tmp_path / 'said')!r}, 'w').write(sys.stdin.read())"
    Command([sys.executable, "-c", program], "nightly").finish(78, "", None)
    assert (tmp_path / "said").read_text() == f"{message_for('nightly', 78, None)}\n"


def refused(_url, _body):
    raise HTTPError("http://watch.example/a-secret", 404, "a-secret", Message(), None)


def test_a_monitor_that_fails_stops_nothing_and_is_told_without_an_address(tmp_path):
    url = Secret("http://watch.example/a-secret")
    watches = [
        Command([str(tmp_path / "nobody")], "nightly"),
        Ping(url, refused, Moving()),
        Webhook(url, refused, "nightly", Moving()),
    ]
    monitors = Monitors(watches)
    monitors.finish(65)
    monitors.finish(65)
    assert monitors.troubles == [
        f"{tmp_path / 'nobody'}: No such file or directory; the run went on without it",
        "the ping was not heard: HTTP 404; the run went on without it",
        "the webhook was not heard: HTTP 404; the run went on without it",
    ]


def test_a_log_on_a_full_disk_is_tried_again_with_each_line_and_told(tmp_path):
    name = tmp_path / "run.log"
    name.symlink_to("/dev/full")
    log = RunLog(LogFile(name), LogFormat.TEXT, Moving())
    monitors = Monitors([log])
    monitors.said("lost")
    name.unlink()
    monitors.said("kept")
    assert name.read_text().endswith("WARNING kept\n")
    why = "No space left on device; the run went on without it"
    assert monitors.troubles == [f"the log {name}: {why}"]


@pytest.fixture
def simulated():
    """The base URL of a simulator in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    simulator = Simulator()
    asyncio.run_coroutine_threadsafe(simulator.__aenter__(), loop).result()
    yield simulator.base_url
    asyncio.run_coroutine_threadsafe(simulator.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def run(*words, folder, **environment):
    command = [sys.executable, "-m", "batcher", "run", *words]
    return subprocess.run(
        command, cwd=folder, env={"PATH": "/usr/bin", "HOME": str(folder), **environment},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_command_that_is_refused_is_watched_too(watch, tmp_path):
    url, asked, _ = watch
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    words = ("rows.jsonl", "--log-file", "run.log", "--metrics-file", "run.prom")
    done = run(*words, folder=tmp_path, BATCHER_PING_URL=url, BATCHER_ENDPOINT="nobody")
    assert done.returncode == 78
    assert "ended with 78: unknown endpoint" in (tmp_path / "run.log").read_text()
    assert samples(tmp_path / "run.prom")["batcher_exit_code", None] == "78"
    assert "/78" in [path for path, _ in asked]


def test_the_address_of_a_ping_is_recorded_nowhere(simulated, watch, tmp_path):
    url, asked, _ = watch
    secret = f"{url}/a-secret-uuid"
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    words = ("rows.jsonl", "-m", "claude-haiku-4-5", "-e", "simulator", "--log-format", "json")
    more = ("--base-url", simulated, "--ping-url", secret)
    done = run(*words, *more, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "batcher.db").read_bytes().count(b"a-secret-uuid") == 0
    assert "a-secret-uuid" not in done.stdout + done.stderr
    assert asked[-1][0] == "/a-secret-uuid"
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert lines[-1]["event"] == "ended"
    assert lines[-1]["answered"] == 1


class Stopped(BaseException):
    """As a signal is raised while nothing else heeds it."""

    exit_code = 75


def test_a_signal_at_the_start_is_told_with_its_own_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def stop(_monitors):
        raise Stopped("SIGTERM received")

    typed = wiring.asked(("rows.jsonl",), None, None, options={"log_file": "run.log"})
    with pytest.raises(Stopped):
        wiring.watched(typed, stop)
    assert "ended with 75: SIGTERM received" in (tmp_path / "run.log").read_text()


@pytest.mark.parametrize("name", ["log_file", "metrics_file", "database"])
def test_an_empty_name_is_refused(name):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is empty"):
        wiring.asked(("rows.jsonl",), None, None, options={name: ""})

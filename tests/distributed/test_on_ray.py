"""A real Ray on loopback: it places the workers of one run, and starts anew what dies.

Needs the extra `ray`: `python -m pytest -m ray tests/distributed`.
"""

import importlib.util
import os
import re
import signal
from pathlib import Path

import pytest

from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import opened
from tests.e2e.processes import PIPES, finish, wait_for, wait_until

HERE = importlib.util.find_spec("ray") is not None
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not HERE, reason="NOT TESTED: Ray, which is not installed"),
]


@pytest.fixture
def on_ray(folder_anew, simulate, gated, postgres_url):
    """Starts `batcher run --on ray` over so many rows; answers wait for `gate.open()`."""
    folder = folder_anew  # Ray does not start in a forked process

    class OnRay:
        url = postgres_url

        def begin(self, number, answers=0):
            self.rows = number
            self.simulator = simulate("--latency-ms", "20-40")
            self.gate = gated(self.simulator, answers)
            write_jsonl(folder.path / "rows.jsonl", rows(number))
            where = ("--endpoint", "simulator", "--base-url", self.gate.url)
            self.command = ("run", "rows.jsonl", *where, "--database", postgres_url, "--json")
            return self

        def start(self, *more, **streams):
            return folder.start(
                *self.command, "--on", "ray", "--concurrency", "8", *more, **PIPES | streams
            )

        def check(self):
            return check_everything(folder, self.url, self.simulator, {"rows.jsonl": self.rows})

        def at_work(self):
            """The processes that have something under way, by their numbers."""
            with opened(postgres_url) as ask:
                found = ask(
                    "SELECT DISTINCT pid FROM invocations WHERE invocation_id IN"
                    " (SELECT invocation_id FROM v_attempts WHERE state = 'open')"
                )
            return [line["pid"] for line in found]

    yield OnRay()
    assert not list(folder.path.glob(".ray*"))
    wait_for(lambda: not of_ray(folder.path))  # that of a killed driver look after it


def of_ray(home):
    """Processes of Ray whose home folder is that of the test."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
            ours = f"HOME={home}\0".encode() in (path / "environ").read_bytes()
        except OSError:
            continue
        if ours and re.search(rb"raylet|gcs_server|ray::", words):
            found.append(words)
    return found


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_two_workers_do_one_run_and_nothing_of_ray_stays(folder, on_ray):
    on_ray.begin(300)
    on_ray.gate.open()
    ended = finish(on_ray.start("--workers", "2", "-o", "out.jsonl"))
    assert (ended.code, ended.json["answered"], ended.json["rows_left"]) == (0, 300, False), (
        ended
    )
    assert ended.json["rows_written"] == 300
    assert len((folder.path / "out.jsonl").read_text().splitlines()) == 300
    on_ray.check()
    with opened(on_ray.url) as ask:
        (found,) = ask("SELECT count(DISTINCT invocation_id) AS workers FROM v_attempts")
    assert found["workers"] == 2
    again = finish(on_ray.start("--workers", "1"))
    assert (again.code, again.json["answered"]) == (0, 0), again


def test_killed_processes_and_actors_are_followed_by_others(on_ray):
    on_ray.begin(400, answers=100)
    driver = on_ray.start("--workers", "2")
    assert wait_until(lambda: len(on_ray.at_work()) == 2, driver)
    first, second = on_ray.at_work()
    actor = parent_of(second)
    os.kill(first, signal.SIGKILL)
    os.kill(actor, signal.SIGKILL)
    assert wait_until(lambda: len({*on_ray.at_work()} - {first, second}) == 2, driver)
    on_ray.gate.open()
    ended = finish(driver)
    assert (ended.code, ended.json["rows_left"]) == (0, False), ended
    books = on_ray.check()
    lost = [line for line in books.attempts.values() if line["state"] == "unknown"]
    assert len(lost) <= 16


def test_a_signal_drains_all_and_the_same_command_goes_on(on_ray):
    on_ray.begin(400, answers=100)
    driver = on_ray.start("--workers", "2")
    assert wait_until(lambda: len(on_ray.at_work()) == 2, driver)
    driver.send_signal(signal.SIGTERM)
    on_ray.gate.open()
    drained = finish(driver)
    assert (drained.code, drained.json["rows_left"]) == (75, True), drained
    ended = finish(on_ray.start("--workers", "1"))
    assert (ended.code, ended.json["rows_left"]) == (0, False), ended
    books = on_ray.check()
    assert not [line for line in books.attempts.values() if line["state"] == "unknown"]


def test_workers_end_with_their_driver_and_another_one_goes_on(on_ray):
    on_ray.begin(300, answers=60)
    driver = on_ray.start("--workers", "1")
    assert wait_until(lambda: len(on_ray.at_work()) == 1, driver)
    (worker,) = on_ray.at_work()
    driver.kill()
    driver.wait()
    on_ray.gate.open()
    gone = Path(f"/proc/{worker}")
    next_one = on_ray.start("--workers", "1")
    assert wait_until(lambda: not gone.exists(), next_one)
    ended = finish(next_one)
    assert (ended.code, ended.json["rows_left"]) == (0, False), ended
    on_ray.check()


def test_a_cap_and_a_limit_hold_for_all_workers(on_ray):
    on_ray.begin(200)
    on_ray.gate.open()
    limited = finish(on_ray.start("--workers", "2", "--limit", "30"))
    assert (limited.code, limited.json["answered"], limited.json["rows_left"]) == (0, 30, True)
    capped = finish(on_ray.start("--workers", "2", "--max-cost", "0.08"))
    assert capped.code == 77, capped
    with opened(on_ray.url) as ask:
        (budget,) = ask("SELECT cap, granted, settled FROM budgets")
    assert budget["granted"] + budget["settled"] <= budget["cap"]


def test_a_worker_that_cannot_begin_says_why(on_ray):
    on_ray.begin(10)
    away = ("--endpoint", "anthropic", "--base-url", "https://messages.example")
    refused = finish(on_ray.start("--workers", "1", *away))
    assert refused.code == 77
    assert "ANTHROPIC_API_KEY" in refused.json["error"]

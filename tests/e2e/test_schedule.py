"""The crontab line and the systemd units of docs/schedule.md, as they stand there."""

import configparser
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.e2e.inputs import QUICK, rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count
from tests.e2e.processes import PATIENCE_SECONDS, Ended, wait_until

DOCUMENT = Path(__file__).parents[2] / "docs" / "schedule.md"
# What cron gives its commands.
CRON = {"LOGNAME": "batcher", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def crontab_commands() -> list[str]:
    lines = "".join(blocks("crontab")).splitlines()
    return [re.fullmatch(r"(?:\S+\s+){5}(.*)", line)[1] for line in lines]


def unit(number: int) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str
    parsed.read_string(blocks("ini")[number])
    return parsed


@pytest.fixture
def nightly(folder, simulate, programs):
    """The documented folder, and a way to run a documented command line as cron would."""
    simulator = simulate("--latency-ms", "1-5")
    place = folder.path / "srv"
    (place / "inbox").mkdir(parents=True)
    job, config, *_ = blocks("toml")
    (place / "nightly.toml").write_text(job)
    (place / "config.toml").write_text(f'{config}base_url = "{simulator.url}"\n{QUICK}')
    (place / "anthropic.key").touch(mode=0o600)
    (place / "anthropic.key").write_text("sk-ant-from-a-file\n")
    write_jsonl(place / "inbox" / "monday.jsonl", rows(60))

    def run(line: str) -> Ended:
        real = line.replace("/opt/batcher/bin/batcher", shlex.quote(str(programs / "batcher")))
        command = ["env", "-i", f"HOME={place}", *(f"{k}={v}" for k, v in CRON.items())]
        done = subprocess.run(
            [*command, "/bin/sh", "-c", real.replace("/srv/batcher", shlex.quote(str(place)))],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    run.place, run.simulator = place, simulator
    return run


def test_the_crontab_line_does_the_job_once_and_then_has_nothing_to_do(folder, nightly):
    line = crontab_commands()[0]
    assert nightly(line) == Ended(0, "", "")
    assert nightly(line) == Ended(0, "", "")
    database = str(nightly.place / "batcher.db")
    inputs = {"inbox/monday.jsonl": 60}
    books = check_everything(folder, database, nightly.simulator, inputs)
    assert len(books.bill) == 60
    assert {line["job"] for line in books.answers} == {"nightly"}


def test_the_next_night_sends_what_is_new(nightly):
    line = crontab_commands()[0]
    assert nightly(line).code == 0
    write_jsonl(nightly.place / "inbox" / "tuesday.jsonl", rows(40, first=60))
    assert nightly(line).code == 0
    assert nightly.simulator.billed() == 100


def test_a_night_that_meets_the_one_before_changes_nothing(folder, nightly):
    slow = [{"prompt": f"slow {n} [[latency:60000]]"} for n in range(3)]
    write_jsonl(nightly.place / "inbox" / "monday.jsonl", slow)
    holder = folder.start("run", "--job", nightly.place / "nightly.toml")
    assert wait_until(lambda: nightly.simulator.billed() > 0, holder)
    ended = nightly(crontab_commands()[0])
    assert ended.code == 75
    assert str(holder.pid) in ended.err
    assert holder.poll() is None
    assert nightly.simulator.billed() == 1, "the first row of a model goes alone"


def test_the_mail_says_how_it_stands_when_rows_have_no_answer(nightly):
    write_jsonl(nightly.place / "inbox" / "bad.jsonl", [{"prompt": 5}])
    ended = nightly(crontab_commands()[1])
    assert ended.code == 0, "the code is that of status"
    assert "quarantined" in ended.out


def test_the_command_of_the_service_does_the_job(nightly):
    ended = nightly(unit(0)["Service"]["ExecStart"])
    assert ended.code == 0
    assert "60 rows answered" in ended.err
    assert count(str(nightly.place / "batcher.db"), "v_answers") == 60


def test_the_units_belong_together():
    service, timer = unit(0)["Service"], unit(1)
    assert service["Type"] == "oneshot"
    assert set(service["SuccessExitStatus"].split()) == {"65", "75"}
    assert not set(service["RestartPreventExitStatus"].split()) & {"69", "74", "75"}
    assert timer["Timer"]["OnCalendar"] == "*-*-* 02:00:00"
    assert timer["Install"]["WantedBy"] == "timers.target"
    names = re.findall(r"`/etc/systemd/system/(.*?)\.(service|timer)`", DOCUMENT.read_text())
    assert {name for name, _ in names} == {"batcher-nightly"}


def test_the_morning_s_commands_work(folder, nightly):
    assert nightly(crontab_commands()[0]).code == 0
    for line in blocks("sh")[-1].splitlines():
        words = shlex.split(line.replace("/srv/batcher", str(nightly.place)))
        assert folder.batcher(*words[1:]).code == 0

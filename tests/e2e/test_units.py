"""What `batcher jobs crontab|systemd|kubernetes` prints, run as the schedulers would."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.inputs import QUICK, rows, write_jsonl
from tests.e2e.ledgers import count
from tests.e2e.processes import PATIENCE_SECONDS

JOB = """
name = "Nightly, 100%"
inputs = ["in box/*.jsonl"]
model = "claude-haiku-4-5"

[schedule]
cron = "17 2 * * mon-fri"
tz = "Europe/Berlin"
"""
# What a scheduler gives: no variable of the person who typed the command.
CRON = {"LOGNAME": "batcher", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}


@pytest.fixture
def place(tmp_path, simulate):
    """A folder whose name is hard to quote, with a job, its configuration and its key."""
    place = tmp_path / 'srv "x" 50% $HOME $(id)'
    (place / "in box").mkdir(parents=True)
    url = simulate().url
    (place / "night's job.toml").write_text(JOB)
    (place / "config.toml").write_text(
        f'{QUICK}[endpoints.anthropic]\nbase_url = "{url}"\napi_key_file = "key"\n'
    )
    (place / "key").touch(mode=0o600)
    (place / "key").write_text("sk-ant-from-a-file\n")
    write_jsonl(place / "in box" / "a.jsonl", rows(5))
    return place


@pytest.fixture
def printed(folder, place):
    def print_(kind, *options):
        ended = folder.batcher("jobs", kind, place / "night's job.toml", *options)
        assert ended.code == 0, ended
        return ended.out

    return print_


def run(command, place, **more):
    words = ["env", "-i", *(f"{name}={value}" for name, value in (CRON | more).items())]
    done = subprocess.run(
        [*words, *command], cwd="/", stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert count(str(place / "batcher.db"), "v_answers") == 5
    return done


def test_the_line_of_the_crontab_runs_from_anywhere(printed, place):
    comment, zone, line = printed("crontab").splitlines()
    assert comment.startswith("# ")
    assert zone == "CRON_TZ=Europe/Berlin"
    schedule, command = re.fullmatch(r"((?:\S+ ){5}) (.*)", line).groups()
    assert schedule.split() == ["17", "2", "*", "*", "1,2,3,4,5"]
    assert not re.search(r"(?<!\\)%", command), "cron ends a line there"
    done = run(["/bin/sh", "-c", command.replace(r"\%", "%")], place)
    assert (done.stdout, done.stderr) == ("", "")


def unquoted(line):
    """As systemd reads a command: C escapes in quotes, doubled signs for themselves."""
    words = re.findall(r'"(?:[^"\\]|\\.)*"|\S+', line)
    plain = [re.sub(r"\\(.)", r"\1", each[1:-1]) if each[0] == '"' else each for each in words]
    return [each.replace("%%", "%").replace("$$", "$") for each in plain]


def test_the_command_of_the_service_runs_from_anywhere(printed, place):
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str
    parsed.read_string(printed("systemd", "--unit", "service"))
    service = parsed["Service"]
    assert service["WorkingDirectory"].replace("%%", "%") == str(place)
    assert int(service["TimeoutStopSec"]) >= 60
    run(unquoted(service["ExecStart"]), place)


def test_systemd_itself_finds_nothing_wrong_with_the_units(printed, tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    for kind in ("service", "timer"):
        (tmp_path / f"batcher-x.{kind}").write_text(printed("systemd", "--unit", kind))
    done = subprocess.run(
        [program, "verify", tmp_path / "batcher-x.timer", tmp_path / "batcher-x.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "batcher-x" in line]
    assert (done.returncode, said) == (0, []), done


def test_both_units_are_printed_with_their_places(printed):
    text = printed("systemd")
    assert "# /etc/systemd/system/batcher-nightly-100.service\n[Unit]" in text
    assert "# /etc/systemd/system/batcher-nightly-100.timer\n[Unit]" in text
    assert "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 02:17:00 Europe/Berlin" in text


def value(text, key):
    (found,) = re.findall(rf"^ *(?:- )?{key}: (.+)$", text, re.MULTILINE)
    return json.loads(found)


def test_the_command_of_the_pod_runs_from_anywhere(printed, place):
    text = printed("kubernetes", "--image", "registry.example/batcher:1")
    program, *words = value(text, "command")
    assert (program, words[-2:]) == ("batcher", ["--if-running", "wait"])
    assert value(text, "image") == "registry.example/batcher:1"
    assert value(text, "workingDir") == str(place)
    plain = [word.replace("$$(", "$(") for word in words]
    run([program, *plain], place, PATH=f"{Path(sys.executable).parent}:/bin", POD_UID="p-1")


def test_the_pod_ends_in_time_and_may_do_little(printed, place):
    text = printed("kubernetes")
    assert value(text, "schedule") == "17 2 * * 1,2,3,4,5"
    assert value(text, "timeZone") == "Europe/Berlin"
    assert value(text, "terminationGracePeriodSeconds") >= 60
    assert value(text, "runAsNonRoot") is value(text, "readOnlyRootFilesystem") is True
    assert value(text, "allowPrivilegeEscalation") is False
    assert set(value(text, "values")) == {2, 65, 70, 73, 75, 77, 78}
    assert value(text, "restartPolicy") == "Never", "a policy of failures needs it"
    mounted = set(re.findall(r'mountPath: (".*")', text))
    assert mounted == {json.dumps(str(place)), '"/tmp"', json.dumps(str(place / "key"))}


def test_a_key_in_the_environment_comes_from_the_secret(folder):
    (folder.path / "job.toml").write_text('inputs = ["a.jsonl"]\n[schedule]\ncron = "@daily"\n')
    text = folder.batcher("jobs", "kubernetes", "job.toml").out
    assert '- name: "ANTHROPIC_API_KEY"' in text
    assert "timeZone" not in text
    keyless = 'endpoint = "simulator"\ninputs = ["a.jsonl"]\n[schedule]\ncron = "@daily"\n'
    (folder.path / "job.toml").write_text(keyless)
    assert "ecret" not in folder.batcher("jobs", "kubernetes", "job.toml").out
    assert shlex.split(folder.batcher("jobs", "crontab", "job.toml").out)[:5] == [
        "0", "0", "*", "*", "*",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        ("", "has no [schedule]"),
        ('[schedule]\ntz = "UTC"', "has no [schedule]"),
        ('[schedule]\ncron = "17 2 * *"', "has not five fields"),
        ('[schedule]\ncron = "@daily"\ntz = "Mars"', "is no time zone known here"),
        ('[schedule]\ncrom = "@daily"', "did you mean 'cron'?"),
    ],
)
def test_a_job_without_a_schedule_or_with_a_wrong_one_is_refused(folder, schedule, sentence):
    (folder.path / "job.toml").write_text(f'inputs = ["a.jsonl"]\n{schedule}\n')
    for kind in ("crontab", "systemd", "kubernetes"):
        ended = folder.batcher("jobs", kind, "job.toml")
        assert (ended.code, sentence in ended.err) == (78, True), ended


def test_jobs_check_reads_the_schedule_too(folder):
    write_jsonl(folder.path / "a.jsonl", rows(1))
    (folder.path / "job.toml").write_text('inputs = ["a.jsonl"]\n[schedule]\ncron = "daily"\n')
    ended = folder.batcher("jobs", "check", "job.toml")
    assert (ended.code, "has not five fields" in ended.out) == (1, True), ended


def test_jobs_check_names_a_file_once(folder):
    (folder.path / "job.toml").write_text('inputs = ["a.jsonl"]\n[guard]\nrow = 10\n')
    said = folder.batcher("jobs", "check", "job.toml").out
    assert said == "job.toml: guard: unknown setting `row`; did you mean 'rows'?\n"

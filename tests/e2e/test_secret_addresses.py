"""An address that holds a key is refused, and repeated nowhere: by no command, log or alarm."""

import json

import pytest

SECRET = "hunter2hunter2"
ADDRESS = f"s3://AKIAXYZ:{SECRET}@bucket/rows.jsonl"
JOB = ("jobs/nightly.toml",)
WATCHED = ("--log-file", "run.log", "--metrics-file", "run.prom")


@pytest.fixture
def place(folder):
    """A folder with a job whose input, output and schedule are there."""
    (folder.path / "jobs").mkdir()
    (folder.path / "jobs/nightly.toml").write_text(
        f'inputs = ["{ADDRESS}"]\noutput = "{ADDRESS}"\nmodel = "claude-haiku-4-5"\n'
        '[schedule]\ncron = "17 2 * * *"\n'
    )
    return folder


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("jobs", "list"), 0),
        (("jobs", "check"), 1),
        (("jobs", "crontab", *JOB), None),
        (("jobs", "systemd", *JOB), None),
        (("jobs", "kubernetes", *JOB), None),
        (("run", *JOB, *WATCHED), 78),
        (("run", *JOB, "--json", "--verbose"), 78),
        (("run", *JOB, "--dry-run"), 78),
        (("run", ADDRESS, *WATCHED), 78),
        (("run", "rows.jsonl", "-o", ADDRESS), 78),
        (("run", "rows.jsonl", "--log-file", ADDRESS), 78),
        (("run", "rows.jsonl", "--metrics-file", f"{ADDRESS}.prom"), 78),
        (("check", *JOB), 78),
        (("estimate", ADDRESS), 78),
        (("doctor", "--job", *JOB), 1),
        (("config", "show", "--job", *JOB), None),
        (("status", "--database", ADDRESS), 78),
    ],
)
def test_an_address_with_a_key_is_repeated_nowhere(place, words, code):
    (place.path / "rows.jsonl").write_text(json.dumps({"prompt": "a"}) + "\n")
    told = place.path / "told"
    (place.path / "config.toml").write_text(
        f'[notify]\ncommand = ["/bin/sh", "-c", "cat > {told}"]\n'
    )
    done = place.batcher(*words)
    assert code is None or done.code == code, done
    assert "Traceback" not in done.err
    assert SECRET not in done.out + done.err
    for made in ("run.log", "run.prom", "told", "batcher.db"):
        file = place.path / made
        assert not file.exists() or SECRET.encode() not in file.read_bytes(), made

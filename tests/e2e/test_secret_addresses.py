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


TYPED = "sk-ant-api03-Typed-Canary-0123456789"
OF_A_DATABASE = f"postgresql://me:{SECRET}@host/name"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "rows.jsonl", "--max-tokens", TYPED),
        ("run", "rows.jsonl", "--max-tokens", TYPED[7:30].upper()),
        ("run", "rows.jsonl", f"--{TYPED}"),
        ("run", "rows.jsonl", "--if-running", OF_A_DATABASE),
        ("run", "rows.jsonl", "--max-cost", f"http://host/v1?api_key={SECRET}"),
        ("run", "rows.jsonl", "-e", TYPED),
        ("run", "rows.jsonl", "--ping-url", f"https://me:{SECRET}@host/ping"),
        ("run", "rows.jsonl", "--ping-url", f"https://host:{SECRET}/ping"),
        ("run", TYPED, *WATCHED),
        ("report", "--by", TYPED),
        ("status", OF_A_DATABASE),
        (TYPED,),
    ],
)
def test_a_key_or_an_address_that_is_typed_in_the_wrong_place_is_not_repeated(place, words):
    place.environment["ANTHROPIC_API_KEY"] = TYPED
    (place.path / "rows.jsonl").write_text(json.dumps({"prompt": "a"}) + "\n")
    done = place.batcher(*words)
    logs = [place.path / name for name in WATCHED[1::2]]
    told = done.err + done.out + "".join(log.read_text() for log in logs if log.exists())
    assert done.code in {2, 78}, done
    assert done.err.strip()
    assert SECRET not in told
    assert TYPED[10:24].lower() not in told.lower()


def test_what_is_typed_is_repeated_otherwise(place):
    """A word, a name and an address without a secret help who mistyped them."""
    place.environment |= {"ANTHROPIC_API_KEY": TYPED, "OTHER_KEY": "/home/me/project/key.txt"}
    for name in ("/home/me/project/rows.jsonl", "risk-of-many-words-in-a-name.jsonl"):
        assert f"batcher: {name}: no such file" in place.batcher("run", name).err
    address = "https://me@host:8080/v1?after=2026-01-31"
    assert f"'{address}'" in place.batcher("run", "x", "--max-tokens", address).err

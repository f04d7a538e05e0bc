"""What the program says when it cannot say it, or does not know the word."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.inputs import write_jsonl
from tests.e2e.processes import Ended, finish

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a file that is always full")
@pytest.mark.parametrize("words", [("--help",), ("prices", "list")])
def test_output_that_cannot_be_written_is_one_sentence(folder_anew, words):
    with FULL.open("w") as nowhere:
        ended = finish(folder_anew.start(*words, stdout=nowhere, stderr=subprocess.PIPE))
    assert ended.code == 74
    assert ended.err == (
        "batcher: the output cannot be written: No space left on device; make room, then type"
        " the command again\n"
    )


def test_a_command_that_was_mistyped_is_guessed(folder):
    ended = folder.batcher("rnu")
    assert ended.code == 2
    assert "no such command 'rnu': did you mean 'run'?" in ended.err
    assert "No such command 'zzz'" in folder.batcher("zzz").err


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("report", "--view", "latncy"), "latency"),
        (("report", "--format", "cvs"), "csv"),
        (("prices", "show", "claude-hiaku-4-5"), "claude-haiku-4-5"),
        (("run", "q.jsonl", "-e", "simulater"), "simulator"),
    ],
)
def test_a_name_that_was_mistyped_is_guessed(folder, words, near):
    assert f"did you mean '{near}'?" in folder.batcher(*words).err


def test_a_model_that_was_mistyped_is_guessed_before_anything_is_sent(folder):
    write_jsonl(folder.path / "q.jsonl", [{"prompt": "hello"}])
    command = ("run", "q.jsonl", "-e", "simulator", "-m", "claude-hiaku-4-5", "--dry-run")
    assert "did you mean 'claude-haiku-4-5'?" in folder.batcher(*command).out


@pytest.mark.parametrize(
    "words", [("--version",), ("rnu",), ("status",), ("report", "--json"), ("config", "-x")]
)
def test_a_forked_command_is_the_command(folder, folder_anew, words):
    """Most tests type commands that are forked from one process, see `forked.py`."""
    assert folder.batcher(*words) == folder_anew.batcher(*words)


def test_a_command_in_a_shell_is_the_command(folder, folder_anew, programs):
    """Pages are typed into shells, whose `batcher` is that of `shell.py`."""
    text = b'{"prompt": 7}\n{"prompt": "why?"}\n'
    typed = ["/bin/sh", "-c", f"cat | {programs}/batcher check - -m claude-haiku-4-5; exit $?"]
    done = subprocess.run(typed, cwd=folder.path, input=text, capture_output=True, check=False)
    told = Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert told == folder_anew.batcher("check", "-", "-m", "claude-haiku-4-5", stdin=text)


def test_a_command_in_a_shell_is_told_to_end(folder, programs):
    command = [programs / "batcher", "simulate"]
    with subprocess.Popen(command, cwd=folder.path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"listening")
        process.terminate()
        assert process.wait() == 0

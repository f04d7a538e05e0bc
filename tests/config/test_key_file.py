"""A key in a file: read when it is its owner's alone, refused in one sentence otherwise."""

import os

import pytest

from batcher.config.keys import read_key
from batcher.errors import AccessRefused
from batcher.transport.endpoint import Endpoint


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("sk-of-nobody\n")
    path.chmod(0o600)
    return path


def read(path):
    return read_key(
        Endpoint(name="there", base_url="https://there.example", api_key_file=str(path))
    )


def refusal(path) -> str:
    with pytest.raises(AccessRefused) as caught:
        read(path)
    return str(caught.value)


def test_a_file_of_ones_own_holds_the_key(key_file):
    assert read(key_file).reveal() == "sk-of-nobody"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_is_refused_with_what_to_type(key_file, mode):
    key_file.chmod(mode)
    assert f"chmod 600 {key_file}" in refusal(key_file)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two words", b"two\nlines", b"\xff", b"\xc3\xa9"]
)
def test_what_is_no_key_is_refused_and_never_shown(key_file, content):
    key_file.write_bytes(content)
    words = refusal(key_file)
    assert "two" not in words
    assert "there" in words


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert str(tmp_path / "none") in refusal(tmp_path / "none")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "no regular file" in refusal(tmp_path / "pipe")

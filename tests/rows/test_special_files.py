"""What looks like a file and is none is refused, as an input and as an attachment."""

import os

import pytest

from batcher.errors import UsageError
from batcher.messages.request import BadRow
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import Attachments, RequestSettings
from batcher.rows.read.source import find_sources

SPECIAL = ["/proc/self/environ", "/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled",
           "/dev/zero", "/dev/null"]  # fmt: skip


def linked(folder, target, name):
    if not os.path.exists(target):  # noqa: PTH110 - another system has no such file
        pytest.skip(f"{target} is not here")
    link = folder / name
    link.symlink_to(target)
    return link


@pytest.mark.parametrize("target", SPECIAL)
def test_as_an_input(tmp_path, target):
    linked(tmp_path, target, "rows.jsonl")
    with pytest.raises(UsageError, match="is no regular file; use - and standard input"):
        find_sources(["rows.jsonl"], base=tmp_path, spool=None)


def test_a_pipe_as_an_input(tmp_path):
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(UsageError, match="is no regular file"):
        find_sources(["rows.jsonl"], base=tmp_path, spool=None)


@pytest.mark.parametrize("target", SPECIAL)
def test_as_an_attachment(tmp_path, target):
    linked(tmp_path, target, "a.txt")
    assert attached(tmp_path).message == "a.txt: is no regular file"


def test_a_pipe_as_an_attachment_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    assert attached(tmp_path).message == "a.txt: is no regular file"


def attached(folder) -> BadRow:
    anywhere = Attachments.ANYWHERE
    builder = RequestBuilder(RequestSettings(model="m", max_tokens=1, attachments=anywhere))
    found = builder.build(b'{"prompt": "hi", "documents": "a.txt"}', 1, 1, 0, folder)
    assert isinstance(found, BadRow)
    assert found.reason == "BAD_FILE"
    return found

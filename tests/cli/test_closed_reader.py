"""A reader that has seen enough is no failure, and no finding either."""

import subprocess
import sys

import pytest

from tests.cli.test_report import database  # noqa: F401
from tests.databases import sqlite_template, sqlite_url  # noqa: F401

BATCHER = [sys.executable, "-m", "batcher"]


@pytest.mark.parametrize(
    "words",
    [
        ["report"], ["report", "--format", "json"], ["export"], ["export", "--format", "csv"],
        ["status"], ["prices", "list"], ["--help"], ["report", "--help"], ["--version"],
    ],
)  # fmt: skip
def test_a_reader_that_went_away_ends_a_command_with_0(database, words):  # noqa: F811
    child = subprocess.Popen(
        [*BATCHER, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"BATCHER_DATABASE": database, "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"},
    )
    child.stdout.close()
    said = child.stderr.read().decode()
    child.stderr.close()
    assert (child.wait(), "Traceback" in said, "Broken pipe" in said) == (0, False, False)


def test_what_sqlalchemy_logs_of_a_signal_amid_a_query_is_not_printed():
    program = """
import logging
from batcher.cli.menu import group
group.main(["export", "--help"], standalone_mode=False)
logging.getLogger("sqlalchemy.pool.impl.NullPool").error("Error closing cursor")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""

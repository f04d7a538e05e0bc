"""What the tests of the estimates share."""

import pytest

from tests.making_runs import Case


@pytest.fixture
def case(tmp_path, sqlite_url) -> Case:
    """A job on SQLite."""
    return Case(folder=tmp_path, database=sqlite_url)


@pytest.fixture
def on_both(tmp_path, database_url) -> Case:
    """A job on SQLite and on PostgreSQL."""
    return Case(folder=tmp_path, database=database_url)

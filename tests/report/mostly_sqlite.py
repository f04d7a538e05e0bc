"""For files whose tests run on SQLite, but for those that are marked to run on both."""

import pytest

BOTH = pytest.mark.parametrize("database_url", ["sqlite_url", "postgres_url"], indirect=True)


@pytest.fixture
def database_url(request):
    """A ledger at head without a row; on SQLite unless the test is marked with `BOTH`."""
    return request.getfixturevalue(getattr(request, "param", "sqlite_url"))

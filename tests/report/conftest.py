import pytest

from batcher.ledger.connect import open_engine
from tests.databases import (  # noqa: F401
    database_url,
    postgres_server,
    postgres_url,
    sqlite_template,
    sqlite_url,
)
from tests.report.ledger_rows import LedgerRows


@pytest.fixture
def rows(database_url):  # noqa: F811
    rows = LedgerRows(database_url)
    yield rows
    rows.engine.dispose()


@pytest.fixture
def engine(database_url):  # noqa: F811
    engine = open_engine(database_url, read_only=True)
    yield engine
    engine.dispose()


@pytest.fixture
def second_url(sqlite_template, tmp_path):  # noqa: F811
    """A second ledger, in another file."""
    path = tmp_path / "second.db"
    path.write_bytes(sqlite_template.read_bytes())
    return str(path)

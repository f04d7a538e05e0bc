from tests.databases import (  # noqa: F401
    database_url,
    postgres_server,
    postgres_url,
    sqlite_template,
    sqlite_url,
)
from tests.report.conftest import engine, rows, second_url  # noqa: F401

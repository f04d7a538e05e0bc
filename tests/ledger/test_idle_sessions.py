"""A process that is stopped in the middle of a transaction does not keep its locks."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from batcher.ledger.connect import open_engine, writing
from batcher.ledger.owner import lease
from batcher.ledger.owner.session import Session
from tests.e2e.ledgers import wait_until_alone


@pytest.mark.parametrize("rows", [1, 3])
def test_the_server_ends_a_session_that_stops_after_many_rows_of_one_statement(
    postgres_url, rows
):
    engine = open_engine(postgres_url)
    with writing(engine) as connection:
        ours = lease.take(connection, "run", owner="a test", seconds=0.3)
        connection.execute(text("CREATE TABLE numbers (number INT)"))
    many = [{"number": number} for number in range(rows)]

    def stop_in_the_middle(connection):
        connection.exec_driver_sql("INSERT INTO numbers VALUES (%(number)s)", many)
        engine.dispose()
        wait_until_alone(postgres_url)

    with Session(engine, ours, patience_seconds=0) as session, pytest.raises(DBAPIError):
        session.transact(stop_in_the_middle)
    engine.dispose()

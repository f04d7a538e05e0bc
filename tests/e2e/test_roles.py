"""Users of a PostgreSQL ledger who may do little, a schema of its own, reports of a standby."""

import re
from pathlib import Path

import pytest

from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.processes import wait_for
from tests.standby import replicating

DOCS = Path(__file__).parents[2] / "docs/database.md"
SCRIPTS = re.findall(r"^```postgresql\n(.*?)^```", DOCS.read_text("utf-8"), re.M | re.S)
SCHEMA = 'schema = "ledger"\n'
READS = (
    ("status",),
    ("report",),
    ("export", "--run", "1", "-o", "-"),
    ("verify",),
    ("db", "check"),
    ("db", "current"),
)


@pytest.fixture
def company(folder, simulate, postgres_server):
    """A database in which the setting says that the ledger is in `ledger`."""
    url = postgres_server.new_database()
    name = url.split("?")[0].rpartition("/")[2]
    (folder.path / "config.toml").write_text(SCHEMA + (folder.path / "config.toml").read_text())
    write_jsonl(folder.path / "rows.jsonl", rows(20))
    simulator = simulate()

    class Company:
        def __init__(self):
            self.url, self.name = url, name

        def sql(self, statement):
            postgres_server.execute_in(name, statement)

        def typed(self, role, *words):
            return folder.batcher(*words, "--database", url.replace("postgres@", f"{role}@"))

        def run(self, role):
            where = ("--endpoint", "simulator", "--base-url", simulator.url)
            return self.typed(role, "run", "rows.jsonl", *where)

        def doctor(self, role):
            where = ("--endpoint", "simulator", "--base-url", simulator.url)
            return self.typed(role, "doctor", *where)

    yield Company()
    postgres_server.drop(url)
    for role in ("batcher_runner", "batcher_reader", "owner"):
        postgres_server.execute(f"DROP ROLE IF EXISTS {role}")


def test_the_rights_that_the_documentation_lists_are_enough(company):
    company.sql("CREATE ROLE owner LOGIN")
    company.sql("CREATE SCHEMA ledger AUTHORIZATION owner")
    assert company.typed("owner", "db", "upgrade").code == 0
    runner, reader = SCRIPTS
    for script in (runner, reader):
        company.sql(script)
    done = company.run("batcher_runner")
    assert done.code == 0, done
    for words in READS[:4]:
        done = company.typed("batcher_reader", *words)
        assert done.code == 0, done
    assert "FAIL database" not in company.doctor("batcher_runner").out
    doctor = company.doctor("batcher_reader")
    assert doctor.code == 1, doctor
    assert "FAIL database" in doctor.out
    assert "grant the rights" in doctor.out
    refused = company.run("batcher_reader")
    assert refused.code == 74, refused
    assert "does not let this user do that: grant the rights" in refused.err
    assert "Traceback" not in refused.err


def test_a_schema_is_made_where_one_may_and_asked_for_where_not(company):
    company.sql("CREATE ROLE owner LOGIN")
    refused = company.run("postgres")
    assert refused.code == 78, refused
    assert "has no schema ledger yet: type batcher db upgrade" in refused.err
    refused = company.typed("owner", "db", "upgrade")
    assert refused.code == 78, refused
    assert 'type CREATE SCHEMA "ledger" AUTHORIZATION "owner"' in refused.err
    company.sql("CREATE TABLE theirs (number INT)")  # of another application, in `public`
    assert company.typed("postgres", "db", "upgrade").code == 0
    assert company.run("postgres").code == 0
    purge = ("db", "purge", "--older-than", "0h", "--yes")
    for words in (*READS, purge, ("db", "vacuum")):
        done = company.typed("postgres", *words)
        assert done.code == 0, done


def test_reports_are_read_from_a_standby(folder, simulate):
    write_jsonl(folder.path / "rows.jsonl", rows(20))
    simulator = simulate()
    with replicating(synchronous=False) as pair:
        pair.primary.execute("CREATE DATABASE ledger TEMPLATE template0")
        where = ("--endpoint", "simulator", "--base-url", simulator.url)
        run = ("run", "rows.jsonl", *where, "--database")
        assert folder.batcher(*run, pair.primary.url("ledger")).code == 0
        standby = pair.standby.url("ledger")
        status = ("status", "--database", standby)
        wait_for(lambda: "20 answered" in folder.batcher(*status).out)
        for words in READS[:4]:
            done = folder.batcher(*words, "--database", standby)
            assert done.code == 0, done
        refused = folder.batcher(*run, standby, "--again")
        assert refused.code == 74, refused
        assert "is read-only: a standby, then use the primary" in refused.err

"""Revisions: created, recognised, refused, changed, and killed in the middle."""

import ast
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from batcher.errors import ConfigurationError, SchemaVersionError, StorageError
from batcher.ledger import migrate
from batcher.ledger.connect import open_engine, reading, writing
from batcher.ledger.migrate import (
    SHIPPED,
    VERSION_TABLE,
    check,
    current,
    prepare,
    require_head,
    upgrade,
)
from batcher.ledger.schema import UNCHECKED, metadata, runs
from tests.e2e.forked import START
from tests.ledger.head_script import catalog, revised_file, revised_server, schema_of
from tests.ledger.killed import exit_code_of, prepare_until, prepare_when_told

VERSIONS = SHIPPED.folder / "versions"
OLDER = "UPDATE batcher_version SET version_num = '0000'"


@pytest.fixture
def engine(empty_database_url):
    opened = open_engine(empty_database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def sqlite_engine(tmp_path):
    opened = open_engine(str(tmp_path / "batcher.db"))
    yield opened
    opened.dispose()


def execute(engine, statement):
    with writing(engine) as connection:
        connection.execute(text(statement))


def run_names(engine):
    with reading(engine) as connection:
        return connection.scalars(text("SELECT key FROM runs ORDER BY key")).all()


def add_run(engine, key):
    with writing(engine) as connection:
        connection.execute(runs.insert(), [{"key": key, "created_at": 1}])


# --- made and recognised


def test_the_head_that_is_known_without_alembic_is_the_newest_revision():
    config = Config()
    config.set_main_option("script_location", str(SHIPPED.folder))
    assert ScriptDirectory.from_config(config).get_current_head() == SHIPPED.head


def test_an_empty_database_is_created_at_head_without_a_difference(engine):
    assert prepare(engine).created
    assert current(engine) == SHIPPED.head
    assert check(engine) == []


def test_a_new_file_is_what_the_revisions_make_of_an_empty_one(tmp_path, sqlite_engine):
    *schema, version = map(str.split, revised_file())
    shipped = [*map(str.split, SHIPPED.head_statements("sqlite"))]
    assert shipped == [*schema, version], "python -m tests.ledger.head_script writes it anew"
    prepare(sqlite_engine)
    assert [*map(str.split, schema_of(tmp_path / "batcher.db"))] == schema


def test_an_index_of_some_rows_has_those_rows_alone():
    """The metadata says which: comparing with the database looks at names and columns only."""
    for database in ("sqlite", "postgresql"):
        made = [" ".join(each.split()) for each in SHIPPED.head_statements(database)]
        for index in (each for table in metadata.tables.values() for each in table.indexes):
            (created,) = [sql for sql in made if f"INDEX {index.name} ON" in sql]
            rows = created.partition(" WHERE ")[2].rstrip(";")
            assert rows == index.info.get("where", ""), created


def test_a_new_server_database_is_what_the_revisions_make_of_an_empty_one(postgres_server):
    by_script, by_revisions = postgres_server.new_database(), postgres_server.new_database()
    statements = revised_server(by_revisions)
    shipped = SHIPPED.head_statements("postgresql")
    assert shipped == statements, "python -m tests.ledger.head_script writes it anew"
    engine = open_engine(by_script)
    prepare(engine)
    engine.dispose()
    assert catalog(by_script) == catalog(by_revisions)
    for url in (by_script, by_revisions):
        postgres_server.drop(url)


def test_a_new_ledger_costs_no_alembic(empty_database_url):
    assert not imports_alembic(empty_database_url)


def test_a_database_at_head_is_left_as_it_is(engine):
    prepare(engine)
    add_run(engine, "mine")
    assert not prepare(engine).created
    assert run_names(engine) == ["mine"]


def test_every_ledger_has_an_identity_of_its_own(tmp_path):
    uids = set()
    for name in ("a.db", "b.db"):
        engine = open_engine(str(tmp_path / name))
        prepare(engine)
        with reading(engine) as connection:
            info = dict(connection.execute(text("SELECT name, value FROM ledger_info")).all())
        engine.dispose()
        assert int(info["created_at"]) > 0
        uids.add(info["database_uid"])
    assert len(uids) == 2
    assert all(len(uid) >= 8 and int(uid, 16) >= 0 for uid in uids)


def test_a_start_on_a_ledger_at_head_imports_no_alembic(database_url):
    assert not imports_alembic(database_url)


def imports_alembic(url):
    program = (
        "import sys\n"
        "from batcher.ledger.connect import open_engine\n"
        "from batcher.ledger.migrate import prepare\n"
        "engine = open_engine(sys.argv[1])\n"
        "prepare(engine)\n"
        "print('alembic' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, url], capture_output=True, text=True, check=True
    )
    return done.stdout.strip() == "True"


def test_migrations_import_nothing_of_the_program():
    allowed = {"import sqlalchemy as sa", "from alembic import op", "from pathlib import Path"}
    for path in VERSIONS.glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        imported = {
            ast.unparse(n) for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))
        }
        assert imported <= allowed, path.name


# --- refused


def test_an_older_database_is_refused_with_the_command_to_type(engine):
    prepare(engine)
    execute(engine, OLDER)
    with pytest.raises(SchemaVersionError, match=r"has schema 0000 .* db upgrade --database "):
        prepare(engine)
    assert current(engine) == "0000"


@pytest.mark.parametrize("revision", ["9999", "3f2a91bc0d77"])
def test_a_newer_database_is_refused_with_the_version_it_needs(engine, revision):
    prepare(engine)
    execute(engine, f"UPDATE batcher_version SET version_num = '{revision}'")
    for refuse in (prepare, upgrade, require_head):
        with pytest.raises(SchemaVersionError, match=rf"newer messages-batcher.*{revision}"):
            refuse(engine)


def test_a_database_of_something_else_is_refused_and_not_touched(engine):
    execute(engine, "CREATE TABLE customers (name TEXT)")
    for refuse in (prepare, upgrade, current):
        with pytest.raises(ConfigurationError, match="tables of something else"):
            refuse(engine)
    assert inspect(engine).get_table_names() == ["customers"]


def test_a_reader_refuses_an_empty_database_and_makes_nothing(engine):
    with pytest.raises(StorageError, match="no ledger yet"):
        require_head(engine)
    assert inspect(engine).get_table_names() == []


def test_a_server_database_that_cannot_hold_every_text_is_refused(postgres_server):
    postgres_server.execute(
        "CREATE DATABASE ascii_only ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'"
    )
    engine = open_engine(postgres_server.url("ascii_only"))
    with pytest.raises(ConfigurationError, match="ENCODING 'UTF8'"):
        prepare(engine)
    engine.dispose()


# --- changed


def test_upgrading_what_is_at_head_changes_nothing(engine):
    prepare(engine)
    assert upgrade(engine) == SHIPPED.head
    assert check(engine) == []


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DROP INDEX ix_answers_locator", "ix_answers_locator"),
        ("ALTER TABLE answers DROP COLUMN speed", "speed"),
        ("ALTER TABLE runs ADD COLUMN extra TEXT", "extra"),
        ("DROP VIEW v_failures", "v_failures"),
    ],
)
def test_a_changed_schema_is_told(engine, statement, told):
    prepare(engine)
    if "answers DROP" in statement:
        execute(engine, "DROP VIEW v_answers")
        execute(engine, "DROP VIEW v_answers_all")
    execute(engine, statement)
    assert any(told in line for line in check(engine))


def test_a_view_that_somebody_rewrote_is_told(engine):
    prepare(engine)
    execute(engine, "DROP VIEW v_failures")
    execute(engine, "CREATE VIEW v_failures AS SELECT run_id, reason FROM failures")
    (difference,) = check(engine)
    assert re.fullmatch(r"views: v_failures is not as revision \d{4} made it", difference)


def test_where_the_rights_to_compare_are_missing_no_difference_is_made_up(
    postgres_server, postgres_url
):
    name = postgres_url.split("?")[0].rsplit("/", 1)[1]
    postgres_server.execute("CREATE ROLE onlooker LOGIN")
    postgres_server.execute(f"REVOKE TEMP ON DATABASE {name} FROM PUBLIC")
    ours = open_engine(postgres_url)
    theirs = open_engine(postgres_url.replace("postgres@", "onlooker@"))
    prepare(ours)
    execute(ours, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO onlooker")
    with pytest.raises(StorageError, match="grant the rights"):
        check(theirs)
    ours.dispose()
    theirs.dispose()


def test_tables_and_views_of_ones_own_are_no_difference(engine):
    prepare(engine)
    execute(engine, "CREATE TABLE notes (note TEXT)")
    execute(engine, "CREATE VIEW my_costs AS SELECT cost_pico_usd FROM v_answers")
    assert check(engine) == []
    assert not prepare(engine).created


def test_what_the_migrations_make_is_what_the_program_uses(engine):
    prepare(engine)
    assert set(inspect(engine).get_table_names()) - set(metadata.tables) == {VERSION_TABLE}


def test_a_server_checks_no_reference_of_the_hot_path(postgres_url):
    """Each would cost it more than the row that it is of."""
    engine = open_engine(postgres_url)
    references = {
        table: len(inspect(engine).get_foreign_keys(table)) for table in metadata.tables
    }
    engine.dispose()
    assert [references[table] for table in UNCHECKED] == [0, 0, 0]
    declared = {table.name: len(table.foreign_keys) for table in metadata.sorted_tables}
    others = declared.keys() - UNCHECKED
    assert {name: references[name] for name in others} == {
        name: declared[name] for name in others
    }


def test_a_reference_that_somebody_added_to_the_hot_path_is_told(postgres_url):
    engine = open_engine(postgres_url)
    execute(
        engine,
        "ALTER TABLE answers ADD CONSTRAINT mine FOREIGN KEY (run_id) REFERENCES runs (run_id)",
    )
    (difference,) = check(engine)
    engine.dispose()
    assert "mine" in difference


# --- two at once, and killed


def test_several_processes_create_one_database_at_once(empty_database_url):
    ours, theirs = zip(*(START.Pipe() for _ in range(4)), strict=True)
    given = [(empty_database_url, end) for end in theirs]
    processes = [START.Process(target=prepare_when_told, args=each) for each in given]
    for process, end in zip(processes, theirs, strict=True):
        process.start()
        end.close()
    assert [end.recv() for end in ours] == ["ready"] * 4
    for end in ours:
        end.send("go")
    assert sorted(end.recv() for end in ours) == [False, False, False, True]
    for process in processes:
        process.join()
    for end in ours:
        end.close()


@pytest.mark.parametrize("statements", [0, 9, 25, 40])
def test_a_creation_that_was_killed_is_made_good_by_the_next_start(engine, statements):
    url = engine.url.render_as_string(hide_password=False)
    assert exit_code_of(prepare_until, url, statements) == -signal.SIGKILL
    assert prepare(engine).created
    assert check(engine) == []


def test_the_migrations_lie_where_alembic_finds_them_in_a_checkout(tmp_path):
    root = Path(migrate.__file__).parents[2]
    database = f"database=sqlite:///{tmp_path / 'own.db'}"
    command = [sys.executable, "-m", "alembic", "-x", database, "upgrade", "head"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    engine = open_engine(str(tmp_path / "own.db"))
    assert current(engine) == SHIPPED.head
    assert check(engine) == []
    engine.dispose()

"""From the baseline to head: ledgers that were kept, with their rows, rights and own view."""

import signal

import alembic.command
import pytest
from alembic.config import Config
from click.testing import CliRunner
from sqlalchemy import inspect

from batcher.cli.menu import group
from batcher.errors import SchemaVersionError
from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import verify
from batcher.ledger.migrate import (
    SHIPPED,
    Revisions,
    check,
    current,
    prepare,
    revisions_in,
    upgrade,
)
from tests.ledger.head_script import catalog, schema_of, write_anew
from tests.ledger.kept_ledgers import *  # noqa: F403 - pytest finds fixtures by name
from tests.ledger.kept_ledgers import ask, execute, rights, with_revision
from tests.ledger.killed import exit_code_of, upgrade_until

BASELINE = Revisions(folder=SHIPPED.folder, head="0001")
NOTED = 'op.add_column("answers", sa.Column("note", sa.Text)); op.replace_views(here)'
NOTED_VIEW = {"v_answers": "SELECT 7 AS note, old.* FROM {before} old"}


def columns_of(engine):
    inspector = inspect(engine)
    names = [*inspector.get_table_names(), *inspector.get_view_names()]
    found = {name: inspector.get_columns(name) for name in names if name != "batcher_version"}
    return {name: [column["name"] for column in columns] for name, columns in found.items()}


def rows_of(engine, columns):
    return {
        name: sorted(ask(engine, f"SELECT {', '.join(listed)} FROM {name}"), key=str)
        for name, listed in columns.items()
    }


# --- what was kept


def make_the_same(url):
    """By the baseline, and by the operator."""
    engine = open_engine(url)
    upgrade(engine, BASELINE)
    view = "SELECT state, COUNT(*) AS attempts FROM v_attempts GROUP BY state"
    execute(engine, f"CREATE VIEW dashboard AS {view}")
    engine.dispose()


def test_the_kept_file_is_what_the_baseline_makes(kept_file, tmp_path):
    """So the baseline is frozen: no ledger that has it would change with it."""
    make_the_same(str(tmp_path / "made.db"))
    assert schema_of(kept_file) == schema_of(tmp_path / "made.db")


def test_the_kept_server_is_what_the_baseline_makes(kept_server, postgres_server):
    made = postgres_server.new_database()
    make_the_same(made)
    assert catalog(kept_server) == catalog(made)
    postgres_server.drop(made)


def test_every_table_and_view_of_the_kept_ledger_has_rows(kept):
    assert all(rows_of(kept, columns_of(kept)).values())


# --- to head


def test_an_upgrade_keeps_every_row_and_what_every_view_says(kept):
    columns = columns_of(kept)
    before = rows_of(kept, columns)
    assert upgrade(kept) == "0001"
    assert current(kept) == SHIPPED.head
    assert check(kept) == []
    assert rows_of(kept, columns) == before
    assert verify(kept).problems == 0


def test_an_upgrade_keeps_every_right(kept_server):
    engine = open_engine(kept_server)
    before = rights(engine)
    assert {who for *_, who in before} >= {"kept_reader", "kept_writer", "PUBLIC"}
    upgrade(engine)
    assert set(rights(engine)) >= set(before)
    engine.dispose()


def test_upgrade_as_typed_says_what_it_did(kept_url):
    done = CliRunner().invoke(group, ["db", "upgrade", "--database", kept_url])
    went = f"went from schema 0001 to schema {SHIPPED.head}"
    assert (went if SHIPPED.head != "0001" else "is already at schema 0001") in done.stdout
    assert CliRunner().invoke(group, ["db", "check", "--database", kept_url]).exit_code == 0


# --- and beyond: a revision is added as docs/database.md says


@pytest.fixture
def noted(tmp_path):
    """One more column, which a view shows first."""
    return with_revision(tmp_path / "migrations", NOTED, NOTED_VIEW)


def test_a_revision_from_the_template_is_one(kept, tmp_path):
    migrations = with_revision(tmp_path / "migrations", "pass")
    config = Config()
    config.set_main_option("script_location", str(migrations.folder))
    alembic.command.revision(config, "more of it", rev_id="0999")
    further = revisions_in(migrations.folder)
    assert further.head == "0999"
    upgrade(kept, further)
    assert current(kept) == "0999"


def test_a_ledger_without_the_revision_is_refused_until_it_is_upgraded(kept, noted):
    upgrade(kept)
    with pytest.raises(
        SchemaVersionError, match=f"needs {noted.head}: type batcher db upgrade"
    ):
        prepare(kept, noted)
    assert upgrade(kept, noted) == SHIPPED.head
    assert not prepare(kept, noted).created
    with pytest.raises(SchemaVersionError, match=f"has schema {noted.head} .* newer"):
        prepare(kept)


def test_its_columns_and_views_are_there_with_the_old_rows(kept, noted):
    columns = columns_of(kept)
    before = rows_of(kept, columns)
    upgrade(kept, noted)
    assert rows_of(kept, columns) == before
    assert ask(kept, "SELECT DISTINCT note FROM v_answers") == [(7,)]
    assert ask(kept, "SELECT DISTINCT note FROM answers") == [(None,)]
    assert not [line for line in check(kept, noted) if line.startswith("views")]


def test_an_empty_database_gets_the_scripts_that_are_written_anew(
    empty_database_url, postgres_server, noted
):
    write_anew(postgres_server, noted)
    engine = open_engine(empty_database_url)
    assert prepare(engine, noted).created
    assert columns_of(engine)["v_answers"][0] == columns_of(engine)["answers"][-1] == "note"
    assert not [line for line in check(engine, noted) if line.startswith("views")]
    engine.dispose()


@pytest.mark.parametrize("statement", ["ALTER TABLE", "CREATE VIEW", "UPDATE batcher_version"])
def test_an_upgrade_that_was_killed_leaves_everything_and_can_be_done_again(
    kept, kept_url, noted, statement
):
    upgrade(kept)
    columns = columns_of(kept)
    before = rows_of(kept, columns)
    killed = exit_code_of(upgrade_until, kept_url, noted.folder, statement)
    assert killed == -signal.SIGKILL
    assert current(kept) == SHIPPED.head
    assert (columns_of(kept), rows_of(kept, columns)) == (columns, before)
    assert check(kept) == []
    assert upgrade(kept, noted) == SHIPPED.head
    assert rows_of(kept, columns) == before

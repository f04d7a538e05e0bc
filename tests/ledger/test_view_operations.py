"""What revisions do with views: others' rights stay, and others' views are named, not lost."""

import pytest
from sqlalchemy import inspect

from batcher.errors import ConfigurationError
from batcher.ledger.connect import open_engine
from batcher.ledger.migrate import SHIPPED, current, upgrade
from tests.ledger.kept_ledgers import *  # noqa: F403 - pytest finds fixtures by name
from tests.ledger.kept_ledgers import OWNER, ask, execute, rights, with_revision

REPLACE = "op.replace_views(here)"
CREATE = "op.create_views(here)"
APPENDED = "SELECT old.*, 7 AS note FROM {before} old"
SHIFTED = "SELECT 7 AS note, old.* FROM {before} old"


@pytest.fixture
def revision(tmp_path):
    """Revisions that do more than those that are shipped."""
    count = iter(range(9))
    return lambda *words, **more: with_revision(tmp_path / f"{next(count)}", *words, **more)


@pytest.fixture
def server(kept_server_at_head):
    """A kept ledger at head, on a server, where others read `v_answers` and more."""
    engine = open_engine(kept_server_at_head)
    yield engine
    engine.dispose()


def columns(engine, view):
    return [column["name"] for column in inspect(engine).get_columns(view)]


# --- rights and views of others, on a server


def test_a_view_with_more_columns_keeps_rights_and_what_is_made_from_it(server, revision):
    before = rights(server)
    upgrade(server, revision(REPLACE, {"v_attempts": APPENDED}))
    assert columns(server, "v_attempts")[-1] == "note"
    assert rights(server) == before
    assert ask(server, "SELECT SUM(attempts) FROM dashboard") == [(9,)]


@pytest.mark.parametrize("view", ["v_answers", "v_answers_all", "v_cost_by_model_day"])
def test_a_view_with_other_columns_gets_its_rights_back(server, revision, view):
    before = rights(server)
    assert [who for name, *_, who in before if name == view]
    upgrade(server, revision(REPLACE, {view: SHIFTED}))
    assert columns(server, view)[0] == "note"
    assert rights(server) == before


def test_rights_of_strange_names_and_those_that_others_gave_come_back_too(
    server, kept_server_at_head, revision, postgres_server
):
    postgres_server.execute('CREATE ROLE "100% odd: ""name"""')
    execute(server, r'GRANT ALL ON v_answers TO "100% odd\: ""name"""')
    reader = open_engine(kept_server_at_head.replace(OWNER, "kept_reader"))
    execute(reader, "GRANT SELECT ON v_answers TO PUBLIC")
    reader.dispose()
    before = rights(server)
    upgrade(server, revision(REPLACE, {"v_answers": SHIFTED}))
    assert rights(server) == before


def test_a_right_on_a_column_goes_with_the_column(server, revision):
    view = {"v_answers_all": "SELECT old.run_id, 7 AS note FROM {before} old"}
    upgrade(server, revision(REPLACE, view))
    found = [column for name, _, column, *_ in rights(server) if name == "v_answers_all"]
    assert found == ["run_id"]


def test_rights_that_new_views_get_by_default_are_not_added(server, revision):
    execute(
        server,
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO kept_writer",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    )
    before = rights(server)
    upgrade(server, revision(REPLACE, {"v_failures": SHIFTED, "v_answers_all": SHIFTED}))
    assert rights(server) == before


def test_a_view_keeps_its_owner_when_somebody_else_upgrades(kept_server, revision):
    engine = open_engine(kept_server.replace(OWNER, "postgres"))
    execute(engine, "ALTER VIEW v_answers OWNER TO kept_reader")
    before = rights(engine)
    owners = "SELECT viewname, viewowner FROM pg_views WHERE schemaname = 'public' ORDER BY 1"
    owned = ask(engine, owners)
    upgrade(engine, revision(REPLACE, {"v_answers": SHIFTED}))
    assert set(ask(engine, owners)) >= set(owned)  # what is new is the upgrader's
    assert ("v_answers", "kept_reader") in owned
    assert set(rights(engine)) >= set(before)
    engine.dispose()


def test_what_is_made_from_a_view_stands_in_the_way_and_is_named(server, revision):
    execute(
        server,
        "CREATE SCHEMA others",
        'CREATE MATERIALIZED VIEW others."Daily" AS SELECT COUNT(*) FROM v_attempts',
        "CREATE FUNCTION last() RETURNS v_attempts LANGUAGE SQL AS"
        " 'SELECT * FROM v_attempts LIMIT 1'",
    )
    shifted = revision(REPLACE, {"v_answers": SHIFTED, "v_attempts": SHIFTED})
    before = rights(server)
    with pytest.raises(ConfigurationError) as refused:
        upgrade(server, shifted)
    assert refused.value.exit_code == 78
    assert 'dashboard, function last(), others."Daily"; drop' in str(refused.value)
    assert current(server) == SHIPPED.head
    assert rights(server) == before
    assert "note" not in columns(server, "v_answers")
    execute(
        server,
        "DROP VIEW dashboard",
        "DROP FUNCTION last()",
        'DROP MATERIALIZED VIEW others."Daily"',
    )
    upgrade(server, shifted)
    assert columns(server, "v_attempts")[0] == "note"


# --- views of ours that read another


def test_a_view_and_those_that_read_it_are_made_anew_together(server, revision):
    first = revision(
        CREATE,
        {
            "v_brief": "SELECT run_id, text FROM v_answers",
            "v_briefer": "SELECT text FROM v_brief",
        },
    )
    upgrade(server, first)
    execute(server, "GRANT SELECT ON v_briefer TO kept_reader")
    before = rights(server)
    again = {
        "v_answers": SHIFTED,
        "v_brief": "SELECT run_id, text, note FROM v_answers",
        "v_briefer": "SELECT text, note FROM v_brief",
    }
    upgrade(server, revision(REPLACE, again, after=first))
    assert ask(server, "SELECT DISTINCT note FROM v_briefer") == [(7,)]
    assert rights(server) == before


# --- names, on both


def test_new_views_are_made_and_shown(kept, revision):
    further = revision(CREATE, {"v_brief": "SELECT text FROM v_answers"})
    upgrade(kept, further)
    assert current(kept) == further.head
    assert ask(kept, "SELECT COUNT(*) FROM v_brief") == ask(
        kept, "SELECT COUNT(*) FROM v_answers"
    )


@pytest.mark.parametrize("theirs", ["VIEW v_brief AS SELECT 1 AS n", "TABLE v_brief (n INT)"])
def test_somebody_elses_thing_of_the_same_name_is_named_and_left(kept, revision, theirs):
    upgrade(kept)
    execute(kept, f"CREATE {theirs}")
    further = revision(CREATE, {"v_brief": "SELECT text FROM v_answers"})
    with pytest.raises(ConfigurationError, match="not ours is called v_brief") as refused:
        upgrade(kept, further)
    assert refused.value.exit_code == 78
    assert current(kept) == SHIPPED.head
    assert columns(kept, "v_brief") == ["n"]


def test_a_new_table_asks_for_its_name_first(kept, revision):
    execute(kept, "CREATE VIEW parcels AS SELECT COUNT(*) AS n FROM answers")
    asks = 'op.require_unused_names(["free", "parcels"])'
    with pytest.raises(ConfigurationError, match="not ours is called parcels"):
        upgrade(kept, revision(asks))
    execute(kept, "DROP VIEW parcels")
    upgrade(kept, revision(asks))


def test_on_a_file_what_somebody_made_from_a_view_is_in_nobodys_way(kept_file, revision):
    engine = open_engine(kept_file)
    execute(engine, "CREATE VIEW broken AS SELECT gone FROM nowhere")
    column = 'op.add_column("attempts", sa.Column("note", sa.Text)); '
    upgrade(engine, revision(column + REPLACE, {"v_attempts": SHIFTED}))
    assert ask(engine, "SELECT SUM(attempts) FROM dashboard") == [(9,)]
    engine.dispose()


def test_on_a_file_a_table_is_copied_beneath_the_views_that_read_it(kept_file, revision):
    engine = open_engine(kept_file)
    upgrade(engine)  # views have more columns since
    before = ask(engine, "SELECT * FROM v_attempts"), ask(engine, "SELECT * FROM dashboard")
    copied = (
        'with op.batch_alter_table("attempts", recreate="always") as batch:'
        ' batch.alter_column("purpose", nullable=True)'
    )
    upgrade(engine, revision(copied))
    after = ask(engine, "SELECT * FROM v_attempts"), ask(engine, "SELECT * FROM dashboard")
    assert after == before
    engine.dispose()

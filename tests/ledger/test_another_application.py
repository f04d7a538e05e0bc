"""Another application of Alembic in the same schema, and ledgers of batcher 0.1.0."""

import alembic.command
import pytest
from alembic.config import Config
from sqlalchemy import inspect, text

from batcher.errors import ConfigurationError, SchemaVersionError
from batcher.ledger.connect import open_engine, reading, writing
from batcher.ledger.migrate import SHIPPED, check, current, prepare, require_head, upgrade

ENVIRONMENT = """
from alembic import context
context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = {name!r}, {before!r}
def upgrade():
    op.create_table("app_{name}", sa.Column("id", sa.Integer))
"""
NUMBERED = ("0001", "0002", "0011", "0012", "0013")  # as ours, and as ours once were
HASHED = ("ab0001cd", "3f2a91bc0d77")


@pytest.fixture
def engine(postgres_server):
    url = postgres_server.new_database()
    opened = open_engine(url)
    yield opened
    opened.dispose()
    postgres_server.drop(url)


@pytest.fixture(params=[NUMBERED, HASHED], ids=["numbered", "hashed"])
def names(request):
    return request.param


@pytest.fixture
def application(tmp_path, names):
    """Its Alembic configuration, with revisions that make a table each."""
    folder = tmp_path / "application"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENVIRONMENT)
    for before, name in zip((None, *names), names, strict=False):
        revision = REVISION.format(name=name, before=before)
        (folder / "versions" / f"{name}.py").write_text(revision)
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config


def migrate_application(application, engine, revision="head"):
    with writing(engine) as connection:
        application.attributes["connection"] = connection
        alembic.command.upgrade(application, revision)


def its_tables(engine):
    names = inspect(engine).get_table_names()
    return {name.removeprefix("app_") for name in names if name.startswith("app_")}


def test_it_migrates_beside_a_ledger_and_neither_minds(engine, application, names):
    prepare(engine)
    for name in names:
        migrate_application(application, engine, name)
        assert current(engine) == SHIPPED.head
        assert not prepare(engine).created
        assert upgrade(engine) == SHIPPED.head
        assert check(engine) == []
    assert its_tables(engine) == set(names)


def test_its_version_table_alone_is_an_empty_database(engine, application, names):
    with writing(engine) as connection:
        application.attributes["connection"] = connection
        alembic.command.ensure_version(application)
    assert current(engine) is None
    assert prepare(engine).created
    migrate_application(application, engine)
    assert its_tables(engine) == set(names)
    assert check(engine) == []


def test_a_database_with_its_tables_is_refused_and_a_schema_of_ones_own_is_not(
    engine, application, names
):
    migrate_application(application, engine)
    with pytest.raises(ConfigurationError, match=r"something else: .* by the setting schema"):
        prepare(engine)
    url = engine.url.render_as_string(hide_password=False)
    apart = open_engine(f"{url}&schema=ledger")
    upgrade(apart)
    assert check(apart) == []
    apart.dispose()
    assert its_tables(engine) == set(names)
    assert not inspect(engine).has_table("ledger_info")


# --- batcher 0.1.0, which used the name of everybody's version table


def made_by_the_first_version(engine, revision):
    """Its ledger, as far as it differs: where it keeps which revision."""
    prepare(engine)
    with writing(engine) as connection:
        connection.execute(text("ALTER TABLE batcher_version RENAME TO alembic_version"))
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))


@pytest.mark.parametrize("revision", ["0001", "0006", "0012"])
def test_a_ledger_of_the_first_version_is_refused_and_not_touched(empty_database_url, revision):
    engine = open_engine(empty_database_url)
    made_by_the_first_version(engine, revision)
    for refuse in (prepare, upgrade, require_head, current):
        with pytest.raises(SchemaVersionError, match=r"made by batcher 0\.1\.0 .* a new one"):
            refuse(engine)
    with reading(engine) as connection:
        found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    assert found == revision
    assert not inspect(engine).has_table("batcher_version")
    engine.dispose()


def test_an_application_whose_tables_are_called_as_ours_is_something_else(empty_database_url):
    engine = open_engine(empty_database_url)
    made_by_the_first_version(engine, "3f2a91bc0d77")
    with pytest.raises(ConfigurationError, match="something else"):
        prepare(engine)
    engine.dispose()

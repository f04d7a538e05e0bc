"""Environment variables: what looks like a setting and is none is refused."""

import pytest

from batcher.config.files import check_names, environment_settings, variables
from batcher.config.tables import Settings
from batcher.errors import ConfigurationError


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("BATCHER_DATABSE", "BATCHER_DATABASE"),
        ("BATCHER_DATABASE_URL", "BATCHER_DATABASE"),
        ("BATCHER_BASEURL", "BATCHER_BASE_URL"),
        ("BATCHER_MAXCOST", "BATCHER_MAX_COST"),
        ("BATCHER_MODLE", "BATCHER_MODEL"),
        ("BATCHER_model", "BATCHER_MODEL"),
        ("BATCHER_CONFIGS", "BATCHER_CONFIG"),
    ],
)
def test_a_mistyped_variable_is_refused_and_the_right_one_named(monkeypatch, typed, meant):
    monkeypatch.setenv(typed, "x")
    with pytest.raises(ConfigurationError) as caught:
        environment_settings()
    assert f"{typed}: unknown setting; write {meant}," in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_table_is_not_read_from_a_variable_and_that_is_said():
    with pytest.raises(ConfigurationError, match="BATCHER_TAGS is not read"):
        check_names(["BATCHER_TAGS"])


def test_a_variable_of_somebody_else_is_left_alone():
    check_names(
        [
            "PATH", "DATABSE", "BATCHER_CI_PYTHONS", "BATCHER_CAMPAIGN_FOLDER", "BATCHER_KEY",
            "BATCHER_HISTORY", "BATCHER_API_KEY", "BATCHER_SERVICE_HOST", "BATCHER_PORT",
            "BATCHER_PORT_80_TCP_ADDR", "BATCHER_SERVICE_PORT_HTTP", "BATCHER_IMAGE",
        ]
    )  # fmt: skip


def test_every_setting_of_one_value_has_its_variable():
    check_names([*variables(), "BATCHER_CONFIG"])
    tables = {"parameters", "request", "models", "retry", "tags", "betas", "headers", "notify"}
    tables.add("cache")
    assert set(variables().values()) == set(Settings.__struct_fields__) - tables


def test_an_empty_variable_says_nothing(monkeypatch):
    monkeypatch.setenv("BATCHER_DATABSE", "")
    assert environment_settings().database is None

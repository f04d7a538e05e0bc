"""`reconcile --fetch`: the simulator's reports of its own bill agree with the ledger."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.inputs import QUICK, row, rows, write_jsonl

KEY = {"ANTHROPIC_API_KEY": "sk-ant-of-requests"}
ADMIN = {"ANTHROPIC_ADMIN_KEY": "sk-ant-admin-of-reports"}
TODAY = datetime.now(UTC).date()


@pytest.fixture
def answered(folder, simulate):
    """A folder whose ledger holds what the simulator billed, of all meters."""
    simulator = simulate()
    address = f'[endpoints.anthropic]\nbase_url = "{simulator.url}"\n'
    (folder.path / "config.toml").write_text(f'{QUICK}{address}admin_url = "{simulator.url}"\n')
    more = [
        row(7, "[[usage:cache]] all kinds of tokens"),
        row(8, "to the point", model="claude-opus-5-5", inference_geo="us"),
    ]
    write_jsonl(folder.path / "rows.jsonl", [*rows(6), *more])
    ended = folder.batcher("run", "rows.jsonl", **KEY)
    assert ended.code == 0, ended.err
    return folder


def test_reports_are_read_with_the_admin_key_and_agree(answered):
    ended = answered.batcher("reconcile", "--fetch", "--all", "--json", **KEY, **ADMIN)
    assert ended.code == 0, (ended.out, ended.err)
    assert any(row["theirs"] and row["theirs_cost"] for row in ended.json["rows"])
    assert "sk-ant" not in ended.out + ended.err


def test_many_days_come_page_by_page(answered):
    since = TODAY - timedelta(days=70)
    ended = answered.batcher("reconcile", "--fetch", "--since", since, **ADMIN)
    assert ended.code == 0, (ended.out, ended.err)
    assert " 0 do not." in ended.out


def test_a_refusal_that_is_used_and_not_billed_is_a_cause(answered):
    write_jsonl(answered.path / "more.jsonl", [row(9, "[[stop:refusal]]")])
    assert answered.batcher("run", "more.jsonl", **KEY).code == 0
    ended = answered.batcher("reconcile", "--fetch", **ADMIN)
    assert (ended.code, "refusals: " in ended.out) == (1, True)


def test_what_the_bill_has_more_is_a_difference(answered, simulate):
    ended = answered.batcher("run", "rows.jsonl", "--again", "-d", "other.db", **KEY)
    assert ended.code == 0, ended.err
    ended = answered.batcher("reconcile", "--fetch", **ADMIN)
    assert ended.code == 1
    assert "other users" in ended.out


def test_what_is_recorded_holds_no_admin_key(answered):
    write_jsonl(answered.path / "more.jsonl", [row(9, "of another ledger")])
    answered.batcher("run", "more.jsonl", "-d", "other.db", **KEY)
    ended = answered.batcher("reconcile", "--fetch", "--record", **ADMIN)
    assert "recorded" in ended.out + ended.err, (ended.out, ended.err)
    told = answered.batcher("reconcile", "--recorded")
    assert (told.code, "sk-ant" in told.out) == (0, False)
    for path in answered.path.iterdir():
        assert b"sk-ant" not in path.read_bytes(), path


def test_the_key_may_be_in_a_file_that_nobody_else_reads(answered):
    key = answered.path / "admin.key"
    key.write_text("sk-ant-admin-in-a-file\n")
    with (answered.path / "config.toml").open("a") as file:
        file.write('admin_key_file = "admin.key"\n')
    key.chmod(0o600)
    assert answered.batcher("reconcile", "--fetch").code == 0
    key.chmod(0o644)
    ended = answered.batcher("reconcile", "--fetch", **ADMIN)
    assert ended.code == 77
    assert "chmod 600" in ended.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--fetch",), 77, "ANTHROPIC_ADMIN_KEY"),
        (("--fetch", "--since", "x"), 2, "write 2026-01-31"),
        (("--fetch", "--since", TODAY, "--until", TODAY), 2, "no day to ask for"),
        (("--since", TODAY, "x.json"), 2, "are for --fetch"),
        (("--fetch", "--recorded"), 2, "reads no report"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_sentence(answered, words, code, said):
    ended = answered.batcher("reconcile", *words, **KEY)
    assert (ended.code, said in ended.err) == (code, True), ended.err


def test_a_key_that_is_refused_ends_with_77(answered):
    ended = answered.batcher("reconcile", "--fetch", ANTHROPIC_ADMIN_KEY="wrong-key")
    assert ended.code == 77
    assert "admin keys only" in ended.err

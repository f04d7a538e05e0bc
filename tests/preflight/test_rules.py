import re
from pathlib import Path

import pytest

from batcher.preflight.checks import FAULTS
from batcher.preflight.preflight import Preflight
from batcher.preflight.rules import Structure, shipped_rules
from batcher.rows.batch import Reason
from tests.preflight.cases import CASES
from tests.rows.corpus import body

PROJECT = Path(__file__).parent.parent.parent
BOOK = shipped_rules()


def problem(fields, model="claude-sonnet-4-6", betas=(), **where):
    options = {"dialect": "anthropic", "api_version": "2023-06-01", **where}
    rules = Preflight(BOOK, endpoint_name="here", **options)
    return rules.problem(body(model, **fields), betas)


def sections():
    """The sections of the page as its anchors."""
    page = (PROJECT / "docs/development/messages-api.md").read_text("utf-8")
    headings = re.findall(r"^###? (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", name.lower()).replace(" ", "-") for name in headings}


@pytest.mark.parametrize(
    ("rule", "refused", "passing", "where"),
    CASES,
    ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)],
)
def test_each_rule_refuses_what_it_says_and_passes_what_is_just_inside(
    rule, refused, passing, where
):
    found = problem(refused, **where)
    assert found is not None
    assert found.rule == rule, found
    assert 10 < len(found.message) < 400
    assert "{" not in found.message.replace("{city", "")
    assert problem(passing, **where) is None


def test_every_rule_has_a_case():
    assert {rule.id for rule in BOOK.rules} == {case[0] for case in CASES}


def test_rules_are_told_apart_and_say_where_they_come_from():
    identifiers = [rule.id for rule in BOOK.rules]
    assert not set(identifiers) & set(Reason)
    assert len(identifiers) == len(set(identifiers))
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{3,48}", name) for name in identifiers)


def test_every_rule_names_sections_of_what_is_known_of_the_api():
    for rule in BOOK.rules:
        named = rule.source.partition(" (")[0].split(", ")
        assert set(named) <= sections(), rule.id


def test_every_reference_of_the_code_to_what_is_known_of_the_api_leads_somewhere():
    """As `messages-api.md#thinking`, in comments and docstrings, tests and pages."""
    patterns = ("batcher/**/*.py", "tests/**/*.py", "docs/**/*.md")
    texts = [file.read_text("utf-8") for each in patterns for file in PROJECT.glob(each)]
    found = [name for text in texts for name in re.findall(r"messages-api\.md#([a-z-]+)", text)]
    assert found
    assert set(found) <= sections()


def test_nothing_cites_what_is_not_here():
    cited = re.compile(r"\b(messages-api|reliability|pricing|ecosystem|peers), (section )?\d")
    for file in [*PROJECT.glob("batcher/**/*.*"), *PROJECT.glob("tests/**/*.py")]:
        if file.suffix in {".py", ".toml", ".jinja"}:
            assert not cited.search(file.read_text("utf-8")), file


def test_rules_name_dialects_and_groups_that_exist():
    for rule in BOOK.rules:
        assert rule.dialects, rule.id
        assert set(rule.dialects) <= BOOK.dialects.keys(), rule.id
        assert all(m in BOOK.models or "claude-" in m for m in rule.models), rule.id
        for fault in [rule.check.fault] if isinstance(rule.check, Structure) else []:
            assert fault in FAULTS or fault == "schema_not_supported"


def test_the_sentence_names_the_field_and_what_to_do():
    found = problem({"temperature": 0.3}, model="claude-opus-5-5")
    assert found.message == (
        "temperature is 0.3; claude-opus-5-5 takes only the default, 1; leave it out"
    )
    messages = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]
    assert problem({"messages": messages}).message.startswith(
        "messages[0].content[0] is a tool"
    )


def test_a_long_value_is_cut_in_the_sentence():
    found = problem({"service_tier": "x" * 10_000})
    assert len(found.message) < 200

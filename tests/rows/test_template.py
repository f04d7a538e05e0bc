import json

import pytest

from batcher.errors import ConfigurationError
from batcher.rows.build.settings import RequestSettings
from tests.rows.making import builder, built, refused

JOB = {"model": "m", "max_tokens": 10}


def prompt_of(row, template, **settings):
    request = built(row, prompt=template, **JOB, **settings)
    return json.loads(request.body)["messages"][0]["content"]


def test_a_template_reads_columns_custom_id_and_row_number():
    row = {"custom_id": "c", "title": "A & B", "tags": ["x", "y"]}
    text = prompt_of(
        row, "{{ row_number }} {{ custom_id }} {{ title }} {{ tags | join('+') }}\n"
    )
    assert text == "1 c A & B x+y\n"


def test_with_a_template_every_row_is_columns():
    request = built(
        {"params": {"name": "x"}, "model": "a car"}, prompt="{{ params.name }}", **JOB
    )
    assert json.loads(request.body) == {
        "model": "m",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "x"}],
    }


def test_with_a_template_passed_columns_reach_the_body_and_win():
    request = built({"x": 1, "model": "own"}, prompt="{{ x }}", pass_fields=("model",), **JOB)
    assert request.model == "own"


@pytest.mark.parametrize(
    "template",
    [
        "{{ missing }}",
        "{{ nothing }}",
        "{{ 1 // 0 }}",
        "{{ x.__class__.__mro__ }}",
        "{{ range(10**9) }}",
        "{{ items.append(1) }}",
    ],
)
def test_a_template_that_fails_refuses_the_row(template):
    bad = refused({"x": "a", "nothing": None, "items": []}, prompt=template, **JOB)
    assert (bad.reason, bad.message[:26]) == ("TEMPLATE_ERROR", "the prompt template failed")


def test_a_null_can_be_asked_about():
    assert prompt_of({"x": None}, "{% if x %}{{ x }}{% else %}none{% endif %}") == "none"


def test_a_blank_prompt_is_refused():
    assert refused({"x": ""}, prompt=" {{ x }} ", **JOB).reason == "NO_PROMPT"


def test_text_of_a_row_is_never_a_template():
    assert prompt_of({"x": "{{ 7 * 7 }}"}, "{{ x }}") == "{{ 7 * 7 }}"


def test_half_a_surrogate_in_the_jobs_own_text_refuses_rows():
    assert refused({"prompt": "x"}, system="\udc80", **JOB).reason == "BAD_UNICODE"


@pytest.mark.parametrize("template", ["a\n{{ x", "a\n{% if %}", "a\n{% unknown %}"])
def test_a_bad_template_is_refused_with_its_line(template):
    with pytest.raises(ConfigurationError, match="line 2"):
        builder(prompt=template)


def test_an_unknown_filter_is_refused_at_once():
    with pytest.raises(ConfigurationError, match="no_such"):
        builder(prompt="{{ x | no_such }}")


def test_needed_columns_are_those_the_template_reads():
    made = builder(prompt="{{ title }} {{ row_number }} {% for t in tags %}{{ t }}{% endfor %}")
    assert made.prompt_columns == {"title", "tags"}
    assert made.columns == {"title", "tags", "id", "custom_id"}


def test_the_digest_changes_with_everything_that_shapes_a_body():
    changes = [
        {"model": "a"},
        {"max_tokens": 1},
        {"system": "s"},
        {"prompt": "p"},
        {"parameters": {"top_k": 1}},
        {"betas": ("b",)},
        {"pass_fields": ("f",)},
        {},
    ]
    assert len({RequestSettings(**change).digest() for change in changes}) == len(changes)


def test_the_digest_does_not_depend_on_order():
    one = RequestSettings(parameters={"a": 1, "b": {"x": 1, "y": 2}}, betas=("p", "q"))
    two = RequestSettings(parameters={"b": {"y": 2, "x": 1}, "a": 1}, betas=("q", "p"))
    assert one.digest() == two.digest()

import json
import re
from base64 import b64decode
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from batcher.errors import ConfigurationError
from batcher.rows.build.settings import RequestSettings
from tests.rows.making import builder, built, items, refused, source
from tests.rows.test_local_files import PNG

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
        "{{ x }}{{ 1 // 0 }}",
        "{{ x.__class__.__mro__ }}",
        "{{ x }}{{ range(10**9) }}",
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
        {"messages": (("user", "p"),)},
        {"parameters": {"top_k": 1}},
        {"betas": ("b",)},
        {"pass_fields": ("f",)},
        {},
    ]
    assert len({RequestSettings(**change).digest() for change in changes}) == len(changes)


IDIOMS = re.search(r"```jinja\n(.*?)```", Path("docs/rows.md").read_text(), re.DOTALL)[1]


@pytest.mark.parametrize("line", IDIOMS.splitlines())
def test_idioms_of_the_page_are_right_for_a_missing_name_and_for_null_alike(line):
    null = {"title": None, "tags": None, "order": None, "First Name": None}
    full = {"title": "T", "tags": ["a"], "order": {"city": "C"}, "First Name": "F"}
    template = f"x {line.split('{#', 1)[0]}"
    texts = [prompt_of(row, template) for row in ({}, null, full)]
    assert texts[0] == texts[1] != texts[2]
    assert "None" not in texts[0]


@pytest.mark.parametrize("prompt", ["Summarise: {text}", "Hello", "{{ 7 * 7 }}", "{# text #}x"])
def test_a_prompt_that_uses_no_column_is_refused(prompt):
    with pytest.raises(ConfigurationError, match=r"uses no column.*\{\{ text \}\}"):
        builder(prompt=prompt)


def test_a_constant_prompt_about_a_rows_pictures_is_none():
    row = {"images": "https://example.org/a.png"}
    content = prompt_of(row, "What is on it?", pass_fields=("images",))
    assert [block["type"] for block in content] == ["image", "text"]


@pytest.mark.parametrize("prompt", ["Story {{ row_number }}", "For {{ custom_id }}"])
def test_what_differs_from_row_to_row_is_enough(prompt):
    assert prompt_of({"custom_id": "c"}, prompt)


def test_names_with_spaces_are_read_from_the_row():
    made = builder(prompt='{{ row["First Name"] }} {{ row.x }}', **JOB)
    assert made.prompt_columns == {"First Name", "x", "row"}
    assert prompt_of({"First Name": "Ada", "x": 1}, '{{ row["First Name"] }}') == "Ada"
    assert prompt_of({"row": {"x": 2}, "x": 1}, "{{ row.x }}") == "2"


def test_a_template_that_may_read_any_column_needs_them_all():
    made = builder(prompt="{% for name in row %}{{ name }}{% endfor %}", **JOB)
    assert (made.columns, made.prompt_columns) == (None, frozenset())


def test_a_system_text_with_marks_is_a_template():
    row = {"prompt": "p", "title": "T"}
    body = json.loads(built(row, system="About {{ title }}", **JOB).body)
    assert body["system"] == "About T"
    own = json.loads(built({**row, "system": "own"}, system="{{ title }}", **JOB).body)
    assert own["system"] == "own"
    both = built(row, prompt="{{ title }}", system="{{ title or '' }}!", **JOB)
    assert json.loads(both.body)["system"] == "T!"
    params = {"params": {"messages": [{"role": "user", "content": "x"}]}, "title": "T"}
    assert json.loads(built(params, system="{{ title }}", **JOB).body)["system"] == "T"
    blank = json.loads(built({"prompt": "p"}, system="{{ title or '' }}", **JOB).body)
    assert "system" not in blank
    assert refused({"prompt": "p"}, system="{{ title }}", **JOB).reason == "TEMPLATE_ERROR"


def test_a_system_template_reads_its_columns():
    made = builder(system="{{ title }}")
    assert "title" in made.columns
    assert made.prompt_columns == {"params", "messages", "prompt"}


def test_a_plain_system_text_is_sent_as_it_is():
    for text, sent in [
        ("You answer {briefly}.", "You answer {briefly}."),
        ("{% raw %}{{ as it is }}{% endraw %}", "{{ as it is }}"),
    ]:
        assert json.loads(built({"prompt": "p"}, system=text, **JOB).body)["system"] == sent
    with pytest.raises(ConfigurationError, match="system template uses no column"):
        builder(system="{{ 1 + 1 }}")
    with pytest.raises(ConfigurationError, match="system template, line 1"):
        builder(system='JSON like {{"a": }}')


TURNS = (("user", "Sum of 1 and 2"), ("assistant", "3"), ("user", "Sum of {{ a }} and {{ b }}"))


def test_whole_messages_are_templates():
    row = {"a": 4, "b": 5, "images": "https://example.org/a.png"}
    body = json.loads(built(row, messages=TURNS, pass_fields=("images",), **JOB).body)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == "3"
    assert body["messages"][2]["content"][1]["text"] == "Sum of 4 and 5"
    assert builder(messages=TURNS).columns == {"a", "b", "id", "custom_id"}


BLOCKS = (
    ("user", (("text", "Is {{ a }}:"), ("image", "photo"), ("document", "file"))),
    ("assistant", "no"),
    ("user", (("image", "other"), ("text", "then?"))),
)


def test_messages_may_be_blocks_with_files_of_columns():
    url = "https://example.org/a.png"
    row = {"a": 1, "photo": url, "file": {"type": "file", "file_id": "f"}, "other": [url, url]}
    made = builder(messages=BLOCKS)
    assert made.columns == {"a", "photo", "file", "other", "id", "custom_id"}
    assert made.attachment_columns == {"photo", "file", "other"}
    body = json.loads(built(row, messages=BLOCKS, **JOB).body)
    image = {"type": "image", "source": {"type": "url", "url": url}}
    assert [message["content"] for message in body["messages"]] == [
        [{"type": "text", "text": "Is 1:"}, image, {"type": "document", "source": row["file"]}],
        "no",
        [image, image, {"type": "text", "text": "then?"}],
    ]
    bad = refused({**row, "other": None}, messages=BLOCKS, **JOB)
    assert (bad.reason, bad.message) == (
        "TEMPLATE_ERROR", "column 'other' holds no image for messages"
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="column photo stands in messages and in pass"):
        builder(messages=BLOCKS, pass_fields=("photo",))


def test_bytes_of_a_column_stand_in_a_block(tmp_path):
    pq.write_table(pa.table({"a": ["x"], "photo": [{"bytes": PNG}]}), tmp_path / "a.parquet")
    turns = (("user", (("image", "photo"), ("text", "{{ a }}?"))),)
    settings = RequestSettings(messages=turns, **JOB)
    (request,) = items(source(tmp_path / "a.parquet"), settings)
    image, text = json.loads(request.body)["messages"][0]["content"]
    assert (b64decode(image["source"]["data"]), text["text"]) == (PNG, "x?")


def test_bad_messages_are_refused():
    with pytest.raises(ConfigurationError, match="uses no column"):
        builder(messages=TURNS[:2])
    with pytest.raises(ConfigurationError, match="none is the user's"):
        builder(messages=(("assistant", "{{ a }}"),))
    with pytest.raises(ConfigurationError, match=r"messages\[2\], line 1"):
        builder(messages=(*TURNS[:2], ("user", "{{ a")))
    assert refused({"a": "", "b": ""}, messages=(("user", "{{ a }}"),), **JOB).reason


def test_the_digest_does_not_depend_on_order():
    one = RequestSettings(parameters={"a": 1, "b": {"x": 1, "y": 2}}, betas=("p", "q"))
    two = RequestSettings(parameters={"b": {"y": 2, "x": 1}, "a": 1}, betas=("q", "p"))
    assert one.digest() == two.digest()

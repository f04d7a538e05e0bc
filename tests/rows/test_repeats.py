"""Fields that a line names twice: the last one counts, and the rows are counted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.test_report import invoke
from tests.estimate.test_preflight_sample import run
from tests.rows.making import builder, params

JOB = {"model": "m", "max_tokens": 10}
BODY = json.dumps(params())
TWICE = [
    '{"prompt": "a", "prompt": "b"}',
    '{"prompt": "b", "topic": {"x": 1, "x": 2}}',
    '{"custom_id": "x", "custom_id": "y", "params": BODY}'.replace("BODY", BODY),
    '{"custom_id": "x", "params": {"a": 1}, "params": BODY}'.replace("BODY", BODY),
    '{"custom_id": "x", "topic": 1, "topic": 1, "params": BODY}'.replace("BODY", BODY),
    '{"custom_id": "x", "params": BODY}'.replace(
        "BODY", BODY.replace("{", '{"model": "n", ', 1)
    ),
    BODY.replace("{", '{"model": "n", ', 1),
    BODY.replace("{", '{"topic": 1, "topic": 1, ', 1),
]
ONCE = [
    '{"prompt": "say \\"a\\""}',
    '{"prompt": "say \\u0022a", "topic": "x"}',
    '{"custom_id": 5, "params": BODY}'.replace("BODY", BODY),
    '{"custom_id": "a\\"b", "topic": "x\\u0022", "params": BODY}'.replace("BODY", BODY),
    '{"params": BODY}'.replace("BODY", BODY),
    '{"id": "x", "params": BODY, "topic": {"prompt": "a"}}'.replace("BODY", BODY),
    BODY,
]


@pytest.mark.parametrize("settings", [{}, {"prompt": "{{ row }}"}, {"max_tokens": 5}])
def test_lines_that_name_a_field_twice_are_counted(settings):
    made = builder(**{**JOB, **settings})
    for line in [*TWICE, *ONCE]:
        made.build(line.encode(), 1, 1, 0)
    assert made.repeated_rows == len(TWICE)


VALUES = st.recursive(
    st.text('a"\\é') | st.integers() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('a"'), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1), VALUES), st.booleans())
def test_no_line_is_counted_that_names_each_field_once(columns, ascii_only):
    for row in ({**columns, "prompt": "x"}, {**columns, "params": params()}):
        made = builder(**JOB)
        made.build(json.dumps(row, ensure_ascii=ascii_only).encode(), 1, 1, 0)
        assert made.repeated_rows == 0


def test_a_run_and_a_check_say_how_many(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = '{"prompt": "a", "prompt": "b", "model": "claude-haiku-4-5"}\n'
    (tmp_path / "rows.jsonl").write_text(line + "\n" + line + " \n")
    words = [
        "warning: 2 rows name a field twice; the last one counts",
        "2 blank lines passed over",
    ]
    result, sent = run()
    assert sent == 2
    assert [each for each in result.stderr.splitlines() if each in words] == words
    checked = invoke("check", "rows.jsonl").splitlines()
    assert [each for each in checked if each in words] == words

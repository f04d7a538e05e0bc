"""A template sends data only, the same in every process, and takes neither time nor memory."""

import json
import os
import subprocess
import sys

import pytest

from batcher.errors import ConfigurationError
from tests.rows.making import builder, built, refused

JOB = {"model": "m", "max_tokens": 10}
ORDER = {"items": ["pen", "ink"], "values": [1], "keys": "k"}


def prompt_of(row, template, **settings):
    body = json.loads(built(row, prompt=template, **JOB, **settings).body)
    return body["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ order.items }}", "['pen', 'ink']"),
        ("{{ order.items | join('+') }}", "pen+ink"),
        ("{{ order['keys'] }}", "k"),
        ("{{ row.order.items[1] }}", "ink"),
        ("{% for k, v in plain.items() %}{{ k }}={{ v }},{% endfor %}", "b=1,a=2,"),
        ("{{ plain.keys() | join }}", "ba"),
        ("{{ tags | map('upper') }}", "['X', 'Y']"),
        ("{{ tags | map('upper') ~ '!' }}", "['X', 'Y']!"),
        ("{{ tags | batch(1) | list }}", "[['x'], ['y']]"),
        ("{{ '%.2f' | format(n) }} {{ '{:>5}'.format(n) }}", "0.50   0.5"),
        ("{{ name.strip().split(',')[0] }}", "a"),
        ("{{ range(3) | join }}{{ name }}", "012 a,b "),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(name) }}", "< a,b >"),
        ("{% set ns = namespace(t=0) %}{% for x in tags %}{% set ns.t = ns.t + 1 %}"
         "{% endfor %}{{ ns.t }}{{ name }}", "2 a,b "),
        ("{% for x in tags %}{{ loop.index }}{{ x }}{{ loop.cycle(',', ';') }}{% endfor %}",
         "1x,2y;"),
        ("{{ dict }}", "a column"),
    ],
)  # fmt: skip
def test_keys_come_before_methods_and_results_are_data(template, text):
    row = {"order": ORDER, "plain": {"b": 1, "a": 2}, "tags": ["x", "y"], "n": 0.5,
           "name": " a,b ", "dict": "a column"}  # fmt: skip
    assert prompt_of(row, template) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ order.items }}",
        "{{ order.items ~ '' }}",
        "{{ order.items | string }}",
        "{{ order.items | upper }}",
        "{{ [order.items] }}",
        "{{ {'a': order.items} | tojson }}",
        "{{ '%s' % order.items }}",
        "{{ '{}'.format(order.items) }}",
        "{{ '{0.items}'.format(order) }}",
        "{% for x in order.items %}{{ x }}{% endfor %}",
        "{{ text.upper }}",
        "{{ text }}{{ range }}",
        "{{ text }}{{ namespace }}",
        "{% for x in [text] %}{{ loop }}{% endfor %}",
        "{% for x in [text] %}{{ [loop] }}{% endfor %}",
        "{% macro m() %}{{ text }}{% endmacro %}{{ m }}",
        "{% macro m() %}{{ text }}{% endmacro %}{{ m ~ '' }}",
        "{{ text }}{{ cycler('a') }}",
        "{% set ns = namespace(t=text) %}{{ ns }}",
        "{{ [missing] }}{{ text }}",
        "{{ text ~ missing }}",
        "{{ text ~ none }}",
        "{{ null | upper }}{{ text }}",
        "{{ [null, text] | join(',') }}",
        "{{ '%s' | format(null) }}",
        "{{ null | int }}",
        "{{ lipsum() }}{{ text }}",
    ],
)
def test_what_is_no_data_never_becomes_text(template):
    try:
        bad = refused({"order": {}, "text": "t", "null": None}, prompt=template, **JOB)
        reason, words = bad.reason, bad.message
    except ConfigurationError as exc:  # the template's own fault: seen before any row
        reason, words = "TEMPLATE_ERROR", str(exc)
    assert (reason, " at 0x" in words) == ("TEMPLATE_ERROR", False)


def test_a_method_is_refused_by_its_name():
    bad = refused({"order": {}}, prompt="{{ order.items }}", **JOB)
    assert "items is a function here and no data" in bad.message


BOMBS = [
    "{{ 'a' * 10**10 }}",
    "{{ [1] * 10**10 }}",
    "{{ 10 ** (10 ** 10) }}",
    "{{ 2 ** 99999 * 2 ** 99999 }}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{% for i in range(100000) %}" + "x" * 5_000 + "{% endfor %}",
    "{% set ns = namespace(t='a' * 1000) %}{% for i in range(99) %}"
    "{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
    "{% set ns = namespace(t=[1]) %}{% for i in range(99) %}"
    "{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.t }}",
    "{% set ns = namespace(t=[1]) %}{% for i in range(99) %}"
    "{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}",
    "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(99) }}",
    "{% for i in range(99999) recursive %}{% if loop.depth < 4 %}{{ loop(range(99999)) }}"
    "{% endif %}{% endfor %}",
    "{{ 'x' | center(10**10) }}",
    "{{ 'x'.ljust(10**10) }}",
    "{{ 'x'.zfill(10**10) }}",
    "{{ 'x\n' * 9999 | indent(10**8) }}",
    "{{ ('x\n' * 99999) | indent('y' * 99999) }}",
    "{{ '%99999999999d' % 1 }}",
    "{{ '%*d' % (99999999999, 1) }}",
    "{{ '%.99999999999f' | format(1.0) }}",
    "{{ '{:>99999999999}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 99999999999) }}",
    "{{ ('{0}' * 99999).format('a' * 99999) }}",
    "{{ ('%(a)s' * 99999) % {'a': 'x' * 99999} }}",
    "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "{{ (['a'] * 99999) | join('b' * 99999) }}",
    "{{ ('a' * 99999) | join('b' * 99999) }}",
    "{{ ('b' * 99999).join(['a'] * 99999) }}",
    "{{ 'a' | batch(10**10, 'x') | list }}",
    "{{ 'a' | slice(10**10) | list }}",
    "{{ 1.5 | round(10**9, 'ceil') }}",
    "{{ [[1]] | tojson(indent=10**9) }}",
    "{{ ([[1]] * 9999) | sum(start=[]) }}",
    "{{ ('a ' * 9999999).split() | length }}",
    "{{ ('<b>' * 999999) | striptags }}",
    "{% set big = range(99999) | list %}{% for i in range(99999) %}{% if i in big %}"
    "{% endif %}{% endfor %}",
    "{% set big = range(99999) | list %}{{ range(99999) | select('in', big) | length }}",
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_template_takes_neither_unlimited_time_nor_memory(bomb):
    """Without the bounds each of these would run for hours, or end the process."""
    with pytest.raises(ConfigurationError, match="correct the template"):
        builder(prompt=bomb + "{{ text }}")


def test_a_bomb_that_rows_bring_refuses_the_row():
    row = {"n": 10**10, "text": "a"}
    assert "bytes of text" in refused(row, prompt="{{ text * n }}", **JOB).message
    assert refused(row, prompt="{{ text | center(n) }}", **JOB).reason == "TEMPLATE_ERROR"


def test_long_texts_and_lists_are_no_bombs():
    row = {"text": "word, " * 300_000, "tags": list(range(2_000))}
    template = (
        "{{ text | trim | truncate(900000) }}"
        "{% for t in tags %}{% if t in tags[:20] %}{{ t }}{% endif %}{% endfor %}"
        "{% for t in text.split(',')[:1000] %}{% if 'x' in text %}{{ t }}{% endif %}"
        "{% endfor %}"
    )
    assert len(prompt_of(row, template)) > 900_000


def test_what_one_row_took_is_not_missing_to_the_next():
    made = builder(prompt="{% for i in range(n) %}x{% endfor %}{{ n }}", **JOB)
    row = json.dumps({"n": 90_000}).encode()
    texts = {made.build(row, 1, number, 0).body for number in range(15)}
    assert len(texts) == 1


RENDER = """
import json, sys
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings

rows, templates = json.load(sys.stdin)
for template in templates:
    made = RequestBuilder(RequestSettings(model="m", max_tokens=1, prompt=template))
    for row in rows:
        found = made.build(json.dumps(row).encode(), 1, 1, 0)
        print(getattr(found, "body", None) or found.message)
"""


def test_rendered_prompts_are_the_same_in_every_process():
    words = [f"w{number}" for number in range(40)]
    rows = [
        {"a": dict.fromkeys(words, 1), "b": {"w1": 2}, "order": ORDER, "tags": words},
        {"a": {}, "b": {}, "order": {}, "tags": []},
    ]
    templates = [
        "{{ (a.keys() - b.keys()) | join }}{{ tags }}",
        "{{ (a.items() | list) }}{{ b }}",
        "{{ order.items }}{{ tags }}",
        "{{ tags | unique | list }}{{ a | dictsort }}",
        "{{ tags | random }}",
        "{{ tags }}{{ lipsum() }}",
        "{{ tags | map('upper') }}",
        "{{ [tags | map('upper')] }}{{ a.keys() }}",
        "{% for g in tags | groupby('length') %}{{ g }}{% endfor %}{{ tags }}",
    ]
    runnable = [t for t in templates if "random" not in t]

    def render(seed):
        return subprocess.run(
            [sys.executable, "-c", RENDER],
            input=json.dumps([rows, runnable]), capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout  # fmt: skip

    assert render("1") == render("2")
    with pytest.raises(ConfigurationError, match="random"):
        builder(prompt=templates[4])

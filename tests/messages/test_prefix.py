"""Where prompts are cut, and what a body is with breakpoints there."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.messages.prefix import (
    FIVE_MINUTES,
    MOST_BREAKPOINTS,
    MOST_CUTS,
    ONE_HOUR,
    Placement,
    breakpoints,
    minimum_tokens,
    read_prompt,
    with_breakpoints,
)
from batcher.simulator.answers import usage
from batcher.simulator.wire.checks import cache_marks, find_problem
from tests.simulator.asking import TOOL

MARKS = ({"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"})
words = st.sampled_from(["a", "b", 'with "quotes"', "\u00e9\n", "cache_control"])
marks = st.sampled_from([None, None, None, *MARKS])


@st.composite
def texts(draw):
    mark = draw(marks)
    block = {"type": "text", "text": draw(words)}
    return block if mark is None else block | {"cache_control": mark}


contents = st.one_of(words, st.lists(texts(), min_size=1, max_size=4))


@st.composite
def bodies(draw):
    """Bodies that the provider takes."""
    turns = draw(st.integers(0, 2))
    roles = ["user", *["assistant", "user"] * turns]
    body = {
        "model": "claude-sonnet-4-6",
        "max_tokens": 9,
        "messages": [{"role": role, "content": draw(contents)} for role in roles],
    }
    if draw(st.booleans()):
        body["system"] = draw(contents)
    if draw(st.booleans()):
        body["tools"] = [TOOL | {"name": f"t{n}"} for n in range(draw(st.integers(1, 3)))]
    return body


def accepted(body):
    return find_problem(body, None, for_count=False) is None


def unmarked(value):
    """The same request without breakpoints, and with every text as a block."""
    if isinstance(value, list):
        return [unmarked(each) for each in value]
    if not isinstance(value, dict):
        return value
    plain = {name: unmarked(each) for name, each in value.items() if name != "cache_control"}
    for name in ("system", "content"):
        if isinstance(plain.get(name), str):
            plain[name] = [{"type": "text", "text": plain[name]}]
    return plain


@given(bodies().filter(accepted), st.data(), st.sampled_from([FIVE_MINUTES, ONE_HOUR]))
def test_a_body_with_breakpoints_asks_for_the_same_and_is_accepted(body, data, lifetime):
    text = json.dumps(body).encode()
    prompt = read_prompt(text)
    if prompt is None:
        return
    assert len(prompt.cuts) <= MOST_CUTS
    counts = data.draw(
        st.lists(st.integers(0, 9), min_size=len(prompt.cuts), max_size=len(prompt.cuts))
    )
    cuts = breakpoints(prompt, counts, lifetime)
    made = json.loads(with_breakpoints(text, Placement(prefix=0, note=lifetime, cuts=cuts)))
    assert accepted(made)
    assert unmarked(made) == unmarked(body)
    own, all_marks = list(cache_marks(body)), list(cache_marks(made))
    assert len(all_marks) == len(own) + sum(not cut.is_marked for cut in cuts)
    assert len(all_marks) <= MOST_BREAKPOINTS
    if not own:
        deepest = [cut for cut, n in zip(prompt.cuts, counts, strict=True) if n][-1:]
        assert list(cuts[-1:]) == deepest


@given(bodies(), bodies())
def test_rows_that_begin_alike_have_the_same_keys_and_no_others(one, other):
    keys = [read_prompt(json.dumps(body).encode()) for body in (one, other)]
    if None in keys:
        return
    for (n, mine), (m, theirs) in product(enumerate(keys[0].cuts), enumerate(keys[1].cuts)):
        if mine.key == theirs.key:
            assert (n, mine.position) == (m, theirs.position)
            assert beginning(one, mine) == beginning(other, theirs)


def beginning(body, cut):
    """Everything before a cut, with what it depends on."""
    blocks = [*body.get("tools", ())]
    listed = body.get("system", [])
    blocks += [listed] if isinstance(listed, str) else listed
    for message in body["messages"]:
        content = message["content"]
        content = [content] if isinstance(content, str) else content
        blocks += [(message["role"], block) for block in content]
    return blocks[: cut.position + 1]


@pytest.mark.parametrize(
    ("change", "shares"),
    [
        ({"max_tokens": 10}, True),
        ({"temperature": 0.5}, True),
        ({"metadata": {"user_id": "x"}}, True),
        ({"stop_sequences": ["x"]}, True),
        ({"messages": [{"role": "user", "content": "another"}]}, True),
        ({"model": "claude-opus-5"}, False),
        ({"thinking": {"type": "adaptive"}}, False),
        ({"tool_choice": {"type": "none"}}, False),
        ({"system": "else"}, False),
        ({"output_config": {"effort": "low"}}, False),
    ],
)
def test_what_changes_a_prefix(change, shares):
    body = {
        "model": "claude-sonnet-4-6",
        "max_tokens": 9,
        "system": "rules",
        "messages": [{"role": "user", "content": "hi"}],
    }
    (one,) = read_prompt(json.dumps(body).encode()).cuts
    (other,) = read_prompt(json.dumps(body | change).encode()).cuts
    assert (one.key == other.key) is shares


@pytest.mark.parametrize("note", [FIVE_MINUTES, ONE_HOUR])
def test_what_the_ledger_notes_is_placed_again_for_as_long(note):
    """Further legs of a row whose batch another invocation collects."""
    body = json.dumps(
        {"model": "m", "system": "rules", "messages": [{"role": "user", "content": "hi"}]}
    ).encode()
    (cut,) = read_prompt(body).cuts
    noted = Placement(prefix=cut.key, note=note).in_body(body, ())
    (mark,) = cache_marks(json.loads(with_breakpoints(body, noted)))
    assert mark.get("ttl", FIVE_MINUTES) == note


def test_a_prompt_of_one_block_has_no_beginning():
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    assert read_prompt(body) is None
    assert read_prompt(b'{"messages":7}') is read_prompt(b"no json") is None


@pytest.mark.parametrize("family", ["opus", "sonnet", "haiku", "fable", "mythos"])
@pytest.mark.parametrize("version", ["4-1", "4-5", "4-6", "4-7", "4-8", "5", "5-1", "5-5"])
def test_the_minimum_is_that_of_the_simulator(family, version):
    known = {
        *("opus-4-1", "opus-4-5", "opus-4-6", "opus-4-7", "opus-4-8", "opus-5", "opus-5-5"),
        *("sonnet-4-5", "sonnet-4-6", "sonnet-5", "sonnet-5-5", "haiku-4-5", "haiku-5-5"),
        *("fable-5", "fable-5-1", "mythos-5", "mythos-5-1"),
    }
    name = f"claude-{family}-{version}"
    if f"{family}-{version}" in known:
        assert minimum_tokens(name) == usage.minimum_tokens(name)

import json

import pytest

from batcher.errors import ConfigurationError
from batcher.messages.request import BadRow, Request
from tests.rows.making import FULL, builder, built, items, lines_of, params, refused, source
from tests.rows.test_local_files import FILES

URL = "https://example.org/a"


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "a.gif", "a.pdf", "a.txt"):
        (tmp_path / name).write_bytes(FILES[name])
    return tmp_path


def content(item):
    assert isinstance(item, Request), item
    return json.loads(item.body)["messages"][0]["content"]


def of_rows(folder, *rows, settings=FULL):
    return items(source(folder / "rows.jsonl", lines_of(rows)), settings)


def kinds(blocks):
    """(type of the block, type of its source) of each."""
    return [(block["type"], block.get("source", {}).get("type")) for block in blocks]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"images": "a.png"}, [("image", "base64")]),
        ({"images": ["a.png", "a.gif"]}, [("image", "base64")] * 2),
        ({"images": f"{URL}.png"}, [("image", "url")]),
        ({"images": {"type": "file", "file_id": "f"}}, [("image", "file")]),
        ({"images": [f"{URL}.png", {"type": "url", "url": URL}, None]}, [("image", "url")] * 2),
        ({"documents": "a.pdf"}, [("document", "base64")]),
        ({"documents": ["a.txt"]}, [("document", "text")]),
        ({"documents": f"{URL}.pdf"}, [("document", "url")]),
        (
            {"images": "a.png", "documents": "a.pdf"},
            [("document", "base64"), ("image", "base64")],
        ),
    ],
)
def test_columns_beside_a_prompt_become_blocks_before_its_text(folder, columns, expected):
    (item,) = of_rows(folder, {"prompt": "what is it", **columns})
    blocks = content(item)
    assert kinds(blocks[:-1]) == expected
    assert blocks[-1] == {"type": "text", "text": "what is it"}


def test_a_whole_block_keeps_its_fields(folder):
    source_ = {"type": "path", "path": "a.txt"}
    block = {"type": "document", "title": "T", "source": source_}
    (item,) = of_rows(folder, {"prompt": "p", "documents": [block]})
    assert content(item)[0]["title"] == "T"
    assert content(item)[0]["source"]["data"] == "Grüße\n"


@pytest.mark.parametrize("columns", [{"images": None}, {"images": []}, {"documents": ""}, {}])
def test_without_any_the_prompt_stays_a_text(folder, columns):
    assert content(of_rows(folder, {"prompt": "p", **columns})[0]) == "p"


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_columns_of_text_hold_a_path_or_json(folder, make_file, name):
    rows = [
        {"prompt": "p", "images": "a.png", "betas": "b-1, b-2"},
        {"prompt": "p", "images": '["a.png", "https://example.org/a.png"]', "betas": '["b-1"]'},
    ]
    first, second = items(make_file(name, rows), FULL)
    assert kinds(content(first)) == [("image", "base64"), ("text", None)]
    assert kinds(content(second)) == [("image", "base64"), ("image", "url"), ("text", None)]
    assert (first.betas, second.betas) == (("b-1", "b-2"), ("b-1",))


def test_parquet_lists_are_lists(folder, make_file):
    rows = [{"prompt": "p", "images": ["a.png", "a.gif"], "betas": ["x"]}]
    (item,) = items(make_file("rows.parquet", rows), FULL)
    assert len(content(item)) == 3
    assert item.betas == ("x",)


def test_a_template_uses_them_when_the_job_passes_them(folder):
    row = {"title": "T", "images": "a.png", "betas": ["b"]}
    settings = {"model": "m", "max_tokens": 1, "prompt": "{{ title }}"}
    plain = type(FULL)(**settings)
    passing = type(FULL)(**settings, pass_fields=("images", "betas"))
    (item,) = of_rows(folder, row, settings=plain)
    assert (content(item), item.betas) == ("T", ())
    (item,) = of_rows(folder, row, settings=passing)
    assert kinds(content(item)) == [("image", "base64"), ("text", None)]
    assert item.betas == ("b",)
    assert json.loads(item.body).keys() == {"model", "max_tokens", "messages"}


def test_beside_messages_they_are_not_dropped_in_silence(folder):
    (item,) = of_rows(folder, {**params(), "images": "gone.png"})
    assert (item.reason, "not sent" in item.message) == ("MISNAMED_FIELD", True)
    data = built({**params(), "images": "gone.png"}, ignored=("images",))
    assert content(data) == "hello"


@pytest.mark.parametrize("images", [5, True, [7], [["a.png"]]])
def test_what_is_no_path_url_or_object_is_refused(images):
    assert refused({"prompt": "p", "images": images}).reason == "WRONG_TYPE"


def test_a_file_that_is_gone_is_refused(folder):
    (item,) = of_rows(folder, {"prompt": "p", "images": "gone.png"})
    assert isinstance(item, BadRow)
    assert item.reason == "BAD_FILE"


def test_betas_of_a_row_come_after_those_of_the_job_and_once():
    row = {"params": params(), "betas": ["two", "one"]}
    assert built(row, betas=("one",)).betas == ("one", "two")
    assert built({**params(), "betas": "two"}, betas=("one",)).betas == ("one", "two")
    assert built({"params": params(), "betas": None}, betas=("one",)).betas == ("one",)
    assert built(row).params_hash != built({"params": params()}).params_hash


def test_betas_are_no_part_of_the_body():
    assert json.loads(built({**params(), "betas": ["b"]}).body) == params()


@pytest.mark.parametrize(
    "betas", [5, {"b": 1}, [1], ["a b"], ["a\r\nx-evil: 1"], ["a,b"], "ö", ["-"], ["x" * 101]]
)
def test_what_is_no_beta_name_never_reaches_a_header(betas):
    assert refused({"params": params(), "betas": betas}).reason == "WRONG_TYPE"


def test_a_beta_name_of_the_job_is_checked_at_once():
    with pytest.raises(ConfigurationError, match="no beta name"):
        builder(betas=("a\nb",))

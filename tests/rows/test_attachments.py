import json
from base64 import b64encode

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from batcher.errors import ConfigurationError
from batcher.messages.codec import sides_of
from batcher.messages.request import BadRow, Request
from batcher.rows.read.check import left_out_notes
from batcher.rows.read.reader import original_columns
from tests.rows.making import (
    FULL,
    build,
    builder,
    built,
    items,
    lines_of,
    params,
    refused,
    source,
)
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


def test_beside_messages_they_go_into_the_last_of_the_users(folder):
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "text", "text": "three"}]},
        {"role": "assistant", "content": "{"},
    ]
    row = {**params(), "messages": turns, "images": "a.png", "documents": ["a.pdf"]}
    (item,) = of_rows(folder, row)
    first, second, third, last = json.loads(item.body)["messages"]
    assert [first, second, last] == [turns[0], turns[1], turns[3]]
    expected = [("document", "base64"), ("image", "base64"), ("text", None)]
    assert kinds(third["content"]) == expected
    assert "images" not in json.loads(item.body)
    data = built({**params(), "images": "gone.png"}, ignored=("images",))
    assert content(data) == "hello"
    bad = refused({**params(), "messages": [turns[1]], "images": "https://x.example/a.png"})
    assert (bad.reason, "no message is the user's" in bad.message) == ("NO_PROMPT", True)


def test_images_go_to_the_places_that_messages_show_for_them(folder):
    place, text = {"type": "image"}, {"type": "text", "text": "t"}
    turns = [
        {"role": "user", "content": [place, text]},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": [text, place]},
    ]
    row = {**params(), "messages": turns, "images": ["a.png", "a.gif"], "documents": "a.pdf"}
    (item,) = of_rows(folder, row)
    first, _, last = json.loads(item.body)["messages"]
    assert kinds(first["content"]) == [("image", "base64"), ("text", None)]
    assert first["content"][0]["source"]["media_type"] == "image/png"
    assert [kind for kind, _ in kinds(last["content"])] == ["document", "text", "image"]
    assert last["content"][2]["source"]["media_type"] == "image/gif"
    (bad,) = of_rows(folder, {**row, "images": "a.png"})
    assert (bad.reason, "2 places for images" in bad.message) == ("WRONG_TYPE", True)


def test_the_column_image_is_the_same_as_images(folder):
    for row in ({"prompt": "p"}, params(), {"messages": [*SYSTEM, *params()["messages"]]}):
        (item,) = of_rows(folder, {**row, "image": "a.png"})
        assert kinds(content(item)) == [("image", "base64"), ("text", None)]


SYSTEM = [{"role": "system", "content": "s"}]
DATA = {"a.png": "image/png", "a.jpg": "image/jpeg"}


@pytest.mark.parametrize("name", DATA)
def test_data_urls_are_looked_at_and_sent_as_base64(folder, name):
    data = b64encode(FILES[name]).decode()
    url = f"data:{DATA[name]};base64,{data}"
    block = {"type": "image", "source": {"type": "url", "url": url}}
    for row in (
        {"prompt": "p", "images": url},
        {"prompt": "p", "image": [url]},
        {"prompt": "p", "images": {"bytes": data, "path": None}},
        {"messages": [{"role": "user", "content": [block, {"type": "text", "text": "p"}]}]},
    ):
        (item,) = of_rows(folder, row)
        source_ = {"type": "base64", "media_type": DATA[name], "data": data}
        assert content(item)[0] == {"type": "image", "source": source_}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/png,abc", "not in base64"),
        ("data:image/png;base64,a b c", "is not base64"),
        ("data:image/png;base64,\u00e9", "is not base64"),
        ("data:image/png;base64,aGVsbG8=", "the content is no JPEG, PNG"),
    ],
)
def test_data_urls_that_hold_no_picture_are_refused(url, words):
    bad = refused({"prompt": "p", "images": url}, model="m", max_tokens=1)
    assert (bad.reason, words in bad.message) == ("BAD_FILE", True)


def picture_columns():
    png = FILES["a.png"]
    one = {"bytes": png, "path": "x.png"}
    by_path = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return {
        "bytes": pa.array([png], pa.binary()),
        "large bytes": pa.array([png], pa.large_binary()),
        "a list of bytes": pa.array([[png]], pa.list_(pa.binary())),
        "of a data set": pa.array([one], by_path),
        "a list of those": pa.array([[one]], pa.list_(by_path)),
        "by its path": pa.array([{"bytes": None, "path": "a.png"}], by_path),
    }


@pytest.mark.parametrize("column", ["image", "images"])
@pytest.mark.parametrize("name", picture_columns())
def test_pictures_as_parquet_holds_them(folder, name, column):
    table = pa.table({"prompt": ["p"], column: picture_columns()[name]})
    pq.write_table(table, folder / "rows.parquet")
    file = source(folder / "rows.parquet")
    (item,) = items(file)
    data = b64encode(FILES["a.png"]).decode()
    source_ = {"type": "base64", "media_type": "image/png", "data": data}
    assert content(item)[0] == {"type": "image", "source": source_}
    assert len(content(item)) == 2
    passing = type(FULL)(model="m", max_tokens=1, prompt="{{ prompt }}", pass_fields=(column,))
    (item,) = items(file, passing)
    assert content(item)[0]["source"] == source_
    ((_, exported),) = original_columns(file)
    assert exported["prompt"] == "p"
    assert json.dumps(exported[column])
    assert name == "by its path" or data in json.dumps(exported[column])


def test_a_picture_is_no_text_for_a_template(folder):
    table = pa.table({"prompt": ["p"], "image": picture_columns()["bytes"]})
    pq.write_table(table, folder / "rows.parquet")
    settings = type(FULL)(model="m", max_tokens=1, prompt="{{ image }}")
    (item,) = items(source(folder / "rows.parquet"), settings)
    assert item.reason == "BAD_UNICODE"


def jpeg(width, height):
    app = b"\xff\xe0\0\x10JFIF" + bytes(10)
    sides = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"\xff\xd8" + app + b"\xff\xc2\0\x11\x08" + sides + bytes(9)


def webp(chunk, body):
    return b"RIFF\x40\0\0\0WEBP" + chunk + b"\x20\0\0\0" + body


def webps(width, height):
    little = [(side - 1).to_bytes(3, "little") for side in (width, height)]
    bits = (width - 1) | (height - 1) << 14
    plain = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return [
        webp(b"VP8X", bytes(4) + b"".join(little)),
        webp(b"VP8L", b"\x2f" + bits.to_bytes(4, "little")),
        webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + plain),
    ]


@pytest.mark.parametrize(
    ("sides", "reason"), [((8000, 7), None), ((7, 8001), "FILE_TOO_LARGE")]
)
def test_pictures_have_a_longest_side(sides, reason):
    for data in (jpeg(*sides), *webps(*sides)):
        row = {"prompt": "p", "images": {"bytes": b64encode(data).decode()}}
        found = build(row, model="m", max_tokens=1)
        assert getattr(found, "reason", None) == reason
        if reason:
            assert "7 x 8001 pixels" in found.message


@given(st.binary(max_size=60))
def test_no_header_is_read_beyond_its_end(rest):
    for start in (jpeg(5, 5)[:2], *(each[:16] for each in webps(5, 5)), b"\x89PNG\r\n\x1a\n"):
        for media in ("image/jpeg", "image/webp", "image/png", "image/gif"):
            sides_of(start + rest, media)


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


def test_pictures_that_a_template_leaves_out_are_said(tmp_path):
    row = {"q": "x", "image": "a.png", "documents": [], "model": "m"}
    file = source(tmp_path / "a.jsonl", json.dumps(row).encode() + b"\n")
    settings = {"model": "m", "max_tokens": 1}

    def notes(**more):
        return left_out_notes([file], builder(**settings, **more))

    assert notes(prompt="{{ q }}") == [
        "not sent: image, documents; to send it with the prompt: [request] pass ="
        ' ["image", "documents"]'
    ]
    assert "not sent: documents;" in notes(prompt="{{ q }}{{ image }}")[0]
    assert "not sent: image;" in notes(prompt="{{ q }}", pass_fields=("documents",))[0]
    assert notes(prompt="{{ q }}", ignored=("image", "documents")) == notes() == []

import json
import os
from base64 import b64decode, b64encode

import pytest

from batcher.messages.request import BadRow, Request
from batcher.rows.build.attachments import MAX_IMAGE_BYTES
from batcher.rows.build.settings import Attachments, RequestSettings
from batcher.rows.read.source import find_sources
from tests.rows.making import FULL, batches, build, items, lines_of, params, reasons, source

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (64).to_bytes(4, "big") * 2 + b"rest"
FILES = {
    "a.png": PNG,
    "a.jpg": b"\xff\xd8\xff\xe0rest",
    "a.gif": b"GIF89a\x10\0\x10\0rest",
    "a.webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "a.pdf": b"%PDF-1.4\nrest",
    "a.txt": "\ufeffGrüße\n".encode(),
    "no-ending": PNG,
    "empty": b"",
    "a.bin": b"\0\1\2",
    "latin.txt": "Grüße".encode("latin-1"),
}
MEDIA = {"a.png": "png", "a.jpg": "jpeg", "a.gif": "gif", "a.webp": "webp", "no-ending": "png"}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def by_path(kind, path, **source_):
    return {"type": kind, "source": {"type": "path", "path": path, **source_}}


def row(*content):
    return {"params": {**params(), "messages": [{"role": "user", "content": list(content)}]}}


def built(folder, *content):
    (item,) = items(source(folder / "rows.jsonl", lines_of([row(*content)])))
    assert isinstance(item, Request), item
    return json.loads(item.body)["messages"][0]["content"]


def refused(folder, *content):
    (item,) = items(source(folder / "rows.jsonl", lines_of([row(*content)])))
    assert isinstance(item, BadRow), item
    return item.reason, item.message


@pytest.mark.parametrize("name", MEDIA)
def test_an_image_is_sent_as_base64_with_the_type_that_its_content_tells(folder, name):
    (block,) = built(folder, by_path("image", name))
    source_ = block["source"]
    assert (source_["type"], source_["media_type"]) == ("base64", f"image/{MEDIA[name]}")
    assert b64decode(source_["data"]) == FILES[name]


def test_a_pdf_is_sent_as_base64_and_a_text_as_text(folder):
    pdf, text = built(folder, by_path("document", "a.pdf"), by_path("document", "a.txt"))
    assert pdf["source"]["media_type"] == "application/pdf"
    assert b64decode(pdf["source"]["data"]) == FILES["a.pdf"]
    assert text["source"] == {"type": "text", "media_type": "text/plain", "data": "Grüße\n"}


def test_the_other_fields_of_the_block_stay(folder):
    block = {**by_path("document", "a.pdf"), "title": "T", "citations": {"enabled": True}}
    (sent,) = built(folder, block)
    assert sent == {**block, "source": sent["source"]}


def test_paths_inside_tool_results_and_documents_are_read_too(folder):
    inner = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [by_path("image", "a.png"), by_path("document", "a.txt")],
    }
    content = {
        "type": "document",
        "source": {"type": "content", "content": [by_path("image", "a.gif")]},
    }
    result, document = built(folder, inner, content)
    assert [b["source"]["type"] for b in result["content"]] == ["base64", "text"]
    assert document["source"]["content"][0]["source"]["media_type"] == "image/gif"


WAYS_OUT = ["../a.png", "{folder}/a.png", "link.png", "linked/a.png", "below/../../a.png"]
WAYS_IN = ["b.png", "below/b.png", "../sub/b.png", "{folder}/sub/b.png", "inner.png"]


def of_sub(folder, names, attachments):
    """What becomes of rows in a folder below, which name these files."""
    sub = folder / "sub"
    (sub / "below").mkdir(parents=True, exist_ok=True)
    for name in ("b.png", "below/b.png"):
        (sub / name).write_bytes(PNG)
    for name, target in [("link.png", "../a.png"), ("linked", ".."), ("inner.png", "b.png")]:
        if not (sub / name).is_symlink():
            (sub / name).symlink_to(target)
    rows = [row(by_path("image", name.format(folder=folder))) for name in names]
    settings = RequestSettings(model="m", max_tokens=10, attachments=attachments)
    return items(source(sub / "rows.jsonl", lines_of(rows)), settings)


def test_rows_name_files_beside_their_input_or_below(folder):
    found = of_sub(folder, WAYS_IN + WAYS_OUT, Attachments.BESIDE_INPUT)
    assert reasons(found) == ["ok"] * len(WAYS_IN) + ["BAD_FILE"] * len(WAYS_OUT)
    for bad in found[len(WAYS_IN) :]:
        assert "is not beside the input or below; if the rows are yours, say" in bad.message
    assert of_sub(folder, ["gone.png"], Attachments.BESIDE_INPUT)[0].reason == "BAD_FILE"


def test_an_input_that_is_reached_by_a_link_has_its_files_beside_it(folder):
    (folder / "there").symlink_to(folder / "sub")
    of_sub(folder, [], Attachments.BESIDE_INPUT)
    file = source(folder / "there" / "rows.jsonl", lines_of([row(by_path("image", "b.png"))]))
    assert reasons(items(file)) == ["ok"]


def test_rows_may_name_any_file_or_none(folder):
    found = of_sub(folder, WAYS_IN + WAYS_OUT, Attachments.ANYWHERE)
    assert set(reasons(found)) == {"ok"}
    found = of_sub(folder, WAYS_IN + WAYS_OUT, Attachments.NONE)
    assert set(reasons(found)) == {"BAD_FILE"}
    assert found[0].message == 'b.png: attachments = "none"'
    assert RequestSettings(attachments=Attachments.NONE).digest() != RequestSettings().digest()


def test_links_in_a_ring_are_refused(folder):
    (folder / "ring.png").symlink_to("ring.png")
    assert refused(folder, by_path("image", "ring.png"))[0] == "BAD_FILE"


@pytest.mark.parametrize(
    ("block", "reason", "words"),
    [
        (by_path("image", "gone.png"), "BAD_FILE", "gone.png: cannot be read: No such file"),
        (by_path("image", "."), "BAD_FILE", "is no regular file"),
        (by_path("image", "a.pdf"), "BAD_FILE", "a.pdf: the content is no JPEG, PNG"),
        (by_path("image", "a.bin"), "BAD_FILE", "the content is no JPEG"),
        (by_path("image", "empty"), "BAD_FILE", "the content is no JPEG"),
        (by_path("document", "a.png"), "BAD_FILE", "the content is no PDF or UTF-8 text"),
        (by_path("document", "latin.txt"), "BAD_FILE", "the content is no PDF or UTF-8 text"),
        (by_path("document", "empty"), "BAD_FILE", "the content is no PDF or UTF-8 text"),
        (
            by_path("image", "a.png", media_type="image/gif"),
            "BAD_FILE",
            "is image/png, not 'image/gif'",
        ),
        (by_path("image", ""), "BAD_FILE", "a string, not a file name"),
        (by_path("image", None), "BAD_FILE", "null, not a file name"),
        (by_path("image", ["a.png"]), "BAD_FILE", "a list, not a file name"),
        (by_path("image", "a\0b"), "BAD_FILE", "not a file name"),
        (by_path("image", "x" * 5_000), "BAD_FILE", "File name too long"),
    ],
)
def test_a_file_that_cannot_be_used_refuses_its_row(folder, block, reason, words):
    found = refused(folder, block)
    assert found[0] == reason
    assert words in found[1]


def test_a_pipe_is_refused_without_waiting_for_it(folder):
    os.mkfifo(folder / "pipe")
    assert "is no regular file" in refused(folder, by_path("image", "pipe"))[1]


def test_a_file_that_is_too_large_is_refused_and_one_just_inside_is_sent(folder):
    (folder / "large.png").write_bytes(PNG.ljust(MAX_IMAGE_BYTES + 1, b"x"))
    assert refused(folder, by_path("image", "large.png")) == (
        "FILE_TOO_LARGE",
        "large.png: has 7,864,321 bytes; 7,864,320 is the most",
    )
    (folder / "large.png").write_bytes(PNG.ljust(MAX_IMAGE_BYTES, b"x"))
    (block,) = built(folder, by_path("image", "large.png"))
    assert len(block["source"]["data"]) == 10 * 2**20


def test_several_files_may_not_outgrow_the_body(folder):
    (folder / "large.png").write_bytes(PNG.ljust(MAX_IMAGE_BYTES, b"x"))
    blocks = [by_path("image", "large.png")] * 4
    assert refused(folder, *blocks)[0] == "BODY_TOO_LARGE"


def test_an_image_with_too_many_pixels_is_refused(folder):
    (folder / "wide.png").write_bytes(PNG[:16] + (8001).to_bytes(4, "big") + PNG[20:])
    reason, words = refused(folder, by_path("image", "wide.png"))
    assert (reason, words) == (
        "FILE_TOO_LARGE",
        "wide.png: is 8001 x 64 pixels; 8000 is the most",
    )


def test_rows_of_standard_input_name_no_files(folder):
    text = json.dumps(row(by_path("image", str(folder / "a.png")))) + "\n"
    with (folder / "stdin").open("wb") as file:
        file.write(text.encode())
    with (folder / "stdin").open("rb") as stdin:
        (spooled,) = find_sources(("-",), base=folder, spool=folder, stdin=stdin)
    (bad,) = items(spooled)
    assert bad.reason == "BAD_FILE"
    assert "rows that came without a local file name none" in bad.message
    assert build(row(by_path("image", "a.png"))).reason == "BAD_FILE"


def test_the_identity_is_that_of_the_body_that_is_sent(folder):
    data = b64encode(PNG).decode()
    sent = {"type": "base64", "media_type": "image/png", "data": data}
    rows = [row(by_path("image", "a.png")), row({"type": "image", "source": sent})]
    first, second = items(source(folder / "rows.jsonl", lines_of(rows)))
    assert first.params_hash == second.params_hash
    (folder / "a.png").write_bytes(PNG + b"changed")
    changed, _ = items(source(folder / "rows.jsonl"))
    assert changed.params_hash != first.params_hash


def test_a_row_without_files_is_still_sent_as_its_bytes_came(folder):
    raw = (
        b'{"params": {"model":"m", "max_tokens":1,"messages":[{"role":"user","content":'
        b'[{"type": "text","text":"path"}]}]}}'
    )
    (request,) = items(source(folder / "rows.jsonl", raw + b"\n"))
    assert request.body == raw[11:-1]


def test_rows_with_large_files_come_in_small_batches(folder, make_file):
    (folder / "big.png").write_bytes(PNG.ljust(200_000, b"x"))
    rows = [row({"type": "text", "text": "a"}), *[row(by_path("image", "big.png"))] * 3]
    rows = [{"params": json.dumps(r["params"])} for r in rows]
    for name in ("big.csv", "big.parquet"):
        found = batches(make_file(name, rows), FULL)
        assert [len(b.items) for b in found if b.items] == [2, 1, 1], name
        assert found[-1].rows_read == 4
    lines = lines_of([{"params": json.loads(r["params"])} for r in rows])
    found = batches(source(folder / "big.jsonl", lines), FULL)
    assert [(len(b.items), b.rows_read) for b in found] == [(2, 2), (1, 3), (1, 4)]

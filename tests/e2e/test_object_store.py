"""A run whose inputs and output lie in an object store."""

import pytest

from tests.e2e.inputs import rows
from tests.rows.making import lines_of


@pytest.fixture
def stored(folder, simulate, bucket):
    folder.environment = bucket.environment
    url = simulate().url
    return lambda *words: folder.batcher(
        "run", *words, "--endpoint", "simulator", "--base-url", url, "--json"
    )


def test_a_run_reads_from_a_store_and_writes_there(folder, bucket, stored):
    bucket.put("in/a.jsonl", lines_of(rows(40)))
    bucket.put("in/b.jsonl", lines_of(rows(40, first=40)))
    output = bucket.url("out/answers.jsonl")
    done = stored(bucket.url("in/*.jsonl"), "-o", output)
    assert (done.code, done.json["answered"], done.json["rows_written"]) == (0, 80, 80), done
    assert bucket.names() == ["in/a.jsonl", "in/b.jsonl", "out/answers.jsonl"]
    lines = bucket.get("out/answers.jsonl").splitlines()
    assert len(lines) == 80
    assert f'"source":"{bucket.url("in/a.jsonl")}","row_number":1,' in lines[0].decode()
    again = stored(bucket.url("in/*.jsonl"), "-o", output)
    assert (again.code, again.json["answered"]) == (0, 0), again
    bucket.put("in/b.jsonl", lines_of(rows(41, first=40)))
    grown = stored(bucket.url("in/*.jsonl"), "-o", output)
    assert (grown.code, grown.json["answered"], grown.json["rows_written"]) == (0, 1, 81), grown
    exported = folder.batcher("export", "-o", bucket.url("answers.csv"))
    assert exported.code == 0, exported
    assert bucket.get("answers.csv").count(b"\n") > 81


def test_no_output_replaces_what_a_run_has_read_in_a_store(folder, bucket, stored):
    url = bucket.put("in.jsonl", lines_of(rows(3)))
    refused = stored(url, "-o", url)
    assert refused.code == 73, refused
    assert stored(url).code == 0
    refused = folder.batcher("export", "-o", url, "--force")
    assert refused.code == 73
    assert "is an input of a run" in refused.err
    assert bucket.get("in.jsonl") == lines_of(rows(3))


def test_an_address_with_a_key_is_refused_and_not_repeated(folder, nobody):
    word = "hunter2hunter2"
    address = f"s3://AKIA{word}:{word}@bucket/rows.jsonl"
    where = ("--endpoint", "simulator", "--base-url", nobody.url)
    for command in (("run", address), ("run", "rows.jsonl", "-o", address)):
        (folder.path / "rows.jsonl").write_bytes(lines_of(rows(1)))
        refused = folder.batcher(*command, *where)
        assert refused.code == 78, refused
        assert word not in refused.out + refused.err
    assert not nobody.was_called()
    written = [path for path in folder.path.rglob("*") if path.is_file()]
    assert not [path for path in written if word.encode() in path.read_bytes()]

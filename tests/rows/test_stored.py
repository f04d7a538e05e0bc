"""Inputs and outputs in an object store: a real S3 server over loopback."""

import gzip
import json
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from batcher.errors import CannotCreate, ConfigurationError, StorageError, UsageError
from batcher.messages.request import BadRow, Request
from batcher.outputs import Guard
from batcher.rows.out.output import open_writer
from batcher.rows.read.reader import original_columns
from batcher.rows.read.source import find_sources, fingerprint, place_of, shown, source_of
from batcher.rows.read.stored import StoredObject
from tests.e2e.processes import wait_for
from tests.rows.making import batches, lines_of, prompts


def found(*inputs, base):
    return find_sources(inputs, base=base, spool=None)


def bodies(file):
    return [item for batch in batches(file) for item in batch.items]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.csv", "a.parquet"])
def test_rows_are_those_of_the_same_file_on_the_disk(bucket, make_file, name, tmp_path):
    local = make_file(name, prompts(20_000))
    bucket.put(f"in/{name}", local.path.read_bytes())
    (stored,) = found(bucket.url(f"in/{name}"), base=tmp_path)
    assert (stored.format, stored.compression) == (local.format, local.compression)
    assert bodies(stored) == bodies(local)
    assert list(original_columns(stored)) == list(original_columns(local))


def test_a_file_of_many_readings_is_whole(bucket, tmp_path):
    rows = [{"prompt": f"{number} {'x' * 2000}"} for number in range(6_000)]  # three readings
    (stored,) = found(bucket.put("large.jsonl", lines_of(rows)), base=tmp_path)
    assert [json.loads(item.body)["messages"][0]["content"] for item in bodies(stored)] == [
        row["prompt"] for row in rows
    ]


def test_globs_and_folders_give_their_objects_sorted(bucket, tmp_path):
    names = ["in/b.jsonl", "in/a.jsonl", "in/_SUCCESS", "in/.b.jsonl.tmp", "in/day=2/c.parquet"]
    for name in [*names, "in/x.txt", "in/day=2/deep/d.jsonl", "other.jsonl"]:
        bucket.put(name, b'{"prompt":"a"}\n')

    def of(given):
        return [file.name.removeprefix(bucket.url()) for file in found(given, base=tmp_path)]

    assert of(bucket.url("in/*.jsonl")) == ["in/a.jsonl", "in/b.jsonl"]
    assert of(bucket.url("in/**/*.jsonl")) == [
        "in/a.jsonl",
        "in/b.jsonl",
        "in/day=2/deep/d.jsonl",
    ]
    whole = ["in/a.jsonl", "in/b.jsonl", "in/day=2/c.parquet", "in/day=2/deep/d.jsonl"]
    assert of(bucket.url("in")) == of(bucket.url("in/")) == whole
    assert of(bucket.url("i?/day=[12]/*")) == ["in/day=2/c.parquet"]
    assert of(bucket.url()) == [*whole, "other.jsonl"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("none.jsonl", "no such object"),
        ("*.jsonl", "no such object"),
        ("*", "no object there is of a known kind"),
        ("a.txt", "unknown kind of file"),
    ],
)
def test_a_wrong_address_is_named_in_one_sentence(bucket, tmp_path, given, words):
    bucket.put("a.txt", b"x")
    with pytest.raises(UsageError, match=words):
        found(bucket.url(given), base=tmp_path)


def test_a_folder_that_a_tool_marked_by_an_empty_object_is_a_folder(bucket, tmp_path):
    row = bucket.put("in/a.jsonl", b'{"prompt":"a"}\n')
    empty = bucket.put("empty.jsonl", b"")
    bucket.put("in", b"")
    for given in ("in", "in/"):
        assert [file.name for file in found(bucket.url(given), base=tmp_path)] == [row]
    assert [file.name for file in found(empty, base=tmp_path)] == [empty]


def test_names_hold_what_stores_allow(bucket, tmp_path):
    names = [
        "a b+c.jsonl",
        "a%20b.jsonl",
        "100%.jsonl",
        "ü/日本.jsonl",
        "[1]*?#&=.jsonl",
        "~'\".jsonl",
    ]
    for name in names:
        url = bucket.put(f"in/{name}", b'{"prompt":"a"}\n')
        assert [file.name for file in found(url, base=tmp_path)] == [url]
        write(bucket.url(f"out/{name}"), [{"status": "answered", "text": "a"}])
    written = [name.removeprefix("out/") for name in bucket.names() if name.startswith("out/")]
    assert written == sorted(names)
    assert len(found(bucket.url("in"), base=tmp_path)) == len(names)


def test_an_inbox_in_a_store_may_be_empty(bucket, tmp_path):
    glob = bucket.url("2026-11-30/*.jsonl")
    assert (
        find_sources([glob], base=tmp_path, spool=None, may_be_missing={glob: tmp_path}) == ()
    )


def test_an_object_named_twice_is_refused(bucket, tmp_path):
    url = bucket.put("a.jsonl", b'{"prompt":"a"}\n')
    for again in (bucket.url("*.jsonl"), f"{url}/", url.replace("s3:", "S3:")):
        with pytest.raises(UsageError, match="is the same file as"):
            found(url, again, base=tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAXYZ:hunter2@bucket/a.jsonl",
        "gs://hunter2@bucket/a.jsonl",
        "abfss://container:hunter2@account.dfs.core.windows.net/a.jsonl",
        "abfss://c@account.dfs.core.windows.net/a.jsonl?sv=2026&sig=hunter2",
        "s3://bucket/a.jsonl?X-Amz-Signature=hunter2",
        "s3://bucket/a.jsonl?secret_key=hunter2",
        "https://user:hunter2@host/a.jsonl",
    ],
)
def test_an_address_with_credentials_is_not_repeated(url, tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        found(url, base=tmp_path)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        open_writer(url)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in shown(url)


@pytest.mark.parametrize(
    "name", ["a.jsonl", "-", "s3://bucket/in/*.jsonl", "ftp://host/a", "s3:///a"]
)
def test_a_name_without_a_secret_is_shown_as_it_is(name):
    assert shown(name) == name


def test_a_version_changes_with_the_object_and_only_then(bucket):
    place = place_of(bucket.put("a.jsonl", b"1\n"))
    before = fingerprint(place)
    assert fingerprint(place) == before
    bucket.put("a.jsonl", b"2\n")
    assert fingerprint(place) != before
    with pytest.raises(StorageError, match="no such object"):
        fingerprint(place_of(bucket.url("none.jsonl")))


def test_rows_of_a_store_name_no_local_files(bucket, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"\x89PNG")
    row = {"prompt": "what?", "images": str(tmp_path / "secret.png")}
    (stored,) = found(bucket.put("a.jsonl", lines_of([row])), base=tmp_path)
    (bad,) = bodies(stored)
    assert isinstance(bad, BadRow)
    assert "rows that came without a local file name none" in bad.message


def test_a_cut_packed_object_ends_in_a_bad_row(bucket, tmp_path):
    content = gzip.compress(lines_of(prompts(5_000)))[:-20]
    (stored,) = found(bucket.put("a.jsonl.gz", content), base=tmp_path)
    *rows, last = bodies(stored)
    assert rows
    assert all(isinstance(row, Request) for row in rows)
    assert last.reason == "TRUNCATED_FILE"


# What is written


def write(url, rows, **options):
    with open_writer(url, columns=("status", "text"), **options) as writer:
        writer.write(rows)


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.zst", "out.csv.gz", "out.parquet"])
def test_an_output_is_what_it_would_be_on_the_disk(bucket, tmp_path, name):
    rows = [{"status": "answered", "text": f"{number}"} for number in range(1000)]
    write(bucket.url(f"x/{name}"), rows)
    write(str(tmp_path / name), rows)
    assert bucket.names() == [f"x/{name}"]  # and nothing under another name
    assert bucket.get(f"x/{name}") == (tmp_path / name).read_bytes()


def test_only_our_own_output_is_replaced(bucket):
    url = bucket.url("out.jsonl")
    write(url, [{"status": "answered", "text": "one"}])
    write(url, [{"status": "answered", "text": "two"}])
    assert b"two" in bucket.get("out.jsonl")
    bucket.put("out.jsonl", b'{"theirs": 1}\n')
    with pytest.raises(CannotCreate, match="is there already"):
        write(url, [])
    write(url, [{"status": "answered", "text": "three"}], guard=Guard(force=True))
    assert b"three" in bucket.get("out.jsonl")


def test_no_output_replaces_an_input(bucket):
    url = bucket.put("rows.jsonl", b'{"status":"a","text":"b"}\n')
    with pytest.raises(CannotCreate, match="is an input"):
        write(url, [], guard=Guard(stored_inputs=(url,), force=True))


@pytest.mark.parametrize("name", ["", "folder"])
def test_a_folder_is_no_output(bucket, name):
    bucket.put("folder/x.jsonl", b"1")
    with pytest.raises((CannotCreate, UsageError)):
        write(bucket.url(name), [], format_="jsonl")


def test_a_bucket_that_is_not_there_is_told_before_anything_is_written(bucket):
    with pytest.raises(CannotCreate, match="cannot be written"):
        open_writer("s3://no-such-bucket-here/out.jsonl")


def test_what_is_discarded_leaves_nothing(bucket):
    writer = open_writer(bucket.url("out.jsonl"))
    writer.write([{"a": 1}])
    writer.discard()
    assert bucket.names() == []


class Cut(socketserver.ThreadingTCPServer):
    """In front of a store; passes so many bytes to it, and is gone afterwards."""

    daemon_threads = True

    def __init__(self, port, size):
        self.port, self.left = port, size
        super().__init__(("127.0.0.1", 0), Passing)


class Passing(socketserver.BaseRequestHandler):
    def handle(self):
        import socket

        with socket.create_connection(("127.0.0.1", self.server.port)) as store:
            back = threading.Thread(target=self.answers, args=(store,), daemon=True)
            back.start()
            while self.server.left > 0 and (data := self.request.recv(65536)):
                self.server.left -= len(data)
                if self.server.left <= 0:
                    break
                store.sendall(data)
            store.shutdown(socket.SHUT_RDWR)

    def answers(self, store):
        try:
            while data := store.recv(65536):
                self.request.sendall(data)
        except OSError:
            pass


@pytest.fixture
def cut(bucket, monkeypatch):
    """A store that can be gone, and the name of a bucket there.

    The name is its own: how a store is reached is remembered by it.
    """
    other = f"{bucket.name}-cut"
    bucket.system.create_dir(other)
    with Cut(bucket.port, 2**30) as cut:
        cut.bucket = other
        serving = threading.Thread(target=cut.serve_forever, daemon=True)
        serving.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{cut.server_address[1]}")
        yield cut
        cut.shutdown()


def test_what_breaks_off_publishes_nothing_and_is_no_damaged_file(bucket, cut, tmp_path):
    """All at once: the client of a store that is gone tries again for six seconds each time."""
    pq.write_table(pa.table({"prompt": ["x" * 10] * 100}), tmp_path / "a.parquet")
    for name in ("a.parquet", "a.jsonl.zst"):
        address = f"{cut.bucket}/{name}"
        with bucket.system.open_output_stream(address, compression=None) as stream:
            stream.write((tmp_path / "a.parquet").read_bytes())
    files = [
        source_of(name, StoredObject(f"s3://{cut.bucket}/{name}"))
        for name in ("a.parquet", "a.jsonl.zst")
    ]
    writer = open_writer(f"s3://{cut.bucket}/out.jsonl")
    cut.left = 12 * 2**20

    def write():
        writer.write({"text": "x" * 1000} for _ in range(30_000))
        with pytest.raises(StorageError, match="writing failed"):
            writer.close()

    def read(file):
        with pytest.raises(StorageError, match="cannot be read"):
            bodies(file)

    with ThreadPoolExecutor() as threads:
        ends = [threads.submit(write)]
        wait_for(lambda: cut.left <= 0)
        ends += [threads.submit(read, file) for file in files]
    assert [end.result() for end in ends] == [None] * 3
    info = bucket.system.get_file_info(f"{cut.bucket}/out.jsonl")
    assert info.type.name == "NotFound"


def test_temporary_files_of_outputs_are_gone(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    write(bucket.url("out.csv"), [{"status": "a", "text": "b"}])
    assert not list(tmp_path.iterdir())

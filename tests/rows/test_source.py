import io
import os
import stat

import pytest

from batcher.errors import CannotCreate, ConfigurationError, UsageError
from batcher.rows.read.check import check_source
from batcher.rows.read.source import find_sources, fingerprint
from tests.rows.making import builder, source


def found(folder, *inputs, stdin=b""):
    spool = folder / "spool"
    return find_sources(inputs, base=folder, spool=spool, stdin=io.BytesIO(stdin))


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_formats_and_packing_follow_the_name(tmp_path):
    names = ["a.jsonl", "b.ndjson.gz", "c.json-lines.zst", "d.csv.bz2", "e.parquet", "F.JSON"]
    touch(tmp_path, *names)
    kinds = [(f.name, f.format, f.compression) for f in found(tmp_path, *names)]
    assert kinds == [
        ("a.jsonl", "jsonl", None),
        ("b.ndjson.gz", "jsonl", "gz"),
        ("c.json-lines.zst", "jsonl", "zst"),
        ("d.csv.bz2", "csv", "bz2"),
        ("e.parquet", "parquet", None),
        ("F.JSON", "jsonl", None),
    ]


def test_a_glob_gives_its_files_sorted(tmp_path):
    touch(tmp_path, "in/b.jsonl", "in/a.jsonl", "in/c.txt", "z.jsonl")
    names = [file.name for file in found(tmp_path, "z.jsonl", "in/*.jsonl")]
    assert names == ["z.jsonl", "in/a.jsonl", "in/b.jsonl"]
    assert found(tmp_path, f"{tmp_path}/z*")[0].name == f"{tmp_path}/z.jsonl"


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    touch(tmp_path, "a[1].jsonl", "a1.jsonl")
    assert [file.name for file in found(tmp_path, "a[1].jsonl")] == ["a[1].jsonl"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("missing.jsonl", r"missing\.jsonl: no such file; check the name"),
        (
            "folder/rosw.jsonl",
            r"folder/rosw\.jsonl: no such file; did you mean 'rows\.jsonl'\?",
        ),
        ("*.jsonl", r"\*\.jsonl: no file matches"),
        ("folder", "folder: no file in this folder is of a known kind"),
        ("", "an input without a name"),
        ("a.txt", r"a\.txt: unknown kind of file; known are \.jsonl"),
        ("noend", "noend: unknown kind"),
        ("a.parquet.gz", "a compressed Parquet file"),
        ("ftp://host/a.jsonl", "only s3://, gs://, abfss:// and local files"),
        ("s3:///a.jsonl", "names no bucket"),
        ("abfss://container/a.jsonl", "names no bucket"),
        ("pipe.jsonl", "no regular file; use - "),
    ],
)
def test_a_wrong_input_is_named_in_one_sentence(tmp_path, given, words):
    touch(tmp_path, "a.txt", "noend", "a.parquet.gz", "folder/x")
    if "rosw" in given:
        touch(tmp_path, "folder/rows.jsonl")
    if given == "pipe.jsonl":
        os.mkfifo(tmp_path / given)
    with pytest.raises(UsageError, match=words):
        found(tmp_path, given)


@pytest.mark.parametrize(
    "given", ["a\0.jsonl", "a\0*/b", "x" * 300 + ".jsonl", "~nobody-here/a"]
)
def test_a_name_that_no_file_can_have_is_refused_in_one_sentence(tmp_path, given):
    with pytest.raises(UsageError, match=r"check the name|cannot be read"):
        found(tmp_path, given)


def test_a_name_in_another_encoding_is_refused_also_when_a_pattern_finds_it(tmp_path):
    """No database could hold it."""
    (tmp_path / os.fsdecode(b"l\xe4nder.jsonl")).touch()
    with pytest.raises(UsageError, match="is not UTF-8"):
        found(tmp_path, "*.jsonl")


def test_one_file_named_twice_is_refused(tmp_path):
    touch(tmp_path, "a.jsonl")
    (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    for again in ("a.jsonl", "./a.jsonl", "link.jsonl"):
        with pytest.raises(UsageError, match=r"is the same file as a\.jsonl"):
            found(tmp_path, "a.jsonl", again)


def test_no_input_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no input is named"):
        found(tmp_path)


def test_standard_input_is_kept_for_its_owner_only(tmp_path):
    (file,) = found(tmp_path, "-", stdin=b'{"prompt":"a"}\n')
    assert (file.name, file.format, file.compression) == ("-", "jsonl", None)
    assert file.path.read_bytes() == b'{"prompt":"a"}\n'
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in file.path.parent.iterdir()] == [file.path.name]


def test_the_same_standard_input_again_is_the_same_source(tmp_path):
    (one,) = found(tmp_path, "-", stdin=b"x")
    before = fingerprint(one.path)
    (two,) = found(tmp_path, "-", stdin=b"x")
    (other,) = found(tmp_path, "-", stdin=b"y")
    assert one == two
    assert fingerprint(two.path) == before
    assert other.path != one.path


@pytest.mark.parametrize(
    ("start", "format_", "compression"),
    [
        (b"PAR1", "parquet", None),
        (b"\x1f\x8b\x08", "jsonl", "gz"),
        (b"\x28\xb5\x2f\xfd", "jsonl", "zst"),
        (b"BZh9", "jsonl", "bz2"),
    ],
)
def test_standard_input_may_be_packed_or_parquet(tmp_path, start, format_, compression):
    (file,) = found(tmp_path, "-", stdin=start)
    assert (file.format, file.compression) == (format_, compression)


def test_standard_input_twice_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is the same file as -; name it once"):
        found(tmp_path, "-", "-")


def test_standard_input_needs_a_folder(tmp_path):
    with pytest.raises(UsageError, match="standard input cannot be used here"):
        find_sources(["-"], base=tmp_path, spool=None)
    touch(tmp_path, "file")
    with pytest.raises(CannotCreate, match="cannot be kept there"):
        find_sources(["-"], base=tmp_path, spool=tmp_path / "file", stdin=io.BytesIO())


def test_a_fingerprint_follows_size_time_and_both_ends(tmp_path):
    path = tmp_path / "a.jsonl"
    seen = set()
    for content, time in [(b"a" * 200_000, 5), (b"b" * 200_000, 5), (b"a" * 199_999, 5),
                          (b"a" * 199_999 + b"b", 5), (b"a" * 200_000, 6)]:  # fmt: skip
        path.write_bytes(content)
        os.utime(path, ns=(time, time))
        seen.add(fingerprint(path))
        assert fingerprint(path) in seen
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"prompt":"a"}\n'.encode("utf-16"), "is UTF-16; convert it to UTF-8"),
        (b"PAR1....", "is a Parquet file"),
    ],
)
def test_a_file_that_is_no_json_lines_is_refused_before_the_run(tmp_path, content, words):
    with pytest.raises(ConfigurationError, match=words):
        check_source(source(tmp_path / "a.jsonl", content), builder())


@pytest.mark.parametrize("content", [b"", b"[1]\n{}\n", b"nonsense\n", b'{"prompt":"a"}'])
def test_bad_rows_do_not_refuse_a_file(tmp_path, content):
    check_source(source(tmp_path / "a.jsonl", content), builder())
    check_source(source(tmp_path / "b.jsonl.gz", content), builder())

"""Tables as spreadsheets and warehouses write them."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from batcher.rows.build.settings import RequestSettings
from batcher.rows.read.check import check_source, column_names, hidden_rows, reading_notes
from batcher.rows.read.csv_dialect import CsvDialect, dialect_of_sample
from batcher.rows.read.reader import original_columns
from batcher.rows.read.source import find_sources
from tests.rows.making import builder, built, items, params, reasons, refused, source

TABLE = 'custom_id,prompt\na,"x, y; z"\nb,Grüße\n'


SYSTEM = {"role": "system", "content": "s"}


def prompts_of(found):
    return [json.loads(row.body)["messages"][0]["content"] for row in found]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (TABLE.encode(), ""),
        (TABLE.replace(",", ";").replace("x;", "x,").encode(), "cells between semicolons"),
        (TABLE.replace(",", "\t").replace("x\t", "x,").encode(), "cells between tabs"),
        (TABLE.replace(",", "|").replace("x|", "x,").encode(), "cells between bars"),
        (b"sep=,\r\n" + TABLE.encode(), ""),
        (b"\xef\xbb\xbfsep=,\n" + TABLE.encode(), ""),
        (TABLE.encode("cp1252"), "text in Windows-1252"),
        (TABLE.encode("utf-16"), "text in UTF-16"),
        (b"\xfe\xff" + TABLE.encode("utf-16-be"), "text in UTF-16"),
        (TABLE.replace("\n", "\r").encode(), ""),
        (TABLE.replace("\n", "\r\n").encode(), ""),
    ],
)
def test_every_dialect_gives_the_same_rows_and_a_line_says_which(tmp_path, content, note):
    file = source(tmp_path / "a.csv", content)
    found = items(file)
    assert reasons(found) == ["ok", "ok"]
    assert prompts_of(found) == ["x, y; z", "Grüße"]
    assert [(row.custom_id, row.row_number) for row in found] == [("a", 1), ("b", 2)]
    assert reading_notes([file]) == ([f"a.csv: read as {note}"] if note else [])
    assert column_names(file) == ["custom_id", "prompt"]
    assert [fields["prompt"] for _, fields in original_columns(file)] == ["x, y; z", "Grüße"]
    for row in found:
        if "UTF-16" in note:
            assert row.byte_offset is None
        else:
            assert content[row.byte_offset :].startswith(row.custom_id.encode())


def test_the_ending_tsv_is_known(tmp_path):
    assert reasons(items(source(tmp_path / "a.tsv", b"prompt\tmax_tokens\nx\t5\n"))) == ["ok"]


def test_stray_quotes_are_found_between_semicolons_too(tmp_path):
    lines = [f"{number};x" for number in range(20)]
    lines[3] = '3;"x'
    content = "custom_id;prompt\n" + "\n".join(lines) + "\n"
    assert hidden_rows(source(tmp_path / "a.csv", content.encode())).hidden == 16


@pytest.mark.parametrize(
    ("sample", "encoding"),
    [
        (b"prompt\n\xff\n", "utf-8"),
        (b"caf\xe9\n", "cp1252"),
        ("café\n".encode() + b"caf\xe9\n", "utf-8"),
        (b"it\x92s \x80 5\n", "cp1252"),
        ("日本語".encode("shift-jis"), "utf-8"),
        ("Il va à Paris, où il a été\n".encode("cp1252"), "cp1252"),
        ("È vero: né sì né no\n".encode("cp1252"), "cp1252"),
        ("á é ó; å gå på ö\n".encode("cp1252"), "cp1252"),
        ("Das heißt „Öl“: süß … ¡Ángel!\n".encode("cp1252"), "cp1252"),
        ("þýða\n".encode("cp1252"), "cp1252"),
        ("привет, мир\n".encode("cp1251"), "utf-8"),
        ("\u03ba\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1\n".encode("cp1253"), "utf-8"),
        ("שלום עולם\n".encode("cp1255"), "utf-8"),
        ("zażółć\n".encode("cp1250"), "utf-8"),
        ("l'été, ça déçu\n".encode("cp850"), "utf-8"),
        ("日本語".encode()[:-1], "utf-8"),
        (b"", "utf-8"),
    ],
)
def test_an_encoding_is_only_told_where_all_speaks_for_it(sample, encoding):
    assert dialect_of_sample(sample).encoding == encoding


@given(st.binary(max_size=50))
def test_any_beginning_has_a_dialect(sample):
    assert isinstance(dialect_of_sample(sample), CsvDialect)


def test_utf_16_that_is_cut_or_broken_is_read_to_its_end(tmp_path):
    content = "prompt\na\nb\n".encode("utf-16")[:-1] + b"\xd8"
    assert reasons(items(source(tmp_path / "a.csv", content)))[0] == "ok"


def test_an_empty_table_has_no_rows(tmp_path):
    file = source(tmp_path / "a.csv", b"")
    check_source(file, builder())
    assert items(file) == []


@pytest.mark.parametrize("name", ["max_tokens", "top_k"])
def test_a_whole_float_is_an_integer_in_every_format(tmp_path, name):
    (row,) = items(source(tmp_path / "a.csv", f"prompt,{name}\nx,100.0\n".encode()))
    bodies = [
        row.body,
        built({"prompt": "x", name: 100.0}, model="m", max_tokens=5).body,
        built({**params(), name: 100.0}).body,
        built({"params": params(**{name: 100.0})}).body,
        built(
            {**params(), "messages": [SYSTEM, *params()["messages"]], name: 100.0}, model="m"
        ).body,
    ]
    assert all(f'"{name}":100' in body.decode() for body in bodies)
    assert not any(b"100.0" in body for body in bodies)
    bad = refused({"prompt": "x", name: 100.5}, model="m", max_tokens=5)
    assert bad.reason == "WRONG_TYPE"


def test_a_budget_for_thinking_is_an_integer_too(tmp_path):
    thinking = {"type": "enabled", "budget_tokens": 1024.0}
    text = json.dumps(thinking).replace('"', '""')
    content = f'prompt,thinking\nx,"{text}"\n'.encode()
    (row,) = items(source(tmp_path / "a.csv", content))
    bodies = [
        row.body,
        built({"prompt": "x", "thinking": thinking}, model="m", max_tokens=2000).body,
        built({**params(), "thinking": thinking}).body,
        built({"params": params(thinking=thinking)}).body,
    ]
    assert all(b'"budget_tokens":1024}' in body for body in bodies)


def test_a_whole_float_may_be_a_custom_id():
    assert built({**params(), "custom_id": 3.0}).custom_id == "3"
    assert refused({**params(), "custom_id": 3.5}).reason == "BAD_CUSTOM_ID"


@pytest.fixture
def warehouse(tmp_path):
    """A folder as a warehouse writes it."""
    for place, rows in {
        "year=2025/lang=de": ["eins"],
        "year=2025/lang=__HIVE_DEFAULT_PARTITION__": ["?"],
        "year=2026/lang=pt%20BR": ["um"],
    }.items():
        folder = tmp_path / "w" / place
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"prompt": rows}), folder / "0.parquet")
        (folder / ".0.parquet.crc").write_bytes(b"crc")
    (tmp_path / "w" / "_SUCCESS").touch()
    (tmp_path / "w" / "_temporary").mkdir()
    (tmp_path / "w" / "_temporary" / "1.parquet").touch()
    (tmp_path / "w" / "notes.txt").touch()
    return tmp_path


@pytest.mark.parametrize("given", ["w", "w/", "w/**/*", "w/year=*/*/*", "w/**/*.parquet"])
def test_folders_and_patterns_pass_over_what_is_no_data(warehouse, given):
    (warehouse / "w" / "notes.txt").unlink()
    found = find_sources([given], base=warehouse, spool=None)
    names = [file.name for file in found if "_temporary" not in file.name]
    assert names == [
        "w/year=2025/lang=__HIVE_DEFAULT_PARTITION__/0.parquet",
        "w/year=2025/lang=de/0.parquet",
        "w/year=2026/lang=pt%20BR/0.parquet",
    ]


def test_folders_that_say_a_value_are_columns(warehouse):
    settings = RequestSettings(
        model="m", max_tokens=1, prompt="{{ year }} {{ lang or '-' }} {{ prompt }}"
    )
    files = find_sources(["w"], base=warehouse, spool=None)
    rows = [row for file in files for row in items(file, settings)]
    assert prompts_of(rows) == ["2025 - ?", "2025 de eins", "2026 pt BR um"]
    assert column_names(files[0]) == ["prompt", "year", "lang"]
    ((_, columns),) = original_columns(files[1])
    assert columns == {"year": "2025", "lang": "de", "prompt": "eins"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"prompt": "x"}\n{"prompt": "y", "year": "1999"}\nbroken\n'),
        ("a.csv", b'prompt,z\nx,\n"y",\nbroken\n'),
    ],
)
def test_so_they_are_for_text_files(tmp_path, name, content):
    folder = tmp_path / "year=2026"
    folder.mkdir()
    (folder / name).write_bytes(content)
    (file,) = find_sources([f"year=2026/{name}"], base=tmp_path, spool=None)
    settings = RequestSettings(model="m", max_tokens=1, prompt="{{ year }} {{ prompt }}")
    found = items(file, settings)
    own = "1999" if name == "a.jsonl" else "2026"
    assert prompts_of(found[:2]) == ["2026 x", f"{own} y"]
    assert reasons(found)[2] in {"BAD_JSON", "BAD_CSV"}
    assert reasons(items(file, RequestSettings(model="m", max_tokens=1)))[:2] == ["ok", "ok"]

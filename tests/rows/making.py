"""Small inputs for the tests of this room."""

import json

from batcher.messages.request import BadRow, Request
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings
from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.reader import read_rows
from batcher.rows.read.source import SourceFile, source_of

FULL = RequestSettings(model="m", max_tokens=10)


def builder(**settings):
    return RequestBuilder(RequestSettings(**settings))


def build(row, **settings):
    raw = row if isinstance(row, bytes) else json.dumps(row).encode()
    return builder(**settings).build(raw, 1, 1, 0)


def built(row, **settings):
    request = build(row, **settings)
    assert isinstance(request, Request), request
    return request


def refused(row, **settings):
    bad = build(row, **settings)
    assert isinstance(bad, BadRow), bad
    return bad


def params(text="hello", **fields):
    messages = [{"role": "user", "content": text}]
    return {"model": "m", "max_tokens": 10, "messages": messages, **fields}


def lines_of(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def prompts(count):
    return [
        {"custom_id": f"r{number}", "prompt": f"say {number}"} for number in range(1, count + 1)
    ]


def source(path, content=None) -> SourceFile:
    if content is not None:
        path.write_bytes(content)
    return source_of(path.name, path)


def batches(file, settings=FULL, skip=()):
    ranges = RowRanges()
    for first, last in skip:
        ranges.add_range(first, last)
    return list(
        read_rows(file, source_id=7, builder=RequestBuilder(settings), rows=AllBut(ranges))
    )


def items(file, settings=FULL, skip=()):
    return [item for batch in batches(file, settings, skip) for item in batch.items]


def reasons(found):
    return [item.reason if isinstance(item, BadRow) else "ok" for item in found]

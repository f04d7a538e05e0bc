# ruff: noqa: T201 - the count is its output
"""The yardstick: a bare aiohttp loop that posts, parses and discards, and keeps nothing.

    python -m tests.benchmarks.bare_loop rows.jsonl --base-url URL [--concurrency 100]

It has no retries, no time-outs of its own, no pacing, no ledger, no prices, and the event loop
that Python comes with. A body is cut out of its line by position, never parsed.
"""

import argparse
import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import aiohttp

PARAMS = b'"params": '
HEADERS = {
    "x-api-key": "not-a-key",
    "anthropic-version": "2023-06-01",
    "content-type": "application/json",
}


async def post_all(
    session: aiohttp.ClientSession, url: str, lines: Iterator[bytes], proxy: str | None
) -> int:
    posted = 0
    for line in lines:
        body = line[line.index(PARAMS) + len(PARAMS) : -2]
        async with session.post(url, data=body, proxy=proxy) as response:
            json.loads(await response.read())
        posted += response.status == 200
    return posted


async def run(options: argparse.Namespace) -> int:
    tls = ssl.create_default_context(cafile=options.ca_file) if options.ca_file else True
    connector = aiohttp.TCPConnector(limit=0, ssl=tls)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:
        with options.rows.open("rb") as lines:
            url = options.base_url + "/v1/messages"
            workers = (
                post_all(session, url, lines, options.proxy) for _ in range(options.concurrency)
            )
            return sum(await asyncio.gather(*workers))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("rows", type=Path)
    arguments.add_argument("--base-url", required=True)
    arguments.add_argument("--concurrency", type=int, default=100)
    arguments.add_argument("--ca-file")
    arguments.add_argument("--proxy")
    print(asyncio.run(run(arguments.parse_args())))


if __name__ == "__main__":
    main()

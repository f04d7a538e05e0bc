# ruff: noqa: T201 - the count is its output
"""What most people write: the official client, a semaphore, every row a task, nothing kept.

python -m tests.benchmarks.official_client rows.jsonl --base-url URL [--concurrency 100]
"""

import argparse
import asyncio
import json
from pathlib import Path

import anthropic


async def run(path: Path, base_url: str, concurrency: int) -> int:
    semaphore = asyncio.Semaphore(concurrency)
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key="not-a-key") as client:

        async def post(line: str) -> int:
            async with semaphore:
                message = await client.messages.create(**json.loads(line)["params"])
                return message.usage.output_tokens

        with path.open(encoding="utf-8") as lines:
            return sum(await asyncio.gather(*map(post, lines)))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("rows", type=Path)
    arguments.add_argument("--base-url", required=True)
    arguments.add_argument("--concurrency", type=int, default=100)
    options = arguments.parse_args()
    print(asyncio.run(run(options.rows, options.base_url, options.concurrency)))


if __name__ == "__main__":
    main()

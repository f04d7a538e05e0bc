# ruff: noqa: T201 - a benchmark prints its table
"""Usage records priced per second in one process, with the shipped book.

    python -m tests.benchmarks.rating [--records 1000000] [--repeat 3]

A record is an answer with its usage read; its charges come out complete: quantities, rates,
amounts, status. Every third has a variant (batch, US geography, an iteration more).
"""

import argparse
import statistics
import time

import msgspec

from batcher.messages.answer import Answer, parse_answer
from batcher.pricing.book.book import PriceBook, load_shipped
from batcher.pricing.rate.rating import rate
from tests.benchmarks import processes
from tests.benchmarks.ledger_maker import MODELS, START_US, message

DIFFERENT = 3_000


def answers() -> list[Answer]:
    """Different ones, read as a run reads them."""
    made = []
    for number in range(DIFFERENT):
        body = message(number, MODELS[number % 3])
        if number % 9 == 0:
            body["usage"]["service_tier"] = "batch"
        elif number % 9 == 3:
            body["usage"]["inference_geo"] = "us"
        elif number % 9 == 6:
            more = {"type": "compaction", "input_tokens": 900, "output_tokens": 80}
            own = {"type": "message", "input_tokens": 100, "output_tokens": 10}
            body["usage"]["iterations"] = [more, own]
        made.append(parse_answer(msgspec.json.encode(body)))
    return made


def records_per_second(made: list[Answer], records: int, book: PriceBook) -> float:
    """How fast so many records are priced, DIFFERENT ones in turn."""
    rounds = records // len(made)
    started = time.process_time()
    for _ in range(rounds):
        for answer in made:
            rate(
                answer, requested_model="claude-opus-5-5", price_list="anthropic",
                sent_at=START_US, book=book,
            )  # fmt: skip
    return rounds * len(made) / (time.process_time() - started)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--records", type=int, default=1_000_000)
    arguments.add_argument("--repeat", type=int, default=3)
    options = arguments.parse_args()
    print(processes.versions())
    made, book = answers(), load_shipped()
    found = [records_per_second(made, options.records, book) for _ in range(options.repeat)]
    print(f"{statistics.median(found):,.0f} usage records priced per second of one core")


if __name__ == "__main__":
    main()

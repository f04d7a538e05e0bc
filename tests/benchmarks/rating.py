# ruff: noqa: T201 - a benchmark prints its table
"""Usage records priced per second in one process, with the shipped book.

    python -m tests.benchmarks.rating [--records 1000000] [--repeat 3]

A record is an answer with its usage read, and the body that was sent for it; its charges come
out complete: weighed against the body, quantities, rates, amounts, status, both ends. Every
third has a variant (batch, US geography, an iteration more).
"""

import argparse
import statistics
import time

import msgspec

from batcher.messages.answer import parse_answer
from batcher.messages.request import Answered, Attempt, Exchange, Purpose, Request
from batcher.pipeline.engine.rater import Rater
from batcher.pricing.book.book import PriceBook, load_shipped
from batcher.pricing.rate.lines import prompt_tokens
from tests.benchmarks import processes
from tests.benchmarks.ledger_maker import MODELS, START_US, message

DIFFERENT = 3_000


def answers() -> list[tuple[Attempt, Answered]]:
    """Different ones, read as a run reads them, each with what was sent for it."""
    exchange = Exchange(sent_at=START_US, settled_at=START_US)
    made = []
    for number in range(DIFFERENT):
        body = message(number, MODELS[number % 3])
        if number % 9 == 0:
            body["usage"]["service_tier"] = "batch"
        elif number % 9 == 3:
            body["usage"]["inference_geo"] = "us"
        elif number % 9 == 6:
            more = {"type": "compaction", "input_tokens": 900, "output_tokens": 80}
            own = {**body["usage"], "type": "message"}
            body["usage"]["iterations"] = [more, own]
        answered = Answered(exchange, parse_answer(msgspec.json.encode(body)))
        made.append((_attempt(answered), answered))
    return made


def records_per_second(
    made: list[tuple[Attempt, Answered]], records: int, book: PriceBook
) -> float:
    """How fast so many records are priced, DIFFERENT ones in turn."""
    rounds = records // len(made)
    rater = Rater(book, "anthropic")
    started = time.process_time()
    for _ in range(rounds):
        for attempt, answer in made:
            rater.charges_of(rater.weighed(attempt, answer), "claude-opus-5-5")
    return rounds * len(made) / (time.process_time() - started)


def _attempt(answered: Answered) -> Attempt:
    """With three characters for a token of the prompt, as there are in English."""
    usage = answered.answer.usage
    prompt = prompt_tokens(usage) if usage else 0
    body = b"{%s}" % (b"a " * (200 + prompt * 3 // 2))
    request = Request(
        source_id=1, row_number=1, byte_offset=0, custom_id=None, params_hash=b"", body=body,
        model="claude-opus-5-5", max_tokens=2_000,
    )  # fmt: skip
    return Attempt(
        attempt_id=1, uid="1", request_id=1, request=request, number=1, leg=1,
        purpose=Purpose.FIRST, body=body, opened_at=START_US, cost_high=None,
    )  # fmt: skip


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

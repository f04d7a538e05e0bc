"""Mistakes that somebody might make in ledger, pacer and rating, and tests that see them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`text` occurs once in the package, in the room, and becomes `becomes`.

    One of the `tests` must fail then. The file is not named: modules move.
    """

    id: str
    room: str
    text: str
    becomes: str
    wrong: str
    tests: tuple[str, ...]


MUTANTS = [
    # The ledger
    Mutant(
        id="acknowledged before written",
        room="ledger",
        text="            self._write(items)\n            self._writing = []\n"
        "            self._loop.call_soon_threadsafe(_acknowledge, items)",
        becomes="            self._loop.call_soon_threadsafe(_acknowledge, items)\n"
        "            self._write(items)\n            self._writing = []",
        wrong="requests leave before their intent is durable",
        tests=("tests/ledger/test_writer.py",),
    ),
    Mutant(
        id="doubt forgotten",
        room="ledger",
        text='            state="unknown",\n',
        becomes='            state="not_sent",\n',
        wrong="a killed request may have been billed",
        tests=(
            "tests/pipeline/test_resume.py::test_attempts_of_a_dead_process_are_in_doubt_and_their_rows_are_sent_again",
        ),
    ),
    Mutant(
        id="doubt for nothing",
        room="ledger",
        text="func.coalesce(func.sum(attempts.c.cost_high), 0),",
        becomes="func.coalesce(func.sum(attempts.c.cost_low), 0),",
        wrong="what a crash may have cost is told too low",
        tests=(
            "tests/pipeline/test_resume.py::test_attempts_of_a_dead_process_are_in_doubt_and_their_rows_are_sent_again",
        ),
    ),
    Mutant(
        id="claims from living sources",
        room="ledger",
        text="if row[3] not in live\n",
        becomes="if row[3] or live\n",
        wrong="the answer of another row is taken for one's own",
        tests=("tests/ledger/test_claims.py",),
    ),
    Mutant(
        id="one answer for all equal rows",
        room="ledger",
        text="moves.append((request, keys.pop(0)))",
        becomes="moves.append((request, keys[0]))",
        wrong="n equal rows have n answers",
        tests=("tests/ledger/test_claims.py",),
    ),
    Mutant(
        id="a cap that does not hold",
        room="ledger",
        text="free >= amount)",
        becomes="free >= 0)",
        wrong="more is granted than is left",
        tests=("tests/pipeline/test_budget.py",),
    ),
    Mutant(
        id="granted twice",
        room="ledger",
        text="granted=budgets.c.granted - spent - returned,",
        becomes="granted=budgets.c.granted - returned,",
        wrong="what was spent stays reserved for ever",
        tests=("tests/pipeline/test_budget.py",),
    ),
    Mutant(
        id="half of a sum",
        room="ledger",
        text="values[_REST] += charge.total % PICO_PER_WHOLE",
        becomes="values[_REST] += charge.total % (PICO_PER_WHOLE - 1)",
        wrong="the report is off by a few pico-dollars",
        tests=("tests/ledger/test_rollup.py",),
    ),
    Mutant(
        id="unpriced counted by line",
        room="ledger",
        text="values[_UNPRICED_ANSWERS] += not unpriced_seen",
        becomes="values[_UNPRICED_ANSWERS] += 1",
        wrong="an answer of several lines is one answer",
        tests=("tests/ledger/test_rollup.py",),
    ),
    Mutant(
        id="interval the wrong way round",
        room="ledger",
        text='"cost_low": settlement.cost_low,\n        "cost_high": settlement.cost_high,',
        becomes='"cost_low": settlement.cost_high,\n        "cost_high": settlement.cost_low,',
        wrong="low is above high",
        tests=("tests/ledger/test_writer.py", "tests/pipeline/test_whole_runs.py"),
    ),
    # The pacer
    Mutant(
        id="one attempt too many",
        room="pacing",
        text="used_up >= self.max_attempts:",
        becomes="used_up > self.max_attempts:",
        wrong="max_attempts is the number of attempts",
        tests=("tests/pacing/test_retry.py",),
    ),
    Mutant(
        id="the server's wait cut short",
        room="pacing",
        text="asked + min(backoff, 2.0)",
        becomes="min(asked, backoff)",
        wrong="retry-after is obeyed in full",
        tests=("tests/pacing/test_retry.py",),
    ),
    Mutant(
        id="half a reservation",
        room="pacing",
        text="        self._level -= cost\n",
        becomes="        self._level -= cost / 2\n",
        wrong="twice the quota is used",
        tests=("tests/pacing/test_pacer.py",),
    ),
    Mutant(
        id="a breaker that waits for one more",
        room="pacing",
        text="self._failures >= self._policy.trips_after\n",
        becomes="self._failures > self._policy.trips_after\n",
        wrong="trips_after is the number of failures",
        tests=("tests/pacing/test_breaker.py",),
    ),
    Mutant(
        id="concurrency that is never cut",
        room="pacing",
        text="self._allowed = max(self._allowed * _CUT, 1.0)",
        becomes="self._allowed = max(self._allowed, 1.0)",
        wrong="an overloaded server gets as much as before",
        tests=("tests/pacing/test_concurrency.py",),
    ),
    # The rating
    Mutant(
        id="the dearer tier one token early",
        room="pricing",
        text="        if prompt > above:",
        becomes="        if prompt >= above:",
        wrong="a prompt of exactly the limit is of the cheaper tier",
        tests=("tests/pricing/test_rating.py",),
    ),
    Mutant(
        id="no output is nothing",
        room="pricing",
        text="return line.counts.input_tokens is None or line.counts.output_tokens is None",
        becomes="return line.counts.input_tokens is None",
        wrong="unknown output is assumed or unpriced, never 0",
        tests=("tests/pricing/test_rating.py",),
    ),
    Mutant(
        id="writes of five minutes forgotten",
        room="pricing",
        text="five = (five or 0) + written - split",
        becomes="five = written - split",
        wrong="what was split already is written too",
        tests=("tests/pricing/test_rating.py",),
    ),
    Mutant(
        id="a refusal is always free",
        room="pricing",
        text="certain = silent and usage.output_tokens == 0",
        becomes="certain = silent or usage.output_tokens == 0",
        wrong="only a refusal before any output is free",
        tests=("tests/pricing/test_rating.py",),
    ),
    Mutant(
        id="a price that ends a day early",
        room="pricing",
        text="day <= self.valid_until)",
        becomes="day < self.valid_until)",
        wrong="valid_until is the last day",
        tests=("tests/pricing/test_book.py",),
    ),
]

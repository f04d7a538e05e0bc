"""Whole jobs with log-normal outputs: pilot, estimate, run; was the estimate right?

Nothing but the server is made up: rows are read, drawn, sent, priced and recorded as always.

    python -m pytest -m campaign tests/pipeline/test_estimates_of_jobs.py

does it for 200 jobs.
"""

import os
import random
from dataclasses import replace

import pytest

from batcher.clock import SystemClock
from batcher.estimate.estimate import estimate
from batcher.ledger.connect import open_engine, reading
from batcher.ledger.money.estimates import stored_estimates
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.job import Services
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.read.source import find_sources
from tests.making_runs import BOOK, Case, FakeLane, Watcher, answered, prompt_of, row

ROWS, PILOT, MOST_TOKENS = 150, 30, 2_048


def write_job(case, chance):
    """Rows whose answers are longer where the prompts are; the tokens stand in the prompt."""
    lines = []
    for number in range(ROWS):
        words = int(chance.lognormvariate(3.5, 1)) + 1
        output = chance.lognormvariate(4.5 + 0.5 * (words > 33), 0.9)
        tokens = min(int(output) + 1, MOST_TOKENS)
        lines.append(row(f"{tokens} {number} {'word ' * words}", max_tokens=MOST_TOKENS))
    os.utime(case.write(lines), (0, 0))  # chance is drawn from what names the file


def answer(attempt):
    """As long as the row says, to prompts of about a token per four letters."""
    prompt = prompt_of(attempt)
    tokens = int(prompt.split()[0])
    read = round(len(prompt) / 4 * random.Random(prompt).uniform(0.85, 1.15)) + 8
    return answered(usage={"input_tokens": read, "output_tokens": tokens})


def services_of(case, fake):
    return Services(
        builder=RequestBuilder(case.settings),
        files=find_sources(case.inputs, base=case.folder, spool=None),
        rater=Rater(BOOK, "anthropic"),
        make_lane=lambda *_: fake,
        clock=SystemClock(),
        observer=case.watcher,
        price_note="",
    )


def graded(folder, seed):
    """The estimate of one job after its run, with what its rows cost."""
    folder.mkdir()
    case = Case(folder=folder, database=str(folder / "ledger.db")).limit(concurrency=32)
    case = replace(case, options={"prices": None})
    write_job(case, random.Random(seed))
    fake = FakeLane(answer)
    made = estimate(
        case.job(), PILOT, observer=Watcher(), say=print, services=services_of(case, fake)
    )
    assert (made.pilot.exit_code, made.parts.sampled) == (0, PILOT)
    assert case.run(fake).exit_code == 0
    assert len(fake.sent) == ROWS
    engine = open_engine(case.database, read_only=True)
    try:
        with reading(engine) as connection:
            (stored,) = stored_estimates(connection, None)
    finally:
        engine.dispose()
    return stored


def check(tmp_path, jobs, at_least):
    found = [graded(tmp_path / str(seed), seed) for seed in range(jobs)]
    assert all(each.actual <= each.ceiling and each.unbounded == 0 for each in found)
    assert all(each.low <= each.expected <= each.high <= each.ceiling for each in found)
    held = sum(each.grade == "within" for each in found)
    assert held >= at_least, f"{held} of {jobs}"


def test_estimates_of_whole_jobs_hold(tmp_path):
    check(tmp_path, jobs=8, at_least=6)


@pytest.mark.campaign
def test_nine_of_ten_estimates_of_whole_jobs_hold_and_every_ceiling(tmp_path):
    check(tmp_path, jobs=200, at_least=170)

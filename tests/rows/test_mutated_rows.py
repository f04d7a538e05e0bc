"""Damaged rows: never a crash, never something sent that the row does not say.

The campaign does the same ten million times, see docs/development/testing.md.
"""

import json
import os
import time

import pytest

from tests.e2e.campaign import Campaign
from tests.rows.making import built, params
from tests.rows.mutating import Judge, damaged_rows, seeds

ROUND = 100_000
CAMPAIGN_ROWS = int(os.environ.get("BATCHER_CAMPAIGN_ROWS", "10000000"))


def test_sound_rows_are_what_the_judge_takes_them_for():
    judge = Judge()
    for line in seeds():
        judge.check(line)
    assert judge.accepted > 300
    assert judge.refused < judge.accepted / 20


def test_ten_thousand_damaged_rows_are_refused_or_sent_as_they_say():
    judge = Judge()
    for line in damaged_rows(1, 10_000):
        judge.check(line)
    assert judge.accepted > 1_500
    assert judge.refused > 1_500


@pytest.mark.parametrize(
    "twice",
    [
        b'{"role":"user","content":"first","content":"last"}',
        b'{"role":"user","content":"first","con\\u0074ent":"last"}',
        b'{"role":"user","content":"\\u0022\\u0022","content":"last"}',
        b'{"role":"user","x":{"a":1,"a":2},"content":"last"}',
    ],
)
@pytest.mark.parametrize("form", [b'{"params":%s}', b"%s"])
def test_a_field_that_occurs_twice_is_sent_once_as_it_was_read(form, twice):
    body = b'{"model":"m","max_tokens":9,"messages":[%s]}' % twice
    request = built(form % body)
    pairs = json.loads(request.body, object_pairs_hook=list)
    message = dict(pairs)["messages"][0]
    assert len(dict(message)) == len(message)
    assert dict(message)["content"] == "last"


def test_quotes_spelled_as_numbers_are_sent_as_they_came():
    line = json.dumps({"params": params("@")}).replace("@", "\\u0022 \\u005c\\u0022 \\\\")
    assert b'\\u0022 \\u005c\\u0022 \\\\"' in built(line.encode()).body


def test_a_large_row_with_a_repeated_field_is_sent_once_as_it_was_read():
    long = b"x" * 3_000_000
    line = b'{"params":{"model":"m","max_tokens":9,"messages":[],"messages":'
    line += b'[{"role":"user","content":"' + long + b'"}]}}'
    assert built(line).body.count(b"messages") == 1


@pytest.mark.campaign
def test_ten_million_damaged_rows(request):
    campaign = Campaign("mutated-rows", request.config)
    done = campaign.results()
    seed = max((result["seed"] for result in done), default=1)
    total = sum(result["rows"] for result in done)
    while total < CAMPAIGN_ROWS and campaign.has_time():
        seed, began, judge = seed + 1, time.monotonic(), Judge()
        for number, line in enumerate(damaged_rows(seed, ROUND)):
            try:
                judge.check(line)
            except BaseException:
                campaign.tell(f"seed {seed}, row {number}: {line!r}")
                raise
        campaign.add(
            seed=seed,
            rows=ROUND,
            accepted=judge.accepted,
            refused=judge.refused,
            repeated=judge.repeated,
            seconds=round(time.monotonic() - began, 1),
        )
        total += ROUND
    accepted = sum(result["accepted"] for result in campaign.results())
    campaign.tell(f"{total:,} damaged rows, {accepted:,} of them accepted, none wrongly")

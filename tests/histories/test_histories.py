"""Random histories of crashes, faults and changes: whatever happens, the promises hold.

Each seed is a history; a failing one is played again by `BATCHER_HISTORY=seed`.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.pipeline.choices import AnswerChoices
from tests.e2e.campaign import Campaign
from tests.histories.history import History
from tests.making_runs import MODEL, Case, FakeLane, FastClock, answered, refused, row

DEFAULT = 60
AT_ONCE = 20
CAMPAIGN = 10_000
FIRST_OF_CAMPAIGN = 1_000_000
LINE = {
    "request_id": "req_1", "model": MODEL, "cache_creation_5m": 0, "cache_creation_1h": 0,
    "cache_read": 0, "web_search_requests": 0, "stop_reason": "end_turn", "billed": True,
    "inference_geo": "global", "speed": "standard",
}  # fmt: skip


@pytest.fixture
def memory():
    """A folder in memory where there is one: a history is many small syncs."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="batcher-histories-", dir=where) as name:
        yield Path(name)


def play(seed: int, memory: Path, template: Path) -> Counter[str]:
    """One history in a folder of its own; what happened in it."""
    folder = memory / str(seed)
    folder.mkdir()
    history = History(seed, folder, template)
    try:
        history.play()
    except Exception as exc:
        exc.add_note(f"history {seed}, life {history.lives}: {dict(history.happened)}")
        raise
    finally:
        shutil.rmtree(folder)
    return history.happened


SEEDS = [int(os.environ["BATCHER_HISTORY"])] if "BATCHER_HISTORY" in os.environ else None


@pytest.mark.parametrize("first", SEEDS or range(0, DEFAULT, AT_ONCE))
def test_histories_keep_every_promise(memory, sqlite_template, first):
    for seed in range(first, first + (1 if SEEDS else AT_ONCE)):
        play(seed, memory, sqlite_template)


@pytest.mark.campaign
def test_a_campaign_of_histories_keeps_every_promise(memory, sqlite_template, pytestconfig):
    campaign = Campaign("histories", pytestconfig)
    while (done := sum(r["histories"] for r in campaign.results())) < CAMPAIGN:
        if not campaign.has_time():
            break
        happened: Counter[str] = Counter()
        first = FIRST_OF_CAMPAIGN + done
        for seed in range(first, first + AT_ONCE):
            happened += play(seed, memory, sqlite_template)
        campaign.add(first=first, histories=AT_ONCE, happened=dict(happened))
    total: Counter[str] = Counter()
    for result in campaign.results():
        total.update(result["happened"])
    crashes = sum(count for name, count in total.items() if name.startswith("crash at"))
    campaign.tell(
        f"{done:,} of {CAMPAIGN:,} histories, {total['lives']:,} runs, {crashes:,} crashes, "
        f"{total['unknown']:,} attempts in doubt: no promise broken"
    )


def test_the_retry_of_a_longer_answer_is_no_double_bill(tmp_path, sqlite_url):
    """Found by a history: the attempt with the purpose was refused, its retry was billed."""
    case = Case(folder=tmp_path, database=sqlite_url)
    case.options["answers"] = AnswerChoices(raise_factor=Fraction(2))
    case.write([row("x", "id-1")])
    bill: list[dict] = []

    def script(attempt):
        if attempt.number == 2:
            return refused(529)
        usage = {"input_tokens": 10, "output_tokens": 5 * attempt.number}
        bill.append(LINE | usage | {"attempt_uid": attempt.uid})
        return answered(stop_reason="end_turn" if bill[1:] else "max_tokens", usage=usage)

    assert case.run(FakeLane(script), FastClock()).exit_code == 0
    purposes = case.ask("SELECT purpose FROM v_attempts ORDER BY attempt")
    assert [purpose for (purpose,) in purposes] == ["first", "truncation", "retry"]
    path = tmp_path / "bill.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in bill))
    arguments = ["verify", "--database", sqlite_url, "--bill", str(path)]
    told = CliRunner().invoke(group, arguments, standalone_mode=False)
    assert (told.return_value, told.output.count("no problems")) == (0, 1), told.output

"""What `run` says about refused rows before it sends anything."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from batcher.cli.menu import group
from batcher.errors import ConfigurationError
from batcher.estimate.preflight_sample import (
    FEWEST_ROWS,
    SAMPLE_BYTES,
    SAMPLE_ROWS,
    Sample,
    refusal_words,
    refuse_hopeless,
    take_sample,
)
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings
from batcher.rows.ranges import RowRanges
from batcher.rows.read.source import find_sources
from tests.making_runs import row, rows, simulating, write_rows

BAD = row("warm", model="claude-opus-5-5", temperature=0.7)
BUILDER = RequestBuilder(RequestSettings(max_tokens=10))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sampled(folder, *names, **options):
    files = find_sources(names or ("rows.jsonl",), base=folder, spool=None)
    return take_sample(files, BUILDER, **options)


def run(*arguments, words=("rows.jsonl",)):
    """(the result of `batcher run`, how many requests were sent)."""
    with simulating() as simulator:
        where = ("--endpoint", "simulator", "--base-url", simulator.base_url)
        command = ["run", *words, *where, *arguments]
        result = CliRunner().invoke(group, command, standalone_mode=False)
        return result, len(simulator.bill)


def test_a_run_says_first_how_many_rows_would_be_refused_and_why(folder):
    write_rows(folder / "rows.jsonl", [*rows(4), BAD])
    result, sent = run()
    words = "pre-flight: 1 of 5 rows would be quarantined: TEMPERATURE_NOT_DEFAULT 1"
    assert words in result.stderr.splitlines()
    assert (result.return_value, sent) == (65, 4)


def test_nothing_is_said_when_all_is_well_nor_when_rules_are_off(folder):
    write_rows(folder / "rows.jsonl", rows(4))
    assert "pre-flight" not in run()[0].stderr
    write_rows(folder / "rows.jsonl", [*rows(4), BAD])
    assert "pre-flight" not in run("--no-preflight")[0].stderr


@pytest.mark.parametrize("silent", ["--quiet", "--json"])
def test_a_silent_run_does_not_say_it(folder, silent):
    write_rows(folder / "rows.jsonl", [*rows(4), BAD])
    result, sent = run(silent)
    assert "pre-flight" not in result.stderr
    assert sent == 4


@pytest.mark.parametrize("silent", [(), ("--quiet",)])
def test_a_run_whose_rows_would_all_be_refused_does_not_start(folder, silent):
    write_rows(folder / "rows.jsonl", [BAD] * FEWEST_ROWS)
    result, sent = run(*silent)
    assert isinstance(result.exception, ConfigurationError)
    assert result.exception.exit_code == 78
    assert str(result.exception).startswith(
        "all 3 rows would be quarantined, so nothing was sent: "
        "rows.jsonl:1 TEMPERATURE_NOT_DEFAULT: temperature is 0.7; "
    )
    assert str(result.exception).endswith("or send them with --no-preflight")
    assert sent == 0


def test_it_is_told_in_json_too(folder):
    write_rows(folder / "rows.jsonl", [{"custom_id": f"{n}"} for n in range(5)])
    result, sent = run("--json")
    told = json.loads(result.stdout)
    assert (told["exit_code"], sent) == (78, 0)
    assert "NO_PROMPT" in json.dumps(told)


def test_one_or_two_bad_rows_are_just_bad_rows(folder):
    write_rows(folder / "rows.jsonl", [BAD] * (FEWEST_ROWS - 1))
    result, sent = run()
    assert (result.return_value, sent) == (65, 0)


def test_rows_that_were_refused_earlier_are_not_told_again(folder):
    write_rows(folder / "rows.jsonl", [*rows(2), BAD, BAD, BAD])
    assert "pre-flight: 3 of 5" in run()[0].stderr
    result, _ = run()
    assert result.exception is None
    assert "pre-flight" not in result.stderr


def test_a_large_input_is_only_sampled(folder):
    write_rows(folder / "rows.jsonl", [BAD, *rows(1_700, "row {} " + "x" * 10_000)])
    result, sent = run("--limit", "1")
    words = "pre-flight: 1 of the first 1,000 rows would be quarantined: TEMPERATURE_NOT"
    assert words in result.stderr
    assert "ceiling" not in result.stderr
    assert sent == 1


# --- The sample itself


def test_of_a_large_input_the_first_rows_speak(folder):
    write_rows(folder / "rows.jsonl", [BAD, *rows(SAMPLE_ROWS + 50)])
    sample = sampled(folder)
    assert (sample.rows, sample.refused, sample.is_whole) == (SAMPLE_ROWS, 0, False)


def test_every_input_has_a_sample_of_its_own(folder):
    write_rows(folder / "a.jsonl", rows(SAMPLE_ROWS + 1))
    write_rows(folder / "b.jsonl", ["{not json"] * 2)
    sample = sampled(folder, "a.jsonl", "b.jsonl")
    assert refusal_words(sample) == (
        "pre-flight: 2 of the first 1,002 rows would be quarantined: BAD_JSON 2"
    )


def test_an_input_of_exactly_one_sample_is_whole(folder):
    write_rows(folder / "rows.jsonl", rows(SAMPLE_ROWS))
    assert sampled(folder).is_whole


def test_rows_with_large_bodies_are_a_smaller_sample(folder):
    large = row("x" * (SAMPLE_BYTES // 4))
    write_rows(folder / "rows.jsonl", [large] * 9)
    sample = sampled(folder)
    assert (sample.rows, sample.is_whole) == (4, False)


def test_rows_that_are_done_are_passed_over(folder):
    write_rows(folder / "rows.jsonl", ["{not json", *rows(3)])
    done = RowRanges()
    done.add(1)
    sample = sampled(folder, done=lambda _: done)
    assert (sample.rows, sample.refused, sample.skipped) == (3, 0, 1)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 1))
def test_only_a_sample_without_any_good_or_finished_row_is_hopeless(good, bad, skipped):
    sample = _sample(good, bad)
    hopeless = not good and not skipped and bad >= FEWEST_ROWS
    with pytest.raises(ConfigurationError) if hopeless else nullcontext():
        refuse_hopeless(replace(sample, skipped=skipped))
    assert bool(refusal_words(sample)) is bool(bad)


def _sample(good, bad):
    sample = Sample(rows=good)
    for number in range(bad):
        sample.count("a.jsonl", BUILDER.build(b"{}", 0, number + 1, 0))
    return sample


def misnamed(count):
    return [
        {"prompt": f"p{n}", "max_token": 5, "model": "claude-haiku-4-5"} for n in range(count)
    ]


def test_misnamed_fields_in_many_rows_end_a_run_before_it_sends(folder):
    write_rows(folder / "rows.jsonl", [*rows(197), *misnamed(3)])
    for options in ((), ("--no-preflight",), ("--quiet",)):
        result, sent = run(*options)
        assert sent == 0
        assert isinstance(result.exception, ConfigurationError)
        assert "3 of 200 rows have a column that would not be sent" in str(result.exception)
        assert "looks like max_tokens" in str(result.exception)


def test_misnamed_fields_in_few_rows_set_those_aside(folder):
    few = [{**each, "topic": "t"} for each in misnamed(2)]
    other = [{"prompt": "x", "topic": 1, "url": 2, "model": "claude-haiku-4-5"}]
    write_rows(folder / "rows.jsonl", [*rows(197), *few, *other])
    result, sent = run()
    assert (result.return_value, sent) == (65, 198)
    assert result.stderr.splitlines().count("not sent: topic, url") == 1


def test_a_job_says_what_is_data(folder):
    write_rows(folder / "rows.jsonl", misnamed(5))
    (folder / "config.toml").write_text('[request]\nignore = ["max_token"]\n')
    result, sent = run()
    assert (result.return_value, sent) == (0, 5)


def test_rows_refused_before_are_looked_at_again_when_their_column_is_data(folder):
    write_rows(folder / "rows.jsonl", [*rows(199), *misnamed(1)])
    assert run()[0].return_value == 65
    (folder / "config.toml").write_text('[request]\nignore = ["max_token"]\n')
    result, sent = run()
    assert (result.return_value, sent) == (0, 1)

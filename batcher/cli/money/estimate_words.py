"""What `batcher estimate` says: lines and tables for people, or one object of exact amounts."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from batcher.cli.say import tell, tell_table
from batcher.estimate.estimate import Estimated
from batcher.estimate.expected_cost import Method, ModelForecast, ceiling_words
from batcher.estimate.interval import CONFIDENCE
from batcher.estimate.ways import BATCH, BATCH_SECONDS, Way
from batcher.ledger.money.estimates import StoredEstimate
from batcher.monitoring.progress_text import duration_words
from batcher.pricing.money import format_usd, usd_text
from batcher.report.words import count_of, moment_text, safe_text

_METHODS = {
    Method.PILOT: "{:,} rows of a pilot, drawn at random from every length",
    Method.HISTORY: "{:,} earlier answers of the same settings and models",
}
_CAVEATS = {
    Method.PILOT: (
        "about nine of ten such intervals hold the real cost; rows that will fail, and "
        "attempts in doubt that are sent again, are not foreseen"
    ),
    Method.HISTORY: (
        "about nine of ten such intervals hold the real cost if these rows are like the "
        "earlier ones; --pilot asks these rows themselves"
    ),
}
_INPUTS = {
    "measured": "measured on answers",
    "counted": "counted by the endpoint on a sample",
    "guessed": "guessed from their letters, to about 15 %",
}


def estimate_lines(made: Estimated) -> list[str]:
    """The estimate in words."""
    census = made.census
    lines = [f"{census.requests:,} requests to do, to endpoint {made.job.endpoint.name}"]
    if census.finished:
        lines[0] += f"; {census.finished:,} rows need nothing more"
    if census.bad_rows:
        bad = count_of(census.bad_rows, "row")
        lines.append(f"{bad} would be quarantined; batcher check lists them")
    lines += [_model_line(model) for model in made.parts.models]
    lines.append(made.price_note)
    lines.append(f"ceiling   {_ceiling(made)}")
    lines += _expectation_lines(made)
    if made.count_note:
        lines.append(f"input tokens are not counted exactly: {made.count_note}")
    if made.estimate_id is not None:
        lines.append(
            f"estimate {made.estimate_id} is kept in {made.database}; the run will grade it"
        )
    return lines


def _ceiling(made: Estimated) -> str:
    census = made.census
    return ceiling_words(made.job, census.ceiling, census.in_legs, census.unbounded)


def estimate_json(made: Estimated) -> dict[str, Any]:
    """The estimate for programs; amounts are exact decimal text."""
    census, parts, expected = made.census, made.parts, made.expectation
    most = made.job.most(census.ceiling, census.in_legs)
    return {
        "estimate": made.estimate_id,
        "database": made.database,
        "database_created": made.database_created,
        "endpoint": made.job.endpoint.name,
        "requests": census.requests,
        "rows_finished": census.finished,
        "bad_rows": census.bad_rows,
        "ceiling_usd": usd_text(census.ceiling),
        "ceiling_with_retries_usd": None if most is None else usd_text(most),
        "requests_without_ceiling": census.unbounded,
        "expected_usd": usd_text(expected.expected) if expected else None,
        "low_usd": usd_text(expected.low) if expected else None,
        "high_usd": usd_text(expected.high) if expected else None,
        "confidence": CONFIDENCE if expected else None,
        "method": parts.method.value,
        "sampled": parts.sampled,
        "caveat": _CAVEATS.get(parts.method),
        "reason": parts.reason or None,
        "count_tokens": made.count_note or None,
        "models": {model.model: _model_json(model) for model in parts.models},
        "pilot": None if made.pilot is None else _pilot_json(made),
    }


def pilot_lines(made: Estimated) -> list[str]:
    """What a pilot tells of the rows that are left, for a run that begins with one."""
    return [
        *map(_model_line, made.parts.models),
        f"ceiling   {_ceiling(made)}",
        *_expectation_lines(made),
    ]


def expectation_words(made: Estimated) -> str:
    """What the rows that are left will cost, as far as that is known, in a few words."""
    expected = made.expectation
    if expected is None:
        return f"Ceiling: {_ceiling(made)}"
    return (
        f"Expected: {format_usd(expected.expected)} ({format_usd(expected.low)} to "
        f"{format_usd(expected.high)})"
    )


def grade_lines(stored: Sequence[StoredEstimate]) -> list[str]:
    """Every estimate and what came of it, a line each."""
    if not stored:
        return ["no estimate was made here yet"]
    return [
        f"{each.estimate_id}  {moment_text(each.made_at)}  {safe_text(each.run_key)}: "
        f"{', '.join(_grade_words(each))}"
        for each in stored
    ]


def grades_json(stored: Sequence[StoredEstimate]) -> dict[str, Any]:
    """Every estimate and what came of it, for programs."""
    return {"estimates": [_stored_json(each) for each in stored]}


def grade_json(stored: StoredEstimate) -> dict[str, Any]:
    """What came of one estimate; all `None` until its run is over."""
    told = _stored_json(stored)
    names = "graded_at", "actual_usd", "in_doubt_low_usd", "in_doubt_high_usd", "grade"
    return {name: told[name] for name in names}


def _expectation_lines(made: Estimated) -> Iterator[str]:
    expected, parts = made.expectation, made.parts
    if expected is None:
        known = "unknown" if made.census.unbounded else "only the ceiling is known"
        yield f"expected  {known}: {parts.reason}"
        return
    yield (
        f"expected  {format_usd(expected.expected)}, 90 % interval "
        f"{format_usd(expected.low)} to {format_usd(expected.high)}"
    )
    yield f"from {_METHODS[parts.method].format(parts.sampled)}; {_CAVEATS[parts.method]}"
    if made.job.limits.cached:
        yield "before what the prompt cache will save; --lanes tells that"


def _model_line(model: ModelForecast) -> str:
    output = "unknown" if model.output_tokens is None else f"about {model.output_tokens:,}"
    return (
        f"{safe_text(model.model)}: {model.requests:,} requests, about "
        f"{model.input_tokens:,} tokens in ({_INPUTS[model.input_method]}), {output} out"
    )


def _model_json(model: ModelForecast) -> dict[str, Any]:
    return {
        "requests": model.requests,
        "input_tokens": model.input_tokens,
        "input_method": model.input_method,
        "output_tokens": model.output_tokens,
        "priced": model.priced,
    }


def _pilot_json(made: Estimated) -> dict[str, Any]:
    if made.pilot is None:
        return {}
    progress = made.pilot.progress
    return {
        "exit_code": made.pilot.exit_code,
        "sent": progress.sent,
        "answered": progress.answered,
        "cost_usd": usd_text(progress.cost),
    }


def _grade_words(each: StoredEstimate) -> Iterator[str]:
    if each.expected is None or each.low is None or each.high is None:
        yield f"at most {format_usd(each.ceiling)}"
    else:
        yield (
            f"{format_usd(each.expected)} ({format_usd(each.low)} to {format_usd(each.high)}) "
            f"by {each.method} of {each.sampled:,}"
        )
    if each.actual is None:
        yield "not over yet"
        return
    yield f"came to {format_usd(each.actual)}: {each.grade}"
    if each.in_doubt_high != 0:
        high = each.in_doubt_high
        most = "an unknown amount" if high is None else format_usd(high)
        yield f"in doubt {format_usd(each.in_doubt_low or 0)} to {most} more"


def _stored_json(each: StoredEstimate) -> dict[str, Any]:
    def text(amount: int | None) -> str | None:
        return None if amount is None else usd_text(amount)

    return {
        "estimate": each.estimate_id,
        "made_at": moment_text(each.made_at),
        "run": each.run_key,
        "method": each.method,
        "input_method": each.input_method,
        "sampled": each.sampled,
        "requests": each.requests,
        "requests_without_ceiling": each.unbounded,
        "expected_usd": text(each.expected),
        "low_usd": text(each.low),
        "high_usd": text(each.high),
        "ceiling_usd": text(each.ceiling),
        "graded_at": None if each.graded_at is None else moment_text(each.graded_at),
        "actual_usd": text(each.actual),
        "in_doubt_low_usd": text(each.in_doubt_low),
        "in_doubt_high_usd": text(each.in_doubt_high),
        "grade": each.grade,
    }


_TITLES: Final = ("Way", "Requests", "Expected", "At most", "Takes")
_NOTES: Final = (
    "expected: by the tokens of rows like these, without searches and what caches saved them;"
    " at most: one attempt a row",
    "live takes as long as rpm, itpm and otpm, where they are set, and the latency of earlier"
    " answers say; a batch what the newest ones here waited in the middle, 24 hours at most",
)
_CACHED: Final = (
    "cached: with a cache_control behind the system prompt and tools that rows share, the first"
    " answered before the others are sent"
)
_OTHERS: Final = "another model may make more or fewer tokens of the same text"


def tell_ways(ways: Sequence[Way]) -> None:
    """Print the table, the cheapest first, and what to know about it."""
    if not ways:
        tell("\nnothing to compare: no price in USD is known, or nothing is left to do")
        return
    tell("")
    tell_table([_TITLES, *map(_cells, ways)])
    tell("\n".join(_notes(ways)))


def ways_json(ways: Sequence[Way]) -> list[dict[str, Any]]:
    """The same for programs; amounts are exact decimal text."""
    return [
        {
            "lane": way.lane,
            "dedup": way.once,
            "cached": way.cached,
            "model": way.model or None,
            "requests": way.requests,
            "expected_usd": None if way.expected is None else usd_text(way.expected),
            "ceiling_usd": None if way.ceiling is None else usd_text(way.ceiling),
            "seconds": way.seconds,
            "seconds_at_most": way.most_seconds,
        }
        for way in ways
    ]


def _notes(ways: Sequence[Way]) -> Iterator[str]:
    yield from _NOTES
    if any(way.cached for way in ways):
        yield _CACHED
    if any(way.model for way in ways):
        yield _OTHERS


def _cells(way: Way) -> tuple[str, ...]:
    parts = [f"--lane {way.lane}"]
    parts += ["--dedup"] * way.once + ["cached"] * way.cached
    parts += [f"-m {safe_text(way.model)}"] * bool(way.model)
    return (
        " ".join(parts),
        f"{way.requests:,}",
        "-" if way.expected is None else format_usd(way.expected),
        "-" if way.ceiling is None else format_usd(way.ceiling),
        _time(way),
    )


def _time(way: Way) -> str:
    if way.seconds is not None:
        return f"about {duration_words(way.seconds)}"
    known = way.lane == BATCH and way.most_seconds
    return f"up to {BATCH_SECONDS // 3600} h" if known else "-"

"""What every view says of itself: what was asked, and what is not in its numbers."""

from typing import Final

from batcher.report.ledgers import Ledgers
from batcher.report.query import ReportQuery, moment_of
from batcher.report.sentences import SIMULATED_LEFT_OUT, SIMULATED_ONLY, window_sentence
from batcher.report.sheet import NOTHING_HERE
from batcher.report.words import safe_text

TOTAL: Final = "Total"


def asked(query: ReportQuery) -> tuple[tuple[str, str | None], ...]:
    """What was asked for, as names and texts."""
    return (
        ("by", ",".join(each.name for each in query.by)),
        ("since", moment_words(query.since)),
        ("until", moment_words(query.until)),
        ("timezone", query.timezone),
        ("run_id", None if query.run is None else str(query.run)),
        ("rating", None if query.rating is None else str(query.rating)),
    )


def sentences_of(ledgers: Ledgers, own: tuple[str, ...], *, empty: bool) -> tuple[str, ...]:
    """The window, a view's own sentences (none when it is `empty`), and what is simulated."""
    said = (
        window_sentence(ledgers.query),
        NOTHING_HERE if empty else "",
        *(() if empty else own),
        SIMULATED_LEFT_OUT if ledgers.simulated_left_out else "",
        SIMULATED_ONLY if ledgers.simulated_only else "",
    )
    return tuple(safe_text(sentence) for sentence in said if sentence)


def moment_words(moment_us: int | None) -> str | None:
    """ISO 8601 with a Z, to the microsecond where there are any."""
    if moment_us is None:
        return None
    return moment_of(moment_us).isoformat().replace("+00:00", "Z")

"""What the live panel shows of a run at one moment, as wide as the terminal."""

from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from batcher.cli.say import printable
from batcher.monitoring.progress_text import (
    Reading,
    limit_words,
    money_words,
    percent_words,
    quota_words,
    rows_words,
    speed_words,
    token_words,
)
from batcher.pipeline.progress import Progress

_WIDEST: Final = 100  # characters: a longer track tells no more
_QUOTAS: Final = 2  # the fullest ones
_WITHOUT_ANSWER: Final = r"[\d,]+ (failed|held|quarantined)"
_ABOVE_CAP: Final = r"above the cap$"
_ERROR: Final = "bold red"
_WAITING: Final = "yellow"


@dataclass(frozen=True, slots=True)
class Track:
    """How far a run is, as a line of two kinds of strokes, so that it needs no colour."""

    share: float
    percent: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it as wide as there is room."""
        gone, ahead = "#-" if options.ascii_only else "━─"
        width = max(min(options.max_width, _WIDEST) - len(self.percent) - 1, 1)
        strokes = int(self.share * width)
        yield Text.assemble(
            (gone * strokes, "bold green" if self.share >= 1 else "bold cyan"),
            (ahead * (width - strokes), "dim"),
            " ",
            self.percent,
        )


def panel(progress: Progress, reading: Reading, note: str = "") -> Group:
    """The track, and a line for all that is known: rows, time, cost, quotas, trouble.

    `note` says that the run is about to end early.
    """
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _lines(progress, reading, note):
        grid.add_row(name, text)
    return Group(Track(reading.share or 0.0, percent_words(reading)), grid)


def _lines(progress: Progress, reading: Reading, note: str) -> list[tuple[str, Text]]:
    rows = Text(rows_words(progress))
    rows.highlight_regex(_WITHOUT_ANSWER, style=_ERROR)
    cost = Text(money_words(progress, reading))
    cost.highlight_regex(_ABOVE_CAP, style=_WAITING)
    waits = (progress.outage, progress.database_wait, progress.money_wait, note)
    named = [
        ("rows", rows),
        ("time", Text(speed_words(reading))),
        ("cost", cost),
        ("tokens", Text(token_words(progress))),
        ("pace", Text(limit_words(progress))),
        *(("quota", Text(words)) for words in quota_words(progress, _QUOTAS)),
        ("error", Text(_one_line(progress.last_failure), style=_ERROR)),
        *(("wait", Text(_one_line(words), style=_WAITING)) for words in waits),
    ]
    return [(name, text) for name, text in named if text]


def _one_line(words: str) -> str:
    return " ".join(printable(words).split())

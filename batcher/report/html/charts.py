"""Drawings as plain shapes, for the template to write as SVG.

Places in a drawing are whole numbers, tenths of a point, the same on every machine.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from batcher.report.views.spread import Buckets, width_at

_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps 0 to `largest` on 0 to `length`; `ticks` are round numbers up to `largest`."""

    largest: int
    length: int
    ticks: tuple[int, ...]

    def place(self, amount: int) -> int:
        """Where `amount` is."""
        return amount * self.length // self.largest


def scale_for(largest: int, length: int, *, ticks: int = 4) -> Scale:
    """A scale whose top is the first round number from `largest` on."""
    step = round_step(max(largest, 1), ticks)
    top = -(-max(largest, 1) // step) * step
    return Scale(top, length, tuple(range(0, top + 1, step)))


def round_step(largest: int, steps: int) -> int:
    """The smallest 1, 2 or 5 times a power of ten of which at most `steps` reach `largest`."""
    return next(step for step in _round_numbers() if step * steps >= largest)


def bins_for(low: int, high: int, *, narrowest: int = 1) -> list[tuple[int, int]]:
    """The bins, from (included) to (excluded), that hold all numbers from `low`, above 0, on.

    Equal ones where the numbers are near each other, none smaller than `narrowest`, a power of
    ten; else growing ones: 1, 2, 5, 10, 20, …
    """
    if high < 20 * low:
        step = max(round_step(max(high - low, 1), 16), narrowest)
        first = low // step * step
        return [(edge, edge + step) for edge in range(first, high + 1, step)]
    edges: list[int] = []
    for edge in _round_numbers():
        edges.append(edge)
        if edge > high:
            break
    return [(start, end) for start, end in pairwise(edges) if end > low]


def _round_numbers() -> Iterator[int]:
    power = 1
    while True:
        for step in _STEPS:
            yield step * power
        power *= 10


WIDTH: Final = 5200
_HEIGHT: Final = 2500
_LEFT, _RIGHT, _TOP, _BOTTOM = 700, 80, 120, 300
_PLOT_WIDTH: Final = WIDTH - _LEFT - _RIGHT
_PLOT_HEIGHT: Final = _HEIGHT - _TOP - _BOTTOM
_FOOT: Final = _TOP + _PLOT_HEIGHT
_ROW_HEIGHT: Final = 360
_LETTER_WIDTH, _LETTER_GAP = 85, 150

Amounts = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle; `series` chooses the colour, `title` is said when pointed at."""

    x: int
    y: int
    width: int
    height: int
    series: int
    title: str


@dataclass(frozen=True, slots=True)
class Label:
    """A text; `anchor` is start, middle or end."""

    x: int
    y: int
    text: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One drawing, `WIDTH` wide. `lines` are heights of grid lines, `path` a line's points."""

    height: int
    summary: str
    boxes: tuple[Box, ...] = ()
    labels: tuple[Label, ...] = ()
    lines: tuple[int, ...] = ()
    path: tuple[tuple[int, int], ...] = ()
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    foot: int = _FOOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A row of a bar chart: its words, its length, and a shorter part that is filled darker."""

    label: str
    value: str
    length: int
    inner: int | None = None
    series: int = 0


def stacked(
    buckets: Sequence[str],
    series: Sequence[str],
    amounts: Mapping[tuple[str, str], int],
    words: Amounts,
) -> Chart:
    """A bar per bucket, of one piece per series."""
    highest = max(sum(amounts.get((b, s), 0) for s in series) for b in buckets)
    scale = scale_for(highest, _PLOT_HEIGHT)
    slot = _PLOT_WIDTH // len(buckets)
    boxes = [
        box
        for number, bucket in enumerate(buckets)
        for box in _pile(_LEFT + number * slot, slot, bucket, series, amounts, scale, words)
    ]
    middles = [_LEFT + number * slot + slot // 2 for number in range(len(buckets))]
    return Chart(
        height=_HEIGHT,
        summary=f"A bar for each of {len(buckets)} buckets from {buckets[0]} to {buckets[-1]}.",
        boxes=tuple(boxes),
        labels=(*_y_labels(scale, _short(words)), *_x_labels(middles, buckets)),
        lines=_grid(scale),
    )


def _pile(  # noqa: PLR0913, PLR0917 # one bar needs to know all of the chart
    x: int,
    slot: int,
    bucket: str,
    series: Sequence[str],
    amounts: Mapping[tuple[str, str], int],
    scale: Scale,
    words: Amounts,
) -> list[Box]:
    boxes, below = [], 0
    width = min(max(slot * 3 // 4, 10), 700)
    for number, name in enumerate(series):
        amount = amounts.get((bucket, name), 0)
        top, foot = scale.place(below + amount), scale.place(below)
        below += amount
        if top > foot:
            title = f"{bucket} {name}: {words(amount)}"
            left = x + (slot - width) // 2
            boxes.append(Box(left, _FOOT - top, width, top - foot, number, title))
    return boxes


def growing(
    buckets: Sequence[str], totals: Sequence[int], words: Amounts, cap: int | None = None
) -> Chart:
    """A line over the running total at the end of each bucket, from zero; one at the cap."""
    scale = scale_for(max(totals[-1], cap or 0), _PLOT_HEIGHT)
    step = Scale(len(totals), _PLOT_WIDTH, ())
    points = [(_LEFT, _FOOT)] + [
        (_LEFT + step.place(number), _FOOT - scale.place(total))
        for number, total in enumerate(totals, 1)
    ]
    end = Label(points[-1][0], max(points[-1][1] - 60, 100), words(totals[-1]), "end")
    ends = [x for x, _ in points[1:]]
    return Chart(
        height=_HEIGHT,
        summary=f"The running total, {words(totals[-1])} at the end of {buckets[-1]}.",
        boxes=_cap_line(scale, cap, words),
        labels=(*_y_labels(scale, _short(words)), *_x_labels(ends, buckets), end),
        lines=_grid(scale),
        path=tuple(points),
    )


def _cap_line(scale: Scale, cap: int | None, words: Amounts) -> tuple[Box, ...]:
    if cap is None:
        return ()
    y = _FOOT - scale.place(cap)
    return (Box(_LEFT, y - 10, _PLOT_WIDTH, 20, 5, f"the cap: {words(cap)}"),)


def histogram(paid: Buckets, words: Amounts) -> Chart:
    """How many of the numbers, all above zero, fall in each bin."""
    low, high = min(paid.each), max(bucket.largest for bucket in paid.each.values())
    bins = bins_for(low, high, narrowest=width_at(high))
    starts_at = [start for start, _ in bins]
    counts = [0] * len(bins)
    for edge, bucket in paid.each.items():
        counts[bisect_right(starts_at, edge) - 1] += bucket.count
    scale = scale_for(max(counts), _PLOT_HEIGHT)
    slot = _PLOT_WIDTH // len(bins)
    boxes = tuple(
        Box(_LEFT + number * slot + 8, _FOOT - height, max(slot - 16, 10), height, 0,
            f"{words(start)} to {words(end)}: {count:,}")
        for number, ((start, end), count) in enumerate(zip(bins, counts, strict=True))
        if (height := max(scale.place(count), 8 if count else 0))
    )  # fmt: skip
    starts = [_LEFT + number * slot for number in range(len(bins))]
    return Chart(
        height=_HEIGHT,
        summary=f"{sum(counts):,} numbers in {len(bins)} bins.",
        boxes=boxes,
        labels=(
            *_y_labels(scale, lambda count: f"{count:,}"),
            *_x_labels(starts, [_short(words)(start) for start, _ in bins]),
        ),
        lines=_grid(scale),
    )


def bars(rows: Sequence[Bar], summary: str, whole: int = 0) -> Chart:
    """Lying bars, the words above each; with a `whole`, each is a part of a track so long."""
    longest = max(1, whole, *(row.length for row in rows))
    scale = Scale(longest, WIDTH, ())
    boxes, labels = [], []
    for number, row in enumerate(rows):
        y = number * _ROW_HEIGHT
        labels += [
            Label(0, y + 130, row.label, "start"),
            Label(WIDTH, y + 130, row.value, "end"),
        ]
        title = f"{row.label}: {row.value}"
        series = row.series if row.inner is None else 9
        if whole:
            boxes.append(Box(0, y + 180, WIDTH, 110, 8, title))
        boxes.append(Box(0, y + 180, max(scale.place(row.length), 10), 110, series, title))
        if row.inner is not None:
            inner = max(scale.place(row.inner), 10)
            boxes.append(Box(0, y + 180, inner, 110, row.series, title))
    return Chart(
        height=len(rows) * _ROW_HEIGHT,
        summary=summary,
        boxes=tuple(boxes),
        labels=tuple(labels),
        foot=0,
    )


def _short(words: Amounts) -> Amounts:
    """Words for an axis: without decimals that say nothing and without a currency's name."""
    return lambda amount: words(amount).split(" ")[0].removesuffix(".00")


def _grid(scale: Scale) -> tuple[int, ...]:
    return tuple(_FOOT - scale.place(tick) for tick in scale.ticks)


def _y_labels(scale: Scale, words: Amounts) -> list[Label]:
    return [
        Label(_LEFT - 80, _FOOT - scale.place(tick) + 45, words(tick), "end")
        for tick in scale.ticks
    ]


def _x_labels(places: Sequence[int], words: Sequence[str]) -> list[Label]:
    """As many as there is room for, evenly chosen, the first always."""
    room = max(map(len, words)) * _LETTER_WIDTH + _LETTER_GAP
    every = -(-len(words) // max(_PLOT_WIDTH // room, 1))
    return [
        Label(places[number], _FOOT + 200, words[number], _anchor(places[number], room))
        for number in range(0, len(words), every)
    ]


def _anchor(x: int, room: int) -> str:
    return "end" if x > WIDTH - room // 2 else "middle"

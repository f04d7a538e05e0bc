"""A table as plain aligned columns and as Markdown: every column, nothing cut off."""

from batcher.report.render.layout import Column, Layout

_GAP = "  "


def plain(layout: Layout) -> str:
    """Aligned columns for a pipe or a file; ends with a newline."""
    lines = _plain_lines(layout) if layout.rows else []
    gap = [""] if lines and layout.sentences else []
    return "".join(f"{line}\n" for line in [*lines, *gap, *layout.sentences])


def markdown(layout: Layout) -> str:
    """A table as GitHub and most others understand it; ends with a newline."""
    lines = _markdown_lines(layout) if layout.rows else []
    notes = [f"- {_markdown_text(sentence)}" for sentence in layout.sentences]
    gap = [""] if lines and notes else []
    return "".join(f"{line}\n" for line in [*lines, *gap, *notes])


def _plain_lines(layout: Layout) -> list[str]:
    widths = layout.widths()
    titles = tuple(column.title for column in layout.columns)
    rule = tuple("-" * width for width in widths)
    total = [rule, *layout.totals] if layout.totals else []
    return [
        _GAP.join(map(_aligned, cells, widths, layout.columns)).rstrip()
        for cells in (titles, rule, *layout.rows, *total)
    ]


def _aligned(cell: str, width: int, column: Column) -> str:
    return cell.rjust(width) if column.is_number else cell.ljust(width)


def _markdown_lines(layout: Layout) -> list[str]:
    total = [tuple(f"**{cell}**" if cell else "" for cell in row) for row in layout.totals]
    return [
        _markdown_row(tuple(column.title for column in layout.columns)),
        _markdown_row(
            tuple("---:" if c.is_number else "---" for c in layout.columns), raw=True
        ),
        *(_markdown_row(row) for row in layout.rows),
        *(_markdown_row(row, raw=True) for row in total),
    ]


def _markdown_row(cells: tuple[str, ...], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else map(_markdown_text, cells))} |"


def _markdown_text(text: str) -> str:
    """`text` without a meaning in Markdown or HTML."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|~&" else char for char in text)

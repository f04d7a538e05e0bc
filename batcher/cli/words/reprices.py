"""A reprice in words, cells and JSON."""

from collections.abc import Iterator
from typing import Any

from batcher.ledger.rate.ratings import RepricedModel, Repricing
from batcher.pricing.money import format_currency, usd_text

_TOTAL = "Total"


def repricing_rows(found: Repricing) -> list[tuple[str, ...]]:
    """Cells of model, answers, old, new and difference; a line per currency, then the total."""
    lines = [*found.differences.items(), (_TOTAL, _total(found))]
    return [row for model, difference in lines for row in _rows(model, difference)]


def repricing_sentence(found: Repricing, *, dry_run: bool) -> str:
    """What was done, or would be."""
    closed = ""
    if found.left_out:
        closed = f" Closed months were left alone: {', '.join(found.left_out)}."
    answers = f"{found.changed:,} of {found.answers:,} answers"
    if not found.answers:
        return f"There is no answer to price.{closed}"
    if not found.changed:
        return f"Nothing changes: every charge is of this book already.{closed}"
    if dry_run:
        return f"Nothing was written: {answers} would get other charges.{closed}"
    return (
        f"Rating {found.rating_id} was added: {answers} got other charges."
        f" batcher prices ratings lists those before it.{closed}"
    )


def repricing_fields(found: Repricing) -> dict[str, Any]:
    """The same as JSON: amounts as decimal text by currency."""
    return {
        "schema": 1,
        "rating": found.rating_id,
        "answers": found.answers,
        "changed": found.changed,
        "closed_months_left_out": list(found.left_out),
        "models": {model: _fields(each) for model, each in found.differences.items()},
        "total": _fields(_total(found)),
    }


def _fields(difference: RepricedModel) -> dict[str, Any]:
    return {
        "answers": difference.answers,
        "old": {name: usd_text(amount) for name, amount in sorted(difference.old.items())},
        "new": {name: usd_text(amount) for name, amount in sorted(difference.new.items())},
        "old_unpriced": difference.old_unpriced,
        "new_unpriced": difference.new_unpriced,
        "no_longer_priced": {
            name: usd_text(amount) for name, amount in sorted(difference.no_longer.items())
        },
    }


def _rows(model: str, difference: RepricedModel) -> Iterator[tuple[str, ...]]:
    currencies = sorted(difference.old.keys() | difference.new.keys())
    for currency in currencies:
        old, new = difference.old.get(currency, 0), difference.new.get(currency, 0)
        amounts = (format_currency(each, currency) for each in (old, new, new - old))
        yield model, f"{difference.answers:,}", *amounts
    if difference.old_unpriced or difference.new_unpriced:
        old, new = difference.old_unpriced, difference.new_unpriced
        yield (
            model,
            f"{difference.answers:,}",
            f"{old:,} unpriced",
            f"{new:,} unpriced",
            f"{new - old:+,} unpriced",
        )
    for currency, amount in sorted(difference.no_longer.items()):
        was = format_currency(amount, currency)
        yield model, f"{difference.answers:,}", was, "without a price", "no saving"


def _total(found: Repricing) -> RepricedModel:
    total = RepricedModel()
    for each in found.differences.values():
        total.answers += each.answers
        total.old_unpriced += each.old_unpriced
        total.new_unpriced += each.new_unpriced
        for sums, amounts in (
            (total.old, each.old),
            (total.new, each.new),
            (total.no_longer, each.no_longer),
        ):
            for currency, amount in amounts.items():
                sums[currency] = sums.get(currency, 0) + amount
    return total

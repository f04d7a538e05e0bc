"""Price files written in our own format, so that every import can be read and kept."""

from collections.abc import Iterable
from fractions import Fraction

from batcher.pricing.book.layer import FORMAT, Discount, Layer, ListTerms
from batcher.pricing.money import METERS, decimal_text, rate_text
from batcher.pricing.rate.rates import RatePeriod


def render_layer(layer: Layer) -> str:
    """TOML text that `parse_book` reads back as the same layer."""
    parts = [_head(layer)]
    parts += [_list(name, terms) for name, terms in layer.lists.items()]
    if layer.aliases:
        parts.append(_table("aliases", ((k, _quote(v)) for k, v in layer.aliases.items())))
    if layer.context_tokens:
        pairs = ((k, str(v)) for k, v in layer.context_tokens.items())
        parts.append(_table("context_tokens", pairs))
    parts += [_discount(each) for each in layer.discounts]
    parts += [_block(period) for period in layer.periods]
    return "\n".join(parts)


def _head(layer: Layer) -> str:
    lines = [f"format = {FORMAT}", f"version = {_quote(layer.version)}"]
    if layer.published:
        lines.append(f"published = {layer.published}")
    lines.append(f"source = {_quote(layer.source)}")
    lines.append(f"extends = {_quote('shipped' if layer.extends else 'nothing')}")
    lines.append(f"round = {'true' if layer.rounds else 'false'}")
    return "\n".join(lines) + "\n"


def _list(name: str, terms: ListTerms) -> str:
    pairs = (
        ("currency", terms.currency),
        ("based_on", terms.based_on),
        ("factor", None if terms.factor is None else decimal_text(terms.factor)),
        ("source", terms.source),
        ("note", terms.note),
    )
    lines = [f"{key} = {_quote(value)}" for key, value in pairs if value]
    return "\n".join([f"[lists.{_quote(name)}]", *lines]) + "\n"


def _discount(given: Discount) -> str:
    lines = ["[[discounts]]", f"list = {_quote(given.price_list)}"]
    if given.factor is not None:
        lines.append(f"factor = {_quote(decimal_text(given.factor))}")
    tiers = (
        f"{{ {_pair('above', tier.above)}, {_pair('factor', tier.factor)} }}"
        for tier in given.tiers
    )
    if given.tiers:
        lines.append(f"tiers = [{', '.join(tiers)}]")
    if given.marginal:
        lines.append("marginal = true")
    lines.append(f"valid_from = {given.valid_from}")
    if given.valid_until:
        lines.append(f"valid_until = {given.valid_until}")
    lines.append(f"meters = [{', '.join(map(_quote, given.meters))}]")
    if given.note:
        lines.append(f"note = {_quote(given.note)}")
    return "\n".join(lines) + "\n"


def _block(period: RatePeriod) -> str:
    lines = [
        "[[rates]]",
        f"list = {_quote(period.price_list)}",
        f"model = {_quote(period.model)}",
        f"terms = {_quote(period.terms)}",
    ]
    if period.prompt_tokens_above:
        lines.append(f"prompt_tokens_above = {period.prompt_tokens_above}")
    lines.append(f"valid_from = {period.valid_from}")
    if period.valid_until:
        lines.append(f"valid_until = {period.valid_until}")
    for meter, rate in enumerate(period.rates):
        if rate is not None:
            lines.append(f"{METERS[meter]} = {_quote(rate_text(rate, meter))}")
    lines += _factors(period)
    lines += [f"{key} = {_quote(text)}" for key, text in _words(period) if text]
    return "\n".join(lines) + "\n"


def _factors(period: RatePeriod) -> list[str]:
    lines = []
    if period.batch_factor is not None:
        lines.append(f"batch_factor = {_quote(decimal_text(period.batch_factor))}")
    if period.geographies:
        pairs = ", ".join(_pair(name, factor) for name, factor in period.geographies)
        lines.append(f"geographies = {{ {pairs} }}")
    return lines


def _pair(name: str, factor: Fraction) -> str:
    return f"{_quote(name)} = {_quote(decimal_text(factor))}"


def _words(period: RatePeriod) -> tuple[tuple[str, str], ...]:
    return ("source", period.source), ("note", period.note)


def _table(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    return (
        "\n".join([f"[{name}]", *(f"{_quote(key)} = {value}" for key, value in pairs)]) + "\n"
    )


def _quote(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return (
        '"'
        + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped)
        + '"'
    )

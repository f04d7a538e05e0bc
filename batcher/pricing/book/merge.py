"""A price file on top of another: whose rates hold, whether they fit together, and its text.

Layers are written in our own format, so that every import can be read and kept.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from fractions import Fraction
from itertools import combinations, groupby, pairwise

from msgspec.structs import replace as struct_replace

from batcher.errors import ConfigurationError
from batcher.pricing.book.layer import FORMAT, Discount, Layer, ListTerms
from batcher.pricing.money import METERS, ExactRates, decimal_text, rate_text
from batcher.pricing.rate.rates import BATCH, ONE_DAY, PriceList, RatePeriod, rate_set

_SILENT = ListTerms()


def merge_lists(base: Mapping[str, PriceList], layer: Layer, name: str) -> dict[str, PriceList]:
    """The lists of `base` with those of `layer` on top.

    A model in the layer replaces that model's whole history in the same list. What a list
    takes over is multiplied by its factor; the layer's own rates never are. Raises
    `ConfigurationError`, starting with `name`, for rates that do not fit together.
    """
    merging = _Merging(base=base, layer=layer, name=name)
    own = {period.price_list for period in layer.periods}
    own |= {discount.price_list for discount in layer.discounts}
    _check_discounts(layer, name)
    for price_list in sorted({*layer.lists, *own}):
        merging.finish(price_list, ())
    _check_tiers(base, layer, name)
    return {**base, **merging.done}


def merge_aliases(base: Mapping[str, str], own: Mapping[str, str], name: str) -> dict[str, str]:
    """The aliases of both; an alias of an alias is refused."""
    merged = {**base, **own}
    for alias, model in own.items():
        if model in merged:
            raise ConfigurationError(f"{name}: alias {alias} names another alias, {model}")
    return merged


@dataclass(slots=True, kw_only=True)
class _Merging:
    base: Mapping[str, PriceList]
    layer: Layer
    name: str
    done: dict[str, PriceList] = field(default_factory=dict)

    def finish(self, price_list: str, asked_by: tuple[str, ...]) -> PriceList:
        """The finished list, after those that it is based on."""
        if price_list in asked_by:
            raise self._wrong(price_list, "is based on itself")
        if price_list not in self.done:
            self.done[price_list] = self._merge(price_list, (*asked_by, price_list))
        return self.done[price_list]

    def _merge(self, price_list: str, asked_by: tuple[str, ...]) -> PriceList:
        terms = self.layer.lists.get(price_list, _SILENT)
        origin = self._origin(price_list, terms, asked_by)
        own = tuple(p for p in self.layer.periods if p.price_list == price_list)
        own_models = {period.model for period in own}
        taken = tuple(
            _taken_over(period, price_list, terms.factor, self.layer.rounds)
            for period in (origin.periods if origin else ())
            if period.model not in own_models
        )
        for discount in self.layer.discounts:
            if discount.price_list == price_list and discount.factor is not None:
                taken = tuple(part for each in taken for part in discounted(each, discount))
        currency = terms.currency or (origin.currency if origin else "USD")
        if taken and origin and currency != origin.currency and terms.factor is None:
            raise self._wrong(
                price_list, f"needs a factor: it takes over {origin.currency}, not {currency}"
            )
        merged = PriceList(
            name=price_list,
            currency=currency,
            source=terms.source or (origin.source if origin else self.layer.source),
            note=terms.note or (origin.note if origin else ""),
            periods=tuple(sorted(taken + own, key=_order)),
        )
        _check(merged, f"{self.name}: price list {price_list}")
        return merged

    def _origin(
        self, price_list: str, terms: ListTerms, asked_by: tuple[str, ...]
    ) -> PriceList | None:
        if terms.based_on is None:
            return self.base.get(price_list)
        own = {period.price_list for period in self.layer.periods}
        if terms.based_on in self.layer.lists or terms.based_on in own:
            return self.finish(terms.based_on, asked_by)
        if terms.based_on in self.base:
            return self.base[terms.based_on]
        raise self._wrong(price_list, f"is based on {terms.based_on}, which does not exist")

    def _wrong(self, price_list: str, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self.name}: price list {price_list} {what}")


def _taken_over(
    period: RatePeriod,
    price_list: str,
    factor: Fraction | None,
    rounds: bool,  # noqa: FBT001
) -> RatePeriod:
    return replace(
        period,
        price_list=price_list,
        rates=period.rates if factor is None else _times(period.rates, factor),
        rounds=period.rounds or rounds,
    )


def _times(rates: ExactRates, factor: Fraction) -> ExactRates:
    one, two, three, four, five, six = (rate and rate * factor for rate in rates)
    return one, two, three, four, five, six


def discounted(period: RatePeriod, discount: Discount) -> Iterator[RatePeriod]:
    """The period in up to three parts: before the discount, with it, and after."""
    end, until = period.valid_until or date.max, discount.valid_until or date.max
    if discount.valid_from > end or until < period.valid_from:
        yield period
        return
    begin, last = max(period.valid_from, discount.valid_from), min(end, until)
    if period.valid_from < begin:
        yield replace(period, valid_until=begin - ONE_DAY)
    one, two, three, four, five, six = (
        rate and (rate * (discount.factor or 1) if meter in discount.meters else rate)
        for meter, rate in zip(METERS, period.rates, strict=True)
    )
    yield replace(
        period,
        valid_from=begin,
        valid_until=None if last == date.max else last,
        rates=(one, two, three, four, five, six),
    )
    if last < end:
        yield replace(period, valid_from=last + ONE_DAY)


def _check_tiers(base: Mapping[str, PriceList], layer: Layer, name: str) -> None:
    """Whether prices can be multiplied by each tier: a month's end is too late to see it."""
    for discount in layer.discounts:
        for tier in discount.tiers:
            plain = struct_replace(discount, factor=tier.factor, tiers=(), marginal=False)
            merge_lists(base, replace(layer, discounts=(plain,)), name)


def _check_discounts(layer: Layer, name: str) -> None:
    for one, other in combinations(layer.discounts, 2):
        if one.meets(other):
            raise ConfigurationError(
                f"{name}: two discounts of price list {one.price_list} hold for the same meter"
                f" from {max(one.valid_from, other.valid_from)} on: end one before the other"
            )


def _key(period: RatePeriod) -> tuple[str, str, int]:
    return period.model, period.terms, period.prompt_tokens_above


def _order(period: RatePeriod) -> tuple[tuple[str, str, int], int]:
    return _key(period), period.valid_from.toordinal()


def _check(price_list: PriceList, where: str) -> None:
    for _, group in groupby(price_list.periods, key=_key):
        for earlier, later in pairwise(group):
            if earlier.overlaps(later):
                raise ConfigurationError(
                    f"{where}: {later.model}: valid_from {later.valid_from} lies in the period "
                    f"that began on {earlier.valid_from} and is still valid"
                )
    for _, model in groupby(price_list.periods, key=lambda period: period.model):
        _check_batches(tuple(model), where)
    for period in price_list.periods:
        _check_rates(period, price_list.currency, where)


def _check_batches(model: tuple[RatePeriod, ...], where: str) -> None:
    by_factor = [period for period in model if period.batch_factor is not None]
    for batch in (period for period in model if period.terms == BATCH):
        for other in by_factor:
            if batch.prompt_tokens_above == other.prompt_tokens_above and batch.overlaps(other):
                raise ConfigurationError(
                    f"{where}: {batch.model}: batch rates of {batch.valid_from} are given "
                    "twice, by a block of their own and by a batch_factor"
                )


def _check_rates(period: RatePeriod, currency: str, where: str) -> None:
    for terms in period.all_terms():
        for geography in ("", *dict(period.geographies)):
            try:
                rate_set(period, terms, geography, currency)
            except ValueError as exc:
                shown = "/".join(part for part in (terms, geography) if part)
                raise ConfigurationError(
                    f"{where}: {period.model} ({shown}, from {period.valid_from}): {exc}; "
                    "correct it, or allow rounding with round = true (prices import --round)"
                ) from exc


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

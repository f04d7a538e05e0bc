"""Prices from elsewhere: read from LiteLLM's price map, and put into the book.

The map is a JSON file, saved, or found in an installed package, which is never imported;
nothing is fetched. Its prices are dollars per token, without days; geography and fast mode are
factors.

Other sources have no history, no geography, and batch or fast prices for some models only. What
they do not say stays as the book has it; what they say otherwise holds from a day on.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from fractions import Fraction
from hashlib import sha256
from importlib import util
from pathlib import Path
from typing import Any, Final

import msgspec

from batcher.errors import ConfigurationError, UsageError
from batcher.messages.codec import CODEC_ERRORS
from batcher.pricing.book.book import IdPlace, PriceBook, load_shipped, normalise
from batcher.pricing.book.layer import Layer, ListTerms
from batcher.pricing.money import PICO, ExactRates
from batcher.pricing.rate.rates import BATCH, FAST, ONE_DAY, STANDARD, RatePeriod

UNDATED: Final = date(2020, 1, 1)
_MAP: Final = "model_prices_and_context_window_backup.json"
_NAMES: Final = (
    "input_cost_per_token", "cache_creation_input_token_cost",
    "cache_creation_input_token_cost_above_1hr", "cache_read_input_token_cost",
    "output_cost_per_token",
)  # fmt: skip
_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,30})?([eE]-?[0-9]{1,2})?")
_ABOVE: Final = re.compile(r"input_cost_per_token_above_([0-9]{1,6})k_tokens")
_SEARCH: Final = "search_context_cost_per_query"
_FACTORS: Final = "provider_specific_entry"

# The plain name of a model, whether its id names a region, and what the map says of it.
_Entry = tuple[tuple[str, bool], Mapping[str, Any]]


def litellm_layer(
    file: Path | None,
    provider: str = "anthropic",
    *,
    price_list: str = "anthropic",
) -> Layer:
    """The prices of one provider; `file` `None`: of the installed package.

    Raises `UsageError` for a file that is missing, `ConfigurationError` for one that is no
    price map, or has none of the provider.
    """
    path = file or _installed()
    entries = [
        (_plain(model.removeprefix(f"{provider}/")), entry)
        for model, entry in sorted(
            _read(path).items(), key=lambda item: (len(item[0]), item[0])
        )
        if isinstance(entry, dict) and entry.get("litellm_provider") == provider
    ]
    models = _models(entries)
    regional = _regional(entries, models)
    source = f"LiteLLM's price map {path.name}, provider {provider}"
    periods = tuple(
        period
        for model, entry in models.items()
        for period in _periods(model, entry, regional.get(model), (price_list, source))
    )
    if not periods:
        raise ConfigurationError(f"{path}: has no prices of provider {provider}")
    digest = sha256(path.read_bytes()).hexdigest()[:12]
    return Layer(
        version=f"litellm-{digest}-{provider}",
        published=None,
        source=source,
        extends=True,
        rounds=False,
        lists={price_list: ListTerms(currency="USD", source=source)},
        aliases={},
        context_tokens={
            model: entry["max_input_tokens"]
            for model, entry in models.items()
            if type(entry.get("max_input_tokens")) is int
        },
        periods=periods,
    )


def _installed() -> Path:
    found = util.find_spec("litellm")  # says where it is, and runs nothing of it
    path = Path(found.origin).parent / _MAP if found and found.origin else None
    if path is None or not path.is_file():
        raise ConfigurationError(
            f"litellm is not installed with its {_MAP}; save the map and name the file"
        )
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        entries = msgspec.json.Decoder(float_hook=str).decode(path.read_bytes())
    except FileNotFoundError as exc:
        raise UsageError(f"{path}: no such price map") from exc
    except OSError as exc:
        raise ConfigurationError(f"{path}: cannot be read: {exc.strerror}") from exc
    except CODEC_ERRORS as exc:
        raise ConfigurationError(f"{path}: is no JSON: {exc}") from exc
    if not isinstance(entries, dict):
        raise ConfigurationError(f"{path}: is no price map: its models are not named")
    return entries


def _plain(model: str) -> tuple[str, bool]:
    """The shipped book's name of a model, and whether the id names a region of a cloud."""
    plain, place = normalise(model)
    return load_shipped().aliases.get(plain, plain), place is IdPlace.REGION


def _models(entries: Iterable[_Entry]) -> dict[str, Mapping[str, Any]]:
    """By plain name; of several spellings the plain id counts, and one of a region last."""
    found: dict[str, Mapping[str, Any]] = {}
    for (model, _), entry in sorted(entries, key=lambda each: each[0][1]):
        found.setdefault(model, entry)
    return found


def _regional(
    entries: Iterable[_Entry], models: Mapping[str, Mapping[str, Any]]
) -> dict[str, Fraction]:
    """By what ids of regions cost more, for models of which all of them say the same."""
    found: dict[str, set[Fraction]] = {}
    for (model, is_regional), entry in entries:
        for name in _NAMES if is_regional else ():
            here, base = _number(entry.get(name)), _number(models[model].get(name))
            if here and base:
                found.setdefault(model, set()).add(here / base)
    return {model: factors.pop() for model, factors in found.items() if len(factors) == 1}


def _periods(
    model: str, entry: Mapping[str, Any], regional: Fraction | None, origin: tuple[str, str]
) -> Iterator[RatePeriod]:
    factors = entry.get(_FACTORS)
    factors = factors if isinstance(factors, dict) else {}
    fast = _number(factors.get(FAST))
    places = {name: factor for name, value in factors.items()
              if name != FAST and (factor := _number(value))}  # fmt: skip
    places |= {} if regional is None else {str(IdPlace.REGION): regional}
    sizes = {f"_above_{found[1]}k_tokens": int(found[1]) * 1_000
             for name in entry if (found := _ABOVE.fullmatch(name))}  # fmt: skip
    for suffix, above in {"": 0, **sizes}.items():
        standard = _rates(entry, suffix, Fraction(1))
        if all(rate is None for rate in standard):
            continue
        batch = _rates(entry, f"{suffix}_batches", Fraction(1))
        blocks = [(STANDARD, standard)]
        blocks += [(BATCH, batch)] if any(rate is not None for rate in batch[:5]) else []
        blocks += [(FAST, _rates(entry, suffix, fast))] if fast else []
        for terms, rates in blocks:
            yield RatePeriod(
                price_list=origin[0], model=model, terms=terms, prompt_tokens_above=above,
                valid_from=UNDATED, valid_until=None, rates=rates, batch_factor=None,
                geographies=tuple(sorted(places.items())), rounds=False, source=origin[1],
                note="",
            )  # fmt: skip


def _rates(entry: Mapping[str, Any], suffix: str, factor: Fraction) -> ExactRates:
    """Pico-units per token, and for a search of middling size."""
    one, two, three, four, five = (
        None if (rate := _number(entry.get(name + suffix))) is None else rate * factor * PICO
        for name in _NAMES
    )
    searches = entry.get(_SEARCH)
    search = _number(searches.get("search_context_size_medium") if searches else None)
    return one, two, three, four, five, None if search is None else search * PICO


def _number(value: object) -> Fraction | None:
    """A price or factor, exactly as written; `None` for what is none."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return Fraction(text) if _NUMBER.fullmatch(text) else None


def updated(source: Layer, base: PriceBook, price_list: str, day: date) -> Layer:
    """A layer for on top of `base`: models that are new, and those with another price on `day`.

    Those have the book's whole history, and the source's prices from `day` on.
    """
    ours = base.lists.get(price_list)
    models = sorted({period.model for period in source.periods})
    periods: list[RatePeriod] = []
    for model in models:
        told = [p for p in source.periods if p.model == model]
        mine = [p for p in ours.periods if p.model == model] if ours else []
        periods += _model(told, mine, day)
    kept = {period.model for period in periods}
    known = ours is not None
    return replace(
        source,
        extends=True,
        lists={} if known else source.lists,
        periods=tuple(periods),
        context_tokens={m: n for m, n in source.context_tokens.items() if m in kept},
    )


def _model(told: list[RatePeriod], mine: list[RatePeriod], day: date) -> list[RatePeriod]:
    """The periods to write for one model; none where the source says the same."""
    if not mine:
        return told
    ended = {
        (p.terms, p.prompt_tokens_above) for p in mine if p.valid_until and p.valid_until < day
    }
    today = [p for p in told if p.holds_on(day) and not _has_ended(p, ended)]
    changed = list(_changed(today, [p for p in mine if p.holds_on(day)], day))
    replaced = {(p.terms, p.prompt_tokens_above) for p in changed}
    if not changed:
        return []
    kept = list(_until(mine, replaced, day))
    return kept + changed


def _changed(told: list[RatePeriod], mine: list[RatePeriod], day: date) -> Iterator[RatePeriod]:
    by_place = {(p.terms, p.prompt_tokens_above): p for p in mine}
    batches = {p.prompt_tokens_above: p for p in told if p.terms == BATCH}
    for new in told:
        old = by_place.get((new.terms, new.prompt_tokens_above))
        if old is None:
            by_factor = by_place.get((STANDARD, new.prompt_tokens_above))
            if new.terms == BATCH and by_factor and _is_by_factor(new, by_factor, told):
                continue
            yield replace(new, valid_from=day, valid_until=None)
            continue
        rates = _either(new.rates, old.rates)
        batch = batches.get(new.prompt_tokens_above)
        factor = None if batch and not _is_by_factor(batch, old, told) else old.batch_factor
        if rates != old.rates or factor != old.batch_factor:
            yield replace(
                old, rates=rates, batch_factor=factor, valid_from=day, source=new.source,
                rounds=old.rounds or new.rounds,
            )  # fmt: skip


def _has_ended(period: RatePeriod, ended: set[tuple[str, int]]) -> bool:
    """Whether the book knows the last day of such prices, which sources without days do not.

    Batch prices of long prompts end with the others of these.
    """
    above = period.prompt_tokens_above
    terms = {period.terms, STANDARD} if above else {period.terms}
    return any((each, above) in ended for each in terms)


def _either(new: ExactRates, old: ExactRates) -> ExactRates:
    one, two, three, four, five, six = (
        mine if said is None else said for said, mine in zip(new, old, strict=True)
    )
    return one, two, three, four, five, six


def _is_by_factor(batch: RatePeriod, standard: RatePeriod, told: list[RatePeriod]) -> bool:
    """Whether the batch prices told are what the book makes of the standard ones."""
    if standard.batch_factor is None:
        return False
    above = batch.prompt_tokens_above
    beside = next(
        (p for p in told if (p.terms, p.prompt_tokens_above) == (STANDARD, above)), standard
    )
    rates = _either(beside.rates, standard.rates)
    return all(
        said is None or (base is not None and said == base * standard.batch_factor)
        for said, base in zip(batch.rates[:5], rates[:5], strict=True)
    )


def _until(
    mine: list[RatePeriod], replaced: set[tuple[str, int]], day: date
) -> Iterator[RatePeriod]:
    """The book's own, those that are replaced up to the day before."""
    for period in mine:
        if (period.terms, period.prompt_tokens_above) not in replaced or not period.holds_on(
            day
        ):
            yield period
        elif period.valid_from < day:
            yield replace(period, valid_until=day - ONE_DAY)

"""Prices from LiteLLM's price map, a JSON file: saved, or found in an installed package.

The package is never imported and nothing is fetched. Its prices are dollars per token, without
days; geography and fast mode are factors.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from fractions import Fraction
from hashlib import sha256
from importlib import util
from pathlib import Path
from typing import Any, Final

import msgspec

from batcher.errors import ConfigurationError, UsageError
from batcher.messages.codec import CODEC_ERRORS
from batcher.pricing.book.book import load_shipped, normalise
from batcher.pricing.book.layer import Layer, ListTerms
from batcher.pricing.money import PICO, ExactRates
from batcher.pricing.rate.rates import BATCH, FAST, STANDARD, RatePeriod

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
    models = _models(_read(path), provider)
    source = f"LiteLLM's price map {path.name}, provider {provider}"
    periods = tuple(
        period
        for model, entry in models.items()
        for period in _periods(model, entry, (price_list, source))
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


def _models(entries: Mapping[str, Any], provider: str) -> dict[str, Mapping[str, Any]]:
    """By the shipped book's name; of several spellings of one model the plain id counts."""
    found: dict[str, Mapping[str, Any]] = {}
    for model, entry in sorted(entries.items(), key=lambda item: (len(item[0]), item[0])):
        if not isinstance(entry, dict) or entry.get("litellm_provider") != provider:
            continue
        plain = normalise(model.removeprefix(f"{provider}/"))[0]
        found.setdefault(load_shipped().aliases.get(plain, plain), entry)
    return found


def _periods(
    model: str, entry: Mapping[str, Any], origin: tuple[str, str]
) -> Iterator[RatePeriod]:
    factors = entry.get(_FACTORS)
    factors = factors if isinstance(factors, dict) else {}
    fast = _number(factors.get(FAST))
    places = {name: factor for name, value in factors.items()
              if name != FAST and (factor := _number(value))}  # fmt: skip
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

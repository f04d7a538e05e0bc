"""Price books: immutable, dated, sourced sets of rates, with the text that they came from.

A book finds a model under its many spellings, and knows its age: rates change, and a book
that nobody renews goes wrong unnoticed.
"""

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

from batcher.errors import ConfigurationError, UsageError, did_you_mean
from batcher.pricing.book.layer import Layer, parse_csv, parse_toml
from batcher.pricing.book.merge import merge_aliases, merge_lists, render_layer
from batcher.pricing.rate.rates import PriceList, RateSet

# A reseller's or cloud's prefix names the road, not the model.
_VENDORS: Final = frozenset(
    {"anthropic", "azure_ai", "bedrock", "converse", "crun", "openrouter", "sunra", "vertex_ai"}
)
_REGION: Final = re.compile(r"([a-z]{2,6}(?:-[a-z]{2,6})?)\.(?=anthropic\.)")
_REGIONS: Final = frozenset({"us", "eu", "apac", "jp", "au"})  # whose premium is published
_GOVERNMENT: Final = "us-gov"  # dearer than other regions, by how much is not published
_GENERATION: Final = re.compile(r"claude-(?:[a-z]+-)?([0-9]+)(?:-([0-9]+))?(?![0-9])")
_BY_REGION: Final = (4, 5)  # clouds charge for a region since this generation
# Clouds name a model by where it is kept; a profile of one's own does not say which it is.
_RESOURCE: Final = re.compile(
    r"arn:aws[a-z-]*:bedrock:[^/]*:(?:inference-profile|foundation-model)/"
    r"|(?:projects/[^/]+/locations/[^/]+/)?publishers/anthropic/models/"
)
_OWN_PROFILE: Final = re.compile(r"(?:.*/)?arn:aws[a-z-]*:bedrock:[^/]*:application-inference-")
# OpenRouter's dated ids have the version first: claude-4.5-sonnet-20250929.
_VERSION_FIRST: Final = re.compile(r"claude-([4-9](?:-[0-9]+)?)-([a-z]+)$")
_WINDOW: Final = re.compile(r"\[1m\]$")
_BEDROCK_VERSION: Final = re.compile(r"-v[0-9]+(:[0-9]+)?$")
_VERTEX_VERSION: Final = re.compile(r"@([0-9]{8}|default|latest)$")
_SNAPSHOT: Final = re.compile(r"-20[0-9]{6}$")
_DOTTED_VERSION: Final = re.compile(r"(?<=[0-9])\.(?=[0-9])")


class IdPlace(StrEnum):
    """What a model's id says of where it runs."""

    ANYWHERE = "anywhere"  # or nothing: the plain id
    REGION = "regional"  # in a region with its own price: the geography of that name
    CLOUD = "cloud"  # in a cloud whose prices differ between regions, and not in which


def normalise(model: str) -> tuple[str, IdPlace]:
    """The plain Anthropic id of `model`, and what the id says of where it runs.

    `anthropic/claude-…`, `us.anthropic.claude-…-v1:0`, `claude-…@20251001`,
    `claude-…-20251001`, `claude-…[1m]`, `claude-opus-4.5`, `claude-4.5-opus` and the names of
    resources of clouds become `claude-…`. Any other suffix stays: `claude-opus-4-8-fast` is
    not `claude-opus-4-8`. What is no Claude id comes back unchanged.
    """
    name = _without_vendor(model)
    resource = _RESOURCE.match(name)
    name = name[resource.end() :] if resource else name
    region = _REGION.match(name)
    name = name[region.end() :] if region else name
    is_cloud = bool(resource or name.startswith("anthropic.") or _VERTEX_VERSION.search(name))
    name = name.removeprefix("anthropic.")
    if not name.startswith("claude-"):
        return model, IdPlace.ANYWHERE
    for suffix in (_WINDOW, _BEDROCK_VERSION, _VERTEX_VERSION, _SNAPSHOT):
        name = suffix.sub("", name)
    name = _VERSION_FIRST.sub(r"claude-\2-\1", _DOTTED_VERSION.sub("-", name))
    return name, _place_of(name, region[1] if region else "", is_cloud=is_cloud)


@functools.lru_cache(maxsize=4_096)
def road_of(requested: str) -> str:
    """What an id that was asked for says of the road, to be put before a served model's name.

    Clouds answer with the plain name, and charge for the region all the same. Empty: no cloud.
    """
    name = _without_vendor(requested)
    if _OWN_PROFILE.match(name):
        return "anthropic."
    resource = _RESOURCE.match(name)
    tail = name[resource.end() :] if resource else name
    if region := _REGION.match(tail):
        return "" if region[1] == "global" else f"{region[0]}anthropic."
    is_cloud = resource or tail.startswith("anthropic.") or _VERTEX_VERSION.search(tail)
    return "anthropic." if is_cloud else ""


def _place_of(name: str, region: str, *, is_cloud: bool) -> IdPlace:
    if region == _GOVERNMENT:
        return IdPlace.CLOUD
    older = _GENERATION.match(name)
    if region == "global" or (older and (int(older[1]), int(older[2] or 0)) < _BY_REGION):
        return IdPlace.ANYWHERE
    if region in _REGIONS:
        return IdPlace.REGION
    return IdPlace.CLOUD if region or is_cloud else IdPlace.ANYWHERE


def _without_vendor(model: str) -> str:
    while "/" in model:
        vendor, rest = model.split("/", 1)
        if vendor not in _VENDORS:
            break
        model = rest
    return model


# Stands between the layers of a book that extends another, the upper one first.
SEPARATOR: Final = "\n#%% extends\n"

_DATA: Final = "data"
_RETIRES: Final = re.compile(r"[Rr]etire[sd] on (\d{4}-\d\d-\d\d)")
_SOON: Final = 30  # days before a model retires in which people are told
_EPOCH: Final = date(1970, 1, 1).toordinal()
_MICROSECONDS_PER_DAY: Final = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The rates of a model under some terms on a day, or why there are none.

    `tiers` are (prompt tokens above, rates), the largest first; `base` is for smaller prompts.
    With a `reason`, `base` is `None`. `regional`: the id named a region, or a cloud, whose
    price may differ.
    """

    base: RateSet | None = None
    tiers: tuple[tuple[int, RateSet], ...] = ()
    regional: bool = False
    reason: str | None = None

    def of_size(self, prompt: int) -> RateSet:
        """The rates for a prompt of so many tokens; only where there is a `base`."""
        for above, rates in self.tiers:
            if prompt > above:
                return rates
        assert self.base is not None  # noqa: S101 - the caller looked
        return self.base

    def between(self, least: int, most: int) -> list[RateSet]:
        """The rates for any prompt of `least` to `most` tokens, the smallest first."""
        found = [self.of_size(least)]
        found += [rates for above, rates in reversed(self.tiers) if least <= above < most]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """A set of price lists. `parse_book(content)` gives an equal book, today and later.

    `sha256` is of `content`, the text of the file or files. `published` is the oldest day
    that a layer states, `None` when none does. `lists` are by name. `context_tokens` is how
    much a model reads at most. The last two fields remember answers; they are no part of it.
    """

    version: str
    sha256: str
    source: str
    published: date | None
    content: str = field(repr=False)
    lists: Mapping[str, PriceList] = field(repr=False)
    aliases: Mapping[str, str] = field(repr=False)
    context_tokens: Mapping[str, int] = field(repr=False)
    resolutions: dict[tuple[str | int | None, ...], Resolution] = field(
        default_factory=dict, compare=False, repr=False
    )
    dearest_rates: dict[tuple[str, str, int, bool], tuple[int, int, int] | None] = field(
        default_factory=dict, compare=False, repr=False
    )

    def age_days(self, now_us: int) -> int | None:
        """Whole days since `published`; `None` when no layer says when that was."""
        if self.published is None:
            return None
        today = date.fromordinal(_EPOCH + now_us // _MICROSECONDS_PER_DAY)
        return (today - self.published).days

    def priced_model(self, price_list: str, model: str) -> tuple[str | None, IdPlace]:
        """The id that `model` is priced as, `None` when unknown, and where that says it runs.

        The id itself wins, then its aliases, then its normalised form.
        """
        known = self.lists[price_list].models()
        plain, place = normalise(model)
        for name, where in ((model, IdPlace.ANYWHERE), (plain, place)):
            for candidate in (name, self.aliases.get(name)):
                if candidate in known:
                    return candidate, where
        return None, IdPlace.ANYWHERE

    def no_price_words(self, price_list: str, model: str) -> str:
        """That the list has no price for `model`, and whose name is near; empty when it has.

        A list that is not in the book has no price for any.
        """
        known = self.lists[price_list].models() if price_list in self.lists else ()
        if known and self.priced_model(price_list, model)[0] is not None:
            return ""
        family = [name for name in known if len(model) > 3 and model.lower() in name]
        near = did_you_mean(model, known) or did_you_mean(max(family, default=""), family)
        return f"no price for {model}, whose answers stay unpriced{near}"

    def retirement_words(self, price_list: str, model: str, now_us: int) -> str:
        """That `model` retired, or will within 30 days, as its note says; else empty."""
        priced = self.priced_model(price_list, model)[0] if price_list in self.lists else None
        if priced is None:
            return ""
        notes = (p.note for p in self.lists[price_list].periods if p.model == priced)
        day = next((found[1] for note in notes if (found := _RETIRES.search(note))), None)
        if day is None:
            return ""
        today = date.fromordinal(_EPOCH + now_us // _MICROSECONDS_PER_DAY)
        left = (date.fromisoformat(day) - today).days
        if left > _SOON:
            return ""
        return f"{model} {'retires' if left >= 0 else 'retired'} on {day}: choose another model"

    def context_window(self, model: str) -> int | None:
        """The most tokens that `model` reads in one sampling, `None` when unknown."""
        plain, _ = normalise(model)
        for name in (model, plain, self.aliases.get(plain, "")):
            if name in self.context_tokens:
                return self.context_tokens[name]
        return None


@functools.lru_cache(
    maxsize=4
)  # a book does not change: a check of a ledger reads it each time
def parse_book(text: str, name: str = "price book") -> PriceBook:
    """The book that `text` describes: a price file in TOML, or the `content` of a book.

    A file that extends the shipped book is put on top of the one this program carries.
    Raises `ConfigurationError` naming `name`, the block, the model and the field.
    """
    upper, separator, lower = text.partition(SEPARATOR)
    layer = parse_toml(upper, name)
    if separator:
        return _build(layer, text, parse_book(lower, f"{name} (what it extends)"), name)
    return _stand(layer, text, name)


def load_file(path: str | Path) -> PriceBook:
    """The user's price file, TOML or (by its suffix) CSV.

    Raises `UsageError` when there is no such file, `ConfigurationError` when it is wrong.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return _stand(read_layer(path), None, str(path))
    return parse_book(_read_text(path), str(path))


def read_layer(path: Path) -> Layer:
    """The user's price file by itself, without what it extends; raises like `load_file`."""
    text = _read_text(path)
    if path.suffix.lower() == ".csv":
        return parse_csv(text, str(path))
    return parse_toml(text.partition(SEPARATOR)[0], str(path))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        raise UsageError(f"{path}: no such price file") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path}: the price file cannot be read: {exc}") from exc


@functools.cache
def load_shipped() -> PriceBook:
    """The newest price book that this program carries."""
    folder = files("batcher.pricing.book").joinpath(_DATA)
    newest = max(
        (f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name
    )
    return parse_book(newest.read_text(encoding="utf-8"), newest.name)


def _stand(layer: Layer, text: str | None, name: str) -> PriceBook:
    """The layer on what it extends; without `text` it is written in our own format."""
    text = render_layer(layer) if text is None else text
    if not layer.extends:
        return _build(layer, text, None, name)
    shipped = load_shipped()
    return _build(layer, f"{text}{SEPARATOR}{shipped.content}", shipped, name)


def _build(layer: Layer, content: str, base: PriceBook | None, name: str) -> PriceBook:
    days = [day for day in (layer.published, base and base.published) if day]
    return PriceBook(
        version=f"{layer.version}+{base.version}" if base else layer.version,
        sha256=sha256(content.encode()).hexdigest(),
        source="; ".join(part for part in (layer.source, base.source if base else "") if part),
        published=min(days, default=None),
        content=content,
        lists=merge_lists(base.lists if base else {}, layer, name),
        aliases=merge_aliases(base.aliases if base else {}, layer.aliases, name),
        context_tokens={**(base.context_tokens if base else {}), **layer.context_tokens},
    )


MOST_DAYS: Final = 90  # before people are warned, unless they say otherwise


def age_warning(book: PriceBook, now_us: int, most_days: int) -> str | None:
    """What to say of a book that is older than `most_days` now; 0 asks for no warning.

    `None`: nothing, also where no layer says when it was published.
    """
    age = book.age_days(now_us)
    if not most_days or age is None or age <= most_days:
        return None
    return (
        f"warning: it was published {age} days ago, on {book.published}: look for newer prices "
        f"(price_book_max_age_days is {most_days})"
    )


def published(content: str) -> date | None:
    """When the text of a recorded book says it was published: the oldest day of its layers.

    Cheaper than reading the book; `None` where no layer says so, or none can be read.
    """
    days = []
    for layer in content.split(SEPARATOR):
        try:
            day = tomllib.loads(layer).get("published")
        except tomllib.TOMLDecodeError:
            continue
        if type(day) is date:
            days.append(day)
    return min(days, default=None)

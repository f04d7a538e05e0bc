"""A model of a provider: what it did, what it bills, and how its server tells of it.

Independent of the program: rates are typed from the published lists, and nothing is imported.
Each `Case` is one request, the answer, its usage as some server words it (with holes, nulls,
contradictions and foreign names), and the bill in pico-USD. A plain one leaves nothing open.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random
from typing import Any

# input, cache write 5m, cache write 1h, cache read, output: USD per million tokens
RATES = {
    "claude-fable-5-2": ("8", "10", "16", "0.20", "40"),
    "claude-opus-5-5": ("4", "5", "8", "0.20", "20"),
    "claude-opus-5": ("5", "6.25", "10", "0.50", "25"),
    "claude-opus-4-5": ("5", "6.25", "10", "0.50", "25"),
    "claude-sonnet-5-5": ("2", "2.5", "4", "0.10", "10"),
    "claude-sonnet-4-6": ("3", "3.75", "6", "0.30", "15"),
    "claude-haiku-5-5": ("0.10", "0.125", "0.20", "0.01", "0.50"),
    "claude-haiku-4-5": ("1", "1.25", "2", "0.10", "5"),
}
NO_GEOGRAPHY = {"claude-opus-4-5", "claude-haiku-4-5"}
FAST = {"claude-fable-5-2", "claude-opus-5-5", "claude-opus-5"}
CLIFF_MODEL, CLIFF_TOKENS, CLIFF_FACTOR = "claude-haiku-5-5", 100_000, 5
SEARCH_PICO = 10**10  # $10 for 1,000
DIALECTS = ("anthropic", "two fields", "nulls", "openai", "litellm", "both", "responses",
            "litellm parts", "written parts", "moonshot", "xai")  # fmt: skip
UNKNOWN_NAMES = ("moonshot", "xai")
ODD = (-1, 10.5, "1,000", "", True, 10**9 + 1, "n/a", [], {"text": 5})
Fields = dict[str, Any]


@dataclass(slots=True)
class Done:
    """What the model really did."""

    model: str
    fresh: int
    write_5m: int = 0
    write_1h: int = 0
    read: int = 0
    output: int = 0
    thinking: int = 0
    searches: int = 0
    failed_searches: int = 0
    geography: str = "global"
    speed: str = "standard"
    free: bool = False

    def bill(self) -> int:
        """Pico-USD."""
        if self.free:
            return 0
        factor = Fraction(11, 10) if self.geography == "us" else Fraction(1)
        factor *= 2 if self.speed == "fast" else 1
        prompt = self.fresh + self.write_5m + self.write_1h + self.read
        if self.model == CLIFF_MODEL and prompt > CLIFF_TOKENS:
            factor *= CLIFF_FACTOR
        used = (self.fresh, self.write_5m, self.write_1h, self.read, self.output)
        tokens = sum(
            count * Fraction(rate) for count, rate in zip(used, RATES[self.model], strict=True)
        )
        pico = tokens * factor * 10**6
        assert pico.denominator == 1
        return int(pico) + self.searches * SEARCH_PICO


@dataclass(slots=True)
class Case:
    """One request with its answer, and what is to be paid."""

    body: Fields
    message: Fields
    bill: int
    plain: bool
    told: str
    falls: list[tuple[str, int]] = field(default_factory=list)  # what a stream's start said

    @property
    def bounded(self) -> bool:
        """Whether no more than a known number of things can be billed for the request."""
        return all("max_uses" in tool for tool in self.body.get("tools", ()))

    @property
    def words(self) -> str:
        return (
            f"{self.told}: {json.dumps(self.body)[:600]} -> {json.dumps(self.message)[:1500]}"
        )


def make(number: int) -> Case:
    """The case of that number: always the same."""
    chance = Random(number)
    body = _request(chance)
    done = _work(chance, body)
    dialect = chance.choice(DIALECTS)
    usage = _told(done, dialect)
    case = Case(
        body=body, message=_message(chance, done, usage), bill=done.bill(), told=dialect,
        plain=dialect == "anthropic" or (_is_bare(body) and dialect not in UNKNOWN_NAMES),
    )  # fmt: skip
    if done.free:
        case.plain = True
    if chance.random() < 0.6:
        name, spoil = chance.choice(list(SPOILED.items()))
        if spoil(chance, case, done):
            case.told, case.plain = f"{dialect}, {name}", False
    return case


# --- Requests


def _request(chance: Random) -> Fields:
    model = chance.choice(list(RATES))
    text = _text(chance, chance.choice((30, 300, 3_000, 20_000)))
    body: Fields = {"model": model, "max_tokens": chance.choice((64, 1_024, 8_000))}
    content: Any = text
    if chance.random() < 0.35:
        control: Fields = {"type": "ephemeral"}
        if chance.random() < 0.4:
            control["ttl"] = "1h"
        where = chance.choice(("top", "system", "message"))
        if where == "top":
            body["cache_control"] = control
        elif where == "system":
            body["system"] = [{"type": "text", "text": text[: len(text) // 2],
                               "cache_control": control}]  # fmt: skip
        else:
            content = [{"type": "text", "text": text, "cache_control": control}]
    body["messages"] = [{"role": "user", "content": content}]
    _ask_for_more(chance, body)
    return body


def _ask_for_more(chance: Random, body: Fields) -> None:
    if chance.random() < 0.2:
        tool: Fields = {"type": "web_search_20250305", "name": "web_search"}
        if chance.random() < 0.8:
            tool["max_uses"] = chance.randint(1, 4)
        body["tools"] = [tool]
    if body["model"] not in NO_GEOGRAPHY and chance.random() < 0.15:
        body["inference_geo"] = "us"
    if body["model"] in FAST and chance.random() < 0.15:
        body["speed"] = "fast"


def _text(chance: Random, letters: int) -> str:
    words = ("alpha", "of", "question", "number", "a", "because", "Zürich", "12", "tokens")
    text = ""
    while len(text) < letters:
        text += " ".join(chance.choices(words, k=20)) + ". "
    return text[:letters]


def _cached_for(body: Fields) -> str | None:
    text = json.dumps(body)
    return None if "cache_control" not in text else "1h" if '"1h"' in text else "5m"


def _is_bare(body: Fields) -> bool:
    """A request that uses no meter but input and output, in no terms but the usual."""
    unusual = ("tools", "inference_geo", "speed")
    return _cached_for(body) is None and not any(name in body for name in unusual)


# --- What is done


def _work(chance: Random, body: Fields) -> Done:
    letters = sum(len(text) for text in _texts(body))
    prompt = max(int(letters / chance.uniform(1.5, 6)) + chance.randint(4, 12), 1)
    done = Done(model=body["model"], fresh=prompt)
    done.geography = body.get("inference_geo", "global")
    done.speed = body.get("speed", "standard")
    if "tools" in body:
        _search(chance, body, done)
    _cache(chance, body, done)
    done.output = chance.randint(1, body["max_tokens"])
    if chance.random() < 0.2:
        done.thinking = chance.randint(0, done.output)
    if chance.random() < 0.04 and not done.searches:
        done.output = done.thinking = 0
        done.free = True
    return done


def _search(chance: Random, body: Fields, done: Done) -> None:
    most = body["tools"][0].get("max_uses", 6)
    done.searches = chance.randint(0, most)
    done.failed_searches = chance.randint(0, most - done.searches)
    done.fresh += (done.searches + done.failed_searches) * chance.randint(200, 9_000)


def _cache(chance: Random, body: Fields, done: Done) -> None:
    lifetime = _cached_for(body)
    if lifetime is None or chance.random() < 0.15:
        return
    cached = chance.randint(0, done.fresh)
    done.read = chance.choice((0, cached, chance.randint(0, cached)))
    written = cached - done.read
    done.fresh -= cached
    if lifetime == "1h":
        done.write_1h = written
    else:
        done.write_5m = written


def _texts(body: Fields) -> list[str]:
    found = [block["text"] for block in body.get("system", ())]
    for message in body["messages"]:
        content = message["content"]
        found += [content] if isinstance(content, str) else [b["text"] for b in content]
    return found


def _message(chance: Random, done: Done, usage: Fields) -> Fields:
    content: list[Fields] = []
    if not done.free:
        blocks = [True] * done.searches + [False] * done.failed_searches
        chance.shuffle(blocks)
        for number, worked in enumerate(blocks):
            content += _search_blocks(number, worked)
        letters = max(int((done.output - done.thinking) * chance.uniform(1, 5)), 1)
        content.append({"type": "text", "text": _text(chance, letters)})
    elif chance.random() < 0.5:
        content.append({"type": "text", "text": ""})
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": done.model,
        "content": content, "stop_reason": "refusal" if done.free else "end_turn",
        "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def _search_blocks(number: int, worked: bool) -> list[Fields]:
    result: Any = [{"type": "web_search_result", "url": "http://x", "title": "t"}]
    if not worked:
        result = {"type": "web_search_tool_result_error", "error_code": "unavailable"}
    name = f"srvtoolu_{number}"
    return [
        {"type": "server_tool_use", "id": name, "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": name, "content": result},
    ]


# --- How it is told


def _told(done: Done, dialect: str) -> Fields:
    prompt = done.fresh + done.write_5m + done.write_1h + done.read
    written = done.write_5m + done.write_1h
    bare = {"input_tokens": done.fresh, "output_tokens": done.output}
    openai = {"prompt_tokens": prompt, "completion_tokens": done.output,
              "total_tokens": prompt + done.output,
              "prompt_tokens_details": {"cached_tokens": done.read}}  # fmt: skip
    cached = {"cache_creation_input_tokens": written, "cache_read_input_tokens": done.read}
    match dialect:
        case "anthropic":
            return _full(done)
        case "two fields":
            return bare
        case "nulls":
            names = ("cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation",
                     "inference_geo", "server_tool_use", "service_tier", "speed")  # fmt: skip
            return bare | dict.fromkeys(names)
        case "openai":
            return openai
        case "litellm":
            return openai | cached
        case "litellm parts" | "written parts" | "moonshot" | "xai":
            return _other_names(done, openai, dialect)
        case "both":
            return openai | bare
        case _:
            return {"input_tokens": prompt, "output_tokens": done.output,
                    "input_tokens_details": {"cached_tokens": done.read}}  # fmt: skip


def _other_names(done: Done, openai: Fields, dialect: str) -> Fields:
    if dialect == "xai":
        said = done.output - done.thinking
        return openai | {"completion_tokens": said, "reasoning_tokens": done.thinking}
    if dialect != "moonshot":
        parts = openai["prompt_tokens_details"] | _written_parts(done, dialect)
        return openai | {"prompt_tokens_details": parts}
    whole = {"input_tokens": openai["prompt_tokens"], "output_tokens": done.output}
    return whole | {"cached_tokens": done.read}


def _written_parts(done: Done, dialect: str) -> Fields:
    written = done.write_5m + done.write_1h
    if dialect == "written parts":
        return {"cache_write_tokens": written}
    lifetimes = {"ephemeral_5m_input_tokens": done.write_5m,
                 "ephemeral_1h_input_tokens": done.write_1h}  # fmt: skip
    return {"cache_creation_tokens": written, "cache_creation_token_details": lifetimes}


def _full(done: Done) -> Fields:
    return {
        "input_tokens": done.fresh,
        "cache_creation_input_tokens": done.write_5m + done.write_1h,
        "cache_read_input_tokens": done.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": done.write_5m,
            "ephemeral_1h_input_tokens": done.write_1h,
        },
        "output_tokens": done.output,
        "output_tokens_details": {"thinking_tokens": done.thinking},
        "server_tool_use": {"web_search_requests": done.searches, "web_fetch_requests": 0},
        "service_tier": "standard",
        "inference_geo": done.geography,
        "speed": done.speed,
    }


# --- What spoils it. Each says whether it did, for there may be nothing to spoil.

_COUNTS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "prompt_tokens",
           "cache_read_input_tokens", "completion_tokens")  # fmt: skip


def _hole(chance: Random, case: Case, done: Done) -> bool:
    usage = case.message["usage"]
    told = [
        name for name in usage if name != "reasoning_tokens"
    ]  # nobody sees what only it tells
    for name in chance.sample(told, k=chance.randint(1, len(told))):
        usage.pop(name) if chance.random() < 0.5 else usage.update({name: None})
    return True


def _no_usage(chance: Random, case: Case, done: Done) -> bool:
    case.message["usage"] = chance.choice((None, {}, [], "n/a"))
    return True


def _odd_count(chance: Random, case: Case, done: Done) -> bool:
    usage = case.message["usage"]
    usage[chance.choice([name for name in _COUNTS if name in usage])] = chance.choice(ODD)
    return True


def _odd_part(chance: Random, case: Case, done: Done) -> bool:
    usage = case.message["usage"]
    objects = [value for value in usage.values() if isinstance(value, dict) and value]
    if not objects or done.free:
        return False
    part = chance.choice(objects)
    part[chance.choice(list(part))] = chance.choice(ODD)
    return True


def _other_part(chance: Random, case: Case, done: Done) -> bool:
    usage = case.message["usage"]
    names = [name for name, value in usage.items() if isinstance(value, dict)]
    names += ["server_tool_use", "cache_creation", "output_tokens_details"]
    if done.free:
        return False
    usage[chance.choice(names)] = chance.choice(("x", 3, [1]))
    return True


def _no_split(chance: Random, case: Case, done: Done) -> bool:
    if not done.write_5m + done.write_1h:
        return False
    return case.message["usage"].pop("cache_creation", None) is not None


def _thinks_more(chance: Random, case: Case, done: Done) -> bool:
    usage = case.message["usage"]
    if done.free or usage.get("output_tokens") is None or done.output < 2:
        return False
    usage["output_tokens"] = chance.randint(0, done.output - 1)
    usage["output_tokens_details"] = {"thinking_tokens": done.output}
    usage.pop("completion_tokens", None)
    return True


def _says_nothing(chance: Random, case: Case, done: Done) -> bool:
    usage = case.message["usage"]
    names = [name for name in ("output_tokens", "completion_tokens") if name in usage]
    if done.free or not names:
        return False
    usage.update(dict.fromkeys(names, 0))
    return True


def _too_long(chance: Random, case: Case, done: Done) -> bool:
    if case.told not in {"anthropic", "two fields"} or done.free or "tools" in case.body:
        return False
    size = len(json.dumps(case.body)) * 10 + 10**7
    case.message["usage"]["input_tokens"] = size + chance.randint(1, 10**6)
    return True


def _falls(chance: Random, case: Case, done: Done) -> bool:
    usage = case.message["usage"]
    name = chance.choice(("input_tokens", "cache_read_input_tokens"))
    count = usage.get(name)
    if done.free or type(count) is not int or not count:
        return False
    if case.told not in {"anthropic", "two fields", "nulls"}:
        return False
    case.falls.append((name, count))
    usage[name] = chance.randint(0, count - 1)
    return True


def _steps(chance: Random, case: Case, done: Done) -> bool:
    """One step of two is not among the iterations, or they leave out what was cached."""
    usage = case.message["usage"]
    if case.told != "anthropic" or done.free:
        return False
    fresh, output = chance.randint(0, done.fresh), chance.randint(0, done.output - 1)
    usage["iterations"] = [{"type": "message", "input_tokens": fresh, "output_tokens": output}]
    return True


def _searches_hidden(chance: Random, case: Case, done: Done) -> bool:
    if not done.searches or "server_tool_use" not in case.message["usage"]:
        return False
    case.message["usage"]["server_tool_use"] = {"web_search_requests": 0}
    return True


def _terms_hidden(chance: Random, case: Case, done: Done) -> bool:
    usage = case.message["usage"]
    hidden = [name for name in ("inference_geo", "speed") if name in case.body]
    for name in hidden:
        usage[name] = None
    return bool(hidden)


def _words_disagree(chance: Random, case: Case, done: Done) -> bool:
    usage = case.message["usage"]
    if case.told != "both" or done.free or not done.fresh:
        return False
    usage["input_tokens"] += chance.randint(1, 500)
    return True


def _input_with_cached(chance: Random, case: Case, done: Done) -> bool:
    """A gateway's way: Anthropic's names, the whole prompt as input, and no word of writes."""
    if case.told != "anthropic" or not done.read:
        return False
    usage = case.message["usage"]
    usage["input_tokens"] = done.fresh + done.write_5m + done.write_1h + done.read
    usage |= {"cache_creation_input_tokens": None, "cache_creation": None}
    return True


def _by_a_cloud(chance: Random, case: Case, done: Done) -> bool:
    """Asked for by an id of a cloud, whose answer has the plain name of the model."""
    if done.geography != "global" or done.speed != "standard":
        return False
    region = chance.choice(("us.", "eu.", "global.", ""))  # the last is not told by the id
    case.body["model"] = f"{region}anthropic.{done.model}-v1:0"
    if region in {"us.", "eu."} or (not region and chance.random() < 0.5):
        done.geography = "us"  # a tenth more there, too
        case.bill = done.bill()
    return True


SPOILED: dict[str, Callable[[Random, Case, Done], bool]] = {
    "holes": _hole, "no usage": _no_usage, "odd count": _odd_count, "odd part": _odd_part,
    "other part": _other_part, "no split": _no_split, "thinks more": _thinks_more,
    "says nothing": _says_nothing, "too long": _too_long, "falls": _falls, "steps": _steps,
    "searches hidden": _searches_hidden, "terms hidden": _terms_hidden,
    "words disagree": _words_disagree, "by a cloud": _by_a_cloud,
    "input with cached": _input_with_cached,
}  # fmt: skip

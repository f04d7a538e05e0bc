"""What prompts begin with: where one can be cut, and the breakpoints of the prompt cache there.

Pure functions of the bytes of a body: what differs in a byte is another prefix, so that rows
are never taken for alike that the provider holds for different.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS

MOST_BREAKPOINTS: Final = 4  # in one request, its own among them
MOST_CUTS: Final = 8  # less than the provider looks back
# No text has more tokens than this: a prefix that is surely too short is left alone.
_LEAST_BYTES_PER_TOKEN: Final = 2
# By what the id says, the first that fits.
_MINIMUMS: Final = (
    (re.compile(r"opus-4[-.][56](?!\d)|haiku-4[-.]5"), 4_096),
    (re.compile(r"opus-4[-.]7|mythos-preview|haiku-3|3-5-haiku|3-haiku"), 2_048),
    (re.compile(r"sonnet-5[-.]5|haiku-5[-.]5|(?:opus|fable|mythos)-5"), 512),
    (re.compile(r"opus-4|sonnet-[45]|3-7-sonnet"), 1_024),
)
_ANY_MINIMUM: Final = 4_096
# What changes nothing of what is cached. Whatever else a body says is part of every prefix.
_APART: Final = frozenset(
    {
        *("max_tokens", "metadata", "stop_sequences", "stream", "cache_control"),
        *("temperature", "top_p", "top_k", "tools", "system", "messages"),
    }
)
_MARKABLE: Final = frozenset(
    {"text", "image", "document", "search_result", "tool_use", "tool_result"}
)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw


class _Mark(msgspec.Struct):
    ttl: str | None = None


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None


_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_BLOCK: Final = msgspec.json.Decoder(_Block)
_MARK: Final = msgspec.json.Decoder(_Mark | None)


class Cut(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A place where a prompt may be cut, behind a block.

    `key` names what is before it, `size` is the length of that in bytes of JSON text. The block
    is the `position`th of the prompt: of `part` (tools, system or messages) the `index`th item,
    of a message the `block`th of its content. `is_marked`: the row has a breakpoint there.
    """

    key: int
    size: int
    position: int
    part: str
    index: int
    block: int = 0
    is_marked: bool = False


class Prompt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a prompt may be cut, in order, and the breakpoints of its own: (position, ttl)."""

    cuts: tuple[Cut, ...]
    own: tuple[tuple[int, str], ...] = ()

    def lifetime_at(self, cut: Cut, usual: str) -> str:
        """That of the row's own breakpoint there, else the `usual` one."""
        return dict(self.own).get(cut.position, usual)


class Placement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is done about the cache in one attempt, as the ledger notes it.

    `prefix` is the key of what its prompt begins with. `note` is the lifetime of the last
    breakpoint of `cuts`, which may be the row's own, else why there is none. Those that the
    row gets are for `lifetime`, where that is another one.
    """

    prefix: int
    note: str
    cuts: tuple[Cut, ...] = ()
    lifetime: str | None = None

    def in_body(self, body: bytes, betas: Iterable[str]) -> "Placement":
        """The same as far as the ledger notes it, with the place of its last breakpoint."""
        is_placed = self.note in {FIVE_MINUTES, ONE_HOUR}
        prompt = read_prompt(body, betas) if is_placed else None
        cuts = (cut for cut in (prompt.cuts if prompt else ()) if cut.key == self.prefix)
        return Placement(prefix=self.prefix, note=self.note, cuts=tuple(cuts))


FIVE_MINUTES: Final = "5m"
ONE_HOUR: Final = "1h"
ALONE: Final = "alone"  # no other row with this prefix was within reach
TOO_SHORT: Final = "too_short"
LATE: Final = "late"  # in batches: the entry may be over before the row is worked on
NO_RATES: Final = "model"  # the price list knows no cache rates of the model


def minimum_tokens(model: str) -> int:
    """The shortest prefix that the provider caches for `model`."""
    found = (least for pattern, least in _MINIMUMS if pattern.search(model))
    return next(found, _ANY_MINIMUM)


def is_too_short(cut: Cut, model: str) -> bool:
    """Whether the prefix is surely below the minimum; the server tells of others."""
    return cut.size < minimum_tokens(model) * _LEAST_BYTES_PER_TOKEN


def read_prompt(body: bytes, betas: Iterable[str] = ()) -> Prompt | None:
    """Where the prompt of a Messages body may be cut; `None`: nowhere, or it cannot be read."""
    try:
        fields = _FIELDS.decode(body)
        own = tuple(_own_marks(fields)) if b'"cache_control"' in body else ()
        cuts = tuple(_cuts(fields, body, betas, dict(own)))
    except CODEC_ERRORS:
        return None
    return Prompt(cuts=cuts, own=own) if cuts else None


def _cuts(
    fields: dict[str, msgspec.Raw], body: bytes, betas: Iterable[str], own: dict[int, str]
) -> Iterator[Cut]:
    digest = blake2b(digest_size=8)
    for name in sorted(fields.keys() - _APART):
        digest.update(b"%b\0%b\0" % (name.encode(), fields[name]))
    pictures = b"1" if b'"image"' in body else b"0"  # they change what messages are cached with
    digest.update(b"%b\0%b\0" % (",".join(sorted(betas)).encode(), pictures))
    size = found = 0
    blocks = list(_places(fields))
    for position, (part, role, index, block, raw) in enumerate(blocks[:-1]):
        digest.update(b"%b\0%b\0%b\0" % (part.encode(), role.encode(), raw))
        size += len(memoryview(raw))
        last_tool = part != "tools" or blocks[position + 1][0] != "tools"
        if last_tool and (part == "tools" or _can_be_marked(raw)):
            yield Cut(
                key=int.from_bytes(digest.digest(), "big", signed=True),
                size=size,
                position=position,
                part=part,
                index=index,
                block=block,
                is_marked=position in own,
            )
            found += 1
        if found == MOST_CUTS:
            return


def _places(
    fields: dict[str, msgspec.Raw],
) -> Iterator[tuple[str, str, int, int, msgspec.Raw]]:
    """Every block in the order of the prompt: part, role, index, block, and its JSON text."""
    for index, tool in enumerate(_listed(fields.get("tools"))):
        yield "tools", "", index, 0, tool
    for index, block in enumerate(_listed(fields.get("system"))):
        yield "system", "", index, 0, block
    for index, message in enumerate(_MESSAGES.decode(fields["messages"])):
        for number, block in enumerate(_listed(message.content)):
            yield "messages", message.role, index, number, block


def _listed(raw: msgspec.Raw | None) -> list[msgspec.Raw]:
    """The items of a list; a string is one of them."""
    if raw is None or bytes(raw) == b"null":
        return []
    return [raw] if bytes(raw)[:1] == b'"' else _ITEMS.decode(raw)


def _own_marks(fields: dict[str, msgspec.Raw]) -> Iterator[tuple[int, str]]:
    """The position and lifetime of each breakpoint of a row; within a block, it is there."""
    position = -1
    for position, place in enumerate(_places(fields)):
        if b'"cache_control"' in bytes(place[4]):
            for lifetime in _marks_within(msgspec.json.decode(place[4])):
                yield position, lifetime
    if (whole := fields.get("cache_control")) and (mark := _MARK.decode(whole)):
        yield position, mark.ttl or FIVE_MINUTES


def _marks_within(block: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    if not isinstance(block, dict):
        return
    if isinstance(mark := block.get("cache_control"), dict):
        yield mark.get("ttl") or FIVE_MINUTES
    content = block.get("content")
    for each in content if isinstance(content, list) else ():
        yield from _marks_within(each)


def _can_be_marked(raw: msgspec.Raw) -> bool:
    text = bytes(raw)
    if text[:1] == b'"':
        return text != b'""'
    block = _BLOCK.decode(text)
    return block.type in _MARKABLE and block.text != ""


def breakpoints(prompt: Prompt, rows: Sequence[int], lifetime: str) -> tuple[Cut, ...]:
    """The cuts at which the row gets breakpoints of that lifetime, or has its own.

    `rows` says for each cut how many share what is before it; 0: it is not worth a breakpoint.
    Of cuts that the same rows share, the last one is enough.
    """
    wanted = [
        (cut, n)
        for cut, n in zip(prompt.cuts, rows, strict=True)
        if n and (cut.is_marked or _fits(prompt, cut, lifetime))
    ]
    fewer = [n for _, n in wanted[1:]] + [0]
    useful = [cut for (cut, n), below in zip(wanted, fewer, strict=False) if n > below]
    free = max(MOST_BREAKPOINTS - len(prompt.own), 0)
    ours = [cut for cut in useful if not cut.is_marked]
    if len(ours) > free:
        kept = {*(cut.key for cut in ours[: free - 1]), ours[-1].key} if free else set[int]()
        useful = [cut for cut in useful if cut.is_marked or cut.key in kept]
    return tuple(useful)


def _fits(prompt: Prompt, cut: Cut, lifetime: str) -> bool:
    """Whether a breakpoint there keeps the order: those of an hour before the others."""
    if lifetime == ONE_HOUR:
        return all(ttl == ONE_HOUR for place, ttl in prompt.own if place < cut.position)
    return all(ttl != ONE_HOUR for place, ttl in prompt.own if place > cut.position)


def with_breakpoints(body: bytes, placement: Placement) -> bytes:
    """The body with `cache_control` at the cuts; all that was there keeps its bytes.

    Text that is no block becomes one, which asks for the same.
    """
    cuts = [cut for cut in placement.cuts if not cut.is_marked]
    if not cuts:
        return body
    control: dict[str, str] = {"type": "ephemeral"}
    if (placement.lifetime or placement.note) == ONE_HOUR:
        control["ttl"] = ONE_HOUR
    mark = msgspec.json.encode(control)
    fields = _FIELDS.decode(body)
    for part in ("tools", "system"):
        places = [cut.index for cut in cuts if cut.part == part]
        if places:
            fields[part] = _marked_at(fields[part], places, mark)
    if any(cut.part == "messages" for cut in cuts):
        fields["messages"] = _marked_within(fields["messages"], cuts, mark)
    return msgspec.json.encode(fields)


def _marked_within(raw: msgspec.Raw, cuts: Iterable[Cut], mark: bytes) -> msgspec.Raw:
    messages = _ITEMS.decode(raw)
    inner: dict[int, list[int]] = {}
    for cut in cuts:
        if cut.part == "messages":
            inner.setdefault(cut.index, []).append(cut.block)
    for index, places in inner.items():
        message = _FIELDS.decode(messages[index])
        message["content"] = _marked_at(message["content"], places, mark)
        messages[index] = _raw(message)
    return _raw(messages)


def _marked_at(content: msgspec.Raw, places: Iterable[int], mark: bytes) -> msgspec.Raw:
    blocks = _listed(content)
    for place in places:
        raw = bytes(blocks[place])
        block = {"type": msgspec.Raw(b'"text"'), "text": blocks[place]}
        if raw[:1] != b'"':
            block = _FIELDS.decode(raw)
        block["cache_control"] = msgspec.Raw(mark)
        blocks[place] = _raw(block)
    return _raw(blocks)


def _raw(value: Any) -> msgspec.Raw:  # noqa: ANN401 - any JSON value
    return msgspec.Raw(msgspec.json.encode(value))

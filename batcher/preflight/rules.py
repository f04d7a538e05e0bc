"""Pre-flight rules as data: what an endpoint is known to refuse, and how it is recognised."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeAlias

import msgspec

Scope = Literal["body", "message", "block", "system", "tool"]
Scalar: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a body is not worth sending: the id of the rule, and one sentence with the field."""

    rule: str
    message: str


class _Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """The tag `kind` names the check in the data file; fields that are null count as absent."""


class Forbidden(_Check, frozen=True, tag="forbidden"):
    """The field must be absent."""


class Required(_Check, frozen=True, tag="required"):
    """The field must be there."""


class Bound(_Check, frozen=True, tag="bound"):
    """The field must be a number in this closed interval; `None` is open."""

    min: int | float | None = None
    max: int | float | None = None


class Length(_Check, frozen=True, tag="length"):
    """A text must have so many characters; other types pass."""

    min: int = 0
    max: int | None = None


class Entries(_Check, frozen=True, tag="entries"):
    """A list must have so many entries; other types pass."""

    min: int = 0
    max: int | None = None


class Pattern(_Check, frozen=True, tag="pattern"):
    """The whole field must match the regular expression."""

    regex: str


class Enum(_Check, frozen=True, tag="enum"):
    """The field must be one of these."""

    values: tuple[Scalar, ...]


class Excludes(_Check, frozen=True, tag="excludes"):
    """The field must be none of these."""

    values: tuple[Scalar, ...]


class OnlyDefault(_Check, frozen=True, tag="only_default"):
    """The field must be absent or equal its default."""

    default: Scalar


class HasType(_Check, frozen=True, tag="type"):
    """The field must be an object, a list of objects or a list of texts that are not blank."""

    type: Literal["object", "objects", "texts"]


class Requires(_Check, frozen=True, tag="requires"):
    """Where the field is there, `other` must be there too."""

    other: str


class Conflicts(_Check, frozen=True, tag="conflicts"):
    """Where the field is there, `other` must not be."""

    other: str


class Below(_Check, frozen=True, tag="below"):
    """The field must be less than `other`, where that is there."""

    other: str


class NeedsBeta(_Check, frozen=True, tag="needs_beta"):
    """Where the field is there, a beta name must begin with one of these."""

    betas: tuple[str, ...]


class Unique(_Check, frozen=True, tag="unique"):
    """No two entries of a list of objects may have the same `key`."""

    key: str


class Count(_Check, frozen=True, tag="count"):
    """There may be at most `max` of a thing that is counted across the whole body."""

    of: Literal["images", "breakpoints", "strict_tools", "deferred_tools"]
    max: int


class Structure(_Check, frozen=True, tag="structure"):
    """The conversation, or a schema, must not have the named fault."""

    fault: Literal[
        "prefill",
        "prefill_ends_in_space",
        "pending_tool_missing",
        "empty_message",
        "system_out_of_place",
        "tool_use_unanswered",
        "tool_result_unasked",
        "tool_result_late",
        "cache_ttl_order",
        "schema_not_supported",
        "mcp_server_not_used_once",
        "image_side",
        "image_side_of_many",
    ]


Check: TypeAlias = (
    Forbidden
    | Required
    | Bound
    | Length
    | Entries
    | Pattern
    | Enum
    | Excludes
    | OnlyDefault
    | HasType
    | Requires
    | Conflicts
    | Below
    | NeedsBeta
    | Unique
    | Count
    | Structure
)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that an endpoint refuses.

    `id` is the reason code of refused rows, `source` the section it comes from. It applies
    where `dialects`, `versions` (of the API) and `models` fit; models are names of groups or
    patterns over plain model ids, and empty means any. `unless_betas` and `unless_fields`
    switch it off where such a beta name or body field is there.

    `fields` are dotted paths below each element of `scope`: the body, each message, each block
    of a message, each system block, or each tool; `types`, `roles` and `inside` (the type of
    the block around it, "" for none) narrow the elements down. `when` are conditions on the
    body, `where` on the element: path to accepted values, "*" for any. The sentence may use
    {field}, {value}, {model}, {version}, {endpoint} and the check's own parameters.
    """

    id: str
    source: str
    dialects: tuple[str, ...]
    fields: tuple[str, ...]
    check: Check
    sentence: str
    versions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    unless_betas: tuple[str, ...] = ()
    unless_fields: tuple[str, ...] = ()
    scope: Scope = "body"
    types: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    inside: tuple[str, ...] | None = None
    when: dict[str, tuple[Any, ...]] = {}
    where: dict[str, tuple[Any, ...]] = {}


class RuleDialect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A way of speaking the Messages API; its rules hold for `models` only, empty means all."""

    about: str
    models: tuple[str, ...] = ()


class RuleBook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All dialects, named groups of models, and rules in the order in which they are told."""

    dialects: dict[str, RuleDialect]
    models: dict[str, tuple[str, ...]]
    rules: tuple[Rule, ...]


@cache
def shipped_rules() -> RuleBook:
    """The rules of this release; docs/preflight.md explains their file."""
    text = (files("batcher") / "data" / "rules.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), RuleBook)

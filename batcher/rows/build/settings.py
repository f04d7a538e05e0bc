"""What a job adds to its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

import msgspec

# A template, or blocks of these kinds, each with its template or, for files, its column.
Parts = str | tuple[tuple[str, str], ...]

_CANONICAL: Final = msgspec.json.Encoder(order="sorted")
# Parts that may hold what nobody else should read, and longer ones than a sentence takes.
_TEXTS: Final = frozenset({"prompt", "messages", "system", "tools", "metadata"})
_LONGEST: Final = 60


class Attachments(StrEnum):
    """Which local files rows may name."""

    BESIDE_INPUT = "beside-input"  # or below; links that lead out are refused
    ANYWHERE = "anywhere"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSettings:
    """Fills what a row leaves out; a row's own fields win over all of it.

    `prompt` is the text of a Jinja template over the row's columns: when there is one, every
    row is columns, whatever it looks like; `messages`, roles with templates or blocks, stand
    for it. A `system` with Jinja's marks is a template too. `parameters` are further body
    fields (`temperature`, `tools`, …) as the API has them. `betas` are `anthropic-beta` names.
    `pass_fields` are columns that go into the body although they are no known API field
    (with a template: the only columns that go into the body), `ignored` are data whatever
    their names resemble, and stay out of the body. `models` are those that stand for the models
    of other APIs, by their names. `None` means that rows must
    bring it themselves.
    """

    model: str | None = None
    max_tokens: int | None = None
    system: str | None = None
    prompt: str | None = None
    messages: tuple[tuple[str, Parts], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    betas: tuple[str, ...] = ()
    pass_fields: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    attachments: Attachments = Attachments.BESIDE_INPUT

    @property
    def defaults(self) -> dict[str, Any]:
        """The body fields that every row gets unless it has them itself."""
        named = {"model": self.model, "max_tokens": self.max_tokens, "system": self.system}
        return {**self.parameters, **{k: v for k, v in named.items() if v is not None}}

    @property
    def has_template(self) -> bool:
        """Whether rows are columns, and a template makes their messages."""
        return self.prompt is not None or bool(self.messages)

    def digest(self) -> str:
        """32 hex digits that change when, and only when, what becomes of a row could change."""
        return _digest(self._everything(), 16)

    def parts(self) -> dict[str, str]:
        """What the digest is of, by name, to be kept and shown: of texts a digest alone."""
        everything = self._everything()
        named = everything.pop("defaults") | everything
        kept = ((name, value) for name, value in named.items() if value not in (None, [], ()))
        return {name: _shown(name, value) for name, value in kept}

    def changes(self, before: Mapping[str, str]) -> str:
        """What is other than in those `parts`: a space and words in brackets, or nothing."""
        now = self.parts()
        words = [
            f"{name} was {before.get(name, 'not set')}, is now {now.get(name, 'not set')}"
            if name not in _TEXTS
            else f"{name} is another text"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        return f" ({'; '.join(words)})" if before and words else ""

    def _everything(self) -> dict[str, Any]:
        everything: dict[str, Any] = {
            "defaults": self.defaults,
            "prompt": self.prompt,
            "messages": self.messages,
            "betas": sorted(self.betas),
            "pass": sorted(self.pass_fields),
            "ignore": sorted(self.ignored),
        }
        if self.models:
            everything["models"] = dict(self.models)
        if self.attachments is not Attachments.BESIDE_INPUT:
            everything["attachments"] = str(self.attachments)
        return everything


def _digest(value: object, size: int) -> str:
    return blake2b(_CANONICAL.encode(value), digest_size=size).hexdigest()


def _shown(name: str, value: object) -> str:
    text = value if isinstance(value, str) else _CANONICAL.encode(value).decode()
    return _digest(text, 8) if name in _TEXTS or len(text) > _LONGEST else text

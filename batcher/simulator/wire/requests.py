"""How requests come in: what differs from server to server, and a body that is in order."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec

from batcher.simulator.answers.models import is_known, max_output_tokens
from batcher.simulator.wire import forms
from batcher.simulator.wire.checks import KNOWN_FIELDS, Fields, find_problem
from batcher.simulator.wire.faults import Markers, read_markers
from batcher.simulator.wire.forms import RefusedRequest

_DEFAULT_MAX_TOKENS: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One server's way to speak.

    `prefix` is the path before `/v1`, `None` for any. `schemes` are how a key may come.
    `usage` is the form of its usage, one of the markers' `USAGE_FORMS`. `is_lenient` passes
    unknown fields and versions over in silence and caps `max_tokens`; the other flags say what
    their names say. `limited_status` is what an empty quota answers.
    """

    prefix: str | None = None
    schemes: tuple[str, ...] = ("x-api-key", "bearer")
    usage: str | None = None
    is_lenient: bool = False
    needs_max_tokens: bool = True
    takes_system_role: bool = True
    needs_vendor: bool = False
    speaks_openai: bool = False  # errors and the list of models
    lists_models: bool = True
    counts_tokens: bool = True
    has_batches: bool = True
    has_reports: bool = True
    limited_status: int = 429

    def serves(self, path: str, what: str) -> bool:
        """Whether `path` is that of `what`, such as `/v1/messages`."""
        return path.endswith(what) if self.prefix is None else path == self.prefix + what

    def key_of(self, headers: Mapping[str, str]) -> str:
        """The key of a request, empty when it came in no way that counts."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        keys = {
            "x-api-key": headers.get("x-api-key") or "",
            "bearer": token.strip() if scheme.lower() == "bearer" else "",
        }
        return next((keys[name] for name in self.schemes if keys[name]), "")

    def understood(self, fields: Fields, *, for_count: bool) -> Fields | RefusedRequest:
        """The body as this server takes it, or why it does not."""
        if not self.is_lenient:
            return fields
        taken = {name: fields[name] for name in fields if name in KNOWN_FIELDS}
        if not self.needs_max_tokens and not for_count:
            taken.setdefault("max_tokens", _DEFAULT_MAX_TOKENS)
        choice = taken.get("tool_choice")
        if isinstance(choice, str):
            taken["tool_choice"] = {"type": choice}
        model, most = taken.get("model"), taken.get("max_tokens")
        if isinstance(model, str) and isinstance(most, int):
            taken["max_tokens"] = min(most, max_output_tokens(model))
        return self._refusal(taken) or taken

    def _refusal(self, fields: Fields) -> RefusedRequest | None:
        model, messages = fields.get("model"), fields.get("messages")
        if isinstance(model, str) and not (is_known(model) and self._names_vendor(model)):
            return RefusedRequest(404, f"The model {model} does not exist", "model_not_found")
        if self.takes_system_role or not isinstance(messages, list):
            return None
        roles = [message.get("role") for message in messages if isinstance(message, dict)]
        wrong = "system" in roles
        return (
            RefusedRequest(400, "messages: role must be user or assistant") if wrong else None
        )

    def _names_vendor(self, model: str) -> bool:
        return "/" in model or not self.needs_vendor

    def error(self, problem: RefusedRequest, request_id: str) -> bytes:
        """The body of a refusal."""
        if self.speaks_openai:
            return forms.openai(problem.message, problem.code or str(problem.status))
        return forms.anthropic(problem, request_id)


DIALECTS: Final[Mapping[str, Dialect]] = {
    "anthropic": Dialect(),
    "crun": Dialect(
        prefix="/api",
        usage="two_fields",
        is_lenient=True,
        takes_system_role=False,
        speaks_openai=True,
        counts_tokens=False,
        has_batches=False,
        has_reports=False,
    ),
    "sunra": Dialect(
        prefix="",
        schemes=("bearer",),
        usage="nulls",
        is_lenient=True,
        needs_max_tokens=False,
        needs_vendor=True,
        lists_models=False,
        counts_tokens=False,
        has_batches=False,
        has_reports=False,
        limited_status=403,
    ),
}


_CANONICAL: Final = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class Body:
    """A body that is in order.

    `canonical` is its JSON text with sorted keys and without `stream`; `digest` 32 bytes that
    depend on it and on the seed, the source of everything that looks like chance.
    """

    fields: dict[str, Any]
    canonical: bytes
    digest: bytes
    markers: Markers
    model: str
    streams: bool

    def draw(self, place: int, below: int) -> int:
        """A number in [0, below) that belongs to this body; `place` is 0 to 15."""
        two = self.digest[2 * place : 2 * place + 2]
        return int.from_bytes(two, "little") * below >> 16


def read_body(
    raw: bytes, seed: int, version: str | None, dialect: Dialect, *, for_count: bool
) -> Body | RefusedRequest:
    """The body in `raw`, or what is wrong with it; `for_count` needs no `max_tokens`."""
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        return RefusedRequest(400, f"The request body is not valid JSON: {exc}")
    if not isinstance(fields, dict):
        return RefusedRequest(400, "The request body is not a JSON object")
    taken = dialect.understood(fields, for_count=for_count)
    if isinstance(taken, RefusedRequest):
        return taken
    problem = find_problem(taken, version, for_count=for_count)
    return problem or _describe(taken, seed)


def _describe(fields: dict[str, Any], seed: int) -> Body | RefusedRequest:
    asked = fields
    if "stream" in fields:
        asked = {name: value for name, value in fields.items() if name != "stream"}
    canonical = _CANONICAL.encode(asked)
    try:
        markers = read_markers(canonical)
    except ValueError as exc:
        return RefusedRequest(400, str(exc))
    key = seed.to_bytes(16, "little", signed=True)
    return Body(
        fields=fields,
        canonical=canonical,
        digest=blake2b(canonical, key=key, digest_size=32).digest(),
        markers=markers,
        model=fields["model"],
        streams=bool(fields.get("stream")),
    )

"""A request body, decoded, checked as the first party checks it, and named by a digest."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec

from batcher.simulator.wire.checks import find_problem
from batcher.simulator.wire.dialects import Dialect
from batcher.simulator.wire.envelope import RefusedRequest
from batcher.simulator.wire.faults import Markers, read_markers

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

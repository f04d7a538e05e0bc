"""The fault table of Message Batches: what goes wrong, what happens then, what is paid."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.between import Afterwards, Changed, Dropped, Instead, Meddling

ROWS = 3
PAGE = b"<!doctype html><title>Sign in</title>"
ALWAYS = 1_000


def error(kind: str, message: str = "no") -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


@dataclass(frozen=True, kw_only=True)
class Follows:
    """What comes of three rows in the end.

    `paid` are the requests on the bill, `in_doubt` the attempts that may have been, `answered`
    the rows that have an answer, `code` the last exit code. `unbilled` are those of the bill
    that the meddled words say are none. `held`: the rows wait in a batch.
    """

    code: int = 0
    answered: int = ROWS
    paid: int = ROWS
    in_doubt: int = 0
    unbilled: int = 0
    attempts: int | None = ROWS
    held: bool = False


@dataclass(frozen=True, kw_only=True)
class BatchFault:
    """At the first requests of a kind, `times` each, the server's words are meddled with.

    So are those of other kinds `besides`.
    """

    id: str
    kind: str
    script: Sequence[Meddling]
    follows: Follows
    times: int = 1
    besides: Mapping[str, Sequence[Meddling]] = field(default_factory=dict)

    @property
    def scripts(self) -> dict[str, Sequence[Meddling]]:
        """What is done, by kind."""
        return {self.kind: self.script, **self.besides}


FINE = Follows()
HELD = Follows(code=75, answered=0, paid=0, held=True)
REFUSED = Follows(code=65, answered=0, paid=0, attempts=ROWS)


def stops(code: int) -> Follows:
    return Follows(code=code, answered=0, paid=0, attempts=None)


def again(more: int) -> Follows:
    """Unbilled ones go again."""
    return Follows(attempts=ROWS + more, unbilled=more)


def doubtful(rows: int) -> Follows:
    """They may have been paid, are in doubt, and go again."""
    return Follows(paid=ROWS + rows, in_doubt=rows, attempts=ROWS + rows)


def says(**fields: Any) -> Changed:
    """The server's batch, with other fields; `None` leaves one out."""

    def change(body: bytes) -> bytes:
        batch = json.loads(body) | fields
        return json.dumps({k: v for k, v in batch.items() if v is not None}).encode()

    return Changed(change)


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Changed:
    """The lines of the results, otherwise."""
    return Changed(lambda body: b"".join(change(body.splitlines(keepends=True))))


def result(number: int, **fields: Any) -> Changed:
    """Another result for one of the requests, under its name."""
    return results(**{str(number): fields})


def results(**by_number: dict[str, Any]) -> Changed:
    def change(found: list[bytes]) -> list[bytes]:
        told = [json.loads(line) for line in sorted(found)]
        for number, fields in by_number.items():
            told[int(number)]["result"] = fields
        return [json.dumps(each).encode() + b"\n" for each in told]

    return lines(change)


def errored(kind: str) -> dict[str, Any]:
    return {"type": "errored", "error": json.loads(error(kind)) | {"request_id": "req_1"}}


def fault(
    id_: str, kind: str, what: Meddling | Sequence[Meddling], follows: Follows, times: int = 1
) -> BatchFault:
    script = what if isinstance(what, Sequence) else [what]
    return BatchFault(id=id_, kind=kind, script=script, follows=follows, times=times)


CREATES = [
    fault("is too large", "create", Instead(413, error("request_too_large")), FINE),
    fault("finds a full queue", "create", Instead(429, error("rate_limit_error")), FINE),
    fault(
        "finds a full queue for a second",
        "create",
        Instead(429, error("rate_limit_error"), {"retry-after": "1"}),
        FINE,
        times=3,
    ),
    fault("is overloaded", "create", Instead(529, error("overloaded_error")), FINE, times=2),
    fault("is not allowed", "create", Instead(403, error("permission_error")), stops(77)),
    fault("has a wrong key", "create", Instead(401, error("authentication_error")), stops(77)),
    fault("has no credit", "create", Instead(402, error("billing_error")), stops(77)),
    fault("is refused once", "create", Instead(400, error("invalid_request_error")), FINE),
    fault(
        "is refused always",
        "create",
        Instead(400, error("invalid_request_error")),
        REFUSED,
        times=ALWAYS,
    ),
    fault("fails, nothing made", "create", Instead(500, error("api_error")), HELD),
    fault("fails, made", "create", Afterwards(500, error("api_error")), FINE),
    fault("fails at a gateway, made", "create", Afterwards(502, PAGE), FINE),
    fault(
        "is late at a gateway, made", "create", Afterwards(504, error("timeout_error")), FINE
    ),
    fault("is cut before", "create", Dropped(), HELD),
    fault("is cut after", "create", Dropped(asked=True), FINE),
    fault("is cut within its answer", "create", Dropped(asked=True, part=0.5), FINE),
    fault("is answered by a page", "create", Afterwards(200, PAGE), FINE),
    fault("is answered by nothing", "create", Afterwards(200), FINE),
    fault("is answered without counts", "create", says(request_counts=None), FINE),
    fault("is answered with a new state", "create", says(processing_status="new"), FINE),
    fault("is answered with no moment", "create", says(created_at="soon"), FINE),
    fault("is answered with no end", "create", says(expires_at=None), FINE),
    fault("is answered with more", "create", says(later={"a": [1]}), FINE),
    fault("counts none", "create", says(request_counts={}), FINE),
    BatchFault(
        id="is lost, and so are lists",
        kind="create",
        script=[Dropped(asked=True)],
        follows=FINE,
        besides={"list": [Instead(500, error("api_error")), Instead(200, b"{}"), Dropped()]},
    ),
]
LOOKS = [
    fault("is not found in between", "look", Instead(404, error("not_found_error")), FINE, 3),
    fault("fails", "look", Instead(500, error("api_error")), FINE, 3),
    fault("is too often", "look", Instead(429, error("rate_limit_error")), FINE, 3),
    fault(
        "is not allowed for a while", "look", Instead(403, error("permission_error")), FINE, 3
    ),
    fault("is a page", "look", Instead(200, PAGE), FINE, 3),
    fault("is cut", "look", [Dropped(), Dropped(asked=True, part=0.5)], FINE),
    fault("has a new state", "look", says(processing_status="finalizing"), FINE, 3),
    fault("counts too many", "look", says(request_counts={"succeeded": 99}), FINE, ALWAYS),
    fault("counts less than none", "look", says(request_counts={"errored": -1}), FINE, ALWAYS),
    fault("counts none", "look", says(request_counts={}), FINE, ALWAYS),
    fault("has no moment of its end", "look", says(ended_at=None), FINE, ALWAYS),
    fault("is of the past", "look", says(created_at="2020-01-01T00:00:00Z"), FINE, ALWAYS),
    fault(
        "is over, it says, and is not found then",
        "look",
        [
            says(
                processing_status="in_progress",
                ended_at=None,
                expires_at="2020-01-01T00:00:00Z",
            ),
            Instead(404, error("not_found_error")),
        ],
        FINE,
    ),
    fault("has ended too early", "look", says(processing_status="ended"), FINE),
]
RESULTS = [
    fault("are not found", "results", Instead(404, error("not_found_error")), FINE, 3),
    fault("fail", "results", Instead(500, error("api_error")), FINE, 2),
    fault("are a page", "results", Instead(200, PAGE), FINE, 4),
    fault("are cut", "results", Dropped(asked=True, part=0.5), FINE, 2),
    fault("end too early, in a line", "results", Changed(lambda b: b[: len(b) // 2]), FINE),
    fault("end too early, after a line", "results", lines(lambda ls: ls[:1]), FINE),
    fault("are empty for a while", "results", lines(lambda _: []), FINE, 2),
    fault("lack one for ever", "results", lines(lambda ls: ls[1:]), doubtful(1), 3),
    fault("come in another order", "results", lines(lambda ls: ls[::-1]), FINE),
    fault("come twice", "results", lines(lambda ls: ls * 2), FINE),
    fault(
        "hold one of nobody",
        "results",
        lines(lambda ls: [*ls, b'{"custom_id":"x","result":{"type":"canceled"}}\n']),
        FINE,
    ),
    fault("have blank lines", "results", lines(lambda ls: [b"\n", *ls, b"\r\n"]), FINE),
    fault("have no last newline", "results", Changed(bytes.rstrip), FINE),
    fault("hold what cannot be read", "results", lines(lambda ls: [*ls, b"{]\n"]), FINE),
    fault("one errored by the server", "results", result(0, **errored("api_error")), again(1)),
    fault("one overloaded", "results", result(0, **errored("overloaded_error")), again(1)),
    fault("one too often", "results", result(0, **errored("rate_limit_error")), again(1)),
    fault(
        "one refused",
        "results",
        result(0, **errored("invalid_request_error")),
        Follows(code=65, answered=2, paid=2, unbilled=1),
    ),
    fault("one without its error", "results", result(0, type="errored"), again(1)),
    fault("one expired", "results", result(0, type="expired"), again(1)),
    fault("one canceled", "results", result(0, type="canceled"), again(1)),
    fault(
        "all of it",
        "results",
        results(**{"0": errored("api_error"), "1": {"type": "expired"}}),
        again(2),
    ),
    fault("one of a new kind", "results", result(0, type="moved"), doubtful(1)),
    fault("one without a message", "results", result(0, type="succeeded"), doubtful(1)),
    fault(
        "one that is no message",
        "results",
        result(0, type="succeeded", message={"type": "note"}),
        doubtful(1),
    ),
]
CANCELED = Follows(answered=0, paid=0)
CANCELS = [
    fault("is not found", "cancel", Instead(404, error("not_found_error")), CANCELED),
    fault("fails", "cancel", Instead(500, error("api_error")), CANCELED, 2),
    fault("is a page", "cancel", Afterwards(200, PAGE), CANCELED),
    fault("is cut before", "cancel", Dropped(), CANCELED),
    fault("is cut after", "cancel", Dropped(asked=True), CANCELED),
    fault("has a new state", "cancel", says(processing_status="stopping"), CANCELED),
    fault("is too often", "cancel", Instead(429, error("rate_limit_error")), CANCELED, 2),
    fault("counts none", "cancel", says(request_counts={}), CANCELED),
    fault(
        "is followed by no look", "look", Instead(404, error("not_found_error")), CANCELED, 3
    ),
    fault(
        "has no results at first", "results", Instead(404, error("not_found_error")), CANCELED
    ),
]
BATCH_FAULTS = [
    *((f"a create {each.id}", each) for each in CREATES),
    *((f"a look {each.id}", each) for each in LOOKS),
    *((f"results {each.id}", each) for each in RESULTS),
]

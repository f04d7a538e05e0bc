"""Orders to the simulator inside a prompt: `[[name:value]]`."""

import re
from dataclasses import dataclass
from typing import Final

from batcher.simulator.wire.faults import FAULTS
from batcher.simulator.wire.stream_form import ORDINARY, StreamForm, read_form

USAGE_FORMS: Final = ("null", "two_fields", "openai", "none", "nulls", "cache")
_MARKER: Final = re.compile(
    r"\[\[(stop|fault|output|input|pause|latency|usage|model|custom|stream):([^\[\]\"\\]+)\]\]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Markers:
    """What the prompt orders; `None` or empty where it is silent. Tokens and milliseconds."""

    stop: str | None = None
    faults: tuple[tuple[str, int | None], ...] = ()
    output: int | None = None
    input: int | None = None
    pause: int | None = None
    latency_ms: float | None = None
    usage: str | None = None
    model: str | None = None
    custom: str | None = None
    stream: StreamForm = ORDINARY


NOTHING: Final = Markers()


def read_markers(canonical: bytes) -> Markers:
    """The markers of a body.

    Other names are ordinary text (`[[File:x.png]]`); a known one with a value that means
    nothing raises `ValueError`.
    """
    if b"[[" not in canonical:
        return NOTHING
    found = _MARKER.findall(canonical.decode())
    values = {name: value for name, value in found if name != "fault"}
    faults = tuple(_fault(value) for name, value in found if name == "fault")
    return Markers(
        stop=values.get("stop"),
        faults=faults,
        output=_number(values.get("output")),
        input=_number(values.get("input")),
        pause=_number(values.get("pause")),
        latency_ms=_number(values.get("latency")),
        usage=_usage_form(values.get("usage")),
        model=values.get("model"),
        custom=values.get("custom"),
        stream=read_form(values["stream"]) if "stream" in values else ORDINARY,
    )


def without_markers(text: str) -> str:
    """The prompt as a model would see it."""
    return _MARKER.sub("", text).strip() if "[[" in text else text


def _fault(value: str) -> tuple[str, int | None]:
    name, _, times = value.partition("*")
    if name not in FAULTS:
        raise ValueError(f"unknown fault [[fault:{name}]]")
    return name, int(times) if times else None


def _number(value: str | None) -> int | None:
    number = None if value is None else int(value)
    if number is not None and number < 0:
        raise ValueError(f"a marker with {number}: give 0 or more")
    return number


def _usage_form(value: str | None) -> str | None:
    if value is not None and value not in USAGE_FORMS:
        raise ValueError(
            f"unknown marker [[usage:{value}]]; forms are {', '.join(USAGE_FORMS)}"
        )
    return value

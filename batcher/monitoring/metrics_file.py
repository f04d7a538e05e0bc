"""A run's numbers as a Prometheus text file, for a node exporter's textfile collector."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from batcher.clock import Clock
from batcher.errors import CannotCreate, ConfigurationError
from batcher.monitoring.monitors import Ticker
from batcher.pipeline.progress import Ended, Progress, Started

MARK: Final = "# Written by batcher; replaced whole."
_SECONDS: Final = 15.0
_PICO: Final = 10**12
_LAST_SUCCESS: Final = "batcher_last_success_timestamp_seconds"

_HELP: Final = {
    "batcher_rows": "Rows of the inputs by what became of them.",
    "batcher_attempts_total": "Attempts that were sent by this invocation.",
    "batcher_tokens": "Tokens of this invocation's answers.",
    "batcher_cost_usd": "What this invocation's answers cost.",
    "batcher_in_doubt_attempts": "Attempts that may have been billed without an answer.",
    "batcher_in_doubt_usd": "What those may have cost at most.",
    "batcher_assumed_answers": "Answers with a cost that is assumed.",
    "batcher_assumed_usd": "What those cost at least, which is in the cost, and at most.",
    "batcher_maybe_billed_attempts": "Refused attempts that may have been billed even so.",
    "batcher_maybe_billed_usd": "What those may have cost at most.",
    "batcher_unpriced_answers": "Answers without a price.",
    "batcher_in_flight": "Attempts under way.",
    "batcher_limited_by": "What limits the run at present.",
    "batcher_duration_seconds": "How long this invocation has been running, or ran.",
    "batcher_running": "1 while the invocation is on.",
    "batcher_exit_code": "The code that the last invocation ended with.",
    _LAST_SUCCESS: "When an invocation last ended with 0.",
}


class MetricsFile:
    """See `Monitor`: the file is there from the first moment, and always whole."""

    def __init__(self, path: Path, job: str, clock: Clock) -> None:
        _check(path)
        self._path = path
        self._job = job
        self._clock = clock
        self._began = clock.monotonic()
        self._due = 0.0
        self._progress: Progress | None = None
        self._success = _last_success(path)
        self._ticker = Ticker(self._tick)

    def begin(self) -> None:
        """See `Monitor.begin`; raises `CannotCreate` where the file cannot be written."""
        try:
            self._replace(None)
        except OSError as exc:
            raise CannotCreate(
                f"the metrics file {self._path} cannot be written: {exc.strerror}"
            ) from exc

    def started(self, event: Started) -> None:
        """See `Monitor.started`."""
        self._progress = event.progress
        self._ticker.start()

    def said(self, sentence: str) -> None:
        """See `Monitor.said`."""

    def finish(self, code: int, error: str, ended: Ended | None) -> None:  # noqa: ARG002
        """See `Monitor.finish`."""
        self._ticker.stop()
        if ended is not None:
            self._progress = ended.progress
        if code == 0:
            self._success = self._clock.now_us() // 10**6
        self._replace(code)

    def _tick(self) -> None:
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + _SECONDS
            self._replace(None)

    def _replace(self, code: int | None) -> None:
        """Write beside it and rename; its reader is somebody else, so anybody may read it."""
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            beside.write_text("".join(self._lines(code)), encoding="utf-8")
            beside.chmod(0o644)
            beside.replace(self._path)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)

    def _lines(self, code: int | None) -> Iterator[str]:
        yield f"{MARK}\n"
        told = ""
        for name, labels, value in self._samples(code):
            if name != told:
                yield f"# HELP {name} {_HELP[name]}\n# TYPE {name} gauge\n"
                told = name
            pairs = {"batcher_job": self._job, **labels}
            said = ",".join(f'{label}="{_escaped(text)}"' for label, text in pairs.items())
            yield f"{name}{{{said}}} {value}\n"

    def _samples(self, code: int | None) -> Iterator[tuple[str, dict[str, str], str]]:
        yield from _of_progress(self._progress or Progress())
        seconds = self._clock.monotonic() - self._began
        yield "batcher_duration_seconds", {}, f"{seconds:.3f}"
        yield "batcher_running", {}, str(int(code is None))
        if code is not None:
            yield "batcher_exit_code", {}, str(code)
        if self._success is not None:
            yield _LAST_SUCCESS, {}, str(self._success)


def _of_progress(progress: Progress) -> Iterator[tuple[str, dict[str, str], str]]:
    total = max(progress.total_rows, progress.finished_rows)
    done = progress.done_before + progress.claimed + progress.answered + progress.elsewhere
    for state, count in (
        ("answered", done), ("failed", progress.failed), ("held", progress.held),
        ("quarantined", progress.quarantined), ("to_do", total - progress.finished_rows),
    ):  # fmt: skip
        yield "batcher_rows", {"state": state}, str(count)
    yield "batcher_attempts_total", {}, str(progress.sent)
    yield "batcher_tokens", {"kind": "input"}, str(progress.input_tokens)
    yield "batcher_tokens", {"kind": "output"}, str(progress.output_tokens)
    yield "batcher_cost_usd", {}, _usd(progress.cost)
    yield "batcher_in_doubt_attempts", {}, str(progress.in_doubt)
    if progress.in_doubt_high is not None:
        yield "batcher_in_doubt_usd", {}, _usd(progress.in_doubt_high)
    yield "batcher_assumed_answers", {}, str(progress.assumed)
    yield "batcher_assumed_usd", {"end": "low"}, _usd(progress.assumed_low)
    yield "batcher_assumed_usd", {"end": "high"}, _usd(progress.assumed_high)
    yield "batcher_maybe_billed_attempts", {}, str(progress.maybe_billed)
    if progress.maybe_billed_high is not None:
        yield "batcher_maybe_billed_usd", {}, _usd(progress.maybe_billed_high)
    yield "batcher_unpriced_answers", {}, str(progress.unpriced)
    yield "batcher_in_flight", {}, str(progress.in_flight)
    if progress.binding_limit_now is not None:
        yield "batcher_limited_by", {"limit": progress.binding_limit_now.name}, "1"


def _usd(pico: int) -> str:
    return f"{pico // _PICO}.{pico % _PICO:012d}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _check(path: Path) -> None:
    """A file of somebody else is not replaced, and a collector reads `.prom` files only."""
    if path.suffix != ".prom":
        raise ConfigurationError(
            f"metrics_file {path}: its name must end in .prom, or no collector reads it"
        )
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise CannotCreate(f"the metrics file {path} is no plain file; name another")
    if path.exists() and _first_line(path) != MARK:
        raise CannotCreate(f"{path} was not written by batcher; name another metrics file")


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(200).rstrip("\n")


def _last_success(path: Path) -> int | None:
    """What the invocation before knew; this one may fail."""
    try:
        found = re.search(rf"^{_LAST_SUCCESS}\{{.*\}} (\d+)$", path.read_text("utf-8"), re.M)
    except OSError:
        return None
    return int(found[1]) if found else None

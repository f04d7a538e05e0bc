"""What a run would refuse, told before anything is sent: by the first rows of each input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from batcher.errors import ConfigurationError
from batcher.messages.request import BadRow, Request
from batcher.rows.batch import Reason, RowBatch
from batcher.rows.build.field_names import MISNAMED_SHARE
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.reader import read_rows
from batcher.rows.read.source import SourceFile

SAMPLE_ROWS: Final = 1_000  # of each input
SAMPLE_BYTES: Final = 16 * 2**20  # bodies of all inputs; rows may bring large files
FEWEST_ROWS: Final = 3  # fewer say nothing about the job: they are just bad rows


@dataclass(slots=True)
class Sample:
    """Rows that were looked at, and why some of them would be quarantined.

    `is_whole`: they are all rows that are still to do. `skipped` rows need nothing more.
    `reasons` counts refused rows by rule or reason code; `examples` holds the first of each,
    with the name of its input. `models` are those that the others ask for.
    """

    rows: int = 0
    refused: int = 0
    skipped: int = 0
    body_bytes: int = 0
    is_whole: bool = True
    reasons: dict[str, int] = field(default_factory=dict)
    examples: dict[str, tuple[str, BadRow]] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)

    def add(self, name: str, batch: RowBatch) -> None:
        """Count the rows of a batch of the input `name`."""
        self.skipped += batch.skipped
        for item in batch.items:
            self.count(name, item)

    def count(self, name: str, item: Request | BadRow) -> None:
        """Count one row of the input `name`."""
        self.rows += 1
        if isinstance(item, Request):
            self.body_bytes += len(item.body)
            self.models.add(item.model)
            return
        self.refused += 1
        self.reasons[item.reason] = self.reasons.get(item.reason, 0) + 1
        self.examples.setdefault(item.reason, (name, item))


def take_sample(
    files: Sequence[SourceFile],
    builder: RequestBuilder,
    done: Callable[[str], RowRanges] = lambda _: RowRanges(),
) -> Sample:
    """Look at the first rows of each of `files` that are not in `done` of its name.

    `SAMPLE_ROWS` of each, and no more once their bodies have `SAMPLE_BYTES`. Raises
    `StorageError` when the disk fails.
    """
    sample = Sample()
    for file in files:
        _sample_file(sample, file, builder, done(file.name))
    return sample


def refusal_words(sample: Sample) -> str:
    """How many rows would be quarantined and why, in a line; empty when none would be."""
    if not sample.refused:
        return ""
    often = sorted(sample.reasons.items(), key=lambda item: (-item[1], item[0]))
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in often)
    of = f"{sample.rows:,} rows" if sample.is_whole else f"the first {sample.rows:,} rows"
    return f"pre-flight: {sample.refused:,} of {of} would be quarantined: {reasons}"


def refuse_misnamed(sample: Sample) -> None:
    """Raise `ConfigurationError` when more than 1 % of the rows have a misnamed field."""
    count = sample.reasons.get(Reason.MISNAMED_FIELD, 0)
    if count > MISNAMED_SHARE * sample.rows:
        name, row = sample.examples[Reason.MISNAMED_FIELD]
        of = f"{sample.rows:,} rows" if sample.is_whole else f"the first {sample.rows:,} rows"
        raise ConfigurationError(
            f"{count:,} of {of} have a column that would not be sent, so nothing was sent: "
            f"{name}:{row.row_number} {row.message}"
        )


def refuse_hopeless(sample: Sample) -> None:
    """Raise `ConfigurationError` when every row would be refused: then the job is wrong.

    Not for fewer than `FEWEST_ROWS`, nor where earlier invocations left rows that are done.
    """
    if sample.rows < FEWEST_ROWS or sample.refused < sample.rows or sample.skipped:
        return
    reason = max(sample.reasons, key=sample.reasons.__getitem__)
    name, row = sample.examples[reason]
    rows = f"all {sample.rows:,} rows" if sample.is_whole else f"the first {sample.rows:,} rows"
    remedy = "correct the rows or the job"
    if reason not in set(Reason):
        remedy += ", or send them with --no-preflight"
    raise ConfigurationError(
        f"{rows} would be quarantined, so nothing was sent: {name}:{row.row_number} "
        f"{reason}: {row.message}; {remedy}"
    )


def _sample_file(
    sample: Sample, file: SourceFile, builder: RequestBuilder, done: RowRanges
) -> None:
    last = sample.rows + SAMPLE_ROWS
    for batch in read_rows(file, source_id=0, builder=builder, rows=AllBut(done)):
        sample.skipped += batch.skipped
        for item in batch.items:
            if sample.rows == last or sample.body_bytes >= SAMPLE_BYTES:
                sample.is_whole = False
                return
            sample.count(file.name, item)

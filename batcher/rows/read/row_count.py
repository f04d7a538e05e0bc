"""How many rows an input probably holds, at the price of a glance."""

from typing import Final

from batcher.rows.read.source import SourceFile

_SAMPLE_BYTES: Final = 256 * 1024


def estimated_rows(source: SourceFile) -> int | None:
    """About how many rows `source` has; exact for Parquet, `None` when a glance cannot tell."""
    if source.format == "parquet":
        import pyarrow as pa  # noqa: PLC0415 - heavy
        from pyarrow import parquet as pq  # noqa: PLC0415 - heavy

        try:
            return int(pq.read_metadata(source.path).num_rows)
        except (pa.ArrowException, OSError):
            return None
    if source.compression is not None:
        return None
    try:
        return _by_first_lines(source)
    except OSError:
        return None


def _by_first_lines(source: SourceFile) -> int:
    with source.path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    lines = sample.count(b"\n") + (not sample.endswith(b"\n") and bool(sample))
    if len(sample) < _SAMPLE_BYTES or lines == 0:
        return lines
    return source.path.stat().st_size * lines // len(sample)

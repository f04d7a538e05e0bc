"""The rows that are measured: about 0.9 kB each, all different, one short model name.

    python -m tests.benchmarks.rows rows.jsonl rows.parquet

writes the rows of the first file as the second, in a process of its own: the one that measures
must stay small.
"""

import json
import sys
from pathlib import Path

MODEL = "claude-haiku-4-5"
SENTENCE = "Somebody had moved the chairs and nobody would say who it was. "
LINE = (
    '{"custom_id": "row-%07d", "params": {"model": "' + MODEL + '", "max_tokens": 256, '
    '"messages": [{"role": "user", "content": "Letter %07d. ' + SENTENCE * 12 + '"}]}}\n'
)
ROW_GROUP = 20_000


def write_rows(path: Path, count: int) -> Path:
    """Write `count` rows to `path`, as JSON Lines, without holding them."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(LINE % (number, number) for number in range(count))
    return path


def main() -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    lines, target = map(Path, sys.argv[1:])
    rows = [json.loads(line) for line in lines.open(encoding="utf-8")]
    columns = {
        "custom_id": [row["custom_id"] for row in rows],
        "params": [json.dumps(row["params"]) for row in rows],
    }
    pq.write_table(pa.table(columns), target, row_group_size=ROW_GROUP)


if __name__ == "__main__":
    main()

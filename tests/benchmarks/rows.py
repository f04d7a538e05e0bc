"""The rows that are measured: about 0.9 kB each, all different, one short model name."""

from pathlib import Path

MODEL = "claude-haiku-4-5"
SENTENCE = "Somebody had moved the chairs and nobody would say who it was. "
LINE = (
    '{"custom_id": "row-%07d", "params": {"model": "' + MODEL + '", "max_tokens": 256, '
    '"messages": [{"role": "user", "content": "Letter %07d. ' + SENTENCE * 12 + '"}]}}\n'
)


def write_rows(path: Path, count: int) -> Path:
    """Write `count` rows to `path`, as JSON Lines, without holding them."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(LINE % (number, number) for number in range(count))
    return path

"""Long tests that can be interrupted: what they found, in a file, and how long they may go on.

`--budget-minutes` ends a campaign early; the same command goes on where it stopped. What each
campaign found is told at the end of the test run.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

FOLDER = Path(
    os.environ.get("BATCHER_CAMPAIGN_FOLDER", Path(tempfile.gettempdir()) / "batcher-campaign")
)
TOLD: list[str] = []  # printed when all tests have ended


class Campaign:
    """The results of one campaign, a line of JSON for each case; appended, never rewritten."""

    def __init__(self, name: str, config: pytest.Config) -> None:
        minutes = config.getoption("--budget-minutes")
        self._ends_at = None if minutes is None else time.monotonic() + 60 * minutes
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.path = FOLDER / f"{name}.jsonl"

    def results(self) -> list[dict[str, Any]]:
        """What was found so far, by earlier commands too; a torn last line is left out."""
        if not self.path.exists():
            return []
        whole, _, _ = self.path.read_bytes().rpartition(b"\n")
        return [msgspec.json.decode(line) for line in whole.splitlines()]

    def add(self, **result: Any) -> None:
        """Append one result."""
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(result) + b"\n")

    def has_time(self) -> bool:
        """Whether the budget, if there is one, is not used up."""
        return self._ends_at is None or time.monotonic() < self._ends_at

    def tell(self, sentence: str) -> None:
        """Say something at the end of the test run."""
        TOLD.append(f"{self.path}: {sentence}")

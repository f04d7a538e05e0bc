"""The one table of faults: all that goes wrong on purpose, and what must follow.

Each entry says how it is caused, at which stage, and which class must come of it: of an
attempt, of a row that is never sent (its reason code), or of what a ledger that failed had
been given. The counts are printed at the end of a test run.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from tests.faults.bodies import BODIES
from tests.faults.inputs import CHANGES, FILES, ROWS
from tests.faults.kinds import Stage
from tests.faults.places import PLACES
from tests.faults.processes import CUTS, SIGNALS
from tests.faults.refusals import REFUSALS
from tests.faults.storage import STORAGE
from tests.faults.streams import STREAMS
from tests.faults.wires import WIRES

__all__ = ["ON_THE_WIRE", "PLACES", "TABLE", "counted"]


class Entry(Protocol):
    """What every entry has."""

    id: str
    stage: Stage
    expected: str


ON_THE_WIRE = [*REFUSALS, *WIRES, *BODIES, *STREAMS]
TABLE: list[Entry] = [
    *ON_THE_WIRE,
    *PLACES,
    *ROWS,
    *FILES,
    *CHANGES,
    *STORAGE,
    *CUTS,
    *SIGNALS,
]

_CODE = str.isupper  # reason codes are written in capitals


def counted(entries: Iterable[Entry]) -> list[str]:
    """The table's counts in lines for people: a line per stage, and the classes in it."""
    by_stage: dict[Stage, Counter[str]] = {stage: Counter() for stage in Stage}
    for entry in entries:
        kind = "quarantined" if _CODE(entry.expected) else entry.expected
        by_stage[entry.stage][kind] += 1
    return [
        f"{stage:<8} {classes.total():>4}  "
        + ", ".join(f"{name} {count}" for name, count in sorted(classes.items()))
        for stage, classes in by_stage.items()
    ]

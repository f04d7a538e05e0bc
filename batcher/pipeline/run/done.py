"""Which rows need nothing more, and up to where that is safe to remember."""

from collections.abc import Iterable, Mapping

from batcher.rows.ranges import RowRanges


class DoneRows:
    """Finished rows of all sources of an invocation, and the attempts not yet settled.

    Everything here is durable: rows and settlements are added when the ledger has them.
    """

    def __init__(self, sources: Mapping[int, RowRanges]) -> None:
        self._sources = dict(sources)
        self._changed: set[int] = set(self._sources)
        self._open: dict[int, None] = {}  # in ascending order, as attempts are opened
        self._next_id = 0

    def opened(self, attempt_id: int) -> None:
        """An attempt begins; ids ascend."""
        self._open[attempt_id] = None
        self._next_id = attempt_id + 1

    def settled(self, attempt_id: int) -> None:
        """What became of the attempt is durable."""
        self._open.pop(attempt_id, None)

    def add(self, source_id: int, row_number: int) -> None:
        """A row needs nothing more."""
        self._sources[source_id].add(row_number)
        self._changed.add(source_id)

    def add_all(self, source_id: int, row_numbers: Iterable[int]) -> None:
        """Rows need nothing more; a range of them costs no more than one."""
        if isinstance(row_numbers, range) and row_numbers:
            self._sources[source_id].add_range(row_numbers[0], row_numbers[-1])
            self._changed.add(source_id)
            return
        for row_number in row_numbers:
            self.add(source_id, row_number)

    def checkpoint(self) -> tuple[int, dict[int, str]]:
        """(every attempt with a smaller id is settled and counted, changed ranges as JSON)."""
        settled_below = next(iter(self._open), self._next_id)
        changed, self._changed = self._changed, set()
        return settled_below, {key: self._sources[key].to_json() for key in changed}

"""What a check found, a sentence each, and the checks that are one statement.

Those find rows that belong to nothing, and states that contradict each other. Never more of a
kind is told than people read.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, ForeignKey, Table, exists, select, text

from batcher.ledger.schema import metadata

MOST_OF_A_KIND: Final = 20


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One contradiction; `kind` is the check that found it."""

    kind: str
    text: str


class Findings:
    """Collects findings: all are counted, the first 20 of each kind are kept."""

    def __init__(self) -> None:
        self._kept: list[Contradiction] = []
        self._by_kind: Counter[str] = Counter()

    def add(self, kind: str, text: str) -> None:
        """One more."""
        self._by_kind[kind] += 1
        if self._by_kind[kind] <= MOST_OF_A_KIND:
            self._kept.append(Contradiction(kind, text))

    @property
    def count(self) -> int:
        """How many there were."""
        return self._by_kind.total()

    @property
    def some(self) -> tuple[Contradiction, ...]:
        """Those that were kept, in the order they came."""
        return tuple(self._kept)

    @property
    def lines(self) -> list[str]:
        """They, to be printed, and how many more there are."""
        more = self.count - len(self._kept)
        return [found.text for found in self._kept] + [f"and {more:,} more"] * bool(more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was checked and what was found: some findings of each kind, and how many in all."""

    answers: int
    charges: int
    rollups: int
    findings: tuple[Contradiction, ...]
    problems: int


# kind, what the columns found are told in, and the statement. One more than is shown is asked
# for, so that the end of a list is seen to be one.
_QUERIES: Final = (
    (
        "orphan",
        "attempt {0} is {1} and has no answer",
        """SELECT t.attempt_id, t.state FROM attempts t
        WHERE t.state IN ('answered', 'late', 'partial')
          AND NOT EXISTS (SELECT 1 FROM answers a WHERE a.attempt_id = t.attempt_id)""",
    ),
    (
        "orphan",
        "attempt {0} is unusable and its bytes are not kept",
        """SELECT t.attempt_id FROM attempts t WHERE t.state <> 'answered'
          AND t.state = 'unusable'
          AND NOT EXISTS (SELECT 1 FROM unusable_bodies b WHERE b.attempt_id = t.attempt_id)""",
    ),
    (
        "row",
        "row {1} of source {0} has {2} final answers",
        """SELECT source_id, row_number, COUNT(*) FROM answers WHERE final = 1
        GROUP BY source_id, row_number HAVING COUNT(*) > 1""",
    ),
    (
        "row",
        "row {1} of source {0} is answered and {2}",
        """SELECT f.source_id, f.row_number, f.kind FROM failures f
        JOIN answers a ON a.source_id = f.source_id AND a.row_number = f.row_number
          AND a.final = 1""",
    ),
    (
        "row",
        "row {1} of source {0} has an answer of its own and shares that of attempt {2}",
        """SELECT h.source_id, h.row_number, h.attempt_id FROM shared_answers h
        JOIN answers a ON a.source_id = h.source_id AND a.row_number = h.row_number
          AND a.final = 1""",
    ),
    (
        "row",
        "row {1} of source {0} shares an answer and is {2}",
        """SELECT f.source_id, f.row_number, f.kind FROM failures f
        JOIN shared_answers h ON h.source_id = f.source_id AND h.row_number = f.row_number""",
    ),
    (
        "shared",
        "row {1} of source {0} shares the answer of attempt {2}, which is not a final one",
        """SELECT h.source_id, h.row_number, h.attempt_id FROM shared_answers h
        JOIN answers a ON a.attempt_id = h.attempt_id
        JOIN attempts t ON t.attempt_id = h.attempt_id
        WHERE a.final <> 1 OR t.state <> 'answered'""",
    ),
    (
        "shared",
        "row {1} of source {0} shares the answer of attempt {2}, which answers another request",
        """SELECT h.source_id, h.row_number, h.attempt_id FROM shared_answers h
        JOIN answers a ON a.attempt_id = h.attempt_id WHERE a.params_hash <> h.params_hash""",
    ),
    (
        "message",
        "{1} answers have the message id {0}, the first is that of attempt {2}: the same work"
        " may have been told twice",
        """SELECT message_id, COUNT(*), MIN(attempt_id) FROM answers
        WHERE message_id <> '' GROUP BY message_id HAVING COUNT(*) > 1
        ORDER BY MIN(attempt_id)""",
    ),
    (
        "bill",
        "attempt {0} was billed {1} nano-USD, and what was asked for could cost {2}",
        # As `Charge.told`: what the server told beyond what there can be, or beside something
        # else, is the upper end of a charge; other upper ends are our own, and told by nobody.
        """WITH told AS (
          SELECT c.attempt_id, SUM(CASE WHEN c.reason LIKE '%!_above!_%' ESCAPE '!'
              OR c.reason LIKE '%counts!_fell%' ESCAPE '!'
              OR c.reason LIKE '%!_disagree%' ESCAPE '!'
              OR c.reason LIKE '%cache!_split!_mismatch%' ESCAPE '!'
            THEN c.high_amount ELSE c.total_amount END / 1000) AS billed
          FROM charges c
          JOIN ratings r ON r.rating_id = c.rating_id AND r.reason = 'initial'
          WHERE c.currency = 'USD' GROUP BY c.attempt_id)
        SELECT t.attempt_id, told.billed, t.cost_high / 1000 FROM told
        JOIN attempts t ON t.attempt_id = told.attempt_id
        WHERE told.billed > t.cost_high / 1000""",
    ),
    (
        "pending",
        "attempt {0} is to be followed by another, and {1} followed it",
        # In this order: few wait, and nothing finds an attempt by its request.
        """WITH waiting AS MATERIALIZED (
          SELECT attempt_id, request_id FROM attempts WHERE pending = 1)
        SELECT w.attempt_id, MIN(n.attempt_id) FROM attempts n CROSS JOIN waiting w
        WHERE n.number > 1 AND w.request_id = n.request_id AND n.attempt_id > w.attempt_id
        GROUP BY w.attempt_id""",
    ),
    (
        "pending",
        "attempt {0} is to be followed by another, and is the row's final answer",
        """SELECT t.attempt_id FROM attempts t
        JOIN answers a ON a.attempt_id = t.attempt_id AND a.final = 1 WHERE t.pending = 1""",
    ),
    (
        "open",
        "attempt {0} is open and no longer pending",
        "SELECT attempt_id FROM attempts WHERE state <> 'answered' AND state = 'open'"
        " AND pending = 0",
    ),
    (
        "open",
        "attempt {0} of invocation {1} is open although the run went on without it",
        """SELECT t.attempt_id, t.invocation_id FROM attempts t
        JOIN invocations i ON i.invocation_id = t.invocation_id
        WHERE t.state <> 'answered' AND t.state = 'open' AND t.lane = 'live'
          AND EXISTS (SELECT 1 FROM invocations n WHERE n.run_id = i.run_id
            AND n.fallback_of IS NULL AND n.invocation_id > i.invocation_id
            AND n.ended_at IS NOT NULL)""",
    ),
    (
        "doubt",
        "attempt {0} costs at least {1} and at most {2} pico-USD",
        """SELECT attempt_id, cost_low, cost_high FROM attempts
        WHERE state <> 'answered' AND (cost_low < 0 OR cost_low > cost_high)""",
    ),
    (
        "adjustment",
        "adjustment {0} takes back adjustment {1} of {2} pico-USD and is {3}",
        """SELECT b.adjustment_id, a.adjustment_id, a.amount, b.amount
        FROM adjustments b JOIN adjustments a ON a.adjustment_id = b.undoes
        WHERE b.amount <> -a.amount""",
    ),
    (
        "adjustment",
        "adjustment {0} takes back adjustment {1} and is of another day, model, tier,"
        " geography, kind or reconciliation",
        """SELECT b.adjustment_id, a.adjustment_id
        FROM adjustments b JOIN adjustments a ON a.adjustment_id = b.undoes
        WHERE b.day <> a.day OR b.kind <> a.kind
          OR b.reconciliation_id <> a.reconciliation_id
          OR COALESCE(b.model, '') <> COALESCE(a.model, '')
          OR COALESCE(b.tier, '') <> COALESCE(a.tier, '')
          OR COALESCE(b.geography, '') <> COALESCE(a.geography, '')""",
    ),
    (
        "adjustment",
        "adjustment {0} takes back adjustment {1}, which {2}",
        """SELECT b.adjustment_id, b.undoes, CASE WHEN a.adjustment_id IS NULL
          THEN 'is not there' WHEN a.undoes IS NOT NULL THEN 'takes back another itself'
          ELSE 'came later' END
        FROM adjustments b LEFT JOIN adjustments a ON a.adjustment_id = b.undoes
        WHERE b.undoes IS NOT NULL AND (a.adjustment_id IS NULL OR a.undoes IS NOT NULL
          OR a.adjustment_id >= b.adjustment_id)""",
    ),
)
_DONE: Final = """SELECT source_id, name, rows, done_ranges FROM sources
WHERE superseded_by IS NULL"""
# Rows of a source that are to do again, whatever its ranges say.
_TO_DO: Final = """SELECT f.row_number, f.kind FROM failures f
WHERE f.source_id = :source AND f.transient = 1
UNION ALL
SELECT t.row_number, t.state FROM attempts t WHERE t.source_id = :source AND t.pending = 1
  AND NOT EXISTS (SELECT 1 FROM answers a WHERE a.source_id = t.source_id
    AND a.row_number = t.row_number AND a.final = 1)
  AND NOT EXISTS (SELECT 1 FROM shared_answers h WHERE h.source_id = t.source_id
    AND h.row_number = t.row_number)"""
_BEYOND: Final = """SELECT MAX(row_number) FROM (
  SELECT row_number FROM answers
  WHERE source_id = :source AND final = 1 AND row_number > :rows
  UNION ALL SELECT row_number FROM shared_answers
  WHERE source_id = :source AND row_number > :rows) AS beyond"""

# Where a key would stand if it ever got there: everything that is not the provider's own text.
_PLACES: Final = {
    "runs": ("run_id", "key"),
    "invocations": ("invocation_id", "command", "base_url", "options", "tags"),
    "sources": ("source_id", "name", "location"),
    "attempts": ("attempt_id", "error_message"),
    "failures": ("failure_id", "message"),
    "price_books": ("price_book_id", "content"),
}
_KEY: Final = re.compile(r"sk-ant-[A-Za-z0-9_-]{16,}|(?i:bearer) [A-Za-z0-9_.-]{24,}")
_RARE: Final = {"attempts": "state <> 'answered' AND "}


def contradictions(connection: Connection, findings: Findings) -> None:
    """Orphans, rows in two places, states that exclude each other, ranges that lie."""
    for kind, sentence, query in _QUERIES:
        limited = text(f"{query} LIMIT {MOST_OF_A_KIND + 1}")
        for row in connection.execute(limited):
            findings.add(kind, sentence.format(*row))
    for table in metadata.sorted_tables:
        for reference in table.foreign_keys:
            _check_reference(connection, findings, table, reference)
    for source in connection.execute(text(_DONE)).all():
        _check_done_ranges(connection, findings, *source)


def _check_reference(
    connection: Connection, findings: Findings, table: Table, reference: ForeignKey
) -> None:
    """On the hot path neither database enforces it."""
    target = reference.column.table
    pointed_to = target.alias().c[reference.column.name]
    first = next(iter(table.primary_key.columns))
    query = select(first).where(
        reference.parent.is_not(None), ~exists().where(pointed_to == reference.parent)
    )
    for row_id in connection.scalars(query.limit(MOST_OF_A_KIND + 1)):
        findings.add("orphan", f"{table.name} {row_id} points to nothing in {target.name}")


def _check_done_ranges(  # the columns of one statement
    connection: Connection,
    findings: Findings,
    source_id: int,
    name: str,
    rows: int | None,
    done_ranges: str,
) -> None:
    ranges = json.loads(done_ranges)
    for number, state in connection.execute(text(_TO_DO), {"source": source_id}):
        if any(first <= number <= last for first, last in ranges):
            text_ = f"row {number} of {name} is remembered as done and is {state}"
            findings.add("done", text_)
    if rows is not None:
        last = connection.scalar(text(_BEYOND), {"source": source_id, "rows": rows})
        if last is not None:
            findings.add("done", f"row {last} of {name} has an answer; it has {rows} rows")


def keys_in_plain_sight(connection: Connection, findings: Findings) -> None:
    """Texts of our own that hold what looks like a key; the key is not shown."""
    for table, (name, *columns) in _PLACES.items():
        like = " OR ".join(
            f"{column} LIKE '%sk-ant-%' OR LOWER({column}) LIKE '%bearer %'"
            for column in columns
        )
        chosen = f"{_RARE.get(table, '')}({like})"
        query = f"SELECT {name}, {', '.join(columns)} FROM {table} WHERE {chosen}"  # noqa: S608  names of ours
        for row_id, *texts in connection.execute(text(query)):
            for column, found in zip(columns, texts, strict=True):
                if found is not None and _KEY.search(found):
                    findings.add(
                        "key", f"{column} of {table} {row_id} holds what looks like a key"
                    )

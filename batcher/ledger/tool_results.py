"""What local tools answered, so that a killed run need not call them again."""

from sqlalchemy import Connection

from batcher.ledger.schema_internal import tool_results


def save_tool_results(
    connection: Connection, attempt_id: int, results: str, now_us: int
) -> None:
    """Keep the results (JSON text) of the tools that the answer of this attempt called."""
    values = {"attempt_id": attempt_id, "results": results, "ran_at": now_us}
    connection.execute(tool_results.insert().values(values))

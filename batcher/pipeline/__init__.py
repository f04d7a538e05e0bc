"""The engine: rows in, attempts out, outcomes settled."""

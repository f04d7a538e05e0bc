"""One invocation of a run: its plan, its intake, its end."""

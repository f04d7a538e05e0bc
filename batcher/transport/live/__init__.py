"""The live lane: one POST for each attempt, and all that may become of it."""

"""`batcher demo`: the sample jobs against the built-in simulator."""

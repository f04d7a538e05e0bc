"""The Python interface: `batcher.run` and `batcher.Ledger`."""

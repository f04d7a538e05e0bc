"""Other looks at the same ledger: waste, cache, latency, unit costs, the dearest rows."""

"""Whether the ledger says what follows from what was received; reads only."""

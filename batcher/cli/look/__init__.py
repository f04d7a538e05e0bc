"""Commands that look at a ledger and change nothing."""

"""What the ledger says, summed and rendered."""

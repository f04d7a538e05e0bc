"""Ours against theirs: the ledger beside saved usage and cost reports of the provider."""

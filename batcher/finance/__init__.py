"""What finance asks of a ledger: reconciling with the provider's bill, FOCUS, comparisons."""

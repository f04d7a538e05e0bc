"""One run on a cluster: Ray places the workers, the ledger divides the rows."""

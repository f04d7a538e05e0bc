"""The ledger as FOCUS, the FinOps Open Cost and Usage Specification."""

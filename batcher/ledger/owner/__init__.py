"""Who may do a run, or a part of it: locks, leases, and processes that share."""

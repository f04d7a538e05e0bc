"""What watches a run for those who do not: log, metrics, pings, a message when it failed."""

"""Commands that look after database, configuration, endpoints and prices of a ledger."""

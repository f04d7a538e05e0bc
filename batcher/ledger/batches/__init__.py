"""Message Batches as the ledger knows them: intents, what the server says, whose rows wait."""

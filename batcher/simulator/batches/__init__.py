"""Message Batches: many requests in one, answered later, at half the price."""

"""A run and its Message Batches: what is submitted, looked at, collected, settled."""

"""How an attempt travels: the lane interface and its implementations."""

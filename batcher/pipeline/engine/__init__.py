"""Requests in, attempts out, outcomes settled, until nothing is left to do."""

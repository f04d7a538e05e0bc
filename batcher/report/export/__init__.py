"""The answers of a run as files, in input order; rows without an answer as they came."""

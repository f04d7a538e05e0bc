"""Run Messages API requests in bulk, land every answer in SQL, account for every attempt."""

__version__ = "0.1.0"

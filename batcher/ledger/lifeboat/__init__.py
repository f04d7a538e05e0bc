"""Paid answers kept in a file of their own while the database fails, and taken in later."""

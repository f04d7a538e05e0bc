"""Decides when a request may go and when to try again; never sleeps, never sends."""

"""Stored answers priced anew: further ratings, never in the place of earlier ones."""

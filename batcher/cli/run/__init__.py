"""Commands that send rows, or prepare it, and what they show meanwhile."""

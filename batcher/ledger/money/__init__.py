"""Caps, what was spent, what was estimated, and what reconciliations left over."""

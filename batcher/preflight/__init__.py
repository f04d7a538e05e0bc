"""What an endpoint is known to refuse, found before money is spent; the rules are data."""

"""From usage to charges, and the most that a request can cost."""

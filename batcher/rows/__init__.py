"""From files to requests, and from answers back to files."""

"""The report as one HTML file that is worth mailing: no script, nothing from elsewhere."""

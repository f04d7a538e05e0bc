"""One file per format of a report, and where a finished text goes."""

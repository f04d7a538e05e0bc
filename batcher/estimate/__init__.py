"""What a run is going to cost, before it is paid for: ceiling, expectation, interval."""

"""What differs when several processes do one run, or several runs share one quota."""

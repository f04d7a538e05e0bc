"""A local Messages API with quotas, faults and its own bill; imports nothing of ours."""

"""From a row to the request that it stands for."""

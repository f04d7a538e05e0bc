"""Settings from options, environment, job file and config.toml; the only reader of them."""

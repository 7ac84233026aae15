"""Settings: the configuration, run specifications, the run table, their schemas."""

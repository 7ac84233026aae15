"""Networks, their objectives, and the registry of model families. Importing this loads no torch."""

"""What the report prints and claims, and where it is wrong."""

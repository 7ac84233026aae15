"""A trained run becomes numbers and arrays."""

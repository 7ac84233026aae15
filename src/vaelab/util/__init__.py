"""What everything may use: errors, files, random numbers."""

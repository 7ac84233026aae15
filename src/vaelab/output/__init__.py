"""What people look at: figures, tables, the results page."""

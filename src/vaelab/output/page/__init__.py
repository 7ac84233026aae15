"""The results page: one self-contained HTML file that a reviewer opens from disk."""

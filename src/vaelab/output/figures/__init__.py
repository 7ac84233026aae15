"""The report's figures, drawn with matplotlib from evaluated runs."""

"""The search for the minimal architecture, and how sure its decisions are."""

"""Training: a specification and a seed in, weights and a history out.

Importing this loads no torch; `trainer` has the loop, `methods` the registry.
"""

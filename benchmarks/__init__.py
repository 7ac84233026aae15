"""Speed of training, beside its bound and its peers, and the cost of the rest.

None of this is part of the workflow. `vaelab bench` writes to results/bench.
"""

"""Speed: how fast training is beside its bound and its peers, and what the rest costs.

None of this is part of the workflow. `vaelab bench` writes results/bench.
"""

"""Estimators of the marginal likelihood log p(x), in nats per image.

Cheap ones reduce one set of draws from the encoder (`log_weights`, `reductions`). Kingma &
Welling's appendix D and annealed importance sampling move draws to the true posterior with
Hamiltonian Monte Carlo. `registry` lists them all. Importing this loads no torch.
"""

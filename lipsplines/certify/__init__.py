"""Certified bounds of the Lipschitz constant of a model, what is attained, and pruning."""

"""Checks of the Wasserstein distance and its dual."""

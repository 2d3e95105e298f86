"""Checks of norm-constrained layers and of certificates."""

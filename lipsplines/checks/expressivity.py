"""Checks of what 1-Lipschitz networks can and cannot represent."""

"""Checks of the representer theorem."""

"""Constructions of the theory, and its executable checks."""

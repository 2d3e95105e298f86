"""The executable checks of the theory as an experiment: one record for each check."""

from lipsplines.experiments.theory.protocol import EXPERIMENT

__all__ = ["EXPERIMENT"]

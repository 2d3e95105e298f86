"""The executable checks of the theory, by name. One module for each part of the theory."""

from lipsplines.theory.checks import (
    acceleration,
    certificates,
    composition,
    convolutions,
    expressivity,
    layers,
    models,
    plug_and_play,
    pruning,
    regions,
    representer,
    splines,
    transport,
    turning,  # each registers its checks
)
from lipsplines.theory.checks.base import CHECKS, Check, Measurement

__all__ = [
    "CHECKS",
    "Check",
    "Measurement",
    "acceleration",
    "certificates",
    "composition",
    "convolutions",
    "expressivity",
    "layers",
    "models",
    "plug_and_play",
    "pruning",
    "regions",
    "representer",
    "splines",
    "transport",
    "turning",
]

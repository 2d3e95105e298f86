"""The executable checks of the theory, by name. One module for each part of the theory."""

from lipsplines.checks import (  # each registers its checks
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
)
from lipsplines.checks.base import CHECKS, Check, Measurement

__all__ = [
    "CHECKS",
    "Check",
    "Measurement",
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
]

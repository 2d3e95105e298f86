"""What a claim is: a statement, and what decides it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

__all__ = ["Claim"]


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of the paper; ``claims.schema.json`` says what each attribute may hold.

    Attributes
    ----------
    id, part
        Short name, and the part of the book it belongs to.
    statement, source
        The claim in our words, and the part of the paper that says so.
    experiments, metric
        Where it is decided, and what is measured there.
    rule
        Name of the rule that decides.
    page, target, reference
        Notebook of the chapter, label of its figure there, and of that with the reference runs.
    checks, rivals, starts, choice, tolerance, margin
        What some rules need: the checks, the activations compared with, spline -> the activation
        from which it starts, the variant that is ours, the excess that a certificate may have, the
        factor of a comparison.
    runs, converged
        The fewest trainings, or what else a comparison pairs, that decide; and the share of the
        reconstructions that must have reached their fixed points.
    """

    id: str
    part: str
    statement: str
    source: str
    experiments: tuple[str, ...]
    metric: str
    rule: str
    page: str
    target: str
    reference: str = ""
    checks: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    starts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    choice: str = ""
    tolerance: float = 0.0
    margin: float = 1.0
    runs: int = 0
    converged: float = 0.0

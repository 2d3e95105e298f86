"""Checks of the parametrisation of linear splines."""

from __future__ import annotations

import torch

from lipsplines import splines
from lipsplines.checks.base import Measurement, at_most, check


@check("C2.1", "Three formulas of a spline agree", page="learning_splines")
def three_formulas(profile: str, seed: int) -> list[Measurement]:
    """Random splines, inside and outside the range: evaluation, sum of ReLUs, automatic derivative.

    `splines.evaluate` is compared with the sum of shifted ReLUs with the same slope changes, its
    derivative with the slope of the cell.
    """
    trials = 20 if profile == "smoke" else 200
    generator = torch.Generator().manual_seed(seed)
    num_coefficients, range_ = 21, 1.0
    spacing = splines.spacing(num_coefficients, range_)
    knots = splines.knots(num_coefficients, range_, dtype=torch.float64)
    shape = (trials, num_coefficients)
    coefficients = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = 4 * torch.rand(501, trials, generator=generator, dtype=torch.float64) - 2
    x.requires_grad_()
    value = splines.evaluate(x, coefficients, range_)
    (derivative,) = torch.autograd.grad(value.sum(), x)
    with torch.no_grad():
        slopes = splines.slopes(coefficients, spacing)
        jumps = slopes.diff(dim=-1)
        line = coefficients[:, 0] + slopes[:, 0] * (x - knots[0])
        relus = (x.unsqueeze(-1) - knots[1:-1]).relu()
        by_relus = line + (relus * jumps).sum(-1)
        cell = (torch.bucketize(x, knots, right=True) - 1).clamp(0, num_coefficients - 2)
        by_cell = slopes.gather(1, cell.mT).mT
        error = (value - by_relus).abs().max() / value.abs().max()
    return [
        at_most("evaluation − sum of ReLUs, relative", error, 1e-12),
        at_most("derivative − slope of the cell", (derivative - by_cell).abs().max(), 1e-12),
    ]

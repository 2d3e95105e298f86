"""Entries of the strip model: areas, whatever pieces they are computed in."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.inverse import ParallelBeam, strips


@given(angle=st.floats(-4, 4), width=st.floats(0.2, 2.5), side=st.integers(1, 3))
def test_entries_are_areas_within_strips(angle, width, side) -> None:
    """Against points in place of areas: 200 x 200 in each pixel."""
    detectors, fine = 5, 200
    operator = ParallelBeam(
        side, torch.tensor([angle], dtype=torch.float64), detectors, width, torch.float64
    )
    axis = (torch.arange(side * fine, dtype=torch.float64) + 0.5) / fine - side / 2
    place = axis * math.cos(angle) - axis[:, None] * math.sin(angle)  # rows go down, y up
    bins = (place / width + detectors / 2).floor()
    for number, row in enumerate(operator.matrix.to_dense().view(detectors, side, side)):
        inside = (bins == number).double().view(side, fine, side, fine)
        # Two edges cut at most 2 * 2 * 200 of the small squares that the points stand for.
        torch.testing.assert_close(row, inside.mean((1, 3)) / width, rtol=0, atol=0.02 / width)


def test_pixels_in_pieces_are_the_same(monkeypatch) -> None:
    whole = strips._shares(9, 0.7, 5, 2.6, 2)
    monkeypatch.setattr(strips, "PIECE", 20)
    for one, other in zip(whole, strips._shares(9, 0.7, 5, 2.6, 2), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-15)

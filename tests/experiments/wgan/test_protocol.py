"""The grid and the settings of the Wasserstein GANs."""

from __future__ import annotations

import dataclasses

import pytest

from lipsplines.evidence.records import identity
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.wgan import protocol as wgan

EXPERIMENT = EXPERIMENTS["wgan"]
SIZES = {field.name for field in dataclasses.fields(wgan.Sizes)}


@pytest.mark.parametrize("profile", EXPERIMENT.minutes)
def test_grid(profile: str) -> None:
    """Each activation and, once, the convolution of earlier code; a profile changes sizes alone."""
    cells = EXPERIMENT.cells(profile, 0)
    runs = wgan.PROFILE_SIZES[profile].runs
    assert len({identity(cell) for cell in cells}) == len(cells)
    assert len(cells) == (len(wgan.ACTIVATIONS) + 1) * runs
    kinds = {(c["activation"], c["convolution"]) for c in cells}
    assert kinds == {(a, "orthogonal") for a in wgan.ACTIVATIONS} | {
        ("spline-absolute", "reshaped")
    }
    paper = EXPERIMENT.cells("paper", 0)
    for cell, other in zip(cells, paper, strict=False):
        changed = {key for key in cell if cell[key] != other[key]}
        assert changed <= SIZES | {"profile", "digits"}
        assert not changed & {"critic_lr", "generator_lr", "betas", "critic_steps", "deviation"}


def test_paper_profile_has_the_published_settings() -> None:
    for cell in EXPERIMENT.cells("paper", 0):
        assert (cell["channels"], cell["hidden"]) == ([64, 128], 1024)
        assert (cell["latent"], cell["generator_hidden"]) == (62, 1024)
        assert cell["generator_channels"] == [128, 64]
        assert (cell["critic_lr"], cell["generator_lr"]) == (2e-3, 2e-4)
        assert (cell["betas"], cell["deviation"]) == ([0.5, 0.999], 0.02)
        assert (cell["batch_size"], cell["critic_steps"]) == (64, 5)
        assert cell["steps"] == 50 * (54_000 // 64)
        assert cell["digits"] == "mnist"
        is_spline = cell["activation"].startswith("spline")
        expected = {"num_coefficients": 21, "range_": 0.1, "tv2_weight": 1e-6}
        assert cell["spline"] == (expected if is_spline else None)

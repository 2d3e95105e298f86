"""Trained regularizers that come with the library: what their index says holds of them."""

from __future__ import annotations

import pytest
import torch

from lipsplines import load_regularizer
from lipsplines.export.regularizers import regularizer_facts
from lipsplines.inverse import proximal
from lipsplines.models.regularizers import ConvexRegularizer, WeaklyConvexRegularizer

KINDS = {"convex": ConvexRegularizer, "weakly-convex": WeaklyConvexRegularizer}
trained = pytest.mark.parametrize(
    ("kind", "sigma"), [(kind, sigma) for kind in KINDS for sigma in (5, 15, 25)]
)


@trained
def test_the_constants_are_those_of_the_index(kind: str, sigma: float) -> None:
    model, facts = load_regularizer(sigma, kind), regularizer_facts(sigma, kind)
    assert type(model) is KINDS[kind]
    fixed = model.fixed()
    assert fixed.gradient_lipschitz((512, 512)) == pytest.approx(facts["gradient_lipschitz"])
    modulus = fixed.weak_convexity((512, 512))
    assert modulus == pytest.approx(facts.get("weak_convexity", 0.0))
    assert (modulus == 0) == (kind == "convex")
    for shape in ((1, 1), (16, 40), (321, 481)):
        assert 0 <= fixed.weak_convexity(shape) < 1
    # More than the noisy images, in decibel, and less than what is missing to the truth.
    assert facts["test"]["denoised"]["psnr"] > facts["test"]["noisy"]["psnr"] + 1


@trained
def test_it_removes_noise_from_a_step(kind: str, sigma: float) -> None:
    clean = torch.zeros(1, 1, 32, 32)
    clean[..., 16:] = 0.8
    noise = sigma / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    found = proximal(clean + noise, load_regularizer(sigma, kind), tolerance=1e-3)
    inside = (slice(None), slice(None), slice(8, 24), slice(8, 24))  # zeros lie around the image
    assert (found - clean)[inside].norm() < 0.6 * noise[inside].norm()


def test_wrong_names_are_refused_with_a_list() -> None:
    with pytest.raises(
        ValueError, match=r"Unknown regularizer 'concave'; there are convex, weakly"
    ):
        load_regularizer(15, "concave")
    with pytest.raises(ValueError, match=r"No regularizer 'convex' was trained for sigma = 10"):
        load_regularizer(10)

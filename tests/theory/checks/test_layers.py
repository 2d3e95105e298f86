"""The checks of layers and certificates fail when the piece that they check is broken."""

from __future__ import annotations

import math

import pytest
import torch

from lipsplines.certify import bounds as certify
from lipsplines.linear import convolutions, gram_schmidt, matrices
from lipsplines.linear import orthogonal_kernels as kernels

from .outcome import failures


def scaled(function, factor: float):
    """The function with its result multiplied."""
    return lambda *arguments, **options: factor * function(*arguments, **options)


@pytest.mark.parametrize("factor", [1.01, 0.99])
def test_bjorck_of_another_norm(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """C3.1, and what is built on it."""
    monkeypatch.setattr(matrices, "bjorck", scaled(matrices.bjorck, factor))
    assert failures("C3.1")
    assert failures("C3.2d")
    assert failures("C4.1")


@pytest.mark.parametrize("factor", [1.01, 0.99])
def test_orthonormal_weights_of_another_norm(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """C4: smaller weights leave a certificate valid."""
    monkeypatch.setattr(gram_schmidt, "gram_schmidt", scaled(gram_schmidt.gram_schmidt, factor))
    assert bool(failures("C4")) == (factor > 1)


def test_bjorck_with_another_coefficient(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.1: a step of 1/3 instead of 1/2 converges too, but not quadratically."""

    class Slower:
        @staticmethod
        def apply(x, factors):
            for _ in factors:
                x = x + x @ (torch.eye(x.shape[-1], dtype=x.dtype) - x.mT @ x) / 3
            return x, None, None

    monkeypatch.setattr(matrices, "BjorckIterations", Slower)
    assert failures("C3.1")


def test_bjorck_with_the_start_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.1: ``W / sqrt(m n)`` is not safe."""

    def bjorck(weight, iterations=15):
        tall = weight if weight.shape[-2] >= weight.shape[-1] else weight.mT
        start = tall / math.sqrt(tall.shape[-1] * tall.shape[-2])
        result = matrices.BjorckIterations.apply(start, (1.0,) * iterations)[0]
        return result if tall is weight else result.mT

    monkeypatch.setattr(matrices, "bjorck", bjorck)
    assert failures("C3.1")


def test_singular_values_without_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.2: the formula of stride 1 is not that of stride s."""
    exact = convolutions.convolution_singular_values

    def wrong(kernel, size, stride=1):
        values = exact(kernel, size)
        return values[: len(exact(kernel, size, stride))]

    monkeypatch.setattr(convolutions, "convolution_singular_values", wrong)
    assert failures("C3.2")


@pytest.mark.parametrize("name", ["C3.2", "C3.2c", "C3.2e", "C3.p"])
def test_singular_values_of_another_size(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Half a per cent less is seen."""
    exact = convolutions.convolution_singular_values
    monkeypatch.setattr(convolutions, "convolution_singular_values", scaled(exact, 0.995))
    assert bool(failures(name)) == (name != "C3.p")
    monkeypatch.setattr(convolutions, "convolution_singular_values", scaled(exact, 0.9))
    assert failures(name)


def test_bound_on_the_torus_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.2c: the circular norm of the same size is no bound for zero padding."""

    def wrong(kernel, size, stride=1, padding="zeros"):
        sides = (size, size) if isinstance(size, int) else size
        sides = tuple(stride * math.ceil(n / stride) for n in sides)
        return convolutions.convolution_singular_values(kernel, sides, stride)[0]

    monkeypatch.setattr(convolutions, "convolution_norm_bound", wrong)
    assert failures("C3.2c")


def test_patches_counted_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.2d: a reshaped orthonormal kernel that overlaps is not 1-Lipschitz."""
    monkeypatch.setattr(
        convolutions,
        "patch_norm_bound",
        lambda kernel, stride=1: torch.linalg.matrix_norm(kernel.flatten(1), 2),
    )
    assert failures("C3.2d")


def test_space_to_depth_of_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.2d: its pixels must go where they came from."""

    def wrong(kernel, stride):
        out, into, height, width = kernel.shape
        shape = (out, into // stride**2, stride * height, stride * width)
        return 1.1 * kernel.reshape(shape)

    monkeypatch.setattr(kernels, "strided_kernel", wrong)
    assert failures("C3.2d")


def test_projectors_that_are_not_symmetric(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.2e: an oblique projector will not do, nor one with an eigenvalue above 1."""
    exact = kernels.block_orthogonal_kernel

    def oblique(base, projectors):
        shear = torch.eye(projectors.shape[-1], dtype=projectors.dtype)
        shear[0, 1] = 0.1
        return exact(base, shear @ projectors @ shear.inverse())

    monkeypatch.setattr(kernels, "block_orthogonal_kernel", oblique)
    assert failures("C3.2e")
    monkeypatch.setattr(kernels, "block_orthogonal_kernel", exact)
    monkeypatch.setattr(kernels, "symmetric_projector", scaled(kernels.symmetric_projector, 3.0))
    assert failures("C3.2e")


def test_power_iteration_that_overestimates(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.p."""
    wrong = scaled(convolutions.power_iteration, 1.1)
    monkeypatch.setattr(convolutions, "power_iteration", wrong)
    assert failures("C3.p")


def test_matrix_bound_from_the_svd_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4: the computed singular value lies below the norm now and then; 40 digits show it."""
    monkeypatch.setattr(
        certify, "matrix_norm_bound", lambda weight: torch.linalg.svdvals(weight.double())[0].item()
    )
    assert failures("C4")


def test_certificate_without_its_splines(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4: slopes that nothing bounds are seen in the upper bound."""
    from lipsplines import splines

    monkeypatch.setattr(splines, "project_slopes", lambda coefficients, *_: coefficients)
    assert failures("C4")


def test_lower_bound_by_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4.k: the norm of an automatic derivative is no lower bound at a kink."""

    def by_derivative(model, constants, points):
        inputs = points.clone().requires_grad_()
        norms = torch.autograd.grad(model(inputs).sum(), inputs)[0].norm(dim=1)
        return norms.max().item(), torch.stack((points[0], points[0]))

    monkeypatch.setattr(certify, "steepest_pair", by_derivative)
    with pytest.raises(RuntimeError, match="above the upper bound"):
        failures("C4.k")


@pytest.mark.parametrize("factor", [0.9, 1.5])
def test_radius_of_another_size(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """C4.1: too small is not the distance, too large is not safe."""
    monkeypatch.setattr(certify, "certified_radius", scaled(certify.certified_radius, factor))
    assert failures("C4.1")

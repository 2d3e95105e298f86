"""The checks of orthogonal convolutions fail when the piece that they check is broken."""

from __future__ import annotations

import math

import pytest
import torch

from lipsplines.linear import convolutions, matrices, norms
from lipsplines.linear import orthogonal_kernels as kernels
from lipsplines.nn import block_orthogonal, transposed

from .outcome import failures


def scaled(function, factor: float):
    """The function with its result multiplied."""
    return lambda *arguments, **options: factor * function(*arguments, **options)


@pytest.mark.parametrize("factor", [1.001, 0.999])
def test_cayley_of_another_norm(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """C3.c, and what is built on it."""
    monkeypatch.setattr(matrices, "cayley", scaled(matrices.cayley, factor))
    assert failures("C3.c")
    assert failures("C3.o")
    assert failures("C3.t")


def test_cayley_with_half_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.c, C3.o: with ``V^T V / 2`` square matrices are right, and no others."""
    exact = matrices.cayley

    def wrong(weight):
        if weight.shape[-2] < weight.shape[-1]:
            return wrong(weight.mT).mT
        factor = torch.ones(weight.shape[-2], 1, dtype=weight.dtype)
        factor[weight.shape[-1] :] = math.sqrt(2)
        return factor * exact(weight / factor)

    monkeypatch.setattr(matrices, "cayley", wrong)
    assert failures("C3.c")
    assert failures("C3.o")


def test_cayley_without_its_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.c: what rounding leaves at large entries is seen."""

    class Identity:
        @staticmethod
        def apply(x, iterations):
            return x, None, None

    monkeypatch.setattr(matrices, "BjorckIterations", Identity)
    assert failures("C3.c") == ["largest result − 1"]


def test_strided_kernel_of_the_reshaped_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.o: an orthonormal reshaped kernel whose windows overlap is not orthogonal."""

    def forward(self, *parameters):
        side = self.shifts // 2 + self.block
        weight = torch.ones(self.out_channels, self.in_channels * side**2)
        weight = matrices.cayley((weight + parameters[0].sum()).to(parameters[0]))
        return weight.reshape(self.out_channels, self.in_channels, side, side)

    monkeypatch.setattr(block_orthogonal.BlockOrthogonal, "forward", forward)
    assert any("norm − 1" in failure for failure in failures("C3.o"))


def test_factors_that_are_no_projectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.o: a symmetric matrix with eigenvalues of 0.01 and 1.01 will not do."""
    exact = kernels.block_orthogonal_kernel

    def oblique(base, projectors):
        return exact(base, projectors + 0.01 * torch.eye(projectors.shape[-1]).to(projectors))

    monkeypatch.setattr(kernels, "block_orthogonal_kernel", oblique)
    assert failures("C3.o")


def test_twin_that_is_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.t: singular values do not see a shift, the comparison of the matrices does."""
    exact = transposed.CircularConvTranspose2d._circular

    def shifted(self, input):
        return exact(self, input).roll(1, -1)

    monkeypatch.setattr(transposed.CircularConvTranspose2d, "_circular", shifted)
    assert failures("C3.t") == ["matrix of the twin − transposed matrix"]


def test_bound_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.g: the exact norm on one torus is no bound on the others."""

    def wrong(kernel, stride=1, torus=None):
        return convolutions.convolution_singular_values(kernel, torus or 8, stride)[0].item()

    monkeypatch.setattr(norms, "kernel_norm_bound", wrong)
    assert "largest exact norm over bound, less 1" in failures("C3.g")


def test_bound_without_the_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.g: the maximum over the points of a coarse grid is no bound."""

    def wrong(kernel, stride=1, torus=None):
        blocks = kernels.polyphase_kernel(kernel, stride)
        middle, radius, slack = norms._spectrum(blocks, [5, 5])
        return math.sqrt(middle + radius + slack)

    monkeypatch.setattr(norms, "kernel_norm_bound", wrong)
    assert "largest exact norm over bound, less 1" in failures("C3.g")


@pytest.mark.parametrize("factor", [0.99, 1.1])
def test_bound_of_another_size(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """C3.g: neither below nor loose."""
    monkeypatch.setattr(norms, "kernel_norm_bound", scaled(norms.kernel_norm_bound, factor))
    assert failures("C3.g")


def test_lemma_with_a_smaller_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3.g: a cosine of half the angle promises too much."""
    cosine = math.cos
    monkeypatch.setattr(math, "cos", lambda angle: cosine(angle / 2))
    assert "the same for cos 3t, N = 24" in failures("C3.g")

"""The checks of the plug-and-play iterations fail when what they check is broken."""

from __future__ import annotations

import pytest
import torch

from lipsplines import splines
from lipsplines.linear import gram_schmidt, matrices
from lipsplines.theory.checks import plug_and_play

from .outcome import failures


def test_denoisers_that_are_not_averaged(monkeypatch) -> None:
    monkeypatch.setattr(plug_and_play, "averaged", lambda inner, constant, clip=False: inner)
    assert {"averaged rotation: norm", "largest squared residual / bound"} <= set(failures("C6.1"))
    assert failures("C6.a")


def test_layers_of_norm_above_one(monkeypatch) -> None:
    bjorck, exact = matrices.bjorck, gram_schmidt.gram_schmidt
    monkeypatch.setattr(matrices, "bjorck", lambda w, iterations=15: 1.3 * bjorck(w, iterations))
    monkeypatch.setattr(gram_schmidt, "gram_schmidt", lambda w: 1.3 * exact(w))
    assert "largest growth of the residual" in failures("C6.1")
    assert failures("C6.a")
    assert "part 1, soft thresholding: seen through H / data" in failures("C6.2")


def test_splines_without_slope_bounds(monkeypatch) -> None:
    free = lambda coefficients, spacing, slope_bounds=(-1, 1): 3 * coefficients  # noqa: E731
    monkeypatch.setattr(splines, "project_slopes", free)
    assert "largest growth of the residual" in failures("C6.1")
    assert failures("C6.2")


def test_a_rate_that_is_too_good(monkeypatch) -> None:
    composed = plug_and_play.averaging_constant
    monkeypatch.setattr(plug_and_play, "averaging_constant", lambda *c: 0.6 * composed(*c))
    assert "largest squared residual / bound" in failures("C6.1")


@pytest.mark.parametrize("formula", [torch.maximum, lambda a, b: 0.99 * (a + b - 2 * a * b)])
def test_another_constant_of_the_composition(monkeypatch, formula) -> None:
    as_tensors = lambda a, b: formula(torch.as_tensor(a), torch.as_tensor(b))  # noqa: E731
    monkeypatch.setattr(plug_and_play, "composition_constant", as_tensors)
    assert failures("C6.a")


def test_a_certificate_that_is_too_small(monkeypatch) -> None:
    monkeypatch.setattr(plug_and_play, "lipschitz_bounds", lambda network: (0.0, 0.8))
    assert failures("C6.2")


def test_a_step_with_the_wrong_sign_or_without_data(monkeypatch) -> None:
    step = plug_and_play.step_of
    halved = lambda denoiser, matrix, data, alpha: step(denoiser, matrix, data / 2, alpha)  # noqa: E731
    monkeypatch.setattr(plug_and_play, "step_of", halved)
    assert {"drift: first coordinate after 100 steps"} <= set(failures("C6.1"))
    assert len([what for what in failures("C6.2") if what.startswith("part 2")]) == 5


def test_the_default_scaling_of_the_fourier_transform(monkeypatch) -> None:
    unscaled = lambda self, images: self.mask * torch.fft.fft2(images)  # noqa: E731
    monkeypatch.setattr(plug_and_play.FourierSampling, "_measure", unscaled)
    assert {"Fourier: norm kept", "Fourier: adjoint"} <= set(failures("C6.s"))


def test_norms_that_are_too_small_or_too_large(monkeypatch) -> None:
    bound = plug_and_play.matrix_norm_bound
    monkeypatch.setattr(plug_and_play, "matrix_norm_bound", lambda m: 0.999 * bound(m))
    assert failures("C6.s") == ["tomography: norm − power iteration, smallest"]
    monkeypatch.setattr(plug_and_play, "matrix_norm_bound", lambda m: 1.3 * bound(m))
    assert failures("C6.s") == ["tomography: bound of Schur − norm"]


def test_an_adjoint_of_complex_images(monkeypatch) -> None:
    modulus = lambda self, data: torch.fft.ifft2(self.mask * data, norm="ortho").abs()  # noqa: E731
    monkeypatch.setattr(plug_and_play.FourierSampling, "_back", modulus)
    assert failures("C6.s") == ["Fourier: adjoint", "Fourier: measured frequencies after a step"]

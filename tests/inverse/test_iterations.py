"""How the iterations stop, diverge, report, and what they refuse to start from."""

from __future__ import annotations

import builtins
import math

import pytest
import torch

from lipsplines.inverse.forward_backward import plug_and_play

from .small_operators import Fourier

OPERATOR = Fourier(torch.ones(4, 4, dtype=torch.bool))


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, 4, 4, dtype=torch.float64)


def test_the_stopping_rule() -> None:
    """Each step halves an image: its relative change is 1/2 for ever. The zero image is at rest."""
    start = images()
    start[1] = 0
    data = torch.zeros(3, 1, 4, 4, dtype=torch.complex128)
    options = {"step": 1e-30, "averaging": 1.0, "start": start, "max_iterations": 9}
    found = plug_and_play(OPERATOR, data, lambda x: x / 2, tolerance=0.5, **options)
    assert found.iterations.tolist() == [9, 1, 9]
    assert found.converged.tolist() == [False, True, False]
    assert not found.diverged.any()
    torch.testing.assert_close(found.curves["relative"][:, 0], torch.full((9,), 0.5).double())
    torch.testing.assert_close(found.images, start / 512)
    found = plug_and_play(OPERATOR, data, lambda x: x / 2, tolerance=0.5 + 1e-9, **options)
    assert found.iterations.tolist() == [1, 1, 1]
    assert found.converged.all()
    assert found.curves["residual"].shape == (1, 3)


def test_stopped_images_are_frozen_and_not_computed() -> None:
    start = images()
    start[1] = 0
    seen, sizes = [], []

    def halve(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x / 2

    plug_and_play(
        OPERATOR,
        OPERATOR(start),
        halve,
        step=0.5,
        max_iterations=3,
        callback=lambda k, batch: seen.append((k, batch.clone())),
    )
    assert sizes == [3, 2, 2]
    assert [k for k, _ in seen] == [1, 2, 3]
    assert all(batch.shape == (3, 1, 4, 4) and not batch[1].any() for _, batch in seen)
    assert not torch.equal(seen[1][1][0], seen[2][1][0])


def test_an_image_that_grows_or_is_lost_is_marked_and_the_others_go_on() -> None:
    start = images(4)
    data = OPERATOR(start)

    def denoise(x: torch.Tensor) -> torch.Tensor:
        factors = torch.ones(len(x), 1, 1, 1, dtype=x.dtype)
        if len(x) == 4:
            factors[1], factors[2] = math.nan, math.inf
        elif len(x) == 2:
            factors[1] = 1e4
        return factors * x

    found = plug_and_play(
        OPERATOR, data, denoise, averaging=1.0, tolerance=0, max_iterations=6, step=1e-9
    )
    assert found.diverged.tolist() == [False, True, True, True]
    assert not found.converged.any()
    assert found.iterations.tolist() == [6, 1, 1, 3]
    assert found.images.isfinite().all()
    torch.testing.assert_close(found.images[:3], start[:3])
    torch.testing.assert_close(found.images[3], 1e4 * start[3])  # the last within the limit
    assert found.curves["residual"][1:, 1].isnan().all()


def test_a_large_start_is_no_divergence() -> None:
    start = 1e9 * images(1)
    found = plug_and_play(OPERATOR, OPERATOR(start), lambda x: x)
    assert found.converged.all()
    assert not found.diverged.any()


def test_the_progress_bar_is_shown_on_request(capsys, monkeypatch) -> None:
    data = OPERATOR(images())
    plug_and_play(OPERATOR, data, lambda x: x)
    assert capsys.readouterr().err == ""
    plug_and_play(OPERATOR, data, lambda x: x / 2, step=0.5, max_iterations=3, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "3 of 3 images go on" in shown
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name == "tqdm":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"install the extra: pip install '\.\[experiments\]'"):
        plug_and_play(OPERATOR, data, lambda x: x, progress=True)


@pytest.mark.parametrize(
    "shape", [(4, 4), (1, 4, 4), (1, 2, 4, 4), (1, 1, 4, 5), (1, 1, 1, 4, 4), (0, 1, 4, 4)]
)
def test_data_of_another_shape(shape: tuple[int, ...]) -> None:
    data = torch.zeros(shape, dtype=torch.complex128)
    with pytest.raises(ValueError, match=r"needs data of shape \(N, 1, 4, 4\), got"):
        plug_and_play(OPERATOR, data, lambda x: x)


def test_data_on_another_device() -> None:
    with pytest.raises(ValueError, match=r"data are on meta, the operator is on cpu; move one"):
        plug_and_play(OPERATOR, OPERATOR(images()).to("meta"), lambda x: x)


@pytest.mark.parametrize("value", [math.nan, math.inf, complex(0, math.nan)])
def test_measurements_that_are_not_finite(value: complex) -> None:
    data = OPERATOR(images())
    data[2, 0, 1, 1] = value
    with pytest.raises(ValueError, match="1 of 48 measurements are NaN or infinite"):
        plug_and_play(OPERATOR, data, lambda x: x)


def test_a_start_that_does_not_fit() -> None:
    data = OPERATOR(images())
    for start, message in (
        (images(1), r"start has shape \(1, 1, 4, 4\), but .*\(3, 1, 4, 4\)"),
        (images().float(), "start has precision torch.float32"),
        (images().to("meta"), "start has device meta"),
        (images() / 0, "start holds NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            plug_and_play(OPERATOR, data, lambda x: x, start=start)


@pytest.mark.parametrize("tolerance", [-1e-9, math.nan, math.inf])
def test_a_tolerance_that_is_none(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance must be a finite number from 0 on"):
        plug_and_play(OPERATOR, OPERATOR(images()), lambda x: x, tolerance=tolerance)


@pytest.mark.parametrize("count", [0, -3, 2.0, True, None])
def test_a_number_of_steps_that_is_none(count) -> None:
    with pytest.raises(ValueError, match="max_iterations must be"):
        plug_and_play(OPERATOR, OPERATOR(images()), lambda x: x, max_iterations=count)

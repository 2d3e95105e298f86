"""Plug-and-play forward-backward splitting: a denoiser in the place of a proximal map.

``x <- D_b(x - step H^T (H x - y))``, ``D_b = (1 - b) Id + b D``. What is proven of it for a
1-Lipschitz ``D`` is in `lipsplines.inverse.convergence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lipsplines.inverse.acceleration import Anderson
from lipsplines.inverse.convergence import averaging_constant, residual_bound
from lipsplines.inverse.iterations import Callback, Reconstruction, checked_start, iterate
from lipsplines.nn.applying import applied
from lipsplines.nn.caching import constrain_once
from lipsplines.nn.constraints import without_autocast

if TYPE_CHECKING:
    from lipsplines.inverse.operators import LinearOperator

__all__ = ["averaged", "bounds_of", "plug_and_play"]

Map = Callable[[Tensor], Tensor]


def averaged(inner: Map, averaging: float | Tensor, *, clip: bool = False) -> Map:
    """The map ``(1 - averaging) Id + averaging N``; ``N`` is `inner`, with `clip` cut to [0, 1].

    The clip is 1-Lipschitz, so ``N`` is where `inner` is. Its range is bounded, which gives the
    plug-and-play iteration a fixed point; without it there need not be one.

    Parameters
    ----------
    inner
        ``N``, from images to images of the same shape.
    averaging
        Share of `inner`, a number or one for each image that broadcasts.
    clip
        Whether the output of `inner` is cut to [0, 1].

    Raises
    ------
    ValueError
        When the map is applied, if `inner` changes the shape or the dtype (under ``torch.autocast``
        it may: its output takes the dtype of the images).

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import averaged
    >>> averaged(torch.zeros_like, 0.25)(torch.tensor([4.0])).tolist()
    [3.0]
    """

    def denoise(x: Tensor) -> Tensor:
        image = applied(inner, x)
        if _is_autocast_output(image, x):
            image = image.to(x.dtype)
        if image.shape != x.shape or image.dtype != x.dtype:  # the sum would broadcast or promote
            raise ValueError(
                f"The denoiser turns {x.dtype} of shape {tuple(x.shape)} into {image.dtype} of "
                f"shape {tuple(image.shape)}; it must keep both."
            )
        return torch.lerp(x, image.clamp(0, 1) if clip else image, averaging)

    return denoise


def plug_and_play(
    operator: LinearOperator,
    data: Tensor,
    denoiser: Map,
    *,
    step: float | None = None,
    averaging: float = 0.5,
    clip: bool = False,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    start: Tensor | None = None,
    acceleration: int | None = None,
    callback: Callback | None = None,
    progress: bool = False,
) -> Reconstruction:
    """Reconstruct images from measurements by ``x <- D_b(x - step H^T (H x - y))``.

    If `denoiser` is 1-Lipschitz, ``averaging < 1`` and there is a fixed point (there is with
    `clip`), the iterates converge to one and ``|x_{k+1} - x_k|`` never grows (Theorem 6.1; up to
    rounding). The relative change may grow. A denoiser that is not 1-Lipschitz may diverge, which
    is marked and not an error.

    Parameters
    ----------
    operator
        The measurement operator ``H``, with a rigorous ``norm_bound``.
    data
        The measurements ``y``, shape ``(N, 1, *operator.data_shape)``, finite.
    denoiser
        ``D``, from ``(N, 1, n1, n2)`` to the same shape and precision. A module runs in evaluation
        mode and gets its modes back. Under ``torch.autocast`` it may give half precision; the rest
        is computed in that of the data.
    step
        In ``(0, 2 / norm_bound^2)``; default ``1 / norm_bound^2``.
    averaging
        ``b`` in ``(0, 1]``: 1/2 for the averaged form (Bohra et al. 2021), other values for the
        relaxed form, 1 for ``D`` itself.
    clip
        Whether the output of ``D`` is cut to [0, 1] before it is averaged.
    tolerance
        An image stops once ``|x_{k+1} - x_k| < tolerance |x_k|``; with 0 it makes all steps, unless
        it diverges.
    max_iterations
        The most steps an image makes.
    start
        The first iterates, shape ``(N, 1, n1, n2)``; default ``H^T y``.
    acceleration
        Memory, such as 5, of a safeguarded Anderson acceleration, which converges to a fixed point
        as well (`acceleration`), most often in fewer steps; which one, if there are several, may
        differ, residuals may grow, and in half precision it may gain nothing. None: the plain
        iteration.
    callback
        Called after each step with its number, from 1, and all images, which change with the next
        step: copy what is to stay.
    progress
        Whether to show a progress bar (tqdm) on the error stream.

    Returns
    -------
    Reconstruction
        With the constants ``step``, ``averaging``, ``norm_bound`` and ``theta``, the averaging
        constant of a plain step if ``D`` is 1-Lipschitz (1: no more than 1-Lipschitz), and
        ``acceleration``, 0 without.

    Raises
    ------
    ValueError
        For measurements, a start or a denoiser that do not fit, or settings out of their range.

    Examples
    --------
    A denoiser that does nothing leaves the measurements as they are.

    >>> import torch
    >>> from lipsplines.inverse.operators import FourierSampling
    >>> from lipsplines.inverse.forward_backward import plug_and_play
    >>> operator = FourierSampling(torch.ones(8, 8))
    >>> image = torch.rand(1, 1, 8, 8)
    >>> found = plug_and_play(operator, operator(image), lambda x: x)
    >>> torch.allclose(found.images, image, atol=1e-6)
    True
    """
    step, theta = _checked_step(operator.norm_bound, step, averaging)
    with torch.no_grad(), constrain_once(), _evaluating(denoiser):
        with without_autocast(data):  # the network alone may compute in half precision
            first = checked_start(operator, data, start)
        _check_parameters(denoiser, first)
        denoise = averaged(denoiser, averaging, clip=clip)

        def advance(measured: Tensor, x: Tensor) -> Tensor:
            with without_autocast(x):
                gradient = operator.gradient(x, measured)
            return denoise(x - step * gradient)

        faster = None if acceleration is None else Anderson(advance, acceleration)
        return iterate(
            faster or (lambda measured, x: (advance(measured, x),)),
            data,
            faster.start(first) if faster else (first,),
            tolerance=tolerance,
            max_iterations=max_iterations,
            callback=callback,
            progress=progress,
            constants={
                "step": step,
                "averaging": float(averaging),
                "norm_bound": operator.norm_bound,
                "theta": theta,
                "acceleration": float(acceleration or 0),
            },
        )


def bounds_of(reconstruction: Reconstruction, limit: Tensor, theta: float | None = None) -> Tensor:
    """The bound of Theorem 6.1 beside the residuals ``reconstruction.curves["residual"]``.

    ``sqrt(theta / (1 - theta)) |x_0 - x*| / sqrt(k + 1)`` for a 1-Lipschitz denoiser.

    Parameters
    ----------
    reconstruction
        A run of `plug_and_play`.
    limit
        Fixed points ``x*`` of the same iterations, shape ``(N, 1, n1, n2)``: the images of a run
        that went on for far longer, from the same start.
    theta
        Averaging constant of a step; default that of the run. Give it for a denoiser that is known
        to be averaged itself.

    Returns
    -------
    Tensor
        Shape ``(K, N)``, as the curves.

    Raises
    ------
    ValueError
        If `limit` has another shape, if the run was accelerated, or if the constant is not below 1:
        then there is no rate.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import FourierSampling, bounds_of, plug_and_play
    >>> operator = FourierSampling(torch.eye(8))
    >>> data = operator(torch.rand(1, 1, 8, 8))
    >>> run = plug_and_play(operator, data, torch.nn.Identity(), tolerance=0.0, max_iterations=50)
    >>> bounds = bounds_of(run, run.images)
    >>> bool((run.curves["residual"] <= bounds + 1e-5).all())
    True
    """
    if reconstruction.constants.get("acceleration"):
        raise ValueError("The bound holds for plain steps; run plug_and_play without acceleration.")
    start = reconstruction.start
    if limit.shape != start.shape:
        raise ValueError(
            f"limit must have the shape {tuple(start.shape)} of the images, got "
            f"{tuple(limit.shape)}."
        )
    difference = limit.double().cpu() - start.double().cpu()
    steps = torch.arange(len(reconstruction.curves["residual"]), dtype=torch.float64)
    theta = reconstruction.constants["theta"] if theta is None else theta
    squares = residual_bound(theta, difference.flatten(1).norm(dim=1), steps[:, None])
    return torch.as_tensor(squares).sqrt()


def _checked_step(norm_bound: float, step: float | None, averaging: float) -> tuple[float, float]:
    """The step, and the averaging constant of the iteration."""
    if not 0 < averaging <= 1:
        raise ValueError(
            f"averaging must be in (0, 1], 1/2 for the averaged form, got {averaging!r}."
        )
    if step is None:
        step = 1 / norm_bound**2
    limit = 2 / norm_bound**2
    if not 0 < step < limit:
        raise ValueError(
            f"step must be positive and below 2 / norm_bound^2 = {limit:.6g} for this operator, "
            f"got {step!r}; beyond it the iteration may diverge for every denoiser."
        )
    return float(step), float(averaging_constant(step, norm_bound, averaging))


def _is_autocast_output(image: Tensor, x: Tensor) -> bool:
    kind = x.device.type
    return (
        torch.amp.is_autocast_available(kind)
        and torch.is_autocast_enabled(kind)
        and image.dtype == torch.get_autocast_dtype(kind)
    )


def _check_parameters(denoiser: Map, images: Tensor) -> None:
    """Refuse a module on another device, or of another precision, than the images."""
    if not isinstance(denoiser, nn.Module):
        return
    for parameter in denoiser.parameters():
        got, wanted = (parameter.dtype, parameter.device), (images.dtype, images.device)
        if got != wanted:
            raise ValueError(
                f"The denoiser is in {got[0]} on {got[1]}, the images are in {wanted[0]} on "
                f"{wanted[1]}; convert one of them, the denoiser with denoiser.to(...)."
            )


@contextmanager
def _evaluating(denoiser: Map) -> Iterator[None]:
    """The denoiser in evaluation mode; each of its modules gets its mode back."""
    if not isinstance(denoiser, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in denoiser.modules()]
    try:
        denoiser.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training

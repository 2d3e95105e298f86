"""A ridge regularizer with given numbers: its value, gradient, Hessian and certified constants."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor
from torch.nn import functional

from lipsplines import splines
from lipsplines.splines.plain import single
from lipsplines.splines.potentials import total

__all__ = ["FixedRegularizer", "chained", "full_precision"]


@dataclasses.dataclass(frozen=True)
class FixedRegularizer:
    """``R(x) = strength sum_i psi_i((W x)_i)`` with given numbers; see `RidgeRegularizer`.

    Images have shape ``(N, 1, n1, n2)``, responses ``(N, C, n1, n2)``.

    Attributes
    ----------
    kernels
        Of the convolutions that make ``W``.
    coefficients, range_, scale
        Of the splines ``psi_i'``, as for `splines.evaluate`.
    strength
        A scalar.
    """

    kernels: list[Tensor]
    coefficients: Tensor
    range_: float
    scale: Tensor
    strength: Tensor

    @property
    def reach(self) -> int:
        """How many pixels away the filters look."""
        return sum(kernel.shape[-1] // 2 for kernel in self.kernels)

    # What is kept keeps its derivative too, whatever asks for it first.
    @functools.cached_property
    @torch.enable_grad()
    def filters(self) -> Tensor:
        """All of ``W`` as one kernel, shape ``(C, 1, k, k)``, ``k = 2 reach + 1``."""
        with full_precision(self.coefficients):
            return chained(self.kernels)

    @functools.cached_property
    @torch.enable_grad()
    def _forward_and_back(self) -> tuple[list[Tensor], list[Tensor]]:
        form = torch.channels_last
        turned = [kernel.transpose(0, 1).flip(2, 3) for kernel in reversed(self.kernels)]
        both = [[k.contiguous(memory_format=form) for k in own] for own in (self.kernels, turned)]
        return both[0], both[1]

    def responses(self, images: Tensor) -> Tensor:
        """``W x``, in float32 of images in half precision."""
        if images.dim() != 4 or images.shape[1] != 1 or 0 in images.shape[2:]:
            raise ValueError(
                f"A regularizer needs images of shape (N, 1, n1, n2), got {tuple(images.shape)}."
            )
        images = single(images)
        if images.dtype != self.coefficients.dtype:
            raise ValueError(
                f"The images are {images.dtype}, the numbers of the regularizer "
                f"{self.coefficients.dtype}; convert one of them."
            )
        z = functional.pad(images, (self.reach,) * 4).contiguous(memory_format=torch.channels_last)
        with full_precision(z):
            for kernel in self._forward_and_back[0]:
                z = functional.conv2d(z, kernel)
        return z

    def adjoint(self, forces: Tensor) -> Tensor:
        """``W^T u`` for ``u`` of the shape of responses."""
        with full_precision(forces):
            for kernel in self._forward_and_back[1]:  # faster on a processor than transposed ones
                forces = functional.conv2d(forces, kernel, padding=kernel.shape[-1] - 1)
        edge = self.reach
        return forces[..., edge : forces.shape[-2] - edge, edge : forces.shape[-1] - edge]

    def potential(self, responses: Tensor) -> Tensor:
        """``strength sum_i psi_i(z_i)``, shape ``(N,)``, in float64."""
        return self.strength * total(responses, self.coefficients, self.range_, self.scale)

    def pulled_back(self, responses: Tensor) -> Tensor:
        """``strength W^T s(z)``, the gradient at the image with these responses."""
        return self.strength * self.adjoint(self._forces(responses))

    def slopes(self, responses: Tensor) -> Tensor:
        """``s'(z)``, at most 1."""
        with torch.inference_mode(False), torch.enable_grad():
            given = (self.coefficients, self.scale)
            coefficients, scale = (tensor.detach().clone() for tensor in given)
            z = responses.detach().clone().requires_grad_()
            forces = splines.evaluate(z, coefficients, self.range_, scale)
            return torch.autograd.grad(forces.sum(), z)[0].detach()

    def curvature(self, slopes: Tensor, images: Tensor) -> Tensor:
        """``strength W^T diag(s'(z)) W v``: what the Hessian makes of images ``v``."""
        return self.strength * self.adjoint(slopes * self.responses(images))

    @torch.no_grad()
    def gradient_lipschitz(self, image_shape: tuple[int, int]) -> float:
        """Upper bound of the Lipschitz constant of the gradient, for images of one size.

        The larger one of `weak_convexity` and of ``strength sup_w sum_i m_i |W_i(w)|^2``, ``m_i``
        the largest slope of spline ``i`` and ``W_i(w)`` the Fourier transform of its filter on a
        torus on which no window sees the image twice (see `convolutions.convolution_norm_bound`).
        In float64, of the numbers that the gradient is computed with.

        Parameters
        ----------
        image_shape
            ``(n1, n2)``.
        """
        return max(self._curvature_bound(1, image_shape), self.weak_convexity(image_shape))

    @torch.no_grad()
    def weak_convexity(self, image_shape: tuple[int, int]) -> float:
        """A ``rho`` for which ``R(x) + rho |x|^2 / 2`` is convex, for images of one size.

        As `gradient_lipschitz`, with what the slopes of the splines are below zero; zero, or what
        rounding leaves, if all of them are monotone.

        Parameters
        ----------
        image_shape
            ``(n1, n2)``.
        """
        return self._curvature_bound(-1, image_shape)

    def _curvature_bound(self, sign: int, image_shape: tuple[int, int]) -> float:
        """Of the Hessian times the sign from above, by its slopes of that sign."""
        spacing = splines.spacing(self.coefficients.shape[-1], self.range_)
        rises = sign * self.coefficients.double().diff(dim=-1)
        steps = rises.amax(-1).clamp(min=0) / spacing
        filters = steps.sqrt().view(-1, 1, 1, 1) * self.filters.double()
        rows, columns = (n + filters.shape[-1] - 1 for n in image_shape)
        power = torch.fft.rfft2(filters[:, 0], s=(rows, columns)).abs().square().sum(0).amax()
        return self.strength.double().item() * power.item()

    def _forces(self, responses: Tensor) -> Tensor:
        return splines.evaluate(responses, self.coefficients, self.range_, self.scale)


def chained(kernels: list[Tensor]) -> Tensor:
    """One kernel that does what these do, one after the other.

    Parameters
    ----------
    kernels
        Shapes ``(out, in, k, k)``, the ``in`` of each the ``out`` of the one before.
    """
    whole = kernels[0]
    for kernel in kernels[1:]:
        # A correlation of correlations: the kernels are convolved.
        turned, side = kernel.flip(2, 3), kernel.shape[-1] - 1
        whole = functional.conv2d(whole.transpose(0, 1), turned, padding=side).transpose(0, 1)
    return whole


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context in which ``torch.autocast`` casts nothing.

    Parameters
    ----------
    tensor
        On the device that is meant.
    """
    return torch.autocast(tensor.device.type, enabled=False)

"""Kernels of orthogonal convolutions from free parameters, for ``torch.nn.utils.parametrize``."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from lipsplines import splines
from lipsplines.linear import matrices
from lipsplines.linear import orthogonal_kernels as kernels
from lipsplines.nn.caching import constrained, once
from lipsplines.nn.constraints import without_autocast
from lipsplines.nn.inputs import check_real
from lipsplines.nn.linear_spline import LinearSpline

__all__ = ["BlockOrthogonal", "constrain_together"]


class BlockOrthogonal(nn.Module):
    """Parametrization of a kernel as an orthogonal convolution, for every value of its parameters.

    With stride 1 the kernel is a block convolution (`orthogonal_kernels.block_orthogonal_kernel`),
    whose matrices come from `matrices.cayley`. A stride ``s`` splits it: a block convolution of
    side ``k - s + 1``, then one of side ``s``, whose windows do not overlap, so that its reshaped
    kernel need only have orthonormal rows or columns (Boissin et al. 2025).

    Half of the shifts move the span of a matrix and half its complement, so that the kernels are
    centred, and that of one channel to one is a centred pulse.

    Parameters
    ----------
    out_channels, in_channels, kernel_size, stride
        Of the convolution. With ``kernel_size < stride`` pixels are skipped: the kernel is that of
        stride 1.
    """

    def __init__(self, out_channels: int, in_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.in_channels = out_channels, in_channels
        self.block = stride if kernel_size >= stride else 1
        self.middle = max(in_channels, out_channels // self.block**2)
        self.has_first = self.middle > in_channels
        # With stride 1 a square last matrix would only turn the first one.
        self.has_last = self.block > 1 or not self.has_first
        self.shifts = 2 * (kernel_size - self.block)
        self.rank = self.middle // 2
        self.started = False

    def right_inverse(self, kernel: Tensor) -> tuple[Tensor, ...]:
        """Random starts; only the registration may ask, with the kernel of the plain layer."""
        if self.started:
            raise NotImplementedError(
                "The kernel of an orthogonal convolution cannot be assigned: not every kernel has "
                "parameters that give it. Load a state_dict, or use nn.Conv2d for a fixed kernel."
            )
        self.started = True
        return self.starts(kernel)

    def starts(self, kernel: Tensor) -> tuple[Tensor, ...]:
        """Random parameters, of the dtype and on the device of a kernel."""
        starts = []
        if self.has_last:
            starts.append(_random(kernel, self.out_channels, self.block**2 * self.middle))
        if self.has_first:
            starts.append(_random(kernel, self.middle, self.in_channels))
        if self.shifts and self.rank:
            starts.append(_random(kernel, self.shifts, self.middle, self.rank))
        return tuple(starts)

    def forward(self, *parameters: Tensor) -> Tensor:
        check_real(parameters[0])
        with without_autocast(parameters[0]):
            return constrained(self, self._kernel, parameters)

    def _kernel(self, *parameters: Tensor) -> Tensor:
        rest = list(parameters)
        last: Any = matrices.cayley(rest.pop(0)) if self.has_last else None
        if self.has_first:
            base = matrices.cayley(rest.pop(0))
        elif self.block == 1:
            base, last = last, None
        else:
            base = torch.eye(self.middle, dtype=last.dtype, device=last.device)
        kernel = kernels.block_orthogonal_kernel(base, self._projectors(base, *rest))
        if last is not None:
            side = (self.block, self.block)
            kernel = kernels.compose_kernels(last.unflatten(1, (self.middle, *side)), kernel)
        # The strides of a fresh tensor for a side of 1 too: they decide how torch convolves.
        return kernel.reshape(-1).view(kernel.shape)

    def _projectors(self, base: Tensor, weight: Tensor | None = None) -> Tensor:
        """Shape ``(2 (k - 1), c, c)``: in turn onto the span of a matrix and its complement."""
        channels = self.middle
        if weight is None:  # rank 0: a single channel, or no shift at all
            span = base.new_zeros(self.shifts, channels, channels)
        else:
            basis = matrices.cayley(weight)
            span = basis @ basis.mT
        identity = torch.eye(channels, dtype=base.dtype, device=base.device)
        # Positions 0, 1 are the first shifts along the two axes, 2, 3 the second ones.
        turn = (torch.arange(self.shifts, device=base.device) // 2 % 2 == 1)[:, None, None]
        return torch.where(turn, identity - span, span)

    def extra_repr(self) -> str:
        return f"block={self.block}, middle={self.middle}, shifts={self.shifts}, rank={self.rank}"


def constrain_together(model: nn.Module) -> None:
    """Compute the constraints of a model in few batches, for their next use.

    Within `constrain_once`, where a result is used again; it has no effect elsewhere. It serves
    orthogonal convolutions of stride 1 with equal channels in between, and `LinearSpline` modules
    of equal size. Their matrices are small: a batch takes little longer than one of them. Rounding
    may differ from that of one by one.

    Parameters
    ----------
    model
        With orthogonal convolutions and splines or without.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from lipsplines import OrthogonalConv2d, constrain_once
    >>> from lipsplines.nn.block_orthogonal import constrain_together
    >>> model = nn.Sequential(*(OrthogonalConv2d(4, 4, 3, padding=1) for _ in range(3)))
    >>> with constrain_once():
    ...     constrain_together(model)
    ...     loss = model(torch.randn(1, 4, 8, 8)).square().mean()
    >>> loss.backward()
    """
    kinds: dict[Hashable, list[tuple[nn.Module, list[nn.Parameter]]]] = defaultdict(list)
    own: nn.Module
    kind: tuple
    for module in model.modules():
        if type(module) is LinearSpline and module.constraint == "project":
            own, parameters = module, [module.coefficients]
            kind = (module.spacing, module.slope_bounds, module.coefficients.shape)
        elif isinstance(module, ParametrizationList) and type(module[0]) is BlockOrthogonal:
            own, parameters = module[0], list(module.parameters(recurse=False))
            if len(module) > 1 or own.block > 1:  # a stride composes two kernels
                continue
            kind = (own.middle, own.shifts)
        else:
            continue
        traits = [(p.dtype, p.device, p.requires_grad) for p in parameters]
        kinds[(type(own), *kind, *traits)].append((own, parameters))
    for alike in kinds.values():
        modules, tensors = zip(*alike, strict=True)
        if len(modules) < 2:
            continue
        compute: Callable = _splines_of if isinstance(modules[0], LinearSpline) else _kernels_of
        with without_autocast(tensors[0][0]):
            found = compute(modules, tensors)
        for module, its, result in zip(modules, tensors, found, strict=True):
            once(module, functools.partial(_given, result), *its)


def _given(result: Tensor) -> Tensor:
    return result


def _splines_of(
    modules: Sequence[LinearSpline], parameters: Sequence[list[nn.Parameter]]
) -> Iterable[Tensor]:
    stacked = torch.stack([own for (own,) in parameters])
    return splines.project_slopes(stacked, modules[0].spacing, modules[0].slope_bounds).unbind()


def _kernels_of(
    constraints: Sequence[BlockOrthogonal], parameters: Sequence[list[nn.Parameter]]
) -> Iterable[Tensor]:
    """The kernels of several constraints, as `BlockOrthogonal._kernel` computes each.

    The product of the shifts is that of all; then the bases, of several shapes, are applied to it.
    """
    first, channels = constraints[0], constraints[0].middle
    bases, *rest = zip(*parameters, strict=True)
    identity = torch.eye(channels, dtype=bases[0].dtype, device=bases[0].device)
    projectors = first._projectors(identity, *map(torch.stack, rest))
    projectors = projectors.expand(len(bases), *projectors.shape[-3:])
    many = identity.expand(len(bases), -1, -1)
    turned = kernels.block_orthogonal_kernel(many, projectors).unbind()
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    tall = [base if base.shape[0] >= base.shape[1] else base.mT for base in bases]
    for number, base in enumerate(tall):
        shapes[tuple(base.shape)].append(number)
    found: dict[int, Tensor] = {}
    for numbers in shapes.values():
        narrow = matrices.cayley(torch.stack([tall[number] for number in numbers]))
        for number, base in zip(numbers, narrow.unbind(), strict=True):
            constraint = constraints[number]
            transposed = constraint.has_first or base.shape[0] > base.shape[1]
            wide = base.mT if transposed else base
            kernel = (wide @ turned[number].flatten(1)).unflatten(1, turned[number].shape[1:])
            found[number] = kernel.transpose(0, 1).contiguous() if constraint.has_first else kernel
    return [found[number] for number in range(len(bases))]


def _random(like: Tensor, *shape: int) -> Tensor:
    """Random parameters for `matrices.cayley`: rotations by angles of all sizes."""
    *batch, rows, columns = shape
    short, long = min(rows, columns), max(rows, columns)
    square = torch.randn(*batch, short, short, device=like.device, dtype=like.dtype)
    rest = torch.randn(*batch, long - short, short, device=like.device, dtype=like.dtype)
    start = torch.cat((square / math.sqrt(2 * short), rest / math.sqrt(max(long - short, 1))), -2)
    return start if rows >= columns else start.mT.contiguous()

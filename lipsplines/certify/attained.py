"""Lower bounds of a Lipschitz constant: pairs of points, sought where a model is steepest."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from lipsplines.certify.layer_bounds import BATCH_NORMS, SMALLEST, linear_parts
from lipsplines.linear.norms import UNIT_ROUNDOFF
from lipsplines.nn.combinations import Averaged, Residual
from lipsplines.nn.inputs import batched
from lipsplines.nn.linear_spline import LinearSpline

__all__ = ["steepest_pair"]

# Half the distance of the points of a pair, from coarse to fine, and steps of ascent at each.
RADII = (1e-1, 1e-2, 1e-3)
ASCENT_STEPS = 4
MOST_PAIRS = 16  # that ascend; half of them at each finer distance
MOST_OUTPUTS = 32  # up to here the whole Jacobian is computed
POWER_STEPS = 4
TAME = (1e-120, 1e120)  # norms in double precision whose squares neither vanish nor overflow
SMOOTH = (nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ELU)


@batched()
def steepest_pair(
    model: nn.Module, constants: dict[nn.Module, float], points: Tensor
) -> tuple[float, Tensor]:
    """The largest difference quotient found, less its rounding error, and its pair of points.

    At each point the direction of the steepest change is sought: the top right singular vector of
    the Jacobian, all of it if there are few outputs, else by power iteration. Then midpoint ``x``
    and direction ``v`` of the pairs ``x + h v``, ``x - h v`` ascend together. With ``g`` and ``g'``
    the gradients of the distance of the two values in the two points, ``g - g'`` (power iteration
    with the finite pair in place of the derivative) is the new direction and ``g + g'`` the way of
    the midpoint, while the best pairs stay and ``h`` shrinks.

    Parameters
    ----------
    model
        Nested ``nn.Sequential``, `Residual` and `Averaged` of known layers, in float64.
    constants
        Lipschitz bound of each layer, for the rounding error.
    points
        Shape ``(P, *input_shape)``, float64.

    Returns
    -------
    lower
        A quotient ``|f(x) - f(y)| / |x - y|`` that exact arithmetic exceeds.
    pair
        The points, shape ``(2, *input_shape)``.
    """
    directions = _steepest_directions(model, points)
    layers = {module: _Layer(module, constant) for module, constant in constants.items()}
    best = -1.0  # so that there is a pair where every quotient is 0
    kept = min(MOST_PAIRS, max(len(points) // 2, 1))
    for radius in RADII:
        for step in range(ASCENT_STEPS + 1):
            ahead, behind = points + radius * directions, points - radius * directions
            quotients = _quotients(model, layers, ahead, behind)
            top = int(quotients.argmax())
            if quotients[top] > best:
                best, pair = quotients[top].item(), torch.stack((ahead[top], behind[top]))
            if step == 0:
                steepest = quotients.topk(kept).indices
                points, directions = points[steepest], directions[steepest]
                kept = max(kept // 2, 1)
            if step < ASCENT_STEPS:
                points, directions = _ascend(model, points, directions, radius, step)
    return best, pair


def _steepest_directions(model: nn.Module, points: Tensor) -> Tensor:
    """Unit vectors, of the shape of the points."""
    with torch.enable_grad():
        inputs = points.clone().requires_grad_()
        outputs = model(inputs).flatten(1)
        if outputs.shape[1] <= MOST_OUTPUTS:
            # No module mixes the points of a batch: the gradient of a sum is that of each point.
            rows = [
                torch.autograd.grad(out, inputs, retain_graph=True)[0] for out in outputs.sum(0)
            ]
            jacobians = torch.stack(rows, 1).flatten(2).nan_to_num(0.0, 0.0, 0.0)
            top = torch.linalg.svd(jacobians, full_matrices=False).Vh[:, 0]
            return top.reshape(points.shape)
    generator = torch.Generator().manual_seed(1)
    directions = _unit(
        torch.randn(points.shape, generator=generator, dtype=points.dtype).to(points)
    )
    for _ in range(POWER_STEPS):
        _, directions = _ascend(model, points, directions, RADII[-1], None)
    return directions


def _ascend(
    model: nn.Module, points: Tensor, directions: Tensor, radius: float, step: int | None
) -> tuple[Tensor, Tensor]:
    """One step of the directions, and of the midpoints unless `step` is None."""
    with torch.enable_grad():
        ahead = (points + radius * directions).requires_grad_()
        behind = (points - radius * directions).requires_grad_()
        distance = (model(ahead) - model(behind)).flatten(1).norm(dim=1).sum()
        gradients = torch.autograd.grad(distance, (ahead, behind))
    # Where weights overflow there is no way to go.
    forwards, backwards = (gradient.nan_to_num(0.0, 0.0, 0.0) for gradient in gradients)
    turned = forwards - backwards
    flat = _norms(turned) > 0
    shape = (-1, *[1] * (points.dim() - 1))
    directions = torch.where(flat.view(shape), _unit(turned), directions)
    if step is not None:
        points = points + 2 * radius / (step + 1) * _unit(forwards + backwards)
    return points, directions


def _unit(vectors: Tensor) -> Tensor:
    norms = _norms(vectors).view(-1, *[1] * (vectors.dim() - 1))
    return vectors / torch.where(norms > 0, norms, torch.ones_like(norms))


def _quotients(
    model: nn.Module, layers: dict[nn.Module, _Layer], ahead: Tensor, behind: Tensor
) -> Tensor:
    """Difference quotients less their rounding errors, shape ``(P,)``; 0 for equal points."""
    with torch.no_grad():
        points = torch.cat((ahead, behind))
        values, _, error = _evaluate(model, points, _size(points), 0.0, layers)
    first, second = values.flatten(1).chunk(2)
    distance, change = _norms(ahead - behind), _norms(first - second)
    # Relative rounding error of a quotient of two norms of differences.
    relative = (ahead[0].numel() + first.shape[1] + 8) * UNIT_ROUNDOFF
    quotient = (change - 2 * error) / distance * (1 - relative)
    quotient = torch.where(distance > 0, quotient, torch.zeros_like(quotient))
    return quotient.nan_to_num(0.0, 0.0, 0.0).clamp_min(0.0)  # what overflows shows nothing


def _evaluate(
    module: nn.Module, x: Tensor, size: float, error: float, layers: dict[nn.Module, _Layer]
) -> tuple[Tensor, float, float]:
    """Output, its size, and a bound of its rounding error in the 2-norm, for a whole batch.

    Each layer multiplies the error so far by its Lipschitz constant and adds its own.
    """
    if isinstance(module, nn.Sequential):
        for child in module:
            x, size, error = _evaluate(child, x, size, error, layers)
        return x, size, error
    if isinstance(module, (Residual, Averaged)):
        value, reached, inner = _evaluate(module.module, x, size, error, layers)
        weight = module.weight if isinstance(module, Averaged) else 1.0
        keep = 1 - weight if isinstance(module, Averaged) else 1.0
        own = 4 * (size + reached) * UNIT_ROUNDOFF + 2 * x[0].numel() * SMALLEST
        output = keep * x + weight * value
        return output, _size(output), keep * error + weight * inner + own
    output = module(x)
    layer, reached = layers[module], _size(output)
    return output, reached, error * layer.constant + layer.own_error(x, output, size, reached)


class _Layer:
    """What the rounding error of a layer needs of its parameters, which it reads once."""

    def __init__(self, module: Any, constant: float) -> None:
        self.module, self.constant = module, constant
        self.linear = linear_parts(module)
        bias = getattr(module, "bias", None)
        self.bias = 0.0 if bias is None else _size(bias[None])
        if self.linear is not None:
            weight, windows = self.linear
            self.weight = _size(weight[None]) * math.sqrt(windows)
            self.terms = weight.numel() // min(weight.shape[:2]) + 2
        elif isinstance(module, LinearSpline):
            self.smallest = module.scale.min().item()
        elif isinstance(module, BATCH_NORMS):
            self.mean = _size(cast(Tensor, module.running_mean)[None])

    def own_error(self, x: Tensor, output: Tensor, before: float, after: float) -> float:
        """Rounding error of inner products, or of a position on the grid of a spline.

        That position, ``x + R / alpha``, rounds by the size of ``R / alpha`` also for small ``x``.
        Every operation may lose `SMALLEST` besides, by underflow. `before` and `after` are the
        sizes of input and output.
        """
        module, constant = self.module, self.constant
        entries = output[0].numel()
        lost = entries * (1 + constant)
        if self.linear is not None:
            own = self.weight * before
            if module.bias is not None:
                own += self.bias * math.sqrt(entries // module.bias.numel())
            own, lost = 2 * self.terms * own, lost + entries * self.terms
        elif isinstance(module, LinearSpline):
            grid = module.range_ / self.smallest * math.sqrt(entries)
            own = 16 * (1 + constant) * (before + after + grid)
            lost *= 4 * (1 + module.range_) / self.smallest
        elif isinstance(module, BATCH_NORMS):
            # Mean and bias shift each channel by as much at every position.
            positions = entries // module.num_features
            shift = constant * self.mean + self.bias
            own = 8 * (before * constant + after + shift * math.sqrt(positions))
            lost *= 2 + before + self.mean
        elif isinstance(module, SMOOTH):
            own = 32 * (constant * (before + math.sqrt(entries)) + after)
            if isinstance(module, nn.Softplus):
                lost *= 1 + 1 / abs(module.beta)
                if bool((module.beta * x > module.threshold).any()):  # torch takes the identity
                    jump = math.exp(-module.threshold) / abs(module.beta)
                    own += jump * math.sqrt(entries) / UNIT_ROUNDOFF
        else:
            pooled = x[0].numel() / max(entries, 1)
            own = 8 * (before + after) * max(pooled, 1.0)
            lost *= max(pooled, 1.0)
        return own * UNIT_ROUNDOFF + lost * SMALLEST


def _size(x: Tensor) -> float:
    """The largest 2-norm of a batch."""
    return _norms(x).max().item() if x.numel() else 0.0


def _norms(x: Tensor) -> Tensor:
    """2-norms over all but the first dimension, scaled by a power of 2: no square underflows."""
    flat = x.flatten(1)
    if not flat.shape[1]:
        return flat.new_zeros(len(flat))
    norms = flat.norm(dim=1)
    if bool(((norms > TAME[0]) & (norms < TAME[1])).all()):
        return norms  # scaling would not change a bit, but for squares far below the sum
    exponent = torch.frexp(flat.abs().amax(1)).exponent
    half = exponent // 2  # in two steps: the power itself may be out of range
    parts = ((2.0 ** -half.double())[:, None], (2.0 ** -(exponent - half).double())[:, None])
    norms = (flat * parts[0] * parts[1]).norm(dim=1)
    return norms / parts[0][:, 0] / parts[1][:, 0]

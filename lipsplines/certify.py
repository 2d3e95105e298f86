"""Certified bounds of the Lipschitz constant of a model, in the 2-norm.

The certificate speaks of the function that the stored numbers define in exact arithmetic: the
weights and coefficients that the forward pass uses, in the model's own precision, cast to float64.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines import splines
from lipsplines.activations import Absolute, GroupSort, Householder, LinearSpline, LipschitzPReLU

__all__ = ["certified_radius", "layer_constants", "lipschitz_bounds", "matrix_norm_bound"]

UNIT_ROUNDOFF = 2.0**-53


def lipschitz_bounds(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    probes: int | Tensor = 256,
) -> tuple[float, float]:
    """Bounds ``lower <= Lip(model) <= upper`` of the Lipschitz constant in the 2-norm.

    Parameters
    ----------
    model
        A chain (``nn.Sequential``, nested or not) of linear layers, plain or constrained, and
        activations of this library or ``nn.ReLU``, ``nn.LeakyReLU``, ``nn.Identity``,
        ``nn.Flatten``. It is not changed.
    input_shape
        Shape of one input, without the batch dimension. Taken from `probes` or from the first
        linear layer if not given.
    probes
        Points at which the lower bound looks for the steepest direction: their number (standard
        normal, the same at every call) or a tensor of shape ``(P, *input_shape)``.

    Returns
    -------
    lower
        The largest difference quotient ``|f(x) - f(y)| / |x - y|`` found, less its rounding error.
        It is attained by a pair of points, not extrapolated from a derivative.
    upper
        Product of the norms of the layers and of the largest slopes, a rigorous bound in float64
        with every rounding error counted (`matrix_norm_bound`). For a network of 1-Lipschitz
        layers stored in float32 ``upper - 1`` is of the order of 1e-6, with splines of up to
        ``3 K u`` for each (1e-5 for three of 101 coefficients); in float64, 1e-12.

    Raises
    ------
    TypeError
        If the model contains a module whose Lipschitz constant is not known here, or hooks.
    ValueError
        If a parameter is NaN or infinite, the bound overflows, the probes are no finite points, or
        the input shape cannot be inferred.
    """
    frozen, constants = layer_constants(model)
    upper = math.prod(constants.values()) * (1 + 2 * len(constants) * UNIT_ROUNDOFF)
    if not math.isfinite(upper):
        raise ValueError(f"The Lipschitz bound is {upper}: a slope is NaN or the weights overflow.")
    lower = _lower(frozen, constants, _probe_points(frozen, input_shape, probes))
    return lower, upper


def layer_constants(model: nn.Module) -> tuple[nn.Module, dict[nn.Module, float]]:
    """Copy of a chain as its forward pass uses it, in float64, and a bound for each of its layers.

    The layers come in the order of their application, one that is applied twice as two.

    Raises
    ------
    TypeError, ValueError
        As `lipschitz_bounds`.
    """
    _refuse_non_finite(model)
    frozen = _as_used(model).double()
    # `frozen` holds every layer as often as the model applies it, and no two share a parameter.
    layers = [m for m in frozen.modules() if type(m).forward is not nn.Sequential.forward]
    return frozen, {layer: _BOUNDS[type(layer).forward](layer) for layer in layers}


def matrix_norm_bound(weight: Tensor) -> float:
    """Rigorous upper bound of the spectral norm of a matrix, without trust in the SVD.

    With the computed factors ``U S V^T``, ``s_1`` the largest absolute entry of ``S``, ``q >= r``
    the sides and ``e = 4 q r u``,
    ``s_1 sqrt((1 + |I - U^T U|_F + e) (1 + |I - V^T V|_F + e)) + |W - U S V^T|_F + e s_1``,
    enlarged by 1e-12. The triangle inequality gives the terms, ``e`` covers the rounding of the
    products. It exceeds the norm by about 1e-12 for 8x8 matrices and 1e-9 for 1024x784. If the
    factors are so far from a decomposition that ``e`` need not suffice, the bound is the Frobenius
    norm, enlarged likewise.

    Parameters
    ----------
    weight
        Shape ``(m, n)``, finite; computed in float64.
    """
    matrix = weight.detach().double()
    if matrix.dim() != 2:
        raise ValueError(f"matrix_norm_bound takes one matrix, got shape {tuple(matrix.shape)}.")
    if not bool(matrix.isfinite().all()):
        raise ValueError("matrix_norm_bound needs finite entries.")
    if not bool(matrix.any()):
        return 0.0
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    largest, smallest = max(matrix.shape), min(matrix.shape)
    rounding = 4 * largest * smallest * UNIT_ROUNDOFF
    identity = torch.eye(smallest, dtype=matrix.dtype, device=matrix.device)
    left = torch.linalg.matrix_norm(identity - u.mT @ u).item()
    right = torch.linalg.matrix_norm(identity - vh @ vh.mT).item()
    residual = torch.linalg.matrix_norm(matrix - (u * s) @ vh).item()
    top = s.abs().max().item()
    if not (left <= 0.5 and right <= 0.5 and residual <= top):  # true of NaN
        return (1 + 1e-12) * (1 + rounding) * torch.linalg.matrix_norm(matrix).item()
    factor = math.sqrt((1 + left + rounding) * (1 + right + rounding))
    return (1 + 1e-12) * (top * factor + residual + rounding * top)


def certified_radius(logits: Tensor, lipschitz: float) -> Tensor:
    """Radius around each input within which the class cannot change, in the 2-norm.

    The difference of two logits of a classifier with Lipschitz constant ``L`` is ``sqrt(2) L``
    Lipschitz: the radius is the margin, the largest logit less the second, divided by ``sqrt(2) L``
    (Tsuzuku et al. 2018).

    Parameters
    ----------
    logits
        Outputs of the classifier, shape ``(N, classes)``, at least two classes.
    lipschitz
        Upper bound of its Lipschitz constant, positive: the second of `lipschitz_bounds`.

    Returns
    -------
    Tensor
        Shape ``(N,)``. It does not count the rounding of the logits.
    """
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits must have shape (N, classes >= 2), got {tuple(logits.shape)}.")
    if not (math.isfinite(lipschitz) and lipschitz > 0):
        raise ValueError(f"lipschitz must be a positive number, got {lipschitz!r}.")
    first, second = logits.topk(2, dim=1).values.unbind(1)
    return (first - second) / (math.sqrt(2) * lipschitz)


def _spline_bound(module: LinearSpline) -> float:
    constant = splines.lipschitz_constant(module.projected_coefficients, module.spacing)
    return constant.max().item() * (1 + 8 * UNIT_ROUNDOFF)


def _prelu_bound(module: nn.Module) -> float:
    slopes = module.slope if isinstance(module, LipschitzPReLU) else module.negative_slope
    largest = torch.as_tensor(slopes, dtype=torch.float64).abs().max().item()
    return largest if math.isnan(largest) else max(1.0, largest)


def _one(module: nn.Module) -> float:
    return 1.0


# A module is known by the function that its forward pass runs, so that a subclass which overrides
# `forward` is refused rather than mistaken for its parent.
_BOUNDS: dict[Callable, Callable[[nn.Module], float]] = {
    nn.Linear.forward: lambda module: matrix_norm_bound(module.weight),
    LinearSpline.forward: _spline_bound,
    LipschitzPReLU.forward: _prelu_bound,
    nn.LeakyReLU.forward: _prelu_bound,
    GroupSort.forward: _one,
    Householder.forward: _one,
    Absolute.forward: _one,
    nn.ReLU.forward: _one,
    nn.Identity.forward: _one,
    nn.Flatten.forward: _one,
}


def _as_used(module: nn.Module, name: str = "model") -> nn.Module:
    """Copy whose parameters are the tensors that the forward pass of the model uses.

    Constrained linear layers become plain ones. They are built anew: removing a parametrization
    from a copy would also take it from the original, because both share their class.
    """
    if module._forward_hooks or module._forward_pre_hooks:
        raise TypeError(f"{name} has forward hooks, which may change its output; remove them.")
    if "forward" in vars(module):
        raise TypeError(f"{name} has a forward method beside that of its class; remove it.")
    forward = type(module).forward
    if forward is nn.Sequential.forward:
        # Not `named_children`, which leaves repetitions out.
        children = module._modules.items()
        return nn.Sequential(*(_as_used(child, f"{name}.{key}") for key, child in children))
    is_linear = forward is nn.Linear.forward
    if forward not in _BOUNDS or (parametrize.is_parametrized(module) and not is_linear):
        raise TypeError(
            f"No Lipschitz bound is known for {type(module).__name__} ({name}); known are "
            "nn.Sequential chains of linear layers and the activations of this library."
        )
    if 0 in (getattr(module, "dim", 1), getattr(module, "start_dim", 1)):
        raise TypeError(f"{name} mixes the samples of a batch: let it act on dimension 1 or later.")
    if is_linear:
        plain = nn.Linear(module.in_features, module.out_features, device="meta")
        plain.weight = nn.Parameter(module.weight.detach().clone(), requires_grad=False)
        bias = module.bias
        plain.bias = None if bias is None else nn.Parameter(bias.detach().clone(), False)
        return plain
    copied = copy.deepcopy(module).requires_grad_(False).eval()
    if hasattr(copied, "inplace"):
        copied.inplace = False  # the same function, which leaves its input for others to read
    if isinstance(copied, LinearSpline):
        copied.coefficients.copy_(copied.projected_coefficients)
        copied.constraint = None
    return copied


def _lower(model: nn.Module, constants: dict[nn.Module, float], points: Tensor) -> float:
    """Largest difference quotient along the steepest directions at the given points."""
    with torch.enable_grad():
        inputs = points.clone().requires_grad_()
        outputs = model(inputs).flatten(1).sum(0)
        # No module mixes the points of a batch: the gradient of a sum is that of each point.
        rows = [torch.autograd.grad(out, inputs, retain_graph=True)[0] for out in outputs]
    jacobians = torch.stack(rows, 1).flatten(2)
    directions = torch.linalg.svd(jacobians, full_matrices=False).Vh[:, 0]
    directions = directions.reshape(points.shape)
    # Relative rounding error of a quotient of two norms of differences.
    relative = (points[0].numel() + len(outputs) + 8) * UNIT_ROUNDOFF
    best = 0.0
    for step in (1e-2, 1e-3, 1e-4):
        ahead, behind = points + step * directions, points - step * directions
        error = 2 * _forward_error(model, constants, torch.cat((ahead, behind)))
        distance = (ahead - behind).flatten(1).norm(dim=1)
        change = (model(ahead) - model(behind)).flatten(1).norm(dim=1)
        quotient = (change - error) / distance * (1 - relative)
        best = max(best, quotient.max().item())
    return best


def _forward_error(model: nn.Module, constants: dict[nn.Module, float], x: Tensor) -> float:
    """Bound of the rounding error of a forward pass, in the 2-norm, over all points of the batch.

    Each layer multiplies the error so far by its Lipschitz constant and adds its own: that of inner
    products for a linear layer, and for a spline that of a position on its grid, ``x + R / alpha``.
    """
    total = 0.0

    def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        before, after = (t.flatten(1).norm(dim=1).max().item() for t in (inputs[0], output))
        if isinstance(module, nn.Linear):
            own = module.weight.norm().item() * before
            own += 0.0 if module.bias is None else module.bias.norm().item()
            own *= 2 * (module.in_features + 2)
        elif isinstance(module, LinearSpline):
            grid = module.range_ / module.scale.min().item() * math.sqrt(output[0].numel())
            own = 16 * (1 + constants[module]) * (before + after + grid)
        else:
            own = 8 * (before + after)
        total = total * constants[module] + own * UNIT_ROUNDOFF

    handles = [layer.register_forward_hook(add) for layer in constants]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return total


def _probe_points(
    model: nn.Module, input_shape: Sequence[int] | None, probes: int | Tensor
) -> Tensor:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if isinstance(probes, Tensor):
        if input_shape is not None and tuple(probes.shape[1:]) != tuple(input_shape):
            raise ValueError(
                f"probes must have shape (P, {', '.join(map(str, input_shape))}), "
                f"got {tuple(probes.shape)}."
            )
        if probes.dim() < 2 or len(probes) < 1 or not bool(probes.isfinite().all()):
            raise ValueError(
                "probes must be at least one finite point, stacked to shape (P, *input_shape), "
                f"got {tuple(probes.shape)} or NaN or infinite values."
            )
        return probes.detach().to(device, torch.float64)
    if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
        raise ValueError(f"probes must be a positive number of points or a tensor, got {probes!r}.")
    if input_shape is None:
        first = next((m for m in model.modules() if isinstance(m, nn.Linear)), None)
        if first is None:
            raise ValueError("Give input_shape: the model has no linear layer to take it from.")
        input_shape = (first.in_features,)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn((probes, *input_shape), generator=generator, dtype=torch.float64)
    return points.to(device)


def _refuse_non_finite(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinite values: no Lipschitz bound exists.")

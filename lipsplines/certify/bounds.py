"""Certified bounds of the Lipschitz constant of a model, in the 2-norm.

The certificate speaks of the function that the stored numbers define in exact arithmetic: the
weights and coefficients that the forward pass uses, in the model's own precision, cast to float64.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from lipsplines.certify.attained import steepest_pair
from lipsplines.certify.layer_bounds import BOUNDS, linear_parts
from lipsplines.export.fold import fold
from lipsplines.linear.norms import UNIT_ROUNDOFF, matrix_norm_bound
from lipsplines.nn.linear import Averaged, Residual

__all__ = [
    "LipschitzBounds",
    "certified_radius",
    "gains_above",
    "input_shapes",
    "layer_constants",
    "lipschitz_bounds",
    "matrix_norm_bound",
    "unfold_chain",
]

MOST_PROBES = 256
PROBE_ENTRIES = 2**13
LARGEST_INPUT = 2**28


class LipschitzBounds(tuple):
    """The pair ``(lower, upper)`` with what proves its parts.

    Attributes
    ----------
    lower, upper
        The two numbers.
    points
        Two inputs, shape ``(2, *input_shape)``, float64: their difference quotient, less its
        rounding error, is `lower`.
    layers
        Upper bound for each layer, by its name in the model.

    Examples
    --------
    >>> from lipsplines import OrthogonalLinear, lipschitz_bounds
    >>> bounds = lipschitz_bounds(OrthogonalLinear(3, 3))
    >>> lower, upper = bounds
    >>> lower == bounds.lower <= bounds.upper == upper
    True
    >>> bounds.points.shape, list(bounds.layers)
    (torch.Size([2, 3]), ['model'])
    """

    def __new__(
        cls, lower: float, upper: float, points: Tensor, layers: dict[str, float]
    ) -> LipschitzBounds:
        bounds = super().__new__(cls, (lower, upper))
        bounds.points, bounds.layers = points, layers
        return bounds

    def __getnewargs__(self) -> tuple:
        return self.lower, self.upper, self.points, self.layers

    @property
    def lower(self) -> float:
        """The first of the pair."""
        return self[0]

    @property
    def upper(self) -> float:
        """The second of the pair."""
        return self[1]


@torch.inference_mode(False)  # the search needs gradients
def lipschitz_bounds(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    probes: int | Tensor | None = None,
) -> LipschitzBounds:
    """Bounds ``lower <= Lip(model) <= upper`` of the Lipschitz constant in the 2-norm.

    Parameters
    ----------
    model
        Built of ``nn.Sequential``, `nn.linear.Residual` (``x + g(x)``) and `nn.linear.Averaged`
        (``(1 - w) x + w D(x)``), nested as you like, from layers of this library, their plain
        torch counterparts (linear, convolutions with zero or circular padding, strides, groups,
        dilation, transposed), pooling, ``nn.Flatten``, ``nn.PixelUnshuffle`` and activations: all
        of `layer_bounds.BOUNDS`. It is not changed.
    input_shape
        Shape of one input, without the batch dimension. Taken from `probes` or from the first
        layer, if that is linear, when not given.
    probes
        Points at which the lower bound begins its search: their number (standard normal, the same
        at every call) or a tensor of shape ``(P, *input_shape)``. By default 256, fewer for inputs
        of more than 32 entries.

    Returns
    -------
    LipschitzBounds
        The pair ``(lower, upper)``, with the points at which `lower` is attained.

        ``lower`` is the largest difference quotient ``|f(x) - f(y)| / |x - y|`` found, by power
        iteration along the steepest direction and gradient ascent on the place, less its rounding
        error. It is attained by a pair of points, not extrapolated from a derivative.

        ``upper`` is the product of the norms of the layers and of the largest slopes, sums where
        branches add up: a rigorous bound in float64 with every rounding error counted
        (`norms.matrix_norm_bound`, `norms.kernel_norm_bound`). For a network of 1-Lipschitz layers
        stored in float32 ``upper - 1`` is of the order of 1e-6 for each layer, with splines of up
        to ``3 K u``; in float64, 1e-12, and 1e-11 for a convolution.

    Raises
    ------
    TypeError
        If the model is none, or contains a module whose Lipschitz constant is not known here, or
        hooks.
    ValueError
        If a parameter is NaN or infinite, the bound overflows, the probes are no finite points, or
        the input shape cannot be inferred or does not fit the model.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import LinearSpline, OrthogonalLinear, lipschitz_bounds
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(OrthogonalLinear(2, 8), LinearSpline(8), OrthogonalLinear(8, 1))
    >>> lower, upper = lipschitz_bounds(model)
    >>> 0 < lower <= upper < 1.001
    True
    """
    frozen, constants, points = _prepare(model, input_shape, probes)
    upper = _constant(frozen, constants)
    if not math.isfinite(upper):
        raise ValueError(f"The Lipschitz bound is {upper}: a slope is NaN or the weights overflow.")
    lower, pair = steepest_pair(frozen, constants, points)
    names = (name for _, name in unfold_chain(model))
    return LipschitzBounds(lower, upper, pair, dict(zip(names, constants.values(), strict=True)))


def layer_constants(
    model: nn.Module, input_shape: Sequence[int] | None = None
) -> tuple[nn.Module, dict[nn.Module, float], Tensor]:
    """Copy of a model as its forward pass uses it, in float64, and a bound for each of its layers.

    The layers come in the order of their application, one that is applied twice as two. The last
    value is a point of the model's domain, shape ``(1, *input_shape)``.

    Parameters
    ----------
    model, input_shape
        As for `lipschitz_bounds`.

    Raises
    ------
    TypeError, ValueError
        As `lipschitz_bounds`.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import OrthogonalLinear
    >>> from lipsplines.certify.bounds import layer_constants
    >>> model = nn.Sequential(OrthogonalLinear(4, 2), nn.ReLU())
    >>> frozen, constants, point = layer_constants(model)
    >>> [round(constant, 4) for constant in constants.values()], point.shape
    ([1.0, 1.0], torch.Size([1, 4]))
    """
    return _prepare(model, input_shape, 1)


def unfold_chain(module: nn.Module, name: str = "model") -> Iterator[tuple[nn.Module, str]]:
    """The layers of nested containers with their names, in the order of their application.

    Parameters
    ----------
    module
        ``nn.Sequential``, `Residual` and `Averaged`, nested, or one layer.
    name
        That of `module`, with which the names of its layers begin.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import Residual
    >>> from lipsplines.certify.bounds import unfold_chain
    >>> model = nn.Sequential(nn.Linear(2, 2), Residual(nn.ReLU()))
    >>> [name for _, name in unfold_chain(model)]
    ['model.0', 'model.1.module']
    """
    children = _children(module)
    if children is None:
        yield module, name
        return
    for key, child in children:
        yield from unfold_chain(child, f"{name}.{key}")


def input_shapes(frozen: nn.Module, point: Tensor) -> dict[nn.Module, torch.Size]:
    """Shape of one input of each layer, when the model is applied to a point ``(1, *shape)``.

    Parameters
    ----------
    frozen, point
        The model and the point of `layer_constants`.

    Raises
    ------
    ValueError
        If the model does not accept the point, or mixes the samples of a batch.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines.certify.bounds import input_shapes, layer_constants
    >>> frozen, _, point = layer_constants(nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
    >>> [tuple(shape) for shape in input_shapes(frozen, point).values()]
    [(4,), (2,)]
    """
    shapes: dict[nn.Module, torch.Size] = {}
    layers = [layer for layer, _ in unfold_chain(frozen)]
    hooks = [
        layer.register_forward_pre_hook(lambda m, inputs: shapes.update({m: inputs[0].shape[1:]}))
        for layer in layers
    ]
    try:
        with torch.no_grad():
            # Two samples: a single one could pass for a dimension of the input.
            outputs = frozen(torch.cat((point, point)))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"The model does not accept inputs of shape {tuple(point.shape[1:])}, without the "
            f"batch dimension; check input_shape. ({error})"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(outputs, Tensor) and (outputs.dim() < 2 or len(outputs) != 2):
        raise ValueError(
            f"Two inputs of shape {tuple(point.shape[1:])} gave an output of shape "
            f"{tuple(outputs.shape)}: the model mixes the samples of a batch."
        )
    return shapes


def gains_above(module: nn.Module, constants: dict[nn.Module, float]) -> dict[nn.Module, float]:
    """For each layer a bound of how much a change of its output can change that of the model.

    Parameters
    ----------
    module, constants
        The model and the bounds of `layer_constants`.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines.certify.bounds import gains_above, layer_constants
    >>> model = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
    >>> frozen, constants, _ = layer_constants(model)
    >>> [round(gain, 4) for gain in gains_above(frozen, constants).values()]
    [1.0, 1.0]
    """
    gains: dict[nn.Module, float] = {}

    def descend(module: nn.Module, above: float) -> None:
        children = _children(module)
        if children is None:
            gains[module] = above
        elif isinstance(module, Averaged):
            descend(module.module, above * module.weight)
        else:
            for _, child in reversed(children):
                descend(child, above)
                above *= _constant(child, constants) * (1 + 4 * UNIT_ROUNDOFF)

    descend(module, 1.0)
    return gains


def certified_radius(logits: Tensor, lipschitz: float = 1.0) -> Tensor:
    """Radius around each input within which the class cannot change, in the 2-norm.

    The difference of two logits of a classifier with Lipschitz constant ``L`` is ``sqrt(2) L``
    Lipschitz: the radius is the margin, the largest logit less the second, divided by ``sqrt(2) L``
    (Tsuzuku et al. 2018).

    Parameters
    ----------
    logits
        Outputs of the classifier, shape ``(N, classes)``, at least two classes.
    lipschitz
        Upper bound of its Lipschitz constant, positive: the second of `lipschitz_bounds`. The
        default is that of 1-Lipschitz layers, up to their rounding.

    Returns
    -------
    Tensor
        Shape ``(N,)``. It does not count the rounding of the logits.

    Raises
    ------
    ValueError
        If the logits are of another shape or not finite, or the bound is not a positive number.
    TypeError
        If `lipschitz` is the pair of bounds.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import certified_radius
    >>> round(certified_radius(torch.tensor([[3.0, 1.0, 0.0]])).item(), 4)
    1.4142
    """
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits must have shape (N, classes >= 2), got {tuple(logits.shape)}.")
    if not bool(logits.isfinite().all()):
        raise ValueError("logits must be finite.")
    if isinstance(lipschitz, tuple):
        raise TypeError("lipschitz is one number: pass the upper bound of lipschitz_bounds.")
    if not (math.isfinite(lipschitz) and lipschitz > 0):
        raise ValueError(f"lipschitz must be a positive number, got {lipschitz!r}.")
    first, second = logits.topk(2, dim=1).values.unbind(1)
    return (first - second) / (math.sqrt(2) * lipschitz)


def _children(module: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """Names and members of a container, None for a layer."""
    if _is(module, nn.Sequential):
        return list(module._modules.items())  # not `named_children`, which leaves repetitions out
    if _is(module, Residual) or _is(module, Averaged):
        return [("module", module.module)]
    return None


def _is(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a container runs as one of this class: subclasses may add names, no computation."""
    own = type(module)
    methods = ("forward", "__call__", "__iter__", "__getattr__", "__getattribute__")
    return isinstance(module, kind) and all(
        getattr(own, name, None) is getattr(kind, name, None) for name in methods
    )


def _prepare(
    model: nn.Module, input_shape: Sequence[int] | None, probes: int | Tensor | None
) -> tuple[nn.Module, dict[nn.Module, float], Tensor]:
    """The frozen model, the bound of each of its layers, and the points."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not bool(tensor.detach().isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinite values: no Lipschitz bound exists.")
    _refuse_unknown(model)
    frozen = _apart(fold(model).eval()).double()
    points = _probe_points(frozen, input_shape, probes)
    shapes = input_shapes(frozen, points[:1])
    constants = {}
    for (layer, _), (_, own) in zip(unfold_chain(frozen), unfold_chain(model), strict=True):
        try:
            constants[layer] = BOUNDS[type(layer)](layer, shapes[layer])
        except TypeError as error:
            raise TypeError(f"{own}: {error}") from None
    return frozen, constants, points


def _refuse_unknown(model: nn.Module, name: str = "model") -> None:
    """A sentence for whatever might compute something else than its class says."""
    if model._forward_hooks or model._forward_pre_hooks:
        raise TypeError(f"{name} has forward hooks, which may change its output; remove them.")
    shadowed = [key for key, v in vars(model).items() if callable(v) and hasattr(type(model), key)]
    if shadowed:
        raise TypeError(f"{name} has a {shadowed[0]} method beside that of its class; remove it.")
    children = _children(model)
    if children is not None:
        for key, child in children:
            _refuse_unknown(child, f"{name}.{key}")
    elif 0 in (getattr(model, "dim", 1), getattr(model, "start_dim", 1)):
        raise TypeError(f"{name} mixes the samples of a batch: let it act on dimension 1 or later.")


def _apart(module: nn.Module, name: str = "model") -> nn.Module:
    """Copy in which no two layers are one, so that each place can have its own bound."""
    children = _children(module)
    if children is None:
        if type(module) not in BOUNDS:
            raise TypeError(
                f"No Lipschitz bound is known for {type(module).__name__} ({name}); known are "
                "nn.Sequential, Residual and Averaged of linear and convolutional layers, pooling "
                "and the activations of this library."
            )
        layer = copy.deepcopy(module)
        if hasattr(layer, "inplace"):
            layer.inplace = False  # the same function, which leaves its input for others to read
        return layer
    members = [_apart(child, f"{name}.{key}") for key, child in children]
    if _is(module, nn.Sequential):
        return nn.Sequential(*members)
    if _is(module, Residual):
        return Residual(*members)
    return Averaged(*members, module.weight)


def _constant(module: nn.Module, constants: dict[nn.Module, float]) -> float:
    """Bound of a tree from those of its layers, each operation rounded up."""
    children = _children(module)
    if children is None:
        return constants[module]
    bounds = [_constant(child, constants) for _, child in children]
    if isinstance(module, Averaged):
        bound = abs(1 - module.weight) + abs(module.weight) * bounds[0]
    elif isinstance(module, Residual):
        bound = 1 + bounds[0]
    else:
        bound = math.prod(bounds)
    return bound * (1 + 4 * max(len(bounds), 1) * UNIT_ROUNDOFF)


def _probe_points(
    model: nn.Module, input_shape: Sequence[int] | None, probes: int | Tensor | None
) -> Tensor:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if isinstance(input_shape, int):
        input_shape = (input_shape,)
    if input_shape is not None:
        _check_shape(input_shape)
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
    if input_shape is None:
        first = next((m for m, _ in unfold_chain(model) if linear_parts(m) is not None), None)
        if not isinstance(first, nn.Linear):
            raise ValueError(
                "Give input_shape, the shape of one input: the model does not begin with a fully "
                "connected layer to take it from."
            )
        input_shape = (first.in_features,)
    if probes is None:
        entries = max(math.prod(input_shape), 1)
        probes = min(MOST_PROBES, max(PROBE_ENTRIES // entries, 4))
    if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
        raise ValueError(f"probes must be a positive number of points or a tensor, got {probes!r}.")
    generator = torch.Generator().manual_seed(0)
    points = torch.randn((probes, *input_shape), generator=generator, dtype=torch.float64)
    return points.to(device)


def _check_shape(input_shape: Sequence[int]) -> None:
    sides = list(input_shape)
    if not sides or not all(isinstance(n, Integral) and n >= 1 for n in sides):
        raise ValueError(
            f"input_shape must hold the sizes of one input, positive integers, got {input_shape!r}."
        )
    if math.prod(sides) > LARGEST_INPUT:
        raise ValueError(
            f"input_shape {tuple(sides)} has more than {LARGEST_INPUT} entries, too many to try."
        )

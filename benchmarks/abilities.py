"""What each layer of `contenders` can do, found out by trying.

Every entry is ``{"holds": bool, "value": float | None, "why": str | None}``: whether the layer can,
the number that decided, and the error that it raised instead.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from contenders import Contender, convolutions, linear_layers, relatives
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines import OrthogonalConv2d, OrthogonalLinear, SpectralLinear
from lipsplines.export.fold import fold

# How far a norm may exceed 1, and a singular value may lie from 1, to count as kept.
NORM_TOLERANCE, ORTHOGONAL_TOLERANCE, FLOAT64_TOLERANCE = 1e-4, 1e-3, 1e-10
GRADIENT_TOLERANCE = 1e-3
TRAINING_STEPS, LR, SIDE = 20, 1e-2, 8

Build = Callable[[], nn.Module]


def abilities() -> dict[str, dict[str, dict[str, Any]]]:
    """``"linear"`` and ``"convolution"`` -> layer -> ability -> entry."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "linear": {c.name: linear_abilities(c) for c in linear_layers()},
            "convolution": {c.name: convolution_abilities(c) for c in convolutions()},
        }


def linear_abilities(contender: Contender) -> dict[str, Any]:
    """Those of one linear layer."""

    def build(inputs: int = 12, outputs: int = 12, **options: Any) -> Build:
        return _seeded(partial(contender.build, inputs, outputs, **options))

    tries = {
        "norm at most 1": lambda: norm(build(), (12,)),
        "more outputs": lambda: norm(build(8, 16), (8,)),
        "fewer outputs": lambda: norm(build(16, 8), (16,)),
        "orthogonal": lambda: orthogonal(build(), (12,)),
        **_common(build(), (12,)),
    }
    return {name: _attempt(function) for name, function in tries.items()}


def convolution_abilities(contender: Contender) -> dict[str, Any]:
    """Those of one convolution."""

    def build(
        inputs: int = 8,
        outputs: int = 8,
        kernel: int = 3,
        module: Callable = contender.build,
        **o: Any,
    ) -> Build:
        options = {"padding": 1, "padding_mode": "circular"} | o
        return _seeded(partial(module, inputs, outputs, kernel, **options))

    image = (8, SIDE, SIDE)
    tries = {
        "circular padding": lambda: norm(build(), image),
        "zero padding": lambda: norm(build(padding_mode="zeros"), image),
        "stride 2": lambda: norm(build(8, 16, stride=2), image),
        "4x4, stride 2": lambda: norm(build(8, 32, 4, stride=2), image),
        "more channels out": lambda: norm(build(8, 16), image),
        "fewer channels out": lambda: norm(build(8, 4), image),
        "groups": lambda: norm(build(groups=2), image),
        "dilation": lambda: norm(build(dilation=2, padding=2), image),
        "stride 3": lambda: norm(build(stride=3), (8, 9, 9)),
        "2x2 kernel": lambda: norm(build(kernel=2, padding=0), image),
        "3x1 kernel": lambda: norm(build(kernel=(3, 1), padding=(1, 0)), image),
        "orthogonal": lambda: orthogonal(build(), image),
        "orthogonal, stride 2": lambda: orthogonal(build(8, 16, stride=2), image),
        "orthogonal, 4x4, stride 2": lambda: orthogonal(build(8, 32, 4, stride=2), image),
    }
    shapes = {"transposed": image, "1-D": (8, SIDE), "3-D": (8, 4, 4, 4)}
    others = relatives(contender.name)
    for kind, shape in shapes.items():
        module = others.get(kind)
        other = build(module=module, padding_mode="zeros") if module else _missing
        tries[kind] = partial(norm, other, shape)
    tries |= _common(build(), image)
    return {name: _attempt(function) for name, function in tries.items()}


def _common(build: Build, shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    return {
        "norm at most 1 for any parameters": lambda: norm_after_a_wild_step(build, shape),
        "built in float64": lambda: built_in_float64(build, shape),
        "converted to float64": lambda: converted_to_float64(build, shape),
        "exact gradient": lambda: exact_gradient(build, shape),
        "evaluation changes nothing": lambda: stateless(build, shape),
        "evaluation sees the last step": lambda: up_to_date(build, shape),
        "exports to a plain layer": lambda: exports(build, shape),
        "many models at once (vmap)": lambda: batched(build, shape),
        "gradient penalty": lambda: gradient_penalty(build, shape),
        "second derivative in the weight": lambda: second_derivative(build, shape),
        "empty batch": lambda: empty_batch(build, shape),
    }


def _missing() -> nn.Module:
    raise NotImplementedError("no such layer")


def _seeded(build: Build) -> Build:
    def built(seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return build()

    return built


def _attempt(function: Callable[[], Any]) -> dict[str, Any]:
    try:
        outcome = function()
    except Exception as error:  # whatever a peer raises is the answer
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        return {"holds": False, "value": None, "why": why[:200]}
    holds, value = outcome if isinstance(outcome, tuple) else (outcome, None)
    return {"holds": bool(holds), "value": value, "why": None}


def matrix_of(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix of the linear part: images of the unit vectors less that of 0, in one batch."""
    size = torch.Size(shape).numel()
    dtype = next(layer.parameters()).dtype
    units = torch.cat((torch.eye(size, dtype=dtype), torch.zeros(1, size, dtype=dtype)))
    with torch.no_grad():
        images = layer(units.reshape(size + 1, *shape)).flatten(1).double()
    return (images[:-1] - images[-1]).mT


def trained(build: Build, shape: tuple[int, ...]) -> nn.Module:
    """After some steps of Adam towards outputs that are too large for the constraint."""
    layer = build().train()
    x = torch.randn(16, *shape)
    with torch.no_grad():
        target = 3 * torch.randn_like(layer(x))
    optimizer = torch.optim.Adam(layer.parameters(), lr=LR)
    for _ in range(TRAINING_STEPS):
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        optimizer.step()
    return layer


def _values(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    return torch.linalg.svdvals(matrix_of(layer, shape))


def norm(build: Build, shape: tuple[int, ...]) -> tuple[bool, float]:
    """The largest singular value less 1, after training, in evaluation mode."""
    excess = _values(trained(build, shape).eval(), shape).max().item() - 1
    return excess <= NORM_TOLERANCE, excess


def orthogonal(build: Build, shape: tuple[int, ...]) -> tuple[bool, float]:
    """The largest distance of a singular value from 1, after training, in evaluation mode."""
    distance = (_values(trained(build, shape).eval(), shape) - 1).abs().max().item()
    return distance <= ORTHOGONAL_TOLERANCE, distance


def norm_after_a_wild_step(build: Build, shape: tuple[int, ...]) -> tuple[bool, float]:
    """Largest singular value less 1 at once after steps ten times as long as the parameters.

    The worst of ten steps, random in all entries that have a gradient, in both modes.
    """
    worst = -1.0
    for seed in range(10):
        layer = trained(build, shape)
        layer(torch.randn(16, *shape)).square().sum().backward()
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in _trainable(layer):
                size = parameter.square().mean().sqrt()
                moves = parameter.grad is None or parameter.grad != 0
                parameter.add_(10 * size * moves * torch.randn_like(parameter))
        for mode in (False, True):
            worst = max(worst, _values(layer.train(mode), shape).max().item() - 1)
    return worst <= NORM_TOLERANCE, worst


def converted_to_float64(build: Build, shape: tuple[int, ...]) -> tuple[bool, float]:
    """The largest singular value less 1, in float64, of a float32 layer after ``.double()``."""
    layer = trained(build, shape).double()
    with torch.no_grad():
        layer.train()(torch.zeros(2, *shape, dtype=torch.float64))
    excess = _values(layer.eval(), shape).max().item() - 1
    return excess <= FLOAT64_TOLERANCE, excess


def built_in_float64(build: Build, shape: tuple[int, ...]) -> tuple[bool, float]:
    """The same of a layer that was built and trained in float64."""
    with _float64():
        return converted_to_float64(build, shape)


def exact_gradient(build: Build, shape: tuple[int, ...]) -> tuple[bool, float]:
    """Relative error of the derivative along the gradient, against a central difference.

    In float64 and training mode, each pass from the same stored state; along the bias it would be
    exact for all.
    """
    with _float64():
        layer = trained(build, shape).train()
        layer.bias.requires_grad_(False)
        layer.zero_grad()
        x = torch.randn(4, *shape)
        copied = copy.deepcopy(layer)
        output = copied(x).sin().sum()
        if not output.requires_grad:
            raise RuntimeError("the weight gets no gradient")
        gradients = torch.autograd.grad(output, _trainable(copied))
        length = torch.stack([g.norm() for g in gradients]).norm()

        def loss(move: float) -> float:
            moved = copy.deepcopy(layer)
            with torch.no_grad():
                for parameter, along in zip(_trainable(moved), gradients, strict=True):
                    parameter.add_(move * along / length)
                return moved(x).sin().sum().item()

        step = 1e-6
        difference = (loss(step) - loss(-step)) / (2 * step)
    error = abs(length.item() - difference) / length.item()
    return error <= GRADIENT_TOLERANCE, error


@contextmanager
def _float64() -> Iterator[None]:
    """Build and compute in float64, whatever options a layer takes."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def _trainable(layer: nn.Module) -> list[nn.Parameter]:
    return [p for p in layer.parameters() if p.requires_grad]


def stateless(build: Build, shape: tuple[int, ...]) -> tuple[bool, float]:
    """Change of the output between two passes in evaluation mode; what is stored must stay too."""
    layer = trained(build, shape).eval()
    before = copy.deepcopy(layer.state_dict())
    x = torch.randn(4, *shape)
    with torch.no_grad():
        change = (layer(x) - layer(x)).abs().max().item()
    after = layer.state_dict()
    same = all(torch.equal(before[name], after[name]) for name in before)
    return same and change == 0, change


def up_to_date(build: Build, shape: tuple[int, ...]) -> tuple[bool, float]:
    """Relative change of the output from evaluation mode, right after a step, to training mode."""
    layer = trained(build, shape)
    x = torch.randn(4, *shape)
    with torch.no_grad():
        evaluated, fresh = layer.eval()(x), layer.train()(x)
    change = ((evaluated - fresh).norm() / fresh.norm()).item()
    return change <= NORM_TOLERANCE, change


def exports(build: Build, shape: tuple[int, ...]) -> tuple[bool, float]:
    """Change of the output when the package's own means make it a plain layer of PyTorch."""
    layer = trained(build, shape).eval()
    x = torch.randn(4, *shape)
    with torch.no_grad():
        expected = layer(x)
        plain = _exported(layer)
        change = (plain(x) - expected).abs().max().item()
    return not parametrize.is_parametrized(plain) and change < 1e-5, change


def _exported(layer: nn.Module) -> nn.Module:
    if isinstance(layer, (OrthogonalLinear, SpectralLinear, OrthogonalConv2d)):
        return fold(layer)
    if hasattr(layer, "vanilla_export"):
        return layer.vanilla_export()
    if parametrize.is_parametrized(layer, "weight"):
        return parametrize.remove_parametrizations(layer, "weight")
    return layer


def batched(build: Build, shape: tuple[int, ...]) -> bool:
    """Two models by ``torch.vmap``: the outputs of each, and a backward pass."""
    models = [build(0)]
    models.append(copy.deepcopy(models[0]))  # of the same class, parametrized or not
    models[1].load_state_dict(build(1).state_dict())
    x = torch.randn(4, *shape)
    parameters, buffers = torch.func.stack_module_state(models)
    with torch.no_grad():
        expected = torch.stack([copy.deepcopy(model)(x) for model in models])

    def apply(p: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(models[0], (p, b), (x,))

    outputs = torch.vmap(apply)(parameters, buffers)
    outputs.square().sum().backward()
    return _finite_gradients(parameters.values()) and torch.allclose(outputs, expected, atol=1e-4)


def gradient_penalty(build: Build, shape: tuple[int, ...]) -> bool:
    """The gradient in the weight of the gradient in the input."""
    layer = build().train()
    x = torch.randn(4, *shape, requires_grad=True)
    gradient = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)[0]
    gradient.square().sum().backward()
    return _finite_gradients(layer.parameters())


def _finite_gradients(parameters: Iterable[Tensor]) -> bool:
    found = [p.grad for p in parameters if p.grad is not None]
    return bool(found) and all(bool(g.isfinite().all()) for g in found)


def second_derivative(build: Build, shape: tuple[int, ...]) -> bool:
    """The gradient of the squared gradient in the free weight."""
    layer = build().train()
    parameters = [p for n, p in layer.named_parameters() if p.requires_grad and "bias" not in n]
    loss = layer(torch.randn(4, *shape)).square().sum()
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    again = torch.autograd.grad(sum(g.square().sum() for g in gradients), parameters)
    return all(bool(g.isfinite().all()) for g in again)


def empty_batch(build: Build, shape: tuple[int, ...]) -> bool:
    """Zero inputs give zero outputs, forward and backward."""
    output = build().train()(torch.zeros(0, *shape))
    output.sum().backward()
    return len(output) == 0

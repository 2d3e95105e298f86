"""One training loop, for one model or for many independent ones as a single batched program."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import stack_module_state

from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.training.batching import BatchedLoss, mean_square
from lipsplines.training.streams import epoch_order
from lipsplines.training.tracing import trace

__all__ = [
    "TrainingError",
    "build_models",
    "fit_regression",
    "parameter_groups",
    "write_back",
]

COEFFICIENT_RATE, SCALE_RATE = 1 / 40, 1 / 4
LONG = 1000  # steps from which on tracing, half a second, pays


class TrainingError(RuntimeError):
    """The training diverged: a loss is NaN or infinite."""


def parameter_groups(
    model: nn.Module, lr: float, parameters: Mapping[str, Tensor] | None = None
) -> list[dict]:
    """Optimizer groups with learning rates ``lr``, ``lr / 40`` and ``lr / 4``.

    The second rate is for the coefficients of `LinearSpline` modules, the third for their scales
    (the authors' settings for Ducotterd et al. 2024), the first for everything else, the slopes,
    angles and thresholds of other activations among it.

    Parameters
    ----------
    model
        The model.
    lr
        Learning rate of the weights, positive.
    parameters
        Tensors to use in place of the model's own, by name: for a batch of models, the stacked
        parameters.

    Returns
    -------
    list of dict
        Groups ``weights``, ``coefficients``, ``scales``, the non-empty ones, for any
        ``torch.optim`` optimizer. A shared parameter appears once.

    Raises
    ------
    ValueError
        If `lr` is not a positive number.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import LinearSpline, OrthogonalLinear, parameter_groups
    >>> model = nn.Sequential(OrthogonalLinear(2, 3), LinearSpline(3))
    >>> [(group["name"], round(group["lr"], 4)) for group in parameter_groups(model, lr=0.4)]
    [('weights', 0.4), ('coefficients', 0.01), ('scales', 0.1)]
    """
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a positive number, got {lr!r}.")
    rates = {"weights": lr, "coefficients": lr * COEFFICIENT_RATE, "scales": lr * SCALE_RATE}
    groups: dict[str, dict[str, Any]] = {
        kind: {"name": kind, "params": [], "lr": rate} for kind, rate in rates.items()
    }
    kinds = {}
    for module in model.modules():
        if isinstance(module, LinearSpline):
            for name, own in module.named_parameters():  # of a parametrization, too
                kinds[id(own)] = "scales" if "log_scale" in name else "coefficients"
    for name, own in model.named_parameters():
        tensor = own if parameters is None else parameters[name]
        groups[kinds.get(id(own), "weights")]["params"].append(tensor)
    return [group for group in groups.values() if group["params"]]


def build_models(build: Callable[[], Any], seeds: Iterable[int]) -> list[Any]:
    """One model for each seed, each exactly as if it were built alone after ``manual_seed``.

    Parameters
    ----------
    build
        From nothing to a model.
    seeds
        For ``torch.manual_seed``, one for each model.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.training.regression import build_models
    >>> first, second = build_models(lambda: torch.nn.Linear(2, 1), seeds=[3, 3])
    >>> torch.equal(first.weight, second.weight)
    True
    """
    models = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            models.append(build())
    return models


def fit_regression(
    models: Sequence[nn.Module],
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    tv2_weights: float | Sequence[float] = 0.0,
    seeds: Sequence[int],
    on_epoch: Callable[[int, Tensor], None] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = mean_square,
) -> Tensor:
    """Fit independent models, by least squares or another loss, all in one batched program.

    Model ``m`` minimises ``mean |f_m(x) - y|^2 + tv2_weights[m] TV2(f_m)`` with Adam over
    minibatches of its own data. The models share their architecture and nothing else: the result
    is that of training each alone (floating-point summation order aside).

    Parameters
    ----------
    models
        ``M`` modules of one architecture; trained in place.
    inputs, targets
        Shapes ``(M, P, *in)`` and ``(M, P, *out)``: the ``P`` points of each model.
    epochs, batch_size
        Passes over the data, and points in a step; a last, incomplete batch is left out.
    lr
        Learning rate of the weights; see `parameter_groups`.
    tv2_weights
        The regularization weight, one for all models or one for each.
    seeds
        ``M`` seeds, one for the order in which each model sees its points (`epoch_order`).
    on_epoch
        Called after each epoch with its number, from 1, and the mean loss ``(M,)`` over it.
    loss
        In place of the mean squared error: from outputs and targets of a batch to a scalar.

    Returns
    -------
    Tensor
        Mean training loss of each model in each epoch, shape ``(M, epochs)``.

    Raises
    ------
    ValueError
        If the shapes do not fit together or a setting is out of its domain.
    TrainingError
        If a loss becomes NaN or infinite; the message names the models and the epoch.

    Notes
    -----
    Small models spend their time between operations. A long run therefore traces the operations of
    a step once and repeats them (`tracing.trace`), with equal results: a forward pass has to do
    the same at every step, and buffers stay as they are.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.models.mlp import MLP
    >>> from lipsplines.training.regression import build_models, fit_regression
    >>> models = build_models(lambda: MLP((1, 4, 1), "spline-relu"), seeds=[0, 1])
    >>> x = torch.linspace(-1, 1, 32).view(1, 32, 1).repeat(2, 1, 1)  # the points of both models
    >>> losses = fit_regression(
    ...     models, x, x.abs(), epochs=5, batch_size=8, lr=0.01, tv2_weights=1e-6, seeds=[0, 1]
    ... )
    >>> losses.shape, bool((losses[:, -1] < losses[:, 0]).all())
    (torch.Size([2, 5]), True)
    """
    _check_fit_arguments(models, inputs, targets, epochs, batch_size, seeds, tv2_weights)
    parameters, buffers = stack_module_state(list(models))
    optimizer = torch.optim.Adam(parameter_groups(models[0], lr, parameters), fused=True)
    trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
    weights = torch.as_tensor(tv2_weights, dtype=inputs.dtype, device=inputs.device)
    state = weights.expand(len(models)), *parameters.values(), *buffers.values()
    points = inputs.shape[1]
    steps = points // batch_size
    program: Callable[..., Sequence[Any]] = BatchedLoss(models[0], parameters, buffers, loss)
    if epochs * steps >= LONG:
        program = trace(program, *(_first(data, batch_size) for data in (inputs, targets)), *state)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    history = []
    for epoch in range(1, epochs + 1):
        order = torch.stack([epoch_order(points, generator) for generator in generators])
        order = order[:, : steps * batch_size].to(inputs.device).unflatten(1, (steps, batch_size))
        total = torch.zeros(len(models), dtype=inputs.dtype, device=inputs.device)
        for x, y in zip(_take(inputs, order), _take(targets, order), strict=True):
            losses, *gradients = program(x, y, *state)
            for parameter, gradient in zip(trained, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            total += losses
        history.append(total / steps)
        if not bool(history[-1].isfinite().all()):
            bad = (~history[-1].isfinite()).nonzero().flatten().tolist()
            raise TrainingError(
                f"The loss of model(s) {bad} became NaN or infinite in epoch {epoch}; "
                "lower the learning rate or check the data."
            )
        if on_epoch is not None:
            on_epoch(epoch, history[-1])
    write_back(models, parameters)
    return torch.stack(history, 1)


def _first(data: Tensor, count: int) -> Tensor:
    """The first points of each model, in memory as `_take` leaves them."""
    return data[:, :count].contiguous()


def _take(data: Tensor, order: Tensor) -> Tensor:
    """``data[m, order[m]]`` for each model ``m``, step by step: ``(steps, M, batch, ...)``."""
    index = torch.arange(len(data), device=data.device).view(1, -1, 1)
    return data[index, order.transpose(0, 1).contiguous()]


def write_back(models: Sequence[nn.Module], parameters: Mapping[str, Tensor]) -> None:
    """Copy stacked parameters into the models that they belong to.

    Parameters
    ----------
    models
        ``M`` modules of one architecture.
    parameters
        Name -> tensor whose first dimension has ``M`` entries.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.training.regression import write_back
    >>> models = [torch.nn.Linear(1, 1) for _ in range(2)]
    >>> write_back(models, {"weight": torch.ones(2, 1, 1), "bias": torch.zeros(2, 1)})
    >>> models[1].weight.item()
    1.0
    """
    with torch.no_grad():
        for index, model in enumerate(models):
            for name, own in model.named_parameters():
                own.copy_(parameters[name][index])


def _check_fit_arguments(
    models: Sequence[nn.Module],
    inputs: Tensor,
    targets: Tensor,
    epochs: int,
    batch_size: int,
    seeds: Sequence[int],
    tv2_weights: float | Sequence[float],
) -> None:
    if not models:
        raise ValueError("models is empty: give at least one.")
    count = len(models)
    if not (len(inputs) == len(targets) == len(seeds) == count):
        raise ValueError(
            f"{count} models need as many sets of inputs, targets and seeds, got {len(inputs)}, "
            f"{len(targets)} and {len(seeds)}."
        )
    kinds = {re.sub(r"init='[^']*'", "", repr(model)) for model in models}  # starts may differ
    if len(kinds) > 1:
        raise ValueError(
            "The models differ in more than their parameters, and only those of one architecture "
            "with the same settings are trained as one; fit the others by themselves."
        )
    if inputs.shape[1] != targets.shape[1]:
        raise ValueError(f"{inputs.shape[1]} inputs but {targets.shape[1]} targets for each model.")
    if epochs < 1 or not 1 <= batch_size <= inputs.shape[1]:
        raise ValueError(
            f"epochs must be at least 1 and batch_size in [1, {inputs.shape[1]}], "
            f"got {epochs} and {batch_size}."
        )
    for name, tensor in (("inputs", inputs), ("targets", targets)):
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} hold NaN or infinite values.")
    weights = torch.as_tensor(tv2_weights, dtype=torch.float64)
    if weights.shape not in ((), (count,)) or not bool((weights >= 0).all()):
        raise ValueError(
            f"tv2_weights must be one number for all {count} models or one for each, none "
            f"negative, got {tv2_weights!r}."
        )

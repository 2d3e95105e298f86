"""Training of many 1-Lipschitz classifiers of one architecture as a single batched program."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import stack_module_state
from torch.nn import functional

from lipsplines.training.batching import BatchedLoss
from lipsplines.training.regression import TrainingError, parameter_groups, write_back
from lipsplines.training.streams import epoch_order

__all__ = ["fit_classifiers", "tempered_cross_entropy"]


def tempered_cross_entropy(logits: Tensor, labels: Tensor, temperature: Tensor | float) -> Tensor:
    """Cross entropy of ``temperature * logits``, divided by the temperature.

    (Béthune et al. 2022.) A 1-Lipschitz classifier cannot scale its logits, so that their scale is
    part of the loss: a small temperature rewards large margins of all images, a large one looks at
    images near the border of their class.

    Parameters
    ----------
    logits, labels
        Shapes ``(N, classes)`` and ``(N,)``.
    temperature
        Positive.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.training.classification import tempered_cross_entropy
    >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    >>> values = [tempered_cross_entropy(logits, labels, t).item() for t in (1.0, 4.0)]
    >>> [round(value, 4) for value in values]
    [0.1269, 0.0001]
    """
    return functional.cross_entropy(temperature * logits, labels) / temperature


def fit_classifiers(
    models: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    temperatures: Sequence[float],
    tv2_weight: float = 0.0,
    seeds: Sequence[int],
) -> Tensor:
    """Train independent classifiers on the same images, all in one batched program.

    Model ``m`` minimises `tempered_cross_entropy` at its own temperature, and ``tv2_weight TV2``,
    by Adam with a rate that falls to zero along a cosine. The models share architecture and images
    and nothing else: the result is that of training each alone (summation order aside).

    Parameters
    ----------
    models
        ``M`` modules of one architecture, from images to logits; trained in place.
    images, labels
        Shapes ``(P, *in)`` and ``(P,)``, int64.
    steps, batch_size
        Number of steps, and images in each of them.
    lr
        First learning rate of the weights; see `regression.parameter_groups`.
    temperatures
        ``M`` positive numbers.
    tv2_weight
        Of the regularization of splines.
    seeds
        ``M`` seeds, one for the order in which each model sees the images.

    Returns
    -------
    Tensor
        Loss of each model in each step, shape ``(M, steps)``.

    Raises
    ------
    ValueError
        If the numbers of models, temperatures and seeds differ or a setting is out of its domain.
    TrainingError
        If a loss becomes NaN or infinite.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.models.mlp import MLP
    >>> from lipsplines.training.classification import fit_classifiers
    >>> from lipsplines.training.regression import build_models
    >>> models = build_models(lambda: MLP((2, 8, 2), "absolute"), seeds=[0, 1])
    >>> x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    >>> losses = fit_classifiers(
    ...     models,
    ...     x,
    ...     (x[:, 0].abs() > 1).long(),
    ...     steps=40,
    ...     batch_size=16,
    ...     lr=0.05,
    ...     temperatures=[1.0, 4.0],
    ...     seeds=[0, 1],
    ... )
    >>> losses.shape, bool((losses[:, -10:].mean(1) < losses[:, :10].mean(1)).all())
    (torch.Size([2, 40]), True)
    """
    _check(models, images, labels, steps, batch_size, temperatures, seeds)
    parameters, buffers = stack_module_state(list(models))
    trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameter_groups(models[0], lr, parameters), fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    program = BatchedLoss(
        models[0], parameters, buffers, lambda logits, y: tempered_cross_entropy(logits, *y)
    )
    scale = torch.tensor(list(temperatures), dtype=images.dtype, device=images.device)
    state = torch.full_like(scale, tv2_weight), *parameters.values(), *buffers.values()
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    in_pass = len(images) // batch_size
    history = []
    for step in range(steps):
        place = step % in_pass
        if place == 0:
            order = torch.stack([epoch_order(len(images), stream) for stream in generators])
        rows = order[:, place * batch_size : (place + 1) * batch_size].to(images.device)
        losses, *gradients = program(images[rows], (labels[rows], scale), *state)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        schedule.step()
        history.append(losses)
    found = torch.stack(history, 1)
    bad = (~found.isfinite()).any(1).nonzero().flatten().tolist()
    if bad:
        raise TrainingError(
            f"The loss of model(s) {bad} became NaN or infinite; lower the learning rate or check "
            "the data."
        )
    write_back(models, parameters)
    return found


def _check(
    models: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    steps: int,
    batch_size: int,
    temperatures: Sequence[float],
    seeds: Sequence[int],
) -> None:
    if not models or not len(models) == len(temperatures) == len(seeds):
        raise ValueError(
            f"{len(models)} models need as many temperatures and seeds, and at least one of each, "
            f"got {len(temperatures)} and {len(seeds)}."
        )
    if len(images) != len(labels) or labels.dtype != torch.int64:
        raise ValueError(
            f"{len(images)} images need as many labels of type int64, got {len(labels)} of type "
            f"{labels.dtype}."
        )
    if steps < 1 or not 1 <= batch_size <= len(images):
        raise ValueError(
            f"steps must be at least 1 and batch_size in [1, {len(images)}], got {steps} and "
            f"{batch_size}."
        )
    if not all(0 < temperature < float("inf") for temperature in temperatures):
        raise ValueError(f"temperatures must be positive numbers, got {list(temperatures)}.")
    if not bool(images.isfinite().all()):
        raise ValueError("images hold NaN or infinite values.")

"""Fit functions of one variable with many networks at once, and certify each of them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from lipsplines import splines
from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.datasets import TARGETS_1D, target_1d
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments.fitting1d.protocol import KNOT_CHANGE
from lipsplines.models.mlp import MLP
from lipsplines.nn.linear_spline import LinearSpline, tv2
from lipsplines.runner.base import Outcome, Settings
from lipsplines.training.regression import build_models, fit_regression

__all__ = ["build", "compute", "initial_model", "test_set", "train_set", "trained_model"]


def build(settings: Settings) -> MLP:
    """The network of a cell, with fresh weights from the global random state."""
    spline = settings["spline"]
    options = None
    if spline is not None:
        options = {key: value for key, value in spline.items() if key != "tv2_weight"}
    layers = None
    if settings["constraint"] == "orthogonal":
        layers = {"iterations": settings["bjorck_iterations"]}
    hidden = [settings["width"]] * settings["hidden_layers"]
    return MLP((1, *hidden, 1), settings["activation"], settings["constraint"], options, layers)


def initial_model(settings: Settings, index: int) -> MLP:
    """Model `index` of a cell before training."""
    return build_models(lambda: build(settings), [_seed(settings, "weights", index)])[0]


def trained_model(store: Store, record: Record) -> MLP:
    """The median model of a cell after training, from the weights beside its record."""
    prefix = "model."
    tensors = store.tensors(record).items()
    model = initial_model(record.settings, record.metrics["median_model"])
    model.load_state_dict(
        {name.removeprefix(prefix): t for name, t in tensors if name.startswith(prefix)}
    )
    return model


def test_set(settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Equispaced test points and the target there, each of shape ``(test_points, 1)``."""
    points = np.linspace(-1.0, 1.0, settings["test_points"])
    values = target_1d(settings["target"])(points)
    return _column(points), _column(values)


def compute(group: list[Settings]) -> list[Outcome]:
    """Train all models of a group as one batch; one outcome for each cell."""
    models, inputs, targets, weights, orders = [], [], [], [], []
    for settings in group:
        count = settings["models"]
        seeds = [_seed(settings, "weights", index) for index in range(count)]
        models += build_models(functools.partial(build, settings), seeds)
        for index in range(count):
            x, y = train_set(settings, index)
            inputs.append(x)
            targets.append(y)
            orders.append(_seed(settings, "order", index))
        weights += [settings["spline"]["tv2_weight"] if settings["spline"] else 0.0] * count
    first = group[0]
    history = fit_regression(
        models,
        torch.stack(inputs),
        torch.stack(targets),
        epochs=first["epochs"],
        batch_size=first["batch_size"],
        lr=first["lr"],
        tv2_weights=weights,
        seeds=orders,
    )
    outcomes, start = [], 0
    for settings in group:
        own = slice(start, start + settings["models"])
        outcomes.append(_evaluate(settings, models[own], history[own]))
        start = own.stop
    return outcomes


@torch.no_grad()
def _evaluate(settings: Settings, models: list[MLP], history: torch.Tensor) -> Outcome:
    x, y = test_set(settings)
    errors = [(model(x) - y).double().square().mean().item() for model in models]
    probes = torch.linspace(-1.0, 1.0, 401, dtype=torch.float64).unsqueeze(1)
    bounds = [lipschitz_bounds(model, probes=probes) for model in models]
    metrics: dict[str, Any] = {
        "test_mse": errors,
        "train_loss": history[:, -1].tolist(),
        "lipschitz_lower": [lower for lower, _ in bounds],
        "lipschitz_upper": [upper for _, upper in bounds],
        "median_model": int(np.argsort(errors, kind="stable")[(len(errors) - 1) // 2]),
    }
    if settings["spline"]:
        metrics["tv2"] = [tv2(model).item() for model in models]
        metrics["knots"] = [_count_knots(model) for model in models]
    kept = models[metrics["median_model"]].state_dict()
    epochs = np.unique(np.geomspace(1, settings["epochs"], settings["curve_points"]).astype(int))
    tensors = {f"model.{name}": value for name, value in kept.items()}
    tensors["curve.epoch"] = torch.from_numpy(epochs)
    tensors["curve.loss"] = history[:, epochs - 1]
    lipschitz = {"lower": max(b[0] for b in bounds), "upper": max(b[1] for b in bounds)}
    return Outcome(metrics, lipschitz, tensors)


def _count_knots(model: MLP) -> float:
    """Mean number of knots of an activation, of those with a change above `KNOT_CHANGE`."""
    counts = []
    for module in model.modules():
        if isinstance(module, LinearSpline):
            slopes = splines.slopes(module.projected_coefficients, module.spacing)
            counts.append((slopes.diff(dim=-1).abs() > KNOT_CHANGE).sum(-1))
    return torch.cat(counts).double().mean().item()


def train_set(settings: Settings, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Training points of model `index`, uniform in [-1, 1]: the same for every activation."""
    words = [settings["seed"], TARGETS_1D.index(settings["target"]), index]
    points: Any = np.random.default_rng(words).uniform(-1.0, 1.0, settings["train_points"])
    return _column(points), _column(target_1d(settings["target"])(points))


def _seed(settings: Settings, purpose: str, index: int) -> int:
    words = [settings["seed"], ("weights", "order").index(purpose), index]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _column(values: Any) -> torch.Tensor:
    return torch.from_numpy(values).to(torch.float32).unsqueeze(1)

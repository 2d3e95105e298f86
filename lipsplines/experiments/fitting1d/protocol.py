"""Fitting 1-Lipschitz functions of one variable (Ducotterd et al. 2024, Section 5.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np
import torch

from lipsplines import splines
from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.datasets import TARGETS_1D, target_1d
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments.fitting1d.tables import text
from lipsplines.models.mlp import MLP
from lipsplines.nn.linear_spline import LinearSpline, tv2
from lipsplines.runner.base import Experiment, Outcome, Settings
from lipsplines.training.regression import build_models, fit_regression

__all__ = [
    "ABLATIONS",
    "EXPERIMENT",
    "KNOT_CHANGE",
    "PROFILE_SIZES",
    "Sizes",
    "build",
    "initial_model",
    "test_set",
    "trained_model",
]

REVISION = 1  # raised whenever the method changes, so that old records are not taken for new ones

CONSTRAINTS = ("orthogonal", "spectral")
ACTIVATIONS = (
    "spline-relu",
    "relu",
    "absolute",
    "prelu",
    "groupsort-2",
    "groupsort-5",
    "householder",
    "spline-absolute",
    "spline-identity",
    "spline-maxmin",
)
SPLINE = {
    "num_coefficients": 101,
    "range_": 0.5,
    "constraint": "project",
    "scaling": True,
    "tv2_weight": 1e-7,
}
KNOT_CHANGE = 0.01  # knots count if the slope changes there by more than this
# One change each to the spline of the main table, at the first width, orthogonal weights.
ABLATIONS: dict[str, dict[str, Any]] = {
    "lambda=0": {"tv2_weight": 0.0},
    "lambda=1e-6": {"tv2_weight": 1e-6},
    "lambda=1e-5": {"tv2_weight": 1e-5},
    "lambda=1e-4": {"tv2_weight": 1e-4},
    "no scaling": {"scaling": False},
    "normalized": {"constraint": "normalize"},
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change: sizes, never the method."""

    models: int
    epochs: int
    train_points: int
    test_points: int
    widths: tuple[int, ...]
    curve_points: int = 50
    hidden_layers: int = 3
    batch_size: int = 10
    lr: float = 2e-3
    bjorck_iterations: int = 15


PROFILE_SIZES = {
    "smoke": Sizes(models=3, epochs=2, train_points=100, test_points=1_000, widths=(10,)),
    "quick": Sizes(models=10, epochs=20, train_points=1_000, test_points=10_000, widths=(10,)),
    "paper": Sizes(
        models=25, epochs=1_000, train_points=1_000, test_points=10_000, widths=(10, 20, 50)
    ),
}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: the main table width by width, then the ablations."""
    sizes = PROFILE_SIZES[profile]

    def cell(target, activation, constraint, width, changes=None) -> Settings:
        is_spline = activation.startswith("spline-")
        return {
            "experiment": "fitting1d",
            "revision": REVISION,
            "profile": profile,
            "target": target,
            "activation": activation,
            "constraint": constraint,
            "width": width,
            "hidden_layers": sizes.hidden_layers,
            "spline": {**SPLINE, **(changes or {})} if is_spline else None,
            "models": sizes.models,
            "epochs": sizes.epochs,
            "batch_size": sizes.batch_size,
            "train_points": sizes.train_points,
            "test_points": sizes.test_points,
            "curve_points": sizes.curve_points,
            "lr": sizes.lr,
            "bjorck_iterations": sizes.bjorck_iterations if constraint == "orthogonal" else None,
            "seed": seed,
        }

    table = [
        cell(target, activation, constraint, width)
        for width in sizes.widths
        for constraint in CONSTRAINTS
        for activation in ACTIVATIONS
        for target in TARGETS_1D
    ]
    ablations = [
        cell(target, ACTIVATIONS[0], CONSTRAINTS[0], sizes.widths[0], changes)
        for changes in ABLATIONS.values()
        for target in TARGETS_1D
    ]
    first_width = len(table) // len(sizes.widths)
    return [*table[:first_width], *ablations, *table[first_width:]]


def group(settings: Settings) -> Hashable:
    """Targets train together, and so do the regularization weights other than the default."""
    spline = settings["spline"]
    if spline is not None:
        main = spline["tv2_weight"] == SPLINE["tv2_weight"]
        spline = (main, *sorted((k, str(v)) for k, v in spline.items() if k != "tv2_weight"))
    return settings["activation"], settings["constraint"], settings["width"], spline


def cost(group: list[Settings]) -> float:
    """Rough cost of a group: for each step a fixed part, and one that grows with the models.

    The latter has a part for each number, more of it with splines, and one for matrix products.
    """
    first = group[0]
    models = sum(settings["models"] for settings in group)
    width = first["width"] / 10
    numbers, products = (2.5, 0.5) if first["constraint"] == "orthogonal" else (1.2, 0.12)
    numbers += 3.5 if first["spline"] else 0.0
    work = 75 + models * (numbers * width + products * width**3)
    return first["epochs"] * (first["train_points"] / first["batch_size"]) * work


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
        models += build_models(lambda settings=settings: build(settings), seeds)
        for index in range(count):
            x, y = _train_set(settings, index)
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


def _train_set(settings: Settings, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Training points of model `index`, uniform in [-1, 1]: the same for every activation."""
    words = [settings["seed"], TARGETS_1D.index(settings["target"]), index]
    points = np.random.default_rng(words).uniform(-1.0, 1.0, settings["train_points"])
    return _column(points), _column(target_1d(settings["target"])(points))


def _seed(settings: Settings, purpose: str, index: int) -> int:
    words = [settings["seed"], ("weights", "order").index(purpose), index]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _column(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).to(torch.float32).unsqueeze(1)


EXPERIMENT = Experiment(
    name="fitting1d",
    title="Fitting 1-Lipschitz functions of one variable",
    minutes={"smoke": 0.5, "quick": 4.0, "paper": 1220.0},
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=text,
)

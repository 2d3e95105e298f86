"""Train flows by maximum likelihood, many at once, and evaluate them exactly."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments.flow.laws import DIMENSIONS, log_density, sample
from lipsplines.models.flows import InvertibleFlow, Likelihood
from lipsplines.models.mlp import MLP
from lipsplines.nn.linear_spline import tv2
from lipsplines.runner.base import Outcome, Settings
from lipsplines.training.regression import build_models, fit_regression

__all__ = ["build", "compute", "inverse_errors", "standardized", "test_set", "trained_flow"]

TEST = 1_000_000  # number of the "model" whose points test all of them


def build(settings: Settings) -> Likelihood:
    """A flow with its loss, with fresh weights from the global random state."""
    options = {k: v for k, v in (settings["spline"] or {}).items() if k != "tv2_weight"}
    dimension = DIMENSIONS[settings["law"]]
    sizes = (dimension, *[settings["width"]] * settings["hidden_layers"], dimension)
    networks = [
        MLP(sizes, settings["activation"], settings["constraint"], options)
        for _ in range(settings["blocks"])
    ]
    return Likelihood(InvertibleFlow(networks, settings["lipschitz"]), settings["step"])


def trained_flow(store: Store, record: Record) -> InvertibleFlow:
    """The median flow of a run, in float64: from standardised points to images."""
    flow = build(record.settings).flow
    flow.load_state_dict(store.tensors(record))
    return flow.double().eval()


def test_set(settings: Settings) -> np.ndarray:
    """Points that test every flow of a law, shape ``(test_points, D)``."""
    return _points(settings, TEST, settings["test_points"])


def standardized(settings: Settings, index: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Training points of a model with mean 0 and deviation 1, and the mean and deviation."""
    points = _points(settings, index, settings["train_points"])
    mean, deviation = points.mean(0), points.std(0)
    return torch.from_numpy((points - mean) / deviation).float(), mean, deviation


def inverse_errors(flow: InvertibleFlow, x: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Largest error of the inverse of the first block after each iteration, and its bound.

    The bound is ``L^k`` times the largest error of the start.

    Parameters
    ----------
    flow, x
        The flow and points ``(N, D)``, which the iteration is to find again from their images.
    iterations
        How many.
    """
    with torch.no_grad():
        image = x + flow.lipschitz * flow.networks[0](x)
        path = flow.inverse_path(0, image, iterations)
        errors = torch.stack([(step - x).norm(dim=1).max() for step in path])
    return errors, errors[0] * flow.lipschitz ** torch.arange(iterations + 1)


def compute(group: list[Settings]) -> list[Outcome]:
    """Train the models of each run as one batch."""
    return [_compute(settings) for settings in group]


def _compute(settings: Settings) -> Outcome:
    count = settings["models"]
    seeds = [_seed(settings, "weights", index) for index in range(count)]
    models = build_models(functools.partial(build, settings), seeds)
    data = [standardized(settings, index) for index in range(count)]
    inputs = torch.stack([points for points, _, _ in data])
    history = fit_regression(
        models,
        inputs,
        inputs.new_zeros(*inputs.shape[:2], 1),  # the likelihood needs no targets
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        lr=settings["lr"],
        tv2_weights=settings["spline"]["tv2_weight"] if settings["spline"] else 0.0,
        seeds=[_seed(settings, "order", index) for index in range(count)],
        loss=_mean,
    )
    return _evaluate(settings, models, [scale for _, *scale in data], history)


@torch.no_grad()
def _evaluate(
    settings: Settings, models: list[Likelihood], scales: list[list[np.ndarray]], history: Tensor
) -> Outcome:
    """Exact likelihoods of the test points, in the units of the data."""
    points = test_set(settings)
    losses, bounds = [], []
    for model, (mean, deviation) in zip(models, scales, strict=True):
        model.double().step = None
        inputs = torch.from_numpy((points - mean) / deviation)
        losses.append(model(inputs).mean().item() + float(np.log(deviation).sum()))
        bounds += [lipschitz_bounds(own, probes=inputs[:8]) for own in model.flow.networks]
    median = int(np.argsort(losses, kind="stable")[(len(losses) - 1) // 2])
    metrics = {
        "test_nll": losses,
        "law_nll": -float(log_density(settings["law"], points).mean()),
        "train_loss": history[:, -1].tolist(),
        "loss_curve": history.mean(0).tolist(),
        "median_model": median,
        "tv2": [float(tv2(model)) for model in models] if settings["spline"] else None,
    }
    lipschitz = {"lower": max(b.lower for b in bounds), "upper": max(b.upper for b in bounds)}
    tensors = {name: t.float() for name, t in models[median].flow.state_dict().items()}
    return Outcome(metrics, lipschitz, tensors)


def _mean(output: Tensor, _: Tensor) -> Tensor:
    return output.mean()


def _points(settings: Settings, index: int, count: int) -> np.ndarray:
    words = [settings["seed"], list(DIMENSIONS).index(settings["law"]), index]
    return sample(settings["law"], count, np.random.default_rng(words))


def _seed(settings: Settings, purpose: str, index: int) -> int:
    words = [settings["seed"], ("weights", "order").index(purpose), index]
    return int(np.random.SeedSequence(words).generate_state(1)[0])

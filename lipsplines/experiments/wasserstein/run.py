"""Train critics and estimate with them, or solve for exact distances."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments.digits.critics import Critics
from lipsplines.experiments.digits.sample_pairs import KNOWN, Samples, known_pair, load_samples
from lipsplines.experiments.wasserstein.protocol import NEURONS
from lipsplines.measures.laws import held_out_estimate
from lipsplines.measures.transport import wasserstein
from lipsplines.models.mlp import spline_tensors
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.runner.base import LONG_PROFILES, Outcome, Settings, device_of
from lipsplines.training.critics import CriticTraining, values_of

__all__ = ["compute", "kept_splines"]


def kept_splines(store: Store, record: Record) -> dict[str, tuple[LinearSpline, LinearSpline]]:
    """Layer -> some of its splines before and after training, from the tensors of a first run."""
    settings, tensors = record.settings, store.tensors(record)
    options = {k: v for k, v in settings["spline"].items() if k != "tv2_weight"}
    init = settings["activation"].removeprefix("spline-")
    found = {}
    for key in tensors:
        name, _, kind = key.rpartition(".")
        if kind == "scale":
            before, after = (LinearSpline(NEURONS, init=init, **options) for _ in range(2))
            with torch.no_grad():
                after.coefficients.copy_(tensors[f"{name}.coefficients"])
                after.log_scale.copy_(tensors[key].log())
            found[name] = before, after
    return dict(sorted(found.items()))


def compute(group: list[Settings], state: Path | None = None) -> list[Outcome]:
    """Train the critics of a group and evaluate them, or solve for the exact distances."""
    first = group[0]
    samples = load_samples(first, device_of(first))
    if first.get("check") == "exact":
        return [_exact(first, samples)]
    critics = Critics(group, samples, state)
    critics.run(log=first["profile"] in LONG_PROFILES)
    return [_evaluate(s, critics.members[s["activation"]], samples) for s in group]


def _exact(settings: Settings, samples: Samples) -> Outcome:
    """Distances of the first test samples; of real digits, those of two disjoint parts."""
    if settings["pair"] == "halves":
        largest = max(settings["points"])
        x, y = samples.train[:largest], samples.train[largest : 2 * largest]
    else:
        x, y = samples.test
    distances = [wasserstein(x[:n].numpy(), y[:n].numpy()) for n in settings["points"]]
    metrics = {
        "points": settings["points"],
        "exact": distances,
        "distance": samples.distance,
    }
    return Outcome(metrics, {}, {}, samples.data)


def _evaluate(settings: Settings, training: CriticTraining, samples: Samples) -> Outcome:
    critic = training.critic.cpu().eval()
    bounds = lipschitz_bounds(critic, probes=samples.test[0][:16].double())
    x, y = (values_of(critic, part).double().numpy() for part in samples.test)
    metrics = {
        "estimate": dataclasses.asdict(held_out_estimate(x, y, bounds.upper)),
        "value": float(x.mean() - y.mean()),
        "points": settings["points"],
        "finite": [float(x[:n].mean() - y[:n].mean()) for n in settings["points"]],
        "distance": samples.distance,
        "kept_step": training.best["step"],
        "layers": dict(bounds.layers),
        "curves": training.curves,
    }
    if settings["pair"] in KNOWN:
        best = known_pair(settings).potential
        x, y = (best(part.numpy()) for part in samples.test)
        metrics["optimum"] = float(x.mean() - y.mean())
    tensors = spline_tensors(critic, NEURONS) if settings["run"] == 0 else {}
    lipschitz = {"lower": bounds.lower, "upper": bounds.upper}
    return Outcome(metrics, lipschitz, tensors, samples.data)

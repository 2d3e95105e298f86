"""Estimates of the Wasserstein-1 distance by 1-Lipschitz critics (Ducotterd et al. 2024, 5.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.activations import LinearSpline
from lipsplines.adversarial import CriticTraining, values_of
from lipsplines.certify import lipschitz_bounds
from lipsplines.checkpoints import Checkpoint
from lipsplines.experiments.base import LONG_PROFILES, Experiment, Outcome, Settings
from lipsplines.experiments.digit_images import DIGITS
from lipsplines.experiments.sample_pairs import KNOWN, Samples, known_pair, load_samples
from lipsplines.experiments.wasserstein_tables import text
from lipsplines.models import MLP
from lipsplines.records import Record, Store
from lipsplines.stepwise import Training
from lipsplines.training import build_models
from lipsplines.transport import held_out_estimate, wasserstein

__all__ = [
    "ACTIVATIONS",
    "CONSTRAINTS",
    "EXPERIMENT",
    "PROFILE_SIZES",
    "STARTS",
    "Critics",
    "Sizes",
    "build_critic",
    "kept_splines",
]

REVISION = 1
ACTIVATIONS = (
    "spline-absolute",
    "relu",
    "absolute",
    "prelu-maxmin",
    "groupsort-2",
    "householder",
)
STARTS = ("spline-relu", "spline-identity", "spline-maxmin")  # of splines, besides the first
CONSTRAINTS = ("orthogonal", "spectral")
DIMENSION, CONES = 10, 5  # of the pairs with a known distance
SPLINE = {"num_coefficients": 21, "range_": 0.15, "tv2_weight": 1e-10}
NEURONS = 6  # of each layer, whose splines are kept


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change: sizes, never the method."""

    runs: int
    hidden: tuple[int, int]
    batch_size: int
    steps: int
    every: int  # steps between two validations
    known_steps: int
    points: tuple[int, ...]  # of the samples of which the exact distance is computed
    known_test: int = 4_000
    known_hidden: tuple[int, int] = (64, 64)
    known_batch: int = 256
    lr: float = 2e-3


# 54,000 digits are 13 batches of 4,096; the paper has 1,600 epochs, a validation every 5.
PROFILE_SIZES = {
    "smoke": Sizes(2, (16, 16), 32, 10, 5, 10, (20, 40), 200, (16, 16), 32),
    "quick": Sizes(5, (64, 64), 256, 150, 15, 150, (250, 500, 1_000)),
    "reduced": Sizes(5, (256, 256), 512, 1_000, 50, 2_000, (500, 1_000, 2_000), 20_000),
    "paper": Sizes(5, (1024, 1024), 4096, 1600 * 13, 5 * 13, 2_000, (500, 1_000, 2_000), 20_000),
}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: exact distances, then the critics run by run."""
    sizes = PROFILE_SIZES[profile]
    common = {
        "experiment": "wasserstein",
        "revision": REVISION,
        "profile": profile,
        "seed": seed,
        "points": list(sizes.points),
        "test_points": sizes.known_test,
    }

    def cell(pair: str, constraint: str, activation: str, run: int) -> Settings:
        known = pair in KNOWN
        return {
            **common,
            **_law(pair, profile),
            "constraint": constraint,
            "activation": activation,
            "spline": SPLINE if activation.startswith("spline-") else None,
            "run": run,
            "hidden": list(sizes.known_hidden if known else sizes.hidden),
            "batch_size": sizes.known_batch if known else sizes.batch_size,
            "steps": sizes.known_steps if known else sizes.steps,
            "every": sizes.every,
            "lr": sizes.lr,
        }

    grid = [("digits", "orthogonal", name) for name in (*ACTIVATIONS, *STARTS)]
    grid += [("digits", "spectral", name) for name in ACTIVATIONS]
    grid += [(pair, "orthogonal", name) for pair in KNOWN for name in ACTIVATIONS]
    exact = [
        {**common, **_law(pair, profile), "check": "exact"} for pair in ("digits", "halves", *KNOWN)
    ]
    return [*exact, *(cell(*place, run) for run in range(sizes.runs) for place in grid)]


def _law(pair: str, profile: str) -> dict[str, Any]:
    """The pair of laws: of digits, which ones; of vectors, how many entries."""
    if pair in KNOWN:
        return {"pair": pair, "dimension": DIMENSION, "cones": CONES if pair == "cones" else None}
    return {"pair": pair, "digits": DIGITS[profile]}


def build_critic(settings: Settings) -> MLP:
    """The critic of a run, with fresh weights from the global random state.

    Weights begin with orthonormal rows or columns. No activation draws random numbers, so that
    critics that differ in the activation alone begin with the same weights.
    """
    options = {k: v for k, v in (settings["spline"] or {}).items() if k != "tv2_weight"}
    inputs = settings.get("dimension", 784)
    critic = MLP(
        (inputs, *settings["hidden"], 1), settings["activation"], settings["constraint"], options
    )
    for module in critic:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.parametrizations.weight.original)
    return critic


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


class Critics(Training):
    """Critics that see the same batches, trained side by side: images are generated once for all.

    Parameters
    ----------
    group
        Settings of cells that differ in the activation alone.
    samples
        Of the two laws.
    state
        Where the state is kept, or None.

    Attributes
    ----------
    members
        Activation -> training of its critic.
    curves
        ``step``, and for each activation the last validation value.
    """

    def __init__(self, group: list[Settings], samples: Samples, state: Path | None = None) -> None:
        first = group[0]
        seed = 1_000 * first["seed"] + first["run"]
        label = f"wasserstein, {first['pair']}, {first['constraint']}, run {first['run']}"
        super().__init__(first["steps"], seed, Checkpoint(state, {"group": group}), label)
        device = _device(first)
        train = samples.train.to(device)
        validation = tuple(part.to(device) for part in samples.validation)
        self.other, self.recent = samples.other, (-1, torch.empty(0))
        self.device, self.every = device, first["every"]
        self.members = {
            settings["activation"]: CriticTraining(
                build_models(lambda settings=settings: build_critic(settings), [seed])[0].to(
                    device
                ),
                train,
                self.generated,
                steps=settings["steps"],
                batch_size=settings["batch_size"],
                lr=settings["lr"],
                tv2_weight=(settings["spline"] or {}).get("tv2_weight", 0.0),
                seed=seed,
                validation=validation,
                every=settings["every"],
                label=settings["activation"],
            )
            for settings in group
        }

    def generated(self, count: int, stream: torch.Generator) -> Tensor:
        """Samples of the second law; those of the last call again, if it had the same stream."""
        if self.recent[0] != stream.initial_seed():
            new = self.other(count, stream).to(self.device)
            self.recent = stream.initial_seed(), new
        return self.recent[1]

    def parts(self) -> dict[str, Any]:
        return {
            f"{name}.{key}": part
            for name, member in self.members.items()
            for key, part in member.parts().items()
        }

    def values(self) -> dict[str, Any]:
        members = {name: member.values() for name, member in self.members.items()}
        return {**super().values(), "members": members}

    def take(self, values: dict[str, Any]) -> None:
        super().take(values)
        for name, member in self.members.items():
            member.take(values["members"][name])

    def advance(self) -> None:
        for member in self.members.values():
            member.advance()
        self.step += 1
        if self.step % self.every == 0:
            last = {name: m.curves["validation"][-1] for name, m in self.members.items()}
            self.note(step=self.step, **last)

    def run(self, log: bool = False) -> None:
        super().run(log)
        for member in self.members.values():
            member.run()  # no step is left: the best critic takes the place of the last


def compute(group: list[Settings], state: Path | None = None) -> list[Outcome]:
    """Train the critics of a group and evaluate them, or solve for the exact distances."""
    first = group[0]
    samples = load_samples(first, _device(first))
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
    tensors = _splines(critic) if settings["run"] == 0 else {}
    lipschitz = {"lower": bounds.lower, "upper": bounds.upper}
    return Outcome(metrics, lipschitz, tensors, samples.data)


def _device(settings: Settings) -> torch.device:
    on_gpu = settings["profile"] in LONG_PROFILES and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def _splines(critic: nn.Module) -> dict[str, Tensor]:
    """Coefficients that the forward pass uses, and scales, of the first splines of each layer."""
    found = {}
    for name, module in critic.named_modules():
        if isinstance(module, LinearSpline):
            found[f"{name}.coefficients"] = module.projected_coefficients[:NEURONS].detach()
            found[f"{name}.scale"] = module.scale[:NEURONS].detach()
    return found


def group(settings: Settings) -> Hashable:
    """Critics that differ in the activation alone train together."""
    return tuple(settings.get(key) for key in ("check", "pair", "constraint", "run"))


def cost(group: list[Settings]) -> float:
    """Rough cost: products of each step and what splines add; the generator once for a group."""
    first = group[0]
    if "check" in first:
        return (max(first["points"]) / 1_000) ** 2.5
    inputs, hidden = first.get("dimension", 784), first["hidden"]
    weights = sum(a * b for a, b in zip((inputs, *hidden), hidden, strict=False))
    critics = sum(weights + (300 if s["spline"] else 30) * sum(hidden) for s in group)
    generator = 0 if first["pair"] in KNOWN else 4e5
    return first["steps"] * (first["batch_size"] * (critics + generator) + 1e7) / 3e10


EXPERIMENT = Experiment(
    name="wasserstein",
    title="Wasserstein-1 distance of real and generated digits",
    minutes={"smoke": 0.2, "quick": 2.0, "reduced": 60.0, "paper": 3_000.0},
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=text,
    resumable=True,
)

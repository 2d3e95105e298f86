"""Critics that differ in the activation alone, trained side by side."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.experiments.digits.sample_pairs import Samples
from lipsplines.models.mlp import MLP
from lipsplines.runner.base import Settings, device_of
from lipsplines.training.critics import CriticTraining
from lipsplines.training.regression import build_models
from lipsplines.training.stepwise import Training

__all__ = ["Critics", "build_critic"]


def build_critic(settings: Settings) -> MLP:
    """The critic of a run, with fresh weights from the global random state.

    Weights begin with orthonormal rows or columns. No activation draws random numbers, so that
    critics that differ in the activation alone begin with the same weights.
    """
    options = {k: v for k, v in (settings["spline"] or {}).items() if k != "tv2_weight"}
    inputs = settings.get("dimension", 784)
    critic = MLP(
        (inputs, *settings["hidden"], 1),
        settings["activation"],
        settings["constraint"],
        options,
        {"method": "polar"} if settings["constraint"] == "orthogonal" else {},
    )
    for module in critic:
        if isinstance(module, nn.Linear):
            free = module.get_parameter("parametrizations.weight.original")
            nn.init.orthogonal_(free)
    return critic


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
        device = device_of(first)
        train = samples.train.to(device)
        real, made = (part.to(device) for part in samples.validation)
        self.other = samples.other
        self.recent: tuple[Any, Tensor] = None, torch.empty(0)
        self.device, self.every = device, first["every"]
        self.members = {
            settings["activation"]: CriticTraining(
                build_models(functools.partial(build_critic, settings), [seed])[0].to(device),
                train,
                self.generated,
                steps=settings["steps"],
                batch_size=settings["batch_size"],
                lr=settings["lr"],
                tv2_weight=(settings["spline"] or {}).get("tv2_weight", 0.0),
                seed=seed,
                validation=(real, made),
                every=settings["every"],
                label=settings["activation"],
            )
            for settings in group
        }

    def generated(self, count: int, stream: torch.Generator) -> Tensor:
        """Samples of the second law; those of the last call again, if it asked for the same."""
        asked = count, stream.initial_seed()
        if self.recent[0] != asked:
            self.recent = asked, self.other(count, stream).to(self.device)
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

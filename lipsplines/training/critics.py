"""Training of a critic: the dual of the Wasserstein-1 distance.

It maximises ``D(f) = mean f(x) - mean f(y)`` over 1-Lipschitz critics ``f`` (Kantorovich and
Rubinstein; Villani 2009, Theorem 5.10), less ``lambda`` times the TV2 of the splines of ``f``.

All random numbers of a step come from a seed and the number of the step, so that a training which
was interrupted goes on from a `Checkpoint` as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.nn.applying import applied
from lipsplines.nn.caching import constrain_once
from lipsplines.nn.linear_spline import tv2
from lipsplines.training.regression import parameter_groups
from lipsplines.training.stepwise import Batches, Training
from lipsplines.training.streams import random_stream

__all__ = [
    "CriticTraining",
    "dual_value",
    "raise_dual",
    "values_of",
]


LATENT = 1  # what random numbers are for; 0 is the order of samples
Source = Callable[[int, torch.Generator], Tensor]


def dual_value(critic: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """``mean f(x) - mean f(y)``, from one pass over both; a scalar.

    Parameters
    ----------
    critic
        From samples ``(n, ...)`` to ``(n, 1)``.
    x, y
        Samples of both laws, shapes ``(n, ...)`` and ``(m, ...)``.
    """
    values = critic(torch.cat([x, y])).flatten()
    return values[: len(x)].mean() - values[len(x) :].mean()


def raise_dual(
    critic: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, tv2_weight: float
) -> float:
    """One step of a critic, up the dual less `tv2_weight` times TV2; the dual before the step.

    Parameters
    ----------
    critic
        From samples ``(n, ...)`` to ``(n, 1)``; changed in place.
    optimizer
        Of its parameters.
    x, y
        Samples of both laws, shapes ``(n, ...)`` and ``(m, ...)``.
    tv2_weight
        Weight of `tv2`, not negative.
    """
    optimizer.zero_grad()
    with constrain_once():
        value = dual_value(critic, x, y)
        loss = -value
        if tv2_weight:
            loss = loss + tv2_weight * tv2(critic)
        loss.backward()
    optimizer.step()
    return value.item()


@torch.no_grad()
def values_of(critic: nn.Module, samples: Tensor, batch: int = 1000) -> Tensor:
    """Values of a critic on samples ``(n, ...)``, shape ``(n,)``; the critic keeps its state.

    Parameters
    ----------
    critic
        From samples ``(n, ...)`` to ``(n, 1)``.
    samples
        Shape ``(n, ...)``.
    batch
        Number of samples in a pass.
    """
    training = critic.training
    critic.eval()
    try:
        return torch.cat([applied(critic, part).flatten() for part in samples.split(batch)])
    finally:
        critic.train(training)


def check_samples(critic: nn.Module, x: Tensor, y: Tensor, source: str) -> None:
    """Refuse samples that the critic does not take, and a critic that is none."""
    if x.shape[1:] != y.shape[1:] or x.dtype != y.dtype:
        raise ValueError(
            f"The samples are {_kind(x)}, but {source} gives {_kind(y)}; both must be alike."
        )
    mode = critic.training
    try:
        with torch.no_grad():
            values = applied(critic.eval(), x)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"The critic does not take samples that are {_kind(x)}: {error}") from None
    finally:
        critic.train(mode)
    if values.shape != (len(x), 1):
        raise ValueError(
            f"A critic gives one number for each sample, shape (n, 1); for {len(x)} samples this "
            f"one gave the shape {(*values.shape,)}."
        )


def _check_validation(samples: Tensor, validation: tuple[Tensor, Tensor]) -> None:
    """Refuse validation samples that are none, or not like those of the training."""
    for part in validation:
        if not len(part) or _kind(part) != _kind(samples):
            raise ValueError(
                f"Validation needs samples of both laws that are {_kind(samples)}, like those of "
                f"the training; got {len(part)} that are {_kind(part)}."
            )


def check_counts(**counts: int) -> None:
    """Refuse numbers of steps, by name, that are not positive."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}.")


def _kind(samples: Tensor) -> str:
    sizes = ", ".join(map(str, samples.shape[1:]))
    return f"{samples.dtype} of shape (n, {sizes})"


class CriticTraining(Training):
    """Maximise the dual over the weights of a critic, by Adam.

    Parameters
    ----------
    critic
        1-Lipschitz, from samples ``(n, ...)`` to ``(n, 1)``; trained in place.
    samples
        Of the first law, shape ``(n, ...)``: every pass sees each once, in random order.
    other
        Of the second law: from a number and a random stream to that many new samples.
    steps, batch_size, lr, tv2_weight
        Steps of Adam, samples of each law in one of them, and the settings of the loss; for the
        rates of splines see `regression.parameter_groups`.
    seed
        Of all that is random.
    validation, every
        Samples of both laws that decide which critic is kept, every `every` steps; None keeps the
        last one. Samples that picked a critic are no test of it.
    checkpoint, label
        Where the state is kept, and a name for the log.

    Raises
    ------
    ValueError
        For settings out of their domain, and samples that are empty, not finite, fewer than a
        batch, or of a shape or type that the critic does not take.

    Attributes
    ----------
    curves
        ``step``, ``training`` (mean of the dual since the last point) and ``validation``.
    best
        Step and validation value of the critic that is kept; after `run` the critic is this one.
    """

    def __init__(
        self,
        critic: nn.Module,
        samples: Tensor,
        other: Source,
        *,
        steps: int,
        batch_size: int,
        lr: float,
        tv2_weight: float = 0.0,
        seed: int = 0,
        validation: tuple[Tensor, Tensor] | None = None,
        every: int = 50,
        checkpoint: Checkpoint | None = None,
        label: str = "critic",
    ) -> None:
        super().__init__(steps, seed, checkpoint, label)
        check_counts(every=every)
        self.critic, self.other, self.tv2_weight = critic, other, tv2_weight
        self.batch_size, self.validation, self.every = batch_size, validation, every
        self.batch = Batches(samples, batch_size, seed)
        check_samples(critic, samples[:2], other(2, random_stream(seed)), "the second law")
        if validation is not None:
            _check_validation(samples, validation)
        self.optimizer = torch.optim.Adam(parameter_groups(critic, lr), fused=True)
        self.best: dict[str, Any] = {"step": 0, "value": -math.inf, "state": {}}
        self.sums = torch.zeros(2, dtype=torch.float64)

    def parts(self) -> dict[str, Any]:
        return {"critic": self.critic, "optimizer": self.optimizer}

    def values(self) -> dict[str, Any]:
        return {**super().values(), "best": self.best, "sums": self.sums}

    def take(self, values: dict[str, Any]) -> None:
        super().take(values)
        self.best, self.sums = values["best"], values["sums"]

    def advance(self) -> None:
        self.critic.train()
        x = self.batch(self.step)
        with torch.no_grad():
            y = self.other(self.batch_size, random_stream(self.seed, LATENT, self.step))
        value = raise_dual(self.critic, self.optimizer, x, y, self.tv2_weight)
        self.step += 1
        self.sums += torch.tensor([value, 1.0])
        if self.step % self.every == 0 or self.step == self.steps:
            self._look()

    def _look(self) -> None:
        self.note(step=self.step, training=(self.sums[0] / self.sums[1]).item())
        self.sums.zero_()
        if self.validation is not None:
            x, y = (values_of(self.critic, part).mean().item() for part in self.validation)
            self.note(validation=x - y)
            if x - y > self.best["value"]:
                state = {k: v.detach().clone() for k, v in self.critic.state_dict().items()}
                self.best = {"step": self.step, "value": x - y, "state": state}

    def run(self, log: bool = False) -> None:
        super().run(log)
        if self.best["state"]:
            self.critic.load_state_dict(self.best["state"])

"""Training against a critic: the dual of the Wasserstein-1 distance, and the Wasserstein GAN.

Both maximise ``D(f) = mean f(x) - mean f(y)`` over 1-Lipschitz critics ``f`` (Kantorovich and
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
from lipsplines.models.digits import Generator
from lipsplines.nn.caching import constrain_once
from lipsplines.nn.linear_spline import tv2
from lipsplines.training.regression import parameter_groups, random_stream
from lipsplines.training.stepwise import Batches, Training

__all__ = ["CriticTraining", "GanTraining", "dual_value", "raise_dual", "values_of"]

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
        return torch.cat([critic(part).flatten() for part in samples.split(batch)])
    finally:
        critic.train(training)


def _check_samples(critic: nn.Module, x: Tensor, y: Tensor, source: str) -> None:
    """Refuse samples that the critic does not take, and a critic that is none."""
    if x.shape[1:] != y.shape[1:] or x.dtype != y.dtype:
        raise ValueError(
            f"The samples are {_kind(x)}, but {source} gives {_kind(y)}; both must be alike."
        )
    mode = critic.training
    try:
        with torch.no_grad():
            values = critic.eval()(x)
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


def _check_counts(**counts: int) -> None:
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
        _check_counts(every=every)
        self.critic, self.other, self.tv2_weight = critic, other, tv2_weight
        self.batch_size, self.validation, self.every = batch_size, validation, every
        self.batch = Batches(samples, batch_size, seed)
        _check_samples(critic, samples[:2], other(2, random_stream(seed)), "the second law")
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


class GanTraining(Training):
    """Train a generator against a critic (Arjovsky, Chintala, Bottou 2017).

    Each step moves the critic; after every `critic_steps` of them one more moves the generator,
    which minimises the critic's dual.

    Parameters
    ----------
    generator, critic
        Trained in place. The critic must be 1-Lipschitz for the dual to mean a distance.
    samples
        Images in [-1, 1], shape ``(n, 1, 28, 28)``.
    steps, batch_size, critic_steps
        Steps of the critic, images of each kind in a step, critic steps for each of the generator.
    critic_lr, generator_lr, betas, tv2_weight
        Settings of Adam and of the critic's loss.
    seed, checkpoint, label
        As for `CriticTraining`.
    evaluate, every
        From the generator to numbers for the curves, every `every` steps; it must leave the
        generator as it is.

    Attributes
    ----------
    curves
        ``step``, ``dual`` (mean over the critic's steps since the last point), and what `evaluate`
        gives.
    """

    def __init__(
        self,
        generator: Generator,
        critic: nn.Module,
        samples: Tensor,
        *,
        steps: int,
        batch_size: int,
        critic_steps: int = 5,
        critic_lr: float = 2e-3,
        generator_lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        tv2_weight: float = 0.0,
        seed: int = 0,
        evaluate: Callable[[Generator, nn.Module], dict[str, float]] | None = None,
        every: int = 500,
        checkpoint: Checkpoint | None = None,
        label: str = "gan",
    ) -> None:
        super().__init__(steps, seed, checkpoint, label)
        _check_counts(critic_steps=critic_steps, every=every)
        self.generator, self.critic, self.tv2_weight = generator, critic, tv2_weight
        self.batch_size, self.critic_steps = batch_size, critic_steps
        self.evaluate, self.every = evaluate, every
        self.batch = Batches(samples, batch_size, seed)
        images = generator.sample(2, random_stream(seed))
        _check_samples(critic, samples[:2], images, "the generator")
        options = {"betas": tuple(betas), "fused": True}
        self.critic_optimizer = torch.optim.Adam(parameter_groups(critic, critic_lr), **options)
        self.generator_optimizer = torch.optim.Adam(
            generator.parameters(), lr=generator_lr, **options
        )
        self.sums = torch.zeros(2, dtype=torch.float64)

    def parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "critic": self.critic,
            "critic_optimizer": self.critic_optimizer,
            "generator_optimizer": self.generator_optimizer,
        }

    def values(self) -> dict[str, Any]:
        return {**super().values(), "sums": self.sums}

    def take(self, values: dict[str, Any]) -> None:
        super().take(values)
        self.sums = values["sums"]

    def advance(self) -> None:
        self.generator.train()
        self.critic.train()
        self._move_critic()
        self.step += 1
        if self.step % self.critic_steps == 0:
            self._move_generator()
        if self.step % self.every == 0 or self.step == self.steps:
            self.note(step=self.step, dual=(self.sums[0] / self.sums[1]).item())
            self.sums.zero_()
            if self.evaluate is not None:
                self.note(**self.evaluate(self.generator, self.critic))

    def _move_critic(self) -> None:
        x = self.batch(self.step)
        # Generated images are data here: no graph of the generator is kept.
        with torch.no_grad():
            y = self.generator(self._latents(2 * self.step))
        value = raise_dual(self.critic, self.critic_optimizer, x, y, self.tv2_weight)
        self.sums += torch.tensor([value, 1.0])

    def _move_generator(self) -> None:
        self.generator_optimizer.zero_grad()
        images = self.generator(self._latents(2 * self.step + 1))
        # The critic's weights are constants here: no graph of its constraints is kept.
        self.critic.requires_grad_(False)
        try:
            (-self.critic(images).mean()).backward()
        finally:
            self.critic.requires_grad_(True)
        self.generator_optimizer.step()

    def _latents(self, index: int) -> Tensor:
        return self.generator.draw(self.batch_size, random_stream(self.seed, LATENT, index))

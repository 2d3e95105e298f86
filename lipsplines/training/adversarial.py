"""Training of a generator against a critic: the Wasserstein GAN.

Random numbers and checkpoints are as in `critics`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.models.digits import Generator
from lipsplines.nn.applying import applied
from lipsplines.training.critics import LATENT, check_counts, check_samples, raise_dual
from lipsplines.training.regression import parameter_groups
from lipsplines.training.stepwise import Batches, Training
from lipsplines.training.streams import random_stream

__all__ = [
    "GanTraining",
]


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
        check_counts(critic_steps=critic_steps, every=every)
        self.generator, self.critic, self.tv2_weight = generator, critic, tv2_weight
        self.batch_size, self.critic_steps = batch_size, critic_steps
        self.evaluate, self.every = evaluate, every
        self.batch = Batches(samples, batch_size, seed)
        images = generator.sample(2, random_stream(seed))
        check_samples(critic, samples[:2], images, "the generator")
        options: dict[str, Any] = {"betas": tuple(betas), "fused": True}
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
            # The generator needs its images as they are for its derivative.
            (-applied(self.critic, images).mean()).backward()
        finally:
            self.critic.requires_grad_(True)
        self.generator_optimizer.step()

    def _latents(self, index: int) -> Tensor:
        return self.generator.draw(self.batch_size, random_stream(self.seed, LATENT, index))

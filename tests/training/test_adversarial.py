"""Critics and generators: what a step does, and that an interrupted training goes on as if not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lipsplines import lipschitz_bounds, tv2
from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.measures.transport import translated_gaussians, wasserstein
from lipsplines.models.digits import ConvCritic, Generator, initialize
from lipsplines.models.mlp import MLP
from lipsplines.training.adversarial import CriticTraining, GanTraining, dual_value, values_of
from lipsplines.training.regression import TrainingError, build_models, random_stream

SETTINGS = {"experiment": "test"}
SPLINE = {"num_coefficients": 11, "range_": 0.3}


def shifted(count: int, stream: torch.Generator) -> torch.Tensor:
    return torch.randn(count, 3, generator=stream, dtype=torch.float64) + 2


def critic_training(checkpoint: Checkpoint | None = None, **changes) -> CriticTraining:
    """A small critic in float64 between two normal laws, at the distance 2 sqrt(3)."""
    (critic,) = build_models(lambda: MLP((3, 8, 1), "spline-absolute", "orthogonal", SPLINE), [0])
    samples = shifted(64, random_stream(5)) - 2
    options = {
        "steps": 20,
        "batch_size": 16,
        "lr": 1e-2,
        "tv2_weight": 1e-3,
        "seed": 3,
        "validation": (shifted(50, random_stream(6)) - 2, shifted(50, random_stream(7))),
        "every": 4,
    }
    return CriticTraining(
        critic.double(), samples, shifted, checkpoint=checkpoint, **{**options, **changes}
    )


def gan_training(checkpoint: Checkpoint | None = None, **changes) -> GanTraining:
    """A small generator and critic in float64 on random images."""

    def build() -> tuple[nn.Module, nn.Module]:
        generator = Generator(4, 8, (4, 2))
        critic = ConvCritic("spline-absolute", SPLINE, (4, 4), 8)
        initialize(generator)
        initialize(critic)
        return generator.double(), critic.double()

    ((generator, critic),) = build_models(build, [0])
    samples = torch.rand(20, 1, 28, 28, dtype=torch.float64, generator=random_stream(8))
    options = {
        "steps": 12,
        "batch_size": 4,
        "critic_steps": 3,
        "tv2_weight": 1e-3,
        "seed": 3,
        "evaluate": lambda generator, critic: {
            "mean": generator.sample(5, random_stream(9)).mean().item()
        },
        "every": 4,
    }
    return GanTraining(
        generator, critic, 2 * samples - 1, checkpoint=checkpoint, **{**options, **changes}
    )


class Killed(Exception):
    """Stands for the end of the process."""


def interrupt(training, step: int) -> None:
    """Run a training until it has done so many steps."""
    advance = training.advance

    def advance_or_end() -> None:
        if training.step == step:
            raise Killed
        advance()

    training.advance = advance_or_end
    with pytest.raises(Killed):
        training.run()


@pytest.mark.parametrize("make", [critic_training, gan_training])
@pytest.mark.parametrize("step", [1, 5, 8, 11])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, make, step: int) -> None:
    """Bit for bit in float64: weights, optimizers, curves, also when interrupted twice."""
    whole = make()
    whole.run()
    for stop in (step, min(step + 2, 11)):
        interrupt(make(Checkpoint(tmp_path / "state", SETTINGS, interval=0.0)), stop)
    resumed = make(Checkpoint(tmp_path / "state", SETTINGS, interval=0.0))
    resumed.run()
    assert resumed.curves == whole.curves
    for name, part in whole.parts().items():
        mine, theirs = resumed.parts()[name].state_dict(), part.state_dict()
        assert str(mine) == str(theirs)
        if isinstance(part, nn.Module):
            assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_a_training_that_is_killed_goes_on(tmp_path: Path) -> None:
    """A process that ends by SIGKILL in the middle leaves a state from which another goes on."""
    code = """
import os, signal, sys
sys.path[:0] = [sys.argv[2]]
from tests.training.test_adversarial import SETTINGS, critic_training
from lipsplines.evidence.checkpoints import Checkpoint
import torch
torch.set_num_threads(1)
training = critic_training(Checkpoint(sys.argv[1], SETTINGS, interval=0.0))
advance = training.advance
def advance_or_die():
    advance()
    if training.step == 13:
        os.kill(os.getpid(), signal.SIGKILL)
training.advance = advance_or_die
training.run()
"""
    path, here = tmp_path / "state", Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(path), str(here)]
    done = subprocess.run(command, cwd=here, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    resumed = critic_training(Checkpoint(path, SETTINGS))
    resumed.run()
    whole = critic_training()
    whole.run()
    assert resumed.curves == whole.curves
    theirs = whole.critic.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in resumed.critic.state_dict().items())


def test_the_critic_finds_a_distance_it_can_reach() -> None:
    """Normal laws apart by a shift: an affine critic is optimal, and none is better."""
    pair = translated_gaussians([2.0, 1.0, 2.0])
    shift = torch.tensor([2.0, 1.0, 2.0], dtype=torch.float64)
    (critic,) = build_models(lambda: MLP((3, 16, 1), "spline-absolute", "orthogonal", SPLINE), [0])
    data = torch.randn(2000, 3, dtype=torch.float64, generator=random_stream(1)) + shift
    training = CriticTraining(
        critic.double(),
        data,
        lambda n, stream: torch.randn(n, 3, generator=stream, dtype=torch.float64),
        steps=150,
        batch_size=100,
        lr=1e-2,
    )
    training.run()
    x, y = data[:200], torch.randn(200, 3, dtype=torch.float64, generator=random_stream(2))
    gap = (values_of(critic, x).mean() - values_of(critic, y).mean()).item()
    upper = lipschitz_bounds(critic)[1]
    assert gap / upper <= wasserstein(x.numpy(), y.numpy()) + 1e-9
    assert training.curves["training"][-1] > 0.9 * pair.distance


def test_the_best_critic_is_kept() -> None:
    """After the training the critic is the one with the largest value on the validation samples."""
    training = critic_training(lr=0.3)
    training.run()
    x, y = training.validation
    value = values_of(training.critic, x).mean() - values_of(training.critic, y).mean()
    assert value.item() == pytest.approx(max(training.curves["validation"]), abs=1e-12)
    assert value.item() == pytest.approx(training.best["value"], abs=1e-12)
    assert training.best["step"] in training.curves["step"]


def test_one_step_of_the_critic_is_that_of_the_formula() -> None:
    """Adam on minus the dual plus lambda TV2, with the rates of splines."""
    from lipsplines import parameter_groups

    training, plain = critic_training(steps=1), critic_training(steps=1)
    training.advance()
    critic, x = plain.critic, plain.batch(0)
    y = shifted(16, random_stream(3, 1, 0))
    optimizer = torch.optim.Adam(parameter_groups(critic, 1e-2), fused=True)
    loss = critic(y).mean() - critic(x).mean() + 1e-3 * tv2(critic)
    loss.backward()
    optimizer.step()
    for mine, theirs in zip(training.critic.parameters(), critic.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-9, rtol=0)


def test_steps_touch_only_what_they_move() -> None:
    """Critic steps leave the generator's weights, generator steps the critic, and no graph."""
    training = gan_training()
    generator = [p.detach().clone() for p in training.generator.parameters()]
    training.advance()
    assert all(p.grad is None for p in training.generator.parameters())
    kept = zip(generator, training.generator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in kept)
    critic = [p.detach().clone() for p in training.critic.parameters()]
    gradients = [p.grad.clone() for p in training.critic.parameters()]
    training._move_generator()
    kept = zip(critic, training.critic.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in kept)
    kept = zip(gradients, training.critic.parameters(), strict=True)
    assert all(torch.equal(a, b.grad) for a, b in kept)
    assert all(p.requires_grad for p in training.critic.parameters())
    moved = zip(generator, training.generator.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)


def test_looking_changes_nothing() -> None:
    """Evaluation leaves the averages of batch normalization, the modes and the results alone."""
    looking, blind = gan_training(every=1), gan_training(evaluate=None, every=12)
    looking.run()
    blind.run()
    theirs = blind.generator.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in looking.generator.state_dict().items())
    assert looking.generator.training
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    looking.critic.train()
    values = values_of(looking.critic, x, batch=2)
    assert looking.critic.training
    assert torch.allclose(values, looking.critic(x).flatten(), atol=1e-12)


def test_dual_value() -> None:
    critic, x, y = nn.Linear(2, 1), torch.rand(3, 2), torch.rand(5, 2)
    expected = critic(x).mean() - critic(y).mean()
    assert torch.allclose(dual_value(critic, x, y), expected, atol=1e-6)


def test_a_training_that_diverges_says_so() -> None:
    def spoiled(count: int, stream: torch.Generator) -> torch.Tensor:
        return shifted(count, stream) * float("nan")

    training = critic_training()
    training.other = spoiled
    with pytest.raises(TrainingError, match="training became NaN or infinite by step 4"):
        training.run()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 65}, "A batch must have from 1 to 64 samples"),
        ({"batch_size": 0}, "A batch must have from 1 to 64 samples"),
        ({"steps": 0}, "at least one step, got 0"),
        ({"lr": -1.0}, "lr must be a positive number"),
        ({"every": 0}, "every must be at least 1, got 0"),
        (
            {"validation": (torch.rand(5, 2), torch.rand(5, 2))},
            r"Validation needs .*float64 of shape \(n, 3\).* got 5 that are torch.float32",
        ),
        ({"validation": (torch.zeros(0, 3).double(),) * 2}, "got 0 that are torch.float64"),
    ],
)
def test_bad_settings_are_refused(changes: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        critic_training(**changes)


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (torch.rand(20, 4), r"float32 of shape \(n, 4\), but the second law gives torch.float64"),
        (torch.rand(20, 3).double(), r"critic does not take samples that are torch.float64 of sha"),
        (torch.zeros(0, 3), "at least one sample"),
        (torch.full((20, 3), torch.nan), "20 of 20 samples hold NaN"),
        (torch.zeros(20, 3, dtype=torch.uint8), "must be floating-point numbers, got torch.uint8"),
    ],
)
def test_bad_samples_of_a_critic_are_refused(samples: torch.Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CriticTraining(MLP((3, 4, 1), "relu"), samples, shifted, steps=1, batch_size=4, lr=1e-3)


def test_what_is_no_critic_is_refused() -> None:
    layers = MLP((3, 4, 2), "relu").double()
    with pytest.raises(ValueError, match=r"one number for each sample.* gave the shape \(2, 2\)"):
        CriticTraining(layers, shifted(9, random_stream(0)), shifted, steps=1, batch_size=4, lr=0.1)


def test_a_generator_that_would_never_move_is_refused() -> None:
    training = gan_training()
    with pytest.raises(ValueError, match="critic_steps must be at least 1, got 0"):
        GanTraining(
            training.generator,
            training.critic,
            training.batch.samples,
            steps=1,
            batch_size=2,
            critic_steps=0,
        )


def test_images_of_another_size_are_refused() -> None:
    training = gan_training()
    with pytest.raises(ValueError, match=r"\(n, 1, 14, 14\), but the generator gives"):
        GanTraining(
            training.generator,
            training.critic,
            training.batch(0)[..., ::2, ::2],
            steps=1,
            batch_size=2,
        )

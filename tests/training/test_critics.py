"""Critics: a distance that is known, one step by the formula, trainings that are killed."""

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
from lipsplines.measures.laws import translated_gaussians
from lipsplines.measures.transport import wasserstein
from lipsplines.models.mlp import MLP
from lipsplines.training.critics import CriticTraining, dual_value, values_of
from lipsplines.training.regression import TrainingError, build_models
from lipsplines.training.streams import random_stream

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


def test_a_training_that_is_killed_goes_on(tmp_path: Path) -> None:
    """A process that ends by SIGKILL in the middle leaves a state from which another goes on."""
    code = """
import os, signal, sys
sys.path[:0] = [sys.argv[2]]
from tests.training.test_critics import SETTINGS, critic_training
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

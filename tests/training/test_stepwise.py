"""Trainings step by step: batches that depend on their number alone, curves, log."""

from __future__ import annotations

import itertools

import pytest
import torch

from lipsplines.training import stepwise
from lipsplines.training.stepwise import Batches, Training
from lipsplines.training.streams import random_stream


class Counting(Training):
    """A training that counts."""

    def parts(self) -> dict:
        return {}

    def advance(self) -> None:
        self.step += 1
        self.note(step=self.step, square=float(self.step**2))


def test_a_pass_has_every_sample_once_in_an_order_of_its_own() -> None:
    batch = Batches(torch.arange(12.0), 4, seed=1)
    passes = [torch.cat([batch(3 * p + i) for i in range(3)]) for p in range(3)]
    assert all(sorted(p.tolist()) == list(range(12)) for p in passes)
    assert len({tuple(p.tolist()) for p in passes}) == 3


def test_a_batch_depends_on_its_number_alone() -> None:
    samples = torch.arange(10.0)
    batch = Batches(samples, 3, seed=1)
    in_turn = [batch(i) for i in range(9)]
    anywhere = Batches(samples, 3, seed=1)
    for i in (7, 0, 3, 2, 8, 8):
        assert torch.equal(anywhere(i), in_turn[i])
    assert not torch.equal(Batches(samples, 3, seed=2)(0), in_turn[0])


def test_streams_of_different_words_differ() -> None:
    words = [(0,), (0, 0), (1,), (0, 1), (1, 0), (0, 0, 1), (2**40, 3)]
    seeds = [random_stream(*w).initial_seed() for w in words]
    assert len(set(seeds)) == len(words)
    assert random_stream(4, 2).initial_seed() == random_stream(4, 2).initial_seed()


def test_curves_and_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """A line a minute, with the time left."""
    clock = itertools.count(0, 25)  # seconds, from one look to the next
    monkeypatch.setattr(stepwise.time, "monotonic", lambda: next(clock))
    training = Counting(8, 0, None, "counting")
    training.run(log=True)
    assert training.curves["square"] == [1.0, 4.0, 9.0, 16.0, 25.0, 36.0, 49.0, 64.0]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("counting: step 3 of 8, square 9.000, ")
    assert lines[0].endswith("min left")
    training.run()  # nothing is left to do
    assert training.step == 8

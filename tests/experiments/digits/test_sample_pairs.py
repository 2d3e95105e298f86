"""Pairs of laws: samples for training, for choices, for the test."""

from __future__ import annotations

import pytest
import torch

from lipsplines.experiments.digits import sample_pairs
from tests.experiments.digits.settings import few

pytestmark = pytest.mark.usefixtures("stand_in")
CPU = torch.device("cpu")


def test_samples_are_kept_apart_and_mixed() -> None:
    """Test digits are no training digits, in no order of class, the same for all runs."""
    (settings,) = few(count=1)
    samples = sample_pairs.load_samples(settings, CPU)
    parts = [{row.tobytes() for row in p.numpy()} for p in (samples.train, samples.validation[0])]
    test = {row.tobytes() for row in samples.test[0].numpy()}
    assert not parts[0] & parts[1]
    assert not test & (parts[0] | parts[1])
    in_order = sample_pairs.load_digits(settings["digits"])
    rows = {
        image.numpy().tobytes(): label
        for image, label in zip(in_order.test, in_order.test_labels.tolist(), strict=True)
    }
    assert len({rows[row.numpy().tobytes()] for row in samples.test[0][:40]}) >= 8
    assert all(part.min() >= 0 and 0.9 < part.max() <= 1 for part in samples.test)
    again = sample_pairs.load_samples({**settings, "run": 4}, CPU)
    assert all(torch.equal(a, b) for a, b in zip(samples.test, again.test, strict=True))
    assert not torch.equal(samples.test[1][:400], samples.validation[1][:400])


@pytest.mark.parametrize("pair", sample_pairs.KNOWN)
def test_known_pairs_have_fresh_samples_for_every_run(pair: str) -> None:
    (settings,) = few(pair, 1)
    first, second = (
        sample_pairs.load_samples({**settings, "run": number}, CPU) for number in (0, 1)
    )
    assert len(first.train) == settings["steps"] * settings["batch_size"]
    assert len(torch.cat([first.train, second.train]).unique(dim=0)) == 2 * len(first.train)
    assert torch.equal(first.test[0], second.test[0])
    best = sample_pairs.known_pair(settings).potential
    large = sample_pairs.load_samples({**settings, "test_points": 20_000}, CPU).test
    gap = best(large[0].numpy()).mean() - best(large[1].numpy()).mean()
    assert gap == pytest.approx(first.distance, abs=0.05)

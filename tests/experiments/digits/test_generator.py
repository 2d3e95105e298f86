"""The generator of digits."""

from __future__ import annotations

from pathlib import Path

import torch

from lipsplines.evidence.records import Store
from lipsplines.experiments import EXPERIMENTS, run
from lipsplines.experiments.digits.gans import GRID
from lipsplines.experiments.digits.generator import run as generator
from lipsplines.training.streams import random_stream


def test_generator_smoke_run(tmp_path: Path, monkeypatch) -> None:
    """The weights in the record are those that made its grid of images."""
    store = Store(tmp_path)
    (record,) = run(EXPERIMENTS["generator"], "smoke", store, progress=False)
    monkeypatch.setattr(generator, "cells", lambda profile: [record.settings])
    model, found, images = generator.load_generator(store)
    assert found == record
    assert not model.training
    drawn = generator.generated_digits(model, 64, random_stream(0, GRID))
    assert 0 <= drawn.min() <= drawn.max() <= 1
    again = (255 * drawn[:, 0]).round().to(torch.uint8)
    assert (again.int() - images.int()).abs().max() <= 1
    assert record.lipschitz == {}

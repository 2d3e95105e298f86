"""Records of reference runs are found, or the command that makes them is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lipsplines.evidence.records import Store
from lipsplines.experiments.digits.classifier.protocol import cells
from lipsplines.runner.references import reference


def test_a_missing_reference_is_named_with_the_command(tmp_path: Path) -> None:
    settings = {"experiment": "generator", "profile": "reduced", "seed": 12345}
    with pytest.raises(FileNotFoundError) as caught:
        reference(settings, Store(tmp_path))
    assert f"The trained generator is not in {tmp_path}" in str(caught.value)
    assert "python -m lipsplines run generator --profile reduced" in str(caught.value)


def test_the_given_store_comes_before_the_repository(tmp_path: Path) -> None:
    settings = cells("paper")[0]
    known, tensors = reference(settings)
    store = Store(tmp_path)
    assert reference(settings, store)[0] == known  # the repository's
    store.put(dataclasses.replace(known, metrics={"test_accuracy": 0.5}), tensors)
    assert reference(settings, store)[0].metrics == {"test_accuracy": 0.5}

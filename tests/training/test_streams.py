"""Orders and batches: random, repeatable, each sample at most once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lipsplines.training.streams import batches, epoch_order


def test_epoch_order() -> None:
    """A permutation, another one each time, given by the generator."""
    generator = torch.Generator().manual_seed(5)
    first, second = epoch_order(50, generator), epoch_order(50, generator)
    assert first.sort().values.tolist() == list(range(50))
    assert not torch.equal(first, second)
    assert torch.equal(first, epoch_order(50, torch.Generator().manual_seed(5)))


@settings(max_examples=50)
@given(number=st.integers(1, 40), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_batches_take_each_sample_at_most_once(number: int, size: int, seed: int) -> None:
    samples = torch.arange(number, dtype=torch.float64)[:, None].expand(number, 3)
    generator = torch.Generator().manual_seed(seed)
    if size > number:
        with pytest.raises(ValueError, match=f"from 1 to {number} samples, .* got {size}"):
            batches(samples, size, generator)
        return
    found = list(batches(samples, size, generator))
    assert [batch.shape for batch in found] == [(size, 3)] * (number // size)
    rows = torch.cat(found)[:, 0].tolist()
    order = epoch_order(number, torch.Generator().manual_seed(seed)).tolist()
    assert rows == order[: len(rows)]
    assert all(torch.equal(batch[:, 0], batch[:, 2]) for batch in found)


def test_batches_continue_from_a_stored_state() -> None:
    samples, generator = torch.randn(50, 2), torch.Generator().manual_seed(3)
    list(batches(samples, 7, generator))
    state = generator.get_state()
    second = list(batches(samples, 7, generator))
    again = list(batches(samples, 7, torch.Generator().set_state(state)))
    assert all(torch.equal(a, b) for a, b in zip(second, again, strict=True))
    assert not torch.equal(second[0], samples[:7])


@pytest.mark.parametrize(
    ("samples", "size", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.uint8), 1, "floating-point numbers, got torch.uint8"),
        (torch.zeros(0, 2), 1, r"at least one sample, got the shape \(0, 2\)"),
        (torch.tensor(1.0), 1, r"at least one sample, got the shape \(\)"),
        (torch.tensor([[0.0], [torch.nan], [-torch.inf]]), 1, "2 of 3 samples hold NaN"),
        (torch.zeros(3, 2), 4, "from 1 to 3 samples, as many as there are; got 4"),
        (torch.zeros(3, 2), 0, "got 0"),
    ],
)
def test_batches_of_wrong_samples(samples: Tensor, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(samples, size, torch.Generator())

"""The precision of a training: chosen by what the device computes with, and what it reaches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lipsplines.training.precision import channels_last, chosen_precision, computes_in


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx2": True, "amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "cpu_name": "with bf16 in its name"}, "float32"),
        (None, "float32"),
    ],
)
def test_chosen_by_the_processor(monkeypatch, found: dict | None, expected: str) -> None:
    """Also with a version of torch that does not tell."""
    if found is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert chosen_precision("auto") == expected
    assert chosen_precision("auto", "meta") == "float32"
    for precision in ("float32", "bfloat16"):
        assert chosen_precision(precision) == precision


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="Unknown precision 'half'; choose one of float32"):
        chosen_precision("half")


@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_keep_channels_last(channels: int) -> None:
    """From the first one on, also with one channel, and with weights in the usual order."""
    x = channels_last(torch.randn(2, channels, 9, 7))
    model = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3))
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with computes_in(precision):
            value = x
            for layer in model:
                value = layer(value)
                assert value.dtype == dtype
                assert value.is_contiguous(memory_format=torch.channels_last)
                assert value.stride(1) == 1

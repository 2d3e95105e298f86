"""Files of an earlier version load: written by commit e655a8b, before modules moved into rooms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lipsplines import (
    Absolute,
    Averaged,
    GroupSort,
    Householder,
    LinearSpline,
    LipschitzPReLU,
    OrthogonalConv2d,
    OrthogonalConvTranspose2d,
    OrthogonalLinear,
    Residual,
    SpectralLinear,
    fold,
    load_model,
    save_model,
)
from lipsplines.evidence.records import Store
from lipsplines.export.descriptions import description
from lipsplines.export.storage import read_header
from lipsplines.models.mlp import MLP

OLDER = Path(__file__).parent / "older"


def network() -> nn.Module:
    """The model of the files, with other numbers."""
    shared = LinearSpline(4, 5, 2.0, "relu")
    frozen = OrthogonalLinear(6, 6, method="polar")
    frozen.requires_grad_(False)
    return nn.Sequential(
        OrthogonalConv2d(1, 4, 3, padding=1, padding_mode="circular"),
        shared,
        Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), shared)),
        OrthogonalConvTranspose2d(4, 2, 2, 2, bias=False),
        Averaged(LipschitzPReLU(2), 0.3),
        nn.PixelUnshuffle(2),
        Householder(8),
        nn.AvgPool2d(2),
        nn.Flatten(),
        SpectralLinear(32, 6, squarings=10),
        GroupSort(3),
        frozen,
        Absolute(),
        MLP((6, 5, 2), "spline-identity", layer_options={"method": "polar"}),
    ).double()


@pytest.mark.parametrize("name", ["constrained", "folded"])
def test_a_model_computes_as_it_did(name: str) -> None:
    path = OLDER / f"{name}.safetensors"
    model = load_model(path)
    x = torch.linspace(-1, 1, 32, dtype=torch.float64).reshape(2, 1, 4, 4)
    outputs = torch.tensor(read_header(path)["metadata"]["outputs"], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), outputs, rtol=0, atol=1e-9)


def test_a_model_is_described_and_trained_as_today(tmp_path: Path) -> None:
    model = load_model(OLDER / "constrained.safetensors")
    assert description(model) == description(network())
    assert [p.requires_grad for p in model.parameters()] == [
        p.requires_grad for p in network().parameters()
    ]
    folded = load_model(OLDER / "folded.safetensors")
    then, today = description(folded), description(fold(network()))
    # Earlier code folded it to the plain class, which reads images without a batch otherwise.
    assert then["modules"]["4"]["modules"]["module"]["type"] == "PReLU"
    assert today["modules"]["4"]["modules"]["module"]["type"] == "LipschitzPReLU"
    del then["modules"]["4"], today["modules"]["4"]
    assert then == today
    model.train()(torch.ones(2, 1, 4, 4, dtype=torch.float64)).sum().backward()
    again = load_model(save_model(model, tmp_path / "again.safetensors"))
    assert all(map(torch.equal, again.parameters(), model.parameters()))


def test_a_record_is_found_by_its_settings_and_holds_what_it_held() -> None:
    settings = {
        "experiment": "test",
        "profile": "smoke",
        "method": "Orthonormal",
        "activation": "LLS",
        "seed": 0,
    }
    store = Store(OLDER / "store")
    record = store.get(settings)
    assert record is not None
    assert record.metrics == {"errors": [0.5, 0.25]}
    assert record.lipschitz == {"lower": 0.9, "upper": 1.0}
    assert record.provenance["commit"] == "e655a8b"
    (curve,) = store.tensors(record).values()
    assert torch.equal(curve, torch.linspace(0, 1, 5, dtype=torch.float64))
    assert store.select("test", "smoke") == [record]

"""The denoising network, and the trained ones that come with the library."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import lipsplines
from lipsplines import OrthogonalConv2d, lipschitz_bounds, load_denoiser
from lipsplines.export import shipped
from lipsplines.export.denoisers import NAMES, denoiser_facts
from lipsplines.export.shipped import WEIGHTS
from lipsplines.models.denoisers import build_denoiser

FOLDER = Path(str(WEIGHTS))


@pytest.fixture
def copied(tmp_path: Path, monkeypatch) -> Path:
    """A copy of the weights that a test may spoil."""
    folder = tmp_path / "weights"
    shutil.copytree(FOLDER, folder)
    monkeypatch.setattr(shipped, "WEIGHTS", folder)
    shipped._index.cache_clear()
    yield folder
    shipped._index.cache_clear()


def known() -> list[tuple[str, float]]:
    index = json.loads((FOLDER / "denoisers.json").read_text())
    return [(name, e["settings"]["sigma"]) for name, entries in index.items() for e in entries]


@pytest.mark.parametrize("activation", sorted({kind for kind, _ in NAMES.values()}))
def test_a_network_is_1_lipschitz_and_keeps_shapes(activation: str) -> None:
    torch.manual_seed(0)
    model = build_denoiser(activation, channels=6, depth=4).double()
    assert sum(isinstance(m, OrthogonalConv2d) for m in model) == 4
    images = torch.rand(2, 1, 9, 13, dtype=torch.float64)
    assert model(images).shape == images.shape
    for size in ((1, 9, 13), (1, 16, 16)):
        lower, upper = lipschitz_bounds(model, input_shape=size, probes=4)
        assert lower <= upper <= 1 + 1e-10
    dense = torch.autograd.functional.jacobian(lambda x: model(x[None, None]), images[0, 0])
    assert torch.linalg.matrix_norm(dense.reshape(117, 117), 2) <= 1 + 1e-10


def test_without_constraint_it_need_not_be() -> None:
    model = build_denoiser("relu", "none", channels=6, depth=3)
    assert not any(isinstance(m, OrthogonalConv2d) for m in model)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Conv2d):
                layer.weight.mul_(20)
    assert lipschitz_bounds(model, input_shape=(1, 8, 8), probes=4).lower > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "tanh"}, "Unknown activation"),
        ({"activation": "relu", "constraint": "spectral"}, "choose one of orthogonal, none"),
        ({"activation": "relu", "depth": 1}, "at least 2 convolutions"),
    ],
)
def test_bad_networks(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_denoiser(**arguments)


def test_every_name_was_trained_for_three_noise_levels() -> None:
    assert sorted(known()) == sorted((name, s) for name in NAMES for s in (5, 10, 15))
    files = {f"{name}-{sigma}.safetensors" for name, sigma in known()}
    others = {path.name for path in FOLDER.glob("*convex*")} | {"regularizers.json"}
    assert {path.name for path in FOLDER.iterdir()} - others == files | {"denoisers.json"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 12_000_000


@pytest.mark.parametrize(("name", "sigma"), known())
def test_a_trained_denoiser_removes_noise_and_is_certified(name: str, sigma: float) -> None:
    model, facts = load_denoiser(name, sigma), denoiser_facts(name, sigma)
    assert not model.training
    bounds = lipschitz_bounds(model, input_shape=(1, 24, 24), probes=2)
    if name == "unconstrained":
        assert bounds.lower > 1
    else:
        assert bounds.upper <= 1 + 1e-4
        if sigma == 5:  # one of each kind
            double = lipschitz_bounds(model.double(), input_shape=(1, 24, 24), probes=2)
            assert double.upper <= 1 + 1e-10
            model.float()
    random = torch.Generator().manual_seed(0)
    clean = torch.nn.functional.interpolate(
        torch.rand(1, 1, 6, 6, generator=random), scale_factor=8, mode="bilinear"
    ).clamp(0.1, 0.9)
    noisy = clean + sigma / 255 * torch.randn(clean.shape, generator=random)
    with torch.no_grad():
        inner = (..., slice(8, -8), slice(8, -8))
        error = (model(noisy) - clean)[inner].square().mean()
    assert error < 0.7 * (noisy - clean)[inner].square().mean()
    assert facts["test"]["direct"]["psnr"] > facts["test"]["noisy"]["psnr"]


def test_the_public_name() -> None:
    assert lipsplines.load_denoiser is load_denoiser


def test_an_unknown_name_or_level_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"there are spline, spline-second, relu, .*unconstrained"):
        load_denoiser("tanh")
    with pytest.raises(ValueError, match="sigma = 25; there are those for 5, 10, 15"):
        load_denoiser("spline", sigma=25)


def test_a_file_with_another_hash_is_refused(copied: Path) -> None:
    path = copied / "spline-5.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"spline-5\.safetensors has not the SHA-256"):
        load_denoiser("spline", 5)
    load_denoiser("spline", 10)


def test_a_file_of_other_shapes_is_refused(copied: Path) -> None:
    """Even where the index was changed to have its hash."""
    import safetensors.torch

    path = copied / "spline-5.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        metadata, names = file.metadata(), list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names}
    tensors[names[0]] = tensors[names[0]][..., :-1].contiguous()
    safetensors.torch.save_file(tensors, path, metadata)
    index = json.loads((copied / "denoisers.json").read_text())
    index["spline"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (copied / "denoisers.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="spline-5"):
        load_denoiser("spline", 5)


def test_a_missing_file_is_told(copied: Path) -> None:
    (copied / "relu-10.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="install lipsplines again"):
        load_denoiser("relu", 10)


def test_an_index_that_cannot_be_read_is_told(copied: Path) -> None:
    (copied / "denoisers.json").write_text("{")
    with pytest.raises(FileNotFoundError, match=r"denoisers\.json, cannot be read"):
        load_denoiser("relu", 10)


def test_facts_are_a_copy() -> None:
    denoiser_facts("spline", 5)["lipschitz"]["upper"] = 0.1
    assert denoiser_facts("spline", 5)["lipschitz"]["upper"] > 0.9

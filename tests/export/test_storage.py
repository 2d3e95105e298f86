"""Models in files: they come back bit for bit, and nothing else comes back at all."""

from __future__ import annotations

import builtins
import copy
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines import (
    Averaged,
    LinearSpline,
    LipschitzPReLU,
    OrthogonalConv2d,
    OrthogonalConvTranspose2d,
    OrthogonalLinear,
    Residual,
    SpectralLinear,
    __version__,
    lipschitz_bounds,
)
from lipsplines.export import storage
from lipsplines.export.descriptions import description
from lipsplines.export.fold import fold
from lipsplines.export.storage import load_model, read_header, save_model
from lipsplines.models.mlp import ACTIVATIONS, LINEAR_LAYERS, MLP, make_activation

in_a_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def moved(model: nn.Module) -> nn.Module:
    """Parameters away from their starts."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def image_network(activation: str = "spline-relu") -> nn.Module:
    shared = make_activation(activation, 4)
    return moved(
        nn.Sequential(
            OrthogonalConv2d(1, 4, 3, padding=1, padding_mode="circular"),
            shared,
            OrthogonalConv2d(4, 4, 4, 2, 1, bias=False),
            Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), shared)),
            OrthogonalConvTranspose2d(4, 4, 4, 2, 1, padding_mode="circular"),
            Averaged(LipschitzPReLU(4), 0.3),
            nn.PixelUnshuffle(2),
            nn.AvgPool2d(2),
            nn.Flatten(),
            SpectralLinear(256, 2),
        )
    )


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    """Same modules, same tensors to the last bit, same trainable parameters; evaluation mode."""
    assert description(found) == description(expected)
    ours, theirs = dict(found.named_parameters()), dict(expected.named_parameters())
    assert list(ours) == list(theirs)
    for name, parameter in ours.items():
        assert parameter.dtype == theirs[name].dtype
        assert parameter.requires_grad == theirs[name].requires_grad
        assert parameter.detach().numpy().tobytes() == theirs[name].detach().numpy().tobytes()
    assert not any(module.training for module in found.modules())
    state = found.state_dict()
    assert list(state) == list(expected.state_dict())  # with the extra state of splines
    assert all(torch.equal(state[name], value) for name, value in expected.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constraint", LINEAR_LAYERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_of_the_paper(
    activation: str, constraint: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Constrained and folded networks come back, with their outputs."""
    model = moved(MLP((3, 10, 10, 2), activation, constraint).to(dtype))
    x = torch.randn(20, 3, dtype=dtype)
    for kept in (model, fold(model)):
        loaded = load_model(save_model(kept, tmp_path / "model.safetensors"))
        assert_same(loaded, kept)
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-6, atol=1e-6)


def test_certificate(tmp_path: Path) -> None:
    """It is that of the model that was saved, to the last bit."""
    model = fold(moved(MLP((3, 10, 10, 2), "spline-maxmin")))
    loaded = load_model(save_model(model, tmp_path / "model.safetensors"))
    assert lipschitz_bounds(loaded).upper == lipschitz_bounds(model).upper <= 1 + 1e-4


@pytest.mark.parametrize("folded", [False, True])
def test_image_networks(folded: bool, tmp_path: Path) -> None:
    """Convolutions, branches and a spline that occurs twice, which stays one module."""
    model = image_network()
    model = fold(model) if folded else model
    loaded = load_model(save_model(model, tmp_path / "model.safetensors"))
    assert_same(loaded, model)
    assert loaded[1] is loaded[3].module[1]
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(loaded(x), model(x), rtol=1e-5, atol=1e-6)


def test_loaded_models_train_on(tmp_path: Path) -> None:
    """A constrained model that comes from a file learns as the original does."""
    model = moved(MLP((3, 10, 1), "spline-relu")).eval()
    loaded = load_model(save_model(model, tmp_path / "model.safetensors"))
    x = torch.randn(8, 3)
    for network in (model, loaded):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    for own, other in zip(loaded.parameters(), model.parameters(), strict=True):
        assert torch.equal(own, other)
    assert parametrize.is_parametrized(loaded[0])


def test_partly_frozen(tmp_path: Path) -> None:
    """Which parameters are trained is kept one by one."""
    model = nn.Sequential(nn.Linear(3, 2), OrthogonalLinear(2, 2))
    model[0].bias.requires_grad_(False)
    path = save_model(model, tmp_path / "model.safetensors")
    assert read_header(path)["frozen"] == ["0.bias"]
    assert_same(load_model(path), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    """Plain layers in half precision, and several dtypes in one model."""
    model = nn.Sequential(nn.Linear(3, 3).to(dtype), nn.PReLU(3).to(dtype), nn.Linear(3, 3))
    loaded = load_model(save_model(model, tmp_path / "model.safetensors"))
    assert [p.dtype for p in loaded.parameters()] == [p.dtype for p in model.parameters()]
    assert all(map(torch.equal, loaded.parameters(), model.parameters()))


def test_special_numbers(tmp_path: Path) -> None:
    """Negative zero, subnormal and huge values, and a memory layout that is not contiguous."""
    model = nn.Linear(3, 3)
    values = torch.tensor([[-0.0, 1e-45, 3e38], [1.0, -1e-40, 0.1], [2.0, 3.0, 4.0]])
    model.weight = nn.Parameter(values.mT)
    assert_same(load_model(save_model(model, tmp_path / "model.safetensors")), model.eval())


def test_memory_is_not_shared(tmp_path: Path) -> None:
    """Neither with the model that was saved, nor with the file, nor among the parameters."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    whole = torch.randn(24)
    for i, layer in enumerate(model):
        layer.weight = nn.Parameter(whole[12 * i : 12 * i + 9].view(3, 3))
        layer.bias = nn.Parameter(whole[12 * i + 9 : 12 * i + 12])
    path = save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(path)
    assert_same(loaded, model.eval())
    before = loaded[1].weight.detach().clone()
    with torch.no_grad():
        loaded[0].weight.fill_(7.0)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(loaded[1].weight, before)
    assert not (model[0].weight == 7.0).any()


@st.composite
def chains(draw, depth: int = 0) -> nn.Module:
    """Random nested chains on vectors of 10 channels, in places constrained, folded or repeated."""
    modules: list[nn.Module] = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["layer", "activation", "branch", "again", "folded"]))
        if kind == "again" and modules:
            modules.append(draw(st.sampled_from(modules)))
        elif kind == "branch" and depth < 2:
            inner = draw(chains(depth + 1))
            branch = draw(st.sampled_from([Residual, Averaged, nn.Sequential]))
            modules.append(branch(inner))
        elif kind == "activation":
            name = draw(st.sampled_from([*ACTIVATIONS]))
            options = {
                "num_coefficients": draw(st.integers(3, 9)),
                "range_": draw(st.floats(0.1, 3.0)),
                "constraint": draw(st.sampled_from(["project", "normalize", None])),
                "scaling": draw(st.booleans()),
            }
            modules.append(make_activation(name, 10, **options))
        else:
            layer_type = draw(st.sampled_from([nn.Linear, OrthogonalLinear, SpectralLinear]))
            layer = moved(layer_type(10, 10, bias=draw(st.booleans())))
            modules.append(fold(layer) if kind == "folded" else layer)
    return nn.Sequential(*modules)


@in_a_folder
@given(model=chains(), metadata=st.dictionaries(st.text(), st.text() | st.integers()))
def test_random_chains(model: nn.Module, metadata: dict, tmp_path: Path) -> None:
    """Any chain comes back whole, whatever was there under the name before."""
    path = save_model(model, tmp_path / "model.safetensors", metadata)
    assert read_header(path)["metadata"] == metadata
    loaded = load_model(path)
    assert_same(loaded, model)
    x = torch.randn(4, 10)
    torch.testing.assert_close(loaded(x), model(x), rtol=1e-5, atol=1e-5)


def test_header(tmp_path: Path) -> None:
    """It tells the format, the version, the modules, and what the caller added."""
    model = moved(MLP((2, 4, 1), "spline-relu"))
    metadata = {"noise": 0.1, "sizes": [2, 4, 1], "α": None}
    path = save_model(model, str(tmp_path / "model.safetensors"), metadata)
    header = read_header(path)
    assert header["format"] == storage.FORMAT
    assert header["version"] == __version__
    assert header["model"] == description(model)
    assert header["metadata"] == metadata
    assert set(load(path.read_bytes())) == {name for name, _ in model.named_parameters()}


def test_metadata_are_those_of_json(tmp_path: Path) -> None:
    """Keys become text and tuples lists, as JSON has it, and the file can be read."""
    path = save_model(nn.ReLU(), tmp_path / "m.safetensors", {10: (1,), 9: 2, "9": 3})
    assert read_header(path)["metadata"] == {"10": [1], "9": 3}
    assert isinstance(load_model(path), nn.ReLU)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    """Neither parameters nor modes, and equal models make equal files."""
    model = image_network().train()
    before = copy.deepcopy(model.state_dict())
    first = save_model(model, tmp_path / "first.safetensors").read_bytes()
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    again = save_model(copy.deepcopy(model), tmp_path / "again.safetensors").read_bytes()
    assert first == again


@pytest.mark.parametrize(
    ("model", "metadata", "error", "message"),
    [
        (nn.Sequential(nn.Tanh()), None, TypeError, r"0 \(Tanh\) cannot be described"),
        (nn.Linear(2, 2), "a note", TypeError, "metadata must be a dictionary, got str"),
        (nn.Linear(2, 2), {"run": object()}, TypeError, "metadata must be what JSON can hold"),
        (nn.Linear(2, 2), {"loss": float("nan")}, TypeError, "metadata must be what JSON can"),
    ],
)
def test_what_cannot_be_saved(model, metadata, error, message: str, tmp_path: Path) -> None:
    """It leaves the file that was there."""
    path = save_model(nn.ReLU(), tmp_path / "model.safetensors")
    with pytest.raises(error, match=message):
        save_model(model, path, metadata)
    assert isinstance(load_model(path), nn.ReLU)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_values(value: float, tmp_path: Path) -> None:
    """They are neither saved nor loaded."""
    model = nn.Sequential(nn.Linear(3, 2))
    path = save_model(model, tmp_path / "model.safetensors")
    with torch.no_grad():
        model[0].bias[1] = value
    with pytest.raises(ValueError, match=r"0\.bias holds NaN or infinite values"):
        save_model(model, tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()
    rewrite(path, tensors=lambda tensors: tensors["0.bias"].fill_(value))
    with pytest.raises(ValueError, match=r"model\.safetensors holds no .*: 0\.bias holds NaN or"):
        load_model(path)


def test_interrupted_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while writing leaves the former file and no rubbish."""
    path = save_model(nn.ReLU(), tmp_path / "model.safetensors")

    def fail(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        save_model(nn.Linear(2, 2), path)
    assert isinstance(load_model(path), nn.ReLU)
    assert list(tmp_path.iterdir()) == [path]


def rewrite(path: Path, header=None, tensors=None) -> None:
    """Alter the header or the tensors of a file in place, and leave it a whole safetensors file."""
    stored, content = load(path.read_bytes()), read_header(path)
    if tensors is not None:
        tensors(stored)
        content["sha256"] = storage._digest(content, stored)
    if header is not None:
        header(content)
    path.write_bytes(save(stored, {storage.KEY: json.dumps(content)}))


def swap_order(header: dict) -> None:
    modules = header["model"]["modules"]
    modules["0"] = modules.pop("0")


def exchange(tensors: dict[str, Tensor], name: str, change) -> None:
    tensors[name] = change(tensors[name])


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda t: t.pop("0.bias"), r"missing '0\.bias', left over none"),
        (lambda t: t.update(extra=torch.ones(1)), r"missing none, left over 'extra'"),
        (
            lambda t: exchange(t, "0.bias", lambda b: b[:1].clone()),
            r"0\.bias has shape \(1,\) and dtype F32, its description says \(2,\) and F32",
        ),
        (
            lambda t: exchange(t, "0.bias", Tensor.double),
            r"0\.bias has shape \(2,\) and dtype F64, its description says \(2,\) and F32",
        ),
        (lambda t: exchange(t, "0.bias", lambda b: b.view(torch.int32)), "dtype I32"),
    ],
)
def test_tensors_that_do_not_fit(alter, message: str, tmp_path: Path) -> None:
    """Each is expected once, in its shape and dtype."""
    path = save_model(nn.Sequential(nn.Linear(3, 2)), tmp_path / "model.safetensors")
    rewrite(path, tensors=alter)
    with pytest.raises(ValueError, match=rf"model\.safetensors holds no model .*{message}"):
        load_model(path)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda h: h.update(format=2), "it has format 2, this version of the library reads 1"),
        (lambda h: h.update(format=True), "no object with a format"),
        (lambda h: h.pop("format"), "no object with a format"),
        (lambda h: h.pop("model"), "lacks model, or has it as no dict"),
        (lambda h: h.update(model=None), "lacks model, or has it as no dict"),
        (lambda h: h.update(frozen={}), "lacks frozen, or has it as no list"),
        (lambda h: h.update(frozen=["0.scale"]), r"it calls '0\.scale' frozen"),
        (lambda h: h.update(frozen=[["0.bias"]]), r"it calls \['0\.bias'\] frozen"),
        (lambda h: h.update(sha256="0"), "content does not match its SHA-256"),
        (lambda h: h["metadata"].update(noise=25), "content does not match its SHA-256"),
        (lambda h: h["metadata"].update(noise=float("inf")), "it holds Infinity"),
        (lambda h: h["model"].update(type="Module"), "unknown type 'Module'"),
        (lambda h: h["model"]["modules"].clear(), "left over"),
        (swap_order, "content does not match its SHA-256"),
        (
            lambda h: h["model"]["modules"]["0"]["options"].update(in_features=4),
            r"0\.weight has shape \(2, 3\) and dtype F32, its description says \(2, 4\)",
        ),
        (
            lambda h: h["model"]["modules"]["0"]["options"].update(in_features=-4),
            r"0 \(Linear\) cannot be built",
        ),
    ],
)
def test_headers_that_do_not_fit(alter, message: str, tmp_path: Path) -> None:
    """A sentence with the name of the file."""
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    path = save_model(model, tmp_path / "model.safetensors")
    rewrite(path, header=alter)
    with pytest.raises(ValueError, match=rf"model\.safetensors holds no model .*{message}"):
        load_model(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no model that can be used"),
        ("[]", "no object with a format"),
        ("{", "holds no model that can be used"),
        ('{"format": NaN}', "it holds NaN"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    ],
)
def test_headers_that_are_no_descriptions(text: str, message: str, tmp_path: Path) -> None:
    """Text that is no JSON, or no object."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({}, {storage.KEY: text}))
    with pytest.raises(ValueError, match=message):
        load_model(path)


def test_other_files(tmp_path: Path) -> None:
    """Plain weights, an archive of torch, an empty and a missing file."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"weight": torch.ones(2)}))
    with pytest.raises(ValueError, match="it was not written by save_model; build the model"):
        load_model(path)
    torch.save({"weight": torch.ones(2)}, path)
    for content in (path.read_bytes(), b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors is cut off, altered or no safe"):
            load_model(path)
    with pytest.raises(FileNotFoundError, match="missing"):
        load_model(tmp_path / "missing.safetensors")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder, and the content of the file of a small model."""
    folder = tmp_path_factory.mktemp("stored")
    model = nn.Sequential(OrthogonalLinear(2, 2), LinearSpline(2, 5), nn.Linear(2, 1))
    return folder, save_model(model, folder / "model.safetensors").read_bytes()


@given(data=st.data())
def test_cut_off(data: st.DataObject, stored: tuple[Path, bytes]) -> None:
    """No beginning of a file is taken for the whole."""
    folder, content = stored
    path = folder / "cut.safetensors"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=r"cut\.safetensors"):
        load_model(path)


@settings(max_examples=100)
@given(data=st.data())
def test_altered_bytes(data: st.DataObject, stored: tuple[Path, bytes]) -> None:
    """A changed byte among the tensors is found; one in the header is found or means nothing."""
    folder, content = stored
    position = data.draw(st.integers(0, len(content) - 1))
    altered = bytearray(content)
    altered[position] ^= data.draw(st.integers(1, 255))
    path = folder / "altered.safetensors"
    path.write_bytes(altered)
    original = load_model(folder / "model.safetensors")
    try:
        loaded = load_model(path)
    except ValueError:
        return
    assert position < 8 + int.from_bytes(content[:8], "little")
    assert_same(loaded, original)


def test_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading uses neither pickles nor evaluation of text."""

    def refuse(*args, **kwargs):
        raise AssertionError("loading must not do this")

    path = save_model(image_network(), tmp_path / "model.safetensors")
    for place, name in ((builtins, "eval"), (torch, "load"), (torch.serialization, "load")):
        monkeypatch.setattr(place, name, refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    load_model(path)


def test_a_message_about_a_file_is_short(tmp_path: Path) -> None:
    """Whatever the file calls its parts."""
    path = save_model(nn.Sequential(nn.Linear(3, 2)), tmp_path / "model.safetensors")

    def add(tensors: dict[str, Tensor]) -> None:
        for index in range(400):
            tensors[f"\x1b[31m{index}{'x' * 500}"] = torch.ones(1)

    rewrite(path, tensors=add)
    with pytest.raises(ValueError, match=r"missing none, left over .* and 397 more") as caught:
        load_model(path)
    told = str(caught.value).removeprefix(str(path))
    assert len(told) < 400
    assert told.isprintable()

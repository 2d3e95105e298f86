"""Folded models outside of Python: `torch.export`, `torch.jit`, and ONNX run by ``onnxruntime``.

Differences are relative to the largest output.
"""

from __future__ import annotations

import functools
import io

import pytest
import torch
from torch import Tensor, nn

from lipsplines import (
    Averaged,
    LinearSpline,
    OrthogonalConv2d,
    OrthogonalConvTranspose2d,
    OrthogonalLinear,
    Residual,
    SpectralLinear,
    splines,
)
from lipsplines.export.fold import fold
from lipsplines.models.mlp import ACTIVATIONS, MLP, make_activation

from ..markers import needs_working_onnx

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")

# In float64 as well: the exporter of torch writes constants, such as a spacing, in float32.
RELATIVE = 1e-5
# Inputs of the activations lie inside of the range of the splines, outside, and far outside.
SCALES = (0.1, 1.0, 30.0)


class Both(nn.Module):
    """A fully connected and a convolutional network, exported as one model."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.connected = MLP((4, 10, 20, 2), activation)
        self.convolutional = nn.Sequential(
            OrthogonalConv2d(2, 10, 3, padding=1, padding_mode="circular"),
            make_activation(activation, 10),
            OrthogonalConv2d(10, 10, 4, 2, 1),
            Residual(
                nn.Sequential(nn.Conv2d(10, 10, 3, padding=1), make_activation(activation, 10))
            ),
            OrthogonalConvTranspose2d(10, 10, 4, 2, 1, padding_mode="circular"),
            Averaged(nn.Conv2d(10, 10, 3, padding=1), 0.5),
            OrthogonalConvTranspose2d(10, 2, 2, 2),
            nn.PixelUnshuffle(2),
            nn.AvgPool2d(2),
            nn.Flatten(),
            SpectralLinear(128, 3),
        )

    def forward(self, x: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.connected(x), self.convolutional(images)


def moved(model: nn.Module) -> nn.Module:
    """Parameters away from their symmetric starts, the scales of splines too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def inputs(batch: int) -> tuple[Tensor, Tensor]:
    scales = torch.tensor(SCALES).repeat(batch)[:batch]
    x, images = torch.randn(batch, 4), torch.randn(batch, 2, 8, 8)
    return scales[:, None] * x, scales[:, None, None, None] * images


def exported(model: nn.Module, *arguments: Tensor) -> torch.export.ExportedProgram:
    """Exported with a batch dimension of any size."""
    batch = torch.export.Dim("batch")
    return torch.export.export(
        model, arguments, dynamic_shapes=tuple({0: batch} for _ in arguments)
    )


def session(program: torch.export.ExportedProgram):
    """The program in ``onnxruntime``, as a function of tensors."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX models need the extra onnx")
    pytest.importorskip("onnxscript", reason="the export to ONNX needs the extra onnx")
    onnx_program = torch.onnx.export(program, dynamo=True, verbose=False)
    running = runtime.InferenceSession(onnx_program.model_proto.SerializeToString())
    names = [entry.name for entry in running.get_inputs()]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        arrays = {name: t.numpy() for name, t in zip(names, tensors, strict=True)}
        return tuple(map(torch.from_numpy, running.run(None, arrays)))

    return run


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert expected.std() > 1e-3
    difference = (found - expected).abs().max() / expected.abs().max()
    assert difference <= RELATIVE


@functools.cache
def networks(activation: str) -> tuple[Both, torch.export.ExportedProgram]:
    """A constrained model, and its folded copy exported: for two tests, as it takes long."""
    model = moved(Both(activation)).eval()
    return model, exported(fold(model), *inputs(5))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_export_of_torch(activation: str) -> None:
    """The exported program has the outputs of both networks, at any batch size.

    To the last bit but for splines, which are exported as plain operations.
    """
    model, program = networks(activation)
    run = program.module()
    with torch.no_grad():
        for batch in (5, 1, 12):
            arguments = inputs(batch)
            for found, expected in zip(run(*arguments), model(*arguments), strict=True):
                assert_close(found, expected)
                assert "spline" in activation or torch.equal(found, expected)


@needs_working_onnx
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx(activation: str) -> None:
    """``onnxruntime`` gives the outputs of the constrained networks, at any batch size."""
    model, program = networks(activation)
    run = session(program)
    with torch.no_grad():
        for batch in (5, 2, 12):
            arguments = inputs(batch)
            for found, expected in zip(run(*arguments), model(*arguments), strict=True):
                assert_close(found, expected)


@needs_working_onnx
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num_coefficients", "range_"), [(51, 1.0), (8, 2.0), (101, 0.1)])
def test_onnx_of_splines(num_coefficients: int, range_: float, dtype: torch.dtype) -> None:
    """On every knot, on its neighbours in floating point, between and outside; NaN stays NaN."""
    spline = moved(LinearSpline(3, num_coefficients, range_, dtype=dtype))
    knots = splines.knots(num_coefficients, range_, dtype=dtype)
    up, down = knots.new_full((), torch.inf), knots.new_full((), -torch.inf)
    points = torch.cat(
        (knots, knots.nextafter(up), knots.nextafter(down), range_ * torch.randn(300) * 3)
    )
    x = points.to(dtype)[:, None].repeat(1, 3)
    with torch.no_grad():
        x = torch.cat((x, x / spline.scale))  # knots of the input, and of the scaled input
        run = session(exported(fold(spline), x))
        (found,) = run(x)
        assert_close(found, spline(x))
        special = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30], dtype=dtype)
        special = special[:, None].repeat(1, 3)
        (found,) = run(special)
        expected = spline(special)
        assert torch.equal(found.isnan(), expected.isnan())
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0, equal_nan=True)


@needs_working_onnx
def test_onnx_of_a_chain_in_training_mode() -> None:
    """A model that was folded in the midst of training exports what it computes."""
    model = moved(nn.Sequential(OrthogonalLinear(3, 6), LinearSpline(6), OrthogonalLinear(6, 1)))
    model.train()
    x = torch.randn(7, 3)
    (found,) = session(exported(fold(model), x))(x)
    assert_close(found, model(x).detach())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_traces_of_torchscript(activation: str) -> None:
    """They are saved and loaded, and give the outputs at any batch size."""
    model = moved(Both(activation)).eval()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(fold(model), inputs(5)), buffer)
    buffer.seek(0)
    run = torch.jit.load(buffer)
    with torch.no_grad():
        for batch in (5, 1, 12):
            arguments = inputs(batch)
            for found, expected in zip(run(*arguments), model(*arguments), strict=True):
                assert_close(found, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_older_export_to_onnx(activation: str) -> None:
    """The exporter that traces: the same outputs, at any batch size."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX models need the extra onnx")
    pytest.importorskip("onnx", reason="the export to ONNX needs the extra onnx")
    model, buffer = moved(Both(activation)).eval(), io.BytesIO()
    names = ["x", "images"]
    axes = {name: {0: "batch"} for name in (*names, "first", "second")}
    torch.onnx.export(
        fold(model),
        inputs(5),
        buffer,
        dynamo=False,
        input_names=names,
        output_names=["first", "second"],
        dynamic_axes=axes,
    )
    running = runtime.InferenceSession(buffer.getvalue())
    with torch.no_grad():
        for batch in (5, 2, 12):
            arguments = inputs(batch)
            arrays = {name: t.numpy() for name, t in zip(names, arguments, strict=True)}
            outputs = map(torch.from_numpy, running.run(None, arrays))
            for found, expected in zip(outputs, model(*arguments), strict=True):
                assert_close(found, expected)


def test_modules_that_work_in_place() -> None:
    """A branch keeps its input, folded and exported; so does the caller."""
    model = nn.Sequential(
        OrthogonalLinear(4, 4),
        Residual(nn.LeakyReLU(0.1, inplace=True)),
        Averaged(nn.Sequential(nn.ReLU(inplace=True), OrthogonalLinear(4, 4)), 0.3),
    )
    x = torch.randn(6, 4)
    hidden = model[0](x)
    hidden = hidden + torch.nn.functional.leaky_relu(hidden, 0.1)
    expected = (0.7 * hidden + 0.3 * model[2].module[1](hidden.relu())).detach()
    torch.testing.assert_close(fold(model)(x), expected)
    torch.testing.assert_close(exported(fold(model), x).module()(x), expected)


@pytest.mark.parametrize(
    "wrap", [torch.compile, nn.DataParallel, lambda m: nn.Sequential(torch.compile(m))]
)
def test_wrapped_models_fold_to_plain_ones(wrap) -> None:
    """Around the model or within: the numbers are those of the module in the wrapper."""
    model = nn.Sequential(OrthogonalLinear(4, 4), LinearSpline(4))
    wrapped, x = wrap(model), torch.randn(6, 4)
    folded = fold(wrapped)
    assert all(type(m) in (nn.Sequential, nn.Linear, LinearSpline) for m in folded.modules())
    assert torch.equal(folded(x), model(x))
    assert wrapped is not folded


def test_a_model_compiled_in_place_folds() -> None:
    """The copy is not compiled: it is what leaves."""
    model = nn.Sequential(OrthogonalLinear(4, 4), LinearSpline(4))
    x = torch.randn(6, 4)
    expected = model(x)
    model.compile()
    folded = fold(model)
    assert folded._compiled_call_impl is None
    assert torch.equal(folded(x), expected)

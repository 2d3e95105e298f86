"""What a certificate speaks of: the layers that run, and what is refused in a sentence."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lipsplines import (
    GroupSort,
    LinearSpline,
    OrthogonalConv2d,
    OrthogonalLinear,
    Residual,
    fold,
    lipschitz_bounds,
)
from lipsplines.linear.norms import matrix_norm_bound
from tests.certify.networks import network


class Doubling(nn.Linear):
    """A linear layer whose forward pass is another function."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Skipping(nn.Sequential):
    """A chain whose forward pass is another function."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class DoublingSpline(LinearSpline):
    """A spline whose forward pass is another function."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.GELU(), "GELU"),
        (nn.Softmax(1), "Softmax"),
        (nn.LayerNorm(3), "LayerNorm"),
        (Doubling(3, 3), "Doubling"),
        (Skipping(nn.Linear(3, 3)), "Skipping"),
        (DoublingSpline(3), "DoublingSpline"),
    ],
)
def test_unknown_modules_are_refused_by_name(module: nn.Module, name: str) -> None:
    """With their class and their place in the model; a subclass is not taken for its parent."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), module))
    with pytest.raises(TypeError, match=rf"known for {name} \(model\.1\.1\)"):
        lipschitz_bounds(model)


def test_a_subclass_with_the_same_forward_is_accepted() -> None:
    """What counts is the function that runs."""

    class Named(nn.Linear):
        pass

    assert lipschitz_bounds(Named(3, 3))[1] > 0


def test_hooks_and_replaced_methods_are_refused() -> None:
    """Both may change the output behind the certificate's back."""
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        getattr(model[1], register)(lambda *arguments: None)
        with pytest.raises(TypeError, match=r"model\.1 has forward hooks"):
            lipschitz_bounds(model)
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model[0].forward = lambda x: 100 * x
    with pytest.raises(TypeError, match=r"model\.0 has a forward method beside"):
        lipschitz_bounds(model)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["0.bias", "1.coefficients", "1.log_scale"])
def test_non_finite_parameters_are_refused_by_name(name: str, value: float) -> None:
    """No bound is made up for a model that has none."""
    model = network("spline-relu")
    dict(model.named_parameters())[name].data.view(-1)[0] = value
    with pytest.raises(ValueError, match=rf"{name} holds NaN or infinite values"):
        lipschitz_bounds(model)


@pytest.mark.parametrize("module", [GroupSort(2, dim=0), nn.Flatten(0)])
def test_modules_that_mix_samples_are_refused(module: nn.Module) -> None:
    with pytest.raises(TypeError, match="mixes the samples of a batch"):
        lipschitz_bounds(nn.Sequential(nn.Linear(2, 2), module))


def test_only_a_module_has_bounds() -> None:
    """Functions are refused in a sentence."""
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got function"):
        lipschitz_bounds(lambda x: x, (3,))


class TwiceTheKernel(nn.Conv2d):
    """A convolution that computes something else below its forward pass."""

    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, 2 * weight, bias)


class Backwards(nn.Sequential):
    """A chain in another order."""

    def __iter__(self):
        return iter(list(self._modules.values())[::-1] * 2)


class Named(nn.Sequential):
    """A chain with a constructor and a name of its own."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 3, bias=False))

    @property
    def first(self) -> nn.Module:
        return self[0]


def test_subclasses_that_compute_below_their_forward_pass() -> None:
    """Refused, wherever they hide it; mere additions of names are not."""
    with pytest.raises(TypeError, match=r"known for TwiceTheKernel \(model\.0\)"):
        lipschitz_bounds(nn.Sequential(TwiceTheKernel(1, 1, 3)), (1, 5, 5))
    with pytest.raises(TypeError, match=r"known for Backwards"):
        lipschitz_bounds(Backwards(nn.Linear(3, 3), nn.Linear(3, 3)))
    model = Named()
    _, upper = lipschitz_bounds(model)
    assert upper == pytest.approx(matrix_norm_bound(model.first.weight), rel=1e-12)


def test_methods_of_an_instance_are_refused() -> None:
    """Also those below the forward pass."""
    layer = nn.Conv2d(1, 1, 3)
    layer._conv_forward = lambda x, weight, bias: 50 * nn.functional.conv2d(x, weight, bias)
    with pytest.raises(TypeError, match="_conv_forward method beside that of its class"):
        lipschitz_bounds(layer, (1, 5, 5))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Flatten(-4), (2, 8, 8)),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), GroupSort(2, dim=-4)), (1, 8, 8)),
        (nn.Sequential(nn.Linear(4, 4), nn.Unflatten(-2, (2, -1)), nn.Flatten(1)), (4,)),
        (Residual(nn.Sequential(nn.Flatten(-2), nn.Unflatten(0, (2, -1)))), (3,)),
        (GroupSort(2, dim=-2), (3,)),
        (GroupSort(3, dim=np.int64(-2)), (3,)),
    ],
    ids=repr,
)
def test_negative_dimensions_that_reach_the_batch(model: nn.Module, shape) -> None:
    """They count from the end, so that the shape of the input decides; nothing else may hide it."""
    with pytest.raises(TypeError, match="mixes the samples of a batch"):
        lipschitz_bounds(model, shape)


def test_negative_dimensions_that_do_not_reach_the_batch() -> None:
    lower, upper = lipschitz_bounds(
        nn.Sequential(GroupSort(2, dim=-3), nn.Flatten(-3), nn.Unflatten(-1, (2, 9))), (2, 3, 3)
    )
    assert lower <= 1 == upper


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3),
        OrthogonalConv2d(2, 2, 3),
        nn.ConvTranspose2d(2, 2, 3),
        nn.PixelShuffle(1),
    ],
    ids=repr,
)
def test_images_without_channels(layer: nn.Module) -> None:
    """Torch takes the batch for the channels: said in a sentence, not certified."""
    with pytest.raises(ValueError, match=r"inputs of shape \(8, 8\).* channels first"):
        lipschitz_bounds(layer, (8, 8))
    with pytest.raises(ValueError, match=r"does not accept inputs of shape \(2, 2\)"):
        lipschitz_bounds(nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1), layer), (2, 2))


def wrapped(kind: str, model: nn.Module) -> nn.Module:
    """The model as `torch.compile` or a parallel wrapper leaves it."""
    if kind == "compile":
        return torch.compile(model)
    if kind == "parallel":
        return nn.DataParallel(model)
    if kind == "twice":
        return nn.DataParallel(torch.compile(model))
    model.compile()
    return model


@pytest.mark.parametrize("kind", ["compile", "parallel", "twice", "in place"])
def test_wrappers_are_looked_through(kind: str) -> None:
    """Around the model, a part of it, or the module of a branch; the names are those within."""
    model = nn.Sequential(nn.Linear(3, 3), Residual(nn.Sequential(nn.ReLU(), nn.Linear(3, 3))))
    expected = lipschitz_bounds(model)
    outer = wrapped(kind, copy.deepcopy(model))
    inner = nn.Sequential(
        wrapped(kind, copy.deepcopy(model[0])),
        Residual(wrapped(kind, copy.deepcopy(model[1].module))),
    )
    for found in (lipschitz_bounds(outer), lipschitz_bounds(inner)):
        assert found == expected
        assert found.layers == expected.layers
    assert outer.training


def test_distributed_models() -> None:
    """The wrapper of one process alone, of which every parameter has hooks of its own."""
    model = nn.Sequential(OrthogonalLinear(3, 4), GroupSort(2), OrthogonalLinear(4, 2))
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        assert lipschitz_bounds(parallel) == lipschitz_bounds(model)
        assert lipschitz_bounds(nn.Sequential(parallel, nn.Tanh())).upper < 1 + 1e-5
        assert type(fold(parallel)) is nn.Sequential
    finally:
        torch.distributed.destroy_process_group()


def test_hooks_of_a_wrapper_are_refused() -> None:
    """They run, and may change the output."""
    model = nn.DataParallel(nn.Linear(3, 3))
    model.register_forward_hook(lambda *arguments: None)
    with pytest.raises(TypeError, match="model has forward hooks"):
        lipschitz_bounds(model, (3,))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Dropout(0.5), r"model\.1 \(Dropout\) is in training mode.* call model\.eval\(\)"),
        (nn.AlphaDropout(0.5), "is in training mode"),
        (nn.BatchNorm1d(3), r"normalises by the batch, .* call model\.eval\(\) first"),
        (nn.BatchNorm1d(3, track_running_stats=False).eval(), "use track_running_stats=True"),
    ],
)
def test_layers_in_training_mode(layer: nn.Module, message: str) -> None:
    """Refused with what to do."""
    with pytest.raises(TypeError, match=message):
        lipschitz_bounds(nn.Sequential(nn.Linear(3, 3), layer))


@pytest.mark.parametrize("layer", [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.InstanceNorm1d(4)])
def test_why_a_normalization_has_no_bound(layer: nn.Module) -> None:
    with pytest.raises(TypeError, match=r"its own deviation.* use BatchNorm in evaluation mode"):
        lipschitz_bounds(layer, (4, 3) if isinstance(layer, nn.InstanceNorm1d) else (4,))

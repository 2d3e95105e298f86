"""Removal of knots: the guarantee, the optimality, what stays."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from lipsplines import (
    Averaged,
    LinearSpline,
    OrthogonalConv2d,
    OrthogonalLinear,
    Residual,
    fold,
    lipschitz_bounds,
    sparsify,
    tv2,
)
from lipsplines.models.mlp import MLP


def rough_model(
    seed: int,
    sizes=(3, 8, 8, 2),
    coefficients: int = 21,
    dtype=torch.float64,
    activation: str = "spline-relu",
    **options,
) -> MLP:
    """A network whose splines have many knots and different scales."""
    torch.manual_seed(seed)
    options = {"num_coefficients": coefficients, "range_": 1.0, **options}
    model = MLP(sizes, activation, activation_options=options).to(dtype)
    for module in model:
        if isinstance(module, LinearSpline):
            with torch.no_grad():
                module.coefficients += 0.3 * torch.randn_like(module.coefficients)
                if module.log_scale is not None:
                    module.log_scale += 0.5 * torch.randn_like(module.log_scale)
    return model


def movement(before: nn.Module, after: nn.Module, inputs: torch.Tensor) -> float:
    with torch.no_grad():
        return (before(inputs) - after(inputs)).flatten(1).norm(dim=1).max().item()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    coefficients=st.integers(3, 24),
    depth=st.integers(1, 3),
    tolerance=st.floats(1e-3, 3.0),
    constraint=st.sampled_from(["project", "normalize", None]),
    scaling=st.booleans(),
)
def test_the_output_moves_by_at_most_the_bound_and_the_bound_by_the_tolerance(
    seed, coefficients, depth, tolerance, constraint, scaling
) -> None:
    sizes = (3, *[5] * depth, 2)
    options = {"constraint": constraint, "scaling": scaling}
    model = rough_model(seed, sizes, coefficients, **options)
    sparse = copy.deepcopy(model)
    regions = sparsify(sparse, tolerance)
    assert 0 <= regions.bound <= tolerance
    inputs = torch.randn(400, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    # Far outside the range too: the bound holds for every input.
    inputs = torch.cat([0.3 * inputs, 3 * inputs, 1000 * inputs])
    assert movement(model, sparse, inputs) <= regions.bound + 1e-9
    assert tv2(sparse) <= tv2(model) + 1e-9
    assert lipschitz_bounds(sparse)[1] <= lipschitz_bounds(model)[1] + 1e-9
    for name, kept in regions.items():
        assert (kept <= regions.before[name]).all()
        assert (kept >= 1).all()


def test_regions_are_those_of_the_changed_model() -> None:
    model = rough_model(1)
    regions = sparsify(model, 0.5)
    for name, module in model.named_modules():
        if isinstance(module, LinearSpline):
            jumps = module.projected_coefficients.detach().diff(n=2, dim=-1).abs()
            assert torch.equal((jumps > 1e-12).sum(1) + 1, regions[name])


def test_more_tolerance_fewer_regions() -> None:
    model = rough_model(3, coefficients=51)
    totals = []
    for tolerance in (0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0):
        regions = sparsify(copy.deepcopy(model), tolerance)
        totals.append(sum(int(kept.sum()) for kept in regions.values()))
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > 4 * totals[-1]
    # The outer pieces are never given up: three regions remain where they are no one line.
    assert totals[-1] == 3 * 16


def test_zero_tolerance_changes_nothing_and_counts() -> None:
    model = rough_model(4)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    regions = sparsify(model, 0.0)
    assert regions.bound == 0.0
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert all(torch.equal(kept, regions.before[name]) for name, kept in regions.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("range_", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("coefficients", [5, 51, 100, 101, 301])
def test_starts_have_the_regions_they_should(dtype, range_, coefficients) -> None:
    kinked = 2 if coefficients % 2 else 3
    for init, expected in {
        "identity": [1, 1],
        "relu": [kinked, kinked],
        "absolute": [kinked, kinked],
        "maxmin": [kinked, 1],
    }.items():
        spline = LinearSpline(2, coefficients, range_, init=init, dtype=dtype)
        regions = sparsify(nn.Sequential(spline), 0.0, input_shape=(2,))
        assert regions["0"].tolist() == expected


@pytest.mark.parametrize("tolerance", [1e-7, 1e-6, 1e-5, 1e-3])
def test_float32_tolerances_near_rounding_are_kept(tolerance: float) -> None:
    model = rough_model(5, coefficients=101, dtype=torch.float32)
    sparse = copy.deepcopy(model)
    regions = sparsify(sparse, tolerance)
    assert regions.bound <= tolerance
    inputs = torch.randn(500, 3, dtype=torch.float64)
    # In float64, so that the evaluation does not round: the stored numbers are the function.
    for module in (*model, *sparse):
        if isinstance(module, LinearSpline):
            with torch.no_grad():
                module.coefficients.copy_(module.projected_coefficients)
            module.constraint = None
    moved = movement(model.double(), sparse.double(), inputs)
    assert moved <= regions.bound + 1e-6


def test_images_count_their_positions() -> None:
    spline = LinearSpline(2, 21, init="relu", dtype=torch.float64)
    torch.manual_seed(0)
    with torch.no_grad():
        spline.coefficients += 0.3 * torch.randn_like(spline.coefficients)
    model = nn.Sequential(spline)
    sparse = copy.deepcopy(model)
    regions = sparsify(sparse, 0.6, input_shape=(2, 4, 5))
    # All positions at once where the change is largest: the bound is attained.
    x = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    grid = x[:, None].expand(-1, 2)
    with torch.no_grad():
        worst = (model(grid) - sparse(grid)).abs().argmax(0)
    image = x[worst].view(1, 2, 1, 1).expand(1, 2, 4, 5)
    assert movement(model, sparse, image) == pytest.approx(regions.bound, rel=1e-6)
    assert 0 < regions.bound <= 0.6
    alone = sparsify(copy.deepcopy(model), 0.6, input_shape=(2,))
    assert alone["0"].sum() < regions["0"].sum()


def test_gain_of_the_layers_above_counts() -> None:
    def build(gain: float) -> nn.Sequential:
        linear = nn.Linear(4, 4, bias=False).double()
        with torch.no_grad():
            linear.weight.copy_(gain * torch.eye(4))
        return nn.Sequential(copy.deepcopy(spline), linear)

    torch.manual_seed(0)
    spline = LinearSpline(4, 21, dtype=torch.float64)
    with torch.no_grad():
        spline.coefficients += torch.randn_like(spline.coefficients)
    strong, weak = build(10.0), build(0.1)
    few, many = sparsify(weak, 0.2), sparsify(strong, 0.2)
    assert few["0"].sum() < many["0"].sum()


def test_a_module_applied_twice_counts_twice() -> None:
    torch.manual_seed(0)
    spline = LinearSpline(4, 21, dtype=torch.float64)
    with torch.no_grad():
        spline.coefficients += torch.randn_like(spline.coefficients)
    linear = OrthogonalLinear(4, 4).double()
    model = nn.Sequential(spline, linear, spline)
    sparse = copy.deepcopy(model)
    regions = sparsify(sparse, 0.7)
    assert list(regions) == ["0"]
    inputs = torch.randn(20_000, 4, dtype=torch.float64)
    assert movement(model, sparse, inputs) <= regions.bound <= 0.7
    once = sparsify(nn.Sequential(copy.deepcopy(spline)), 0.7, input_shape=(4,))
    assert once["0"].sum() < regions["0"].sum()


def test_models_without_splines() -> None:
    regions = sparsify(MLP((2, 4, 1), "relu"), 0.1)
    assert regions == {}
    assert regions.bound == 0.0


@pytest.mark.parametrize("tolerance", [-1e-9, math.nan, math.inf, torch.tensor(-0.1)])
def test_tolerance_must_not_be_negative(tolerance) -> None:
    with pytest.raises(ValueError, match="tolerance must be a non-negative number"):
        sparsify(rough_model(0), tolerance)


@pytest.mark.parametrize("tolerance", [True, None, "0.1", torch.tensor([0.1, 0.2]), [0.1]])
def test_tolerance_must_be_a_number(tolerance) -> None:
    with pytest.raises(TypeError, match="tolerance must be a number, got"):
        sparsify(rough_model(0), tolerance)


@pytest.mark.parametrize("tolerance", [1, np.float32(0.5), torch.tensor(0.5)])
def test_numbers_of_other_types(tolerance) -> None:
    assert 0 < sparsify(rough_model(0), tolerance).bound <= float(tolerance)


def test_input_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"does not accept inputs of shape \(4,\)"):
        sparsify(rough_model(0), 0.1, input_shape=4)
    with pytest.raises(ValueError, match="check input_shape"):
        sparsify(nn.Sequential(LinearSpline(3), nn.Flatten(), nn.Linear(48, 2)), 0.1)
    assert sparsify(rough_model(0), 0.1, input_shape=3).bound > 0


def test_shared_coefficients_and_other_dtypes_are_refused() -> None:
    model = rough_model(0)
    model[3].coefficients = model[1].coefficients
    with pytest.raises(ValueError, match="1 and 3 share their coefficients"):
        sparsify(model, 0.1)
    with pytest.raises(TypeError, match=r"in torch\.bfloat16; convert the model"):
        sparsify(nn.Sequential(LinearSpline(2, dtype=torch.bfloat16)), 0.1, input_shape=(2,))
    with pytest.raises(TypeError, match="sparsify takes a model"):
        sparsify([LinearSpline(2)], 0.1)


class Odd(nn.Module):
    def forward(self, c: torch.Tensor) -> torch.Tensor:
        return (c - c.flip(-1)) / 2


def test_parametrized_splines_are_refused_until_folded() -> None:
    """What is computed from other parameters cannot be written to."""
    spline = LinearSpline(4, num_coefficients=11)
    parametrize.register_parametrization(spline, "coefficients", Odd())
    with torch.no_grad():
        spline.parametrizations.coefficients.original.add_(0.05 * torch.randn(4, 11))
    model = nn.Sequential(OrthogonalLinear(4, 4), spline, OrthogonalLinear(4, 2))
    with pytest.raises(TypeError, match=r"splines of 1 are parametrized.* fold the model first"):
        sparsify(model, 1.0)
    folded = fold(model)
    pruned = sparsify(folded, 1.0)
    assert torch.equal(pruned["1"], sparsify(folded, 0.0)["1"])


@pytest.mark.filterwarnings("error")
def test_a_part_without_weight_moves_nothing() -> None:
    inner = nn.Sequential(LinearSpline(3, 11, init=lambda t: t.sin()), OrthogonalLinear(3, 3))
    assert sparsify(Averaged(inner, weight=0.0), 0.1, input_shape=3).bound == 0


def test_unknown_modules_and_shapes_are_refused() -> None:
    with pytest.raises(TypeError, match="No Lipschitz bound is known for Softmax"):
        sparsify(nn.Sequential(LinearSpline(2), nn.Softmax(1)), 0.1)
    with pytest.raises(ValueError, match="Give input_shape"):
        sparsify(nn.Sequential(LinearSpline(2)), 0.1)


def test_gradients_and_training_go_on() -> None:
    model = rough_model(6)
    sparsify(model, 0.5)
    model(torch.randn(4, 3, dtype=torch.float64)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("tolerance", [0.05, 0.5])
def test_convolutions_and_branches(weight: float, tolerance: float) -> None:
    """Images, an averaged denoiser and a residual block: the bound counts pixels and branches."""

    def spline(channels: int) -> LinearSpline:
        module = LinearSpline(channels, 31, 1.0, "absolute", dtype=torch.float64)
        module.coefficients.data += 0.2 * torch.randn_like(module.coefficients)
        return module

    torch.manual_seed(0)
    options = {"padding": 1, "padding_mode": "circular", "dtype": torch.float64}
    denoiser = nn.Sequential(
        OrthogonalConv2d(1, 4, 3, **options), spline(4), OrthogonalConv2d(4, 1, 3, **options)
    )
    block = nn.Sequential(OrthogonalConv2d(4, 4, 3, **options), spline(4))
    model = nn.Sequential(
        Averaged(denoiser, weight), OrthogonalConv2d(1, 4, 4, 2, **options), Residual(block)
    )
    sparse = copy.deepcopy(model)
    regions = sparsify(sparse, tolerance, input_shape=(1, 6, 6))
    assert set(regions) == {"0.module.1", "2.module.1"}
    assert 0 < regions.bound <= tolerance
    assert sum(map(torch.sum, regions.values())) < sum(map(torch.sum, regions.before.values()))
    inputs = torch.randn(300, 1, 6, 6, dtype=torch.float64)
    moved = max(movement(model, sparse, scale * inputs) for scale in (0.3, 1.0, 3.0))
    assert 0 < moved <= regions.bound + 1e-9
    # One spline alone, by hand: its change, sqrt of its pixels, what lies above it.
    alone = copy.deepcopy(model)
    alone[0].module[1].coefficients.data.copy_(sparse[0].module[1].coefficients)
    own, other = model[0].module[1], alone[0].module[1]
    change = (own.projected_coefficients - other.projected_coefficients).abs().amax(1)
    by_hand = weight * 2 * math.sqrt(36) * (change / own.scale).detach().norm().item()
    assert movement(model, alone, inputs) <= by_hand + 1e-9
    assert by_hand <= regions.bound + 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constraint", ["project", "normalize", None])
@pytest.mark.parametrize("tolerance", [0.05, 0.5])
def test_outer_pieces_stay(dtype, constraint, tolerance: float) -> None:
    """However far outside of the range: in exact arithmetic of the stored numbers, bit for bit in
    float32 and to ``2 eps`` of the largest coefficient in float64."""
    units = {torch.float32: 0.0, torch.float64: 2 * torch.finfo(torch.float64).eps}
    model = rough_model(1, (3, 16, 16, 2), 51, dtype, constraint=constraint)
    sparse = copy.deepcopy(model)
    regions = sparsify(sparse, tolerance)
    fewer = sum(int((kept < regions.before[name]).sum()) for name, kept in regions.items())
    assert fewer > 5
    for own, other in zip(model, sparse, strict=True):
        if isinstance(own, LinearSpline):
            before, after = (m.projected_coefficients.detach().double() for m in (own, other))
            largest = before.abs().amax(1, keepdim=True)
            for piece in (slice(0, 2), slice(-2, None)):
                gained = (after[:, piece].diff() - before[:, piece].diff()).abs()
                assert bool((gained <= units[dtype] * largest).all())
    inputs = torch.randn(200, 3, dtype=torch.float64)
    fixed = [fold(m).double() for m in (model, sparse)]
    for size in (1.0, 1e2, 1e4, 1e6, 1e8):
        rounding = 1e-13 * size  # of this evaluation
        assert movement(*fixed, size * inputs) <= regions.bound + rounding


def test_gains_that_overflow() -> None:
    """No movement can be guaranteed, which is said in a sentence."""
    layers = [nn.Linear(1, 1, dtype=torch.float64) for _ in range(2)]
    for layer in layers:
        nn.init.constant_(layer.weight, 1e200)
    spline = LinearSpline(1, init="relu", dtype=torch.float64)
    with pytest.raises(ValueError, match="layers above 0 may enlarge a change beyond the range"):
        sparsify(nn.Sequential(spline, *layers), 0.1, (1,))
    nn.init.constant_(layers[1].weight, 1e-200)
    assert sparsify(nn.Sequential(spline, *layers), 0.1, (1,)).bound <= 0.1


def test_wrapped_models() -> None:
    """What is wrapped is changed, and named by its place within."""
    model = rough_model(2)
    expected = sparsify(copy.deepcopy(model), 0.5)
    regions = sparsify(torch.compile(model), 0.5)
    assert regions.keys() == expected.keys()
    assert regions.bound == expected.bound

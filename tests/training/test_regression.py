"""Batched training against a plain loop over each model alone."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines import LinearSpline, OrthogonalLinear, SpectralLinear, parameter_groups, tv2
from lipsplines.linear import matrices
from lipsplines.linear.matrices import bjorck
from lipsplines.models.mlp import MLP
from lipsplines.training import regression as training
from lipsplines.training.regression import TrainingError, build_models, fit_regression
from lipsplines.training.streams import epoch_order

# After 100 steps in float64. Both programs do the same operations, but sum in different orders.
AGREEMENT = 1e-8
ACTIVATIONS = [
    "relu",
    "absolute",
    "shifted-absolute",
    "n-activation",
    "prelu",
    "groupsort-2",
    "groupsort-5",
    "householder",
    "spline-relu",
    "spline-identity",
]
GRID = {"num_coefficients": 21, "range_": 0.5}
SEEDS = [3, 14, 15, 9]
WEIGHTS = [0.0, 1e-5, 1e-4, 1e-3]
SETTINGS = {"epochs": 2, "batch_size": 10, "lr": 4e-3}  # 204 points: 20 steps, 4 points left out


@pytest.fixture(params=["traced", "not traced"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in long runs, and as in short ones."""
    monkeypatch.setattr(training, "LONG", 1 if request.param == "traced" else math.inf)


def models_for(activation: str, constraint: str = "orthogonal", dtype=torch.float64) -> list[MLP]:
    """One small network for each seed, with Björck's iteration where weights are orthogonal."""
    options: dict = {"activation_options": GRID}
    if constraint == "orthogonal":
        options["layer_options"] = {"iterations": 15}
    return build_models(
        lambda: MLP((1, 10, 10, 1), activation, constraint, **options).to(dtype), SEEDS
    )


def data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Another set of points for each model, shapes ``(4, 204, 1)``."""
    generator = torch.Generator().manual_seed(1)
    x = 2 * torch.rand(len(SEEDS), 204, 1, generator=generator, dtype=torch.float64) - 1
    frequency = torch.arange(1.0, 5.0, dtype=torch.float64).view(-1, 1, 1)
    return x.to(dtype), (torch.sin(frequency * 3 * x) / (3 * frequency)).to(dtype)


def train_alone(
    model: nn.Module, x: Tensor, y: Tensor, weight: float, seed: int, *, epochs, batch_size, lr
) -> list[float]:
    """What `fit_regression` promises, written as anyone would for one model."""
    optimizer = torch.optim.Adam(parameter_groups(model, lr))
    generator = torch.Generator().manual_seed(seed)
    history = []
    for _ in range(epochs):
        order = epoch_order(len(x), generator)
        losses = []
        for step in range(len(x) // batch_size):
            batch = order[step * batch_size : (step + 1) * batch_size]
            loss = nn.functional.mse_loss(model(x[batch]), y[batch]) + weight * tv2(model)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        history.append(sum(losses) / len(losses))
    return history


def assert_same_parameters(first: nn.Module, second: nn.Module, tolerance: float) -> None:
    """Parameter by parameter."""
    pairs = zip(first.named_parameters(), second.named_parameters(), strict=True)
    for (name, a), (other, b) in pairs:
        assert name == other
        torch.testing.assert_close(a, b, atol=tolerance, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


# The batch against the loop -----------------------------------------------------------------------


@pytest.mark.parametrize("constraint", ["orthogonal", "spectral"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_batch_equals_training_each_alone(
    activation: str, constraint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters and losses after 40 steps, with another TV2 weight for each model."""
    models = models_for(activation, constraint)
    alone, short, start = (copy.deepcopy(models) for _ in range(3))
    x, y = data()
    monkeypatch.setattr(training, "LONG", 1)
    losses = fit_regression(models, x, y, tv2_weights=WEIGHTS, seeds=SEEDS, **SETTINGS)
    monkeypatch.setattr(training, "LONG", math.inf)  # the same without a traced program
    again = fit_regression(short, x, y, tv2_weights=WEIGHTS, seeds=SEEDS, **SETTINGS)
    assert torch.equal(losses, again)
    for model, other in zip(models, short, strict=True):
        assert_same_parameters(model, other, 0.0)
    assert losses.shape == (len(SEEDS), SETTINGS["epochs"])
    for index, (model, seed, weight) in enumerate(zip(alone, SEEDS, WEIGHTS, strict=True)):
        history = train_alone(model, x[index], y[index], weight, seed, **SETTINGS)
        np.testing.assert_allclose(losses[index].numpy(), history, atol=AGREEMENT, rtol=0)
        assert_same_parameters(models[index], model, AGREEMENT)
        with pytest.raises(AssertionError):  # training did something
            assert_same_parameters(models[index], start[index], 1e-3)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("activation", ["relu", "spline-relu", "householder"])
def test_results_do_not_depend_on_the_other_models(activation: str) -> None:
    """Each model of a batch, and the same models in another batch in another order."""
    x, y = data()
    models, others = models_for(activation), models_for(activation)
    fit_regression(models, x, y, tv2_weights=WEIGHTS, seeds=SEEDS, **SETTINGS)
    chosen = [2, 0]
    fit_regression(
        [others[i] for i in chosen],
        x[chosen],
        y[chosen],
        tv2_weights=[WEIGHTS[i] for i in chosen],
        seeds=[SEEDS[i] for i in chosen],
        **SETTINGS,
    )
    for index in chosen:
        assert_same_parameters(models[index], others[index], AGREEMENT)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ["groupsort-2", "spline-relu"])
def test_two_runs_are_equal_to_the_last_bit(activation: str, dtype: torch.dtype) -> None:
    """Whatever the global random state is, which training neither reads nor moves."""
    x, y = data(dtype)
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        models = models_for(activation, dtype=dtype)
        losses = fit_regression(models, x, y, tv2_weights=1e-5, seeds=SEEDS, **SETTINGS)
        assert torch.equal(torch.get_rng_state(), state)
        runs.append([losses, *(p for model in models for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.usefixtures("either_way")
def test_one_model_is_a_batch_of_one() -> None:
    """A layer, with several inputs and outputs, float32, and a weight for all models."""
    x, y = torch.randn(1, 40, 2, 3), torch.randn(1, 40, 2, 4)
    (model,) = build_models(lambda: OrthogonalLinear(3, 4), [0])
    alone = copy.deepcopy(model)
    settings = {"epochs": 2, "batch_size": 8, "lr": 1e-2}
    losses = fit_regression([model], x, y, tv2_weights=0.1, seeds=[0], **settings)
    history = train_alone(alone, x[0], y[0], 0.1, 0, **settings)
    np.testing.assert_allclose(losses[0].numpy(), history, atol=1e-5)
    assert_same_parameters(model, alone, 1e-5)


@pytest.mark.usefixtures("either_way")
def test_training_lowers_the_loss_and_keeps_the_module_usable() -> None:
    """In place: the given modules are trained, with gradients and flags as before."""
    models = models_for("spline-relu", dtype=torch.float32)
    x, y = data(torch.float32)
    calls: list[tuple[int, Tensor]] = []
    losses = fit_regression(
        models,
        x,
        y,
        epochs=30,
        batch_size=10,
        lr=4e-3,
        seeds=SEEDS,
        on_epoch=lambda epoch, loss: calls.append((epoch, loss.clone())),
    )
    assert [epoch for epoch, _ in calls] == list(range(1, 31))
    assert torch.equal(torch.stack([loss for _, loss in calls], 1), losses)
    assert bool((losses[:, -1] < 0.2 * losses[:, 0]).all())
    for model, inputs, targets, loss in zip(models, x, y, losses[:, -1], strict=True):
        assert model.training
        assert all(p.requires_grad and p.is_leaf and p.grad is None for p in model.parameters())
        error = (model(inputs) - targets).square().mean()
        assert float(error.detach()) < 2 * float(loss)


def test_tv2_weight_acts_on_its_own_model_only() -> None:
    """A heavy penalty straightens the activations of that model."""
    models = models_for("spline-identity")
    with torch.no_grad():
        for model in models:
            for name, parameter in model.named_parameters():
                if name.endswith("coefficients"):
                    parameter += 0.01 * torch.randn_like(parameter)
    before = [float(tv2(model).detach()) for model in models]
    x, y = data()
    settings = {**SETTINGS, "epochs": 5}
    fit_regression(models, x, y, tv2_weights=[0.0, 0.0, 1.0, 0.0], seeds=SEEDS, **settings)
    ratios = [float(tv2(model).detach()) / b for model, b in zip(models, before, strict=True)]
    assert ratios[2] < 0.5
    assert all(ratios[i] > 0.9 for i in (0, 1, 3))


# Constraints taken out of the models --------------------------------------------------------------


class Halved(nn.Module):
    """A constraint that this library does not know."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


def halved(layer: nn.Module) -> nn.Module:
    """Constrain a layer by `Halved`, after the constraint that it may have."""
    parametrize.register_parametrization(layer, "weight", Halved())
    return layer


class Twice(nn.Module):
    """One layer, used two times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = OrthogonalLinear(4, 4, method="polar")
        self.again = self.layer

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.layer(x).relu())


def tied() -> nn.Module:
    """Two layers with one free parameter."""
    first, second = OrthogonalLinear(4, 4), OrthogonalLinear(4, 4, iterations=3)
    second.parametrizations.weight.original = first.parametrizations.weight.original
    return nn.Sequential(first, nn.ReLU(), second)


MIXED = {
    "shapes": lambda: nn.Sequential(
        OrthogonalLinear(4, 4), OrthogonalLinear(4, 7), nn.ReLU(), OrthogonalLinear(7, 4)
    ),
    "settings": lambda: nn.Sequential(
        *[OrthogonalLinear(4, 4, iterations=n) for n in (2, 15, 2)],
        *[SpectralLinear(4, 4, squarings=n) for n in (1, 2, 1)],
    ),
    "chains": lambda: nn.Sequential(halved(OrthogonalLinear(4, 4)), halved(nn.Linear(4, 4))),
    "nested": lambda: nn.Sequential(nn.Sequential(SpectralLinear(4, 4)), SpectralLinear(4, 4)),
    "twice": Twice,
    "tied": tied,
}


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("kind", MIXED)
def test_constraints_of_mixed_models(kind: str) -> None:
    """Each weight has its own constraint, computed together or not; the models keep theirs."""
    models = build_models(lambda: MIXED[kind]().double(), SEEDS)
    alone = copy.deepcopy(models)
    x, y = data()
    x, y = x.expand(-1, -1, 4) * torch.arange(1.0, 5.0), y.expand(-1, -1, 4)
    settings = {"epochs": 1, "batch_size": 10, "lr": 4e-3}
    losses = fit_regression(models, x, y, seeds=SEEDS, **settings)
    for index, (model, seed) in enumerate(zip(alone, SEEDS, strict=True)):
        history = train_alone(model, x[index], y[index], 0.0, seed, **settings)
        np.testing.assert_allclose(losses[index].numpy(), history, atol=AGREEMENT, rtol=0)
        assert_same_parameters(models[index], model, AGREEMENT)
        torch.testing.assert_close(models[index](x[0]), model(x[0]), atol=1e-7, rtol=0)


def test_equal_layers_are_constrained_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hidden layers of four models: one batch of matrices."""
    shapes = []

    def counted(weight: Tensor, iterations: int) -> Tensor:
        shapes.append(tuple(weight.shape))
        return bjorck(weight, iterations)

    options = {"layer_options": {"iterations": 15}}
    models = build_models(lambda: MLP((1, 10, 10, 10, 1), "relu", **options).double(), SEEDS)
    monkeypatch.setattr(matrices, "bjorck", counted)
    x, y = data()
    fit_regression(models, x, y, seeds=SEEDS, epochs=1, batch_size=200, lr=1e-3)
    assert sorted(shapes) == [(4, 1, 1, 10), (4, 1, 10, 1), (4, 2, 10, 10)]


# Failures -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("activation", ["relu", "spline-relu"])
def test_divergence_names_the_models_and_the_epoch(activation: str) -> None:
    """A loss that overflows stops the run; the models keep the weights they came with."""
    models = models_for(activation, dtype=torch.float32)
    before = copy.deepcopy(models)
    x, y = data(torch.float32)
    y[[1, 3]] = 1e30  # finite, but not its square
    message = r"loss of model\(s\) \[1, 3\] became NaN or infinite in epoch 1; lower the learning"
    with pytest.raises(TrainingError, match=message):
        fit_regression(models, x, y, seeds=SEEDS, **SETTINGS)
    for model, original in zip(models, before, strict=True):
        assert_same_parameters(model, original, 0.0)


def test_huge_learning_rate() -> None:
    """Diverges with an error, not with NaN in the models."""
    models = models_for("relu", dtype=torch.float32)
    x, y = data(torch.float32)
    with pytest.raises(TrainingError, match=r"model\(s\) \[0, 1, 2, 3\].*in epoch 1"):
        fit_regression(models, x, y, seeds=SEEDS, **{**SETTINGS, "lr": 1e30})
    assert all(bool(p.isfinite().all()) for model in models for p in model.parameters())


def arguments(**changes) -> dict:
    """Valid arguments, changed."""
    x, y = data()
    valid = {"models": models_for("relu"), "inputs": x, "targets": y, "seeds": SEEDS, **SETTINGS}
    return {**valid, **changes}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_non_finite_data_is_refused(name: str, bad: float) -> None:
    """Before any step."""
    tensor = data()[0].clone()
    tensor[2, 7] = bad
    with pytest.raises(ValueError, match=f"{name} hold NaN or infinite values"):
        fit_regression(**arguments(**{name: tensor}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": []}, "models is empty"),
        ({"seeds": SEEDS[:3]}, "4 models need as many .* got 4, 4 and 3"),
        ({"inputs": data()[0][:2]}, "4 models need as many .* got 2, 4 and 4"),
        ({"targets": data()[1][:, :100]}, "204 inputs but 100 targets"),
        ({"targets": data()[1][..., 0]}, r"outputs of shape \(10, 1\), but the .* shape \(10,\)"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, r"batch_size in \[1, 204\], got 2 and 0"),
        ({"batch_size": 205}, r"batch_size in \[1, 204\], got 2 and 205"),
        ({"lr": 0.0}, "lr must be a positive number, got 0.0"),
        ({"lr": float("nan")}, "lr must be a positive number, got nan"),
        ({"tv2_weights": [0.0, 0.0]}, "one number for all 4 models or one for each"),
        ({"tv2_weights": -1.0}, "none negative, got -1.0"),
        ({"tv2_weights": float("nan")}, "none negative, got nan"),
    ],
)
def test_arguments_out_of_domain(changes: dict, message: str) -> None:
    """Each says what does not fit."""
    with pytest.raises(ValueError, match=message):
        fit_regression(**arguments(**changes))


def test_models_of_other_settings_are_not_trained_as_one() -> None:
    """Equal shapes are not enough; another start is no other setting."""
    one, other, start = (
        MLP((1, 4, 1), name, activation_options={"range_": r})
        for name, r in (("spline-relu", 1.0), ("spline-relu", 0.1), ("spline-absolute", 1.0))
    )
    x = torch.linspace(-1, 1, 8).view(1, 8, 1).repeat(2, 1, 1)
    options = {"epochs": 1, "batch_size": 8, "lr": 0.01, "seeds": [0, 1]}
    with pytest.raises(ValueError, match="differ in more than their parameters"):
        fit_regression([one, other], x, x.abs(), **options)
    assert fit_regression([one, start], x, x.abs(), **options).shape == (2, 1)


# Building -----------------------------------------------------------------------------------------


def test_build_models() -> None:
    """Each as if built alone after ``manual_seed``; the global random state is left untouched."""
    state = torch.get_rng_state()
    models = build_models(lambda: nn.Linear(3, 2), [7, 8, 7])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    assert_same_parameters(models[1], nn.Linear(3, 2), 0.0)
    assert_same_parameters(models[0], models[2], 0.0)
    assert not torch.equal(models[0].weight, models[1].weight)
    with pytest.raises(ZeroDivisionError):
        build_models(lambda: 1 / 0, [7])
    torch.set_rng_state(state)
    build_models(lambda: nn.Linear(3, 2), range(3))
    assert torch.equal(torch.get_rng_state(), state)


# Parameter groups ---------------------------------------------------------------------------------


def test_parameter_groups() -> None:
    """Weights and biases at ``lr``, coefficients at ``lr / 40``, scales at ``lr / 4``."""
    model = nn.Sequential(
        MLP((2, 10, 10, 1), "spline-relu"), nn.Linear(1, 4), LinearSpline(4, scaling=False)
    )
    groups = {group["name"]: group for group in parameter_groups(model, 0.4)}
    assert list(groups) == ["weights", "coefficients", "scales"]
    assert {name: g["lr"] for name, g in groups.items()} == pytest.approx(
        {"weights": 0.4, "coefficients": 0.01, "scales": 0.1}
    )
    expected = {"weights": [], "coefficients": [], "scales": []}
    for name, parameter in model.named_parameters():
        kind = {"coefficients": "coefficients", "log_scale": "scales"}.get(name.split(".")[-1])
        expected[kind or "weights"].append(parameter)
    assert [len(kind) for kind in expected.values()] == [8, 3, 2]
    for kind, parameters in expected.items():
        assert [id(p) for p in groups[kind]["params"]] == [id(p) for p in parameters]
    torch.optim.Adam(list(groups.values()))


def test_parameter_groups_leave_empty_ones_out() -> None:
    """A model without splines has one group."""
    (group,) = parameter_groups(MLP((2, 10, 1), "householder"), 0.1)
    assert (group["name"], group["lr"], len(group["params"])) == ("weights", 0.1, 5)


def test_shared_parameters_appear_once() -> None:
    """A module used twice is optimized once."""
    spline = LinearSpline(3)
    groups = parameter_groups(nn.Sequential(spline, nn.Linear(3, 3), spline), 0.1)
    assert [len(group["params"]) for group in groups] == [2, 1, 1]


def test_parametrized_coefficients_are_coefficients() -> None:
    spline = LinearSpline(3)
    parametrize.register_parametrization(spline, "coefficients", nn.Identity())
    groups = parameter_groups(nn.Sequential(nn.Linear(3, 3), spline), 0.1)
    assert [group["name"] for group in groups] == ["weights", "coefficients", "scales"]
    assert groups[1]["params"] == [spline.parametrizations.coefficients.original]


def test_parameter_groups_of_stacked_parameters() -> None:
    """Stacked tensors take the place of the model's own, by name."""
    model = MLP((2, 10, 1), "spline-relu")
    stacked = {name: torch.zeros(5, *p.shape) for name, p in model.named_parameters()}
    own, other = parameter_groups(model, 0.1), parameter_groups(model, 0.1, stacked)
    for group, batch in zip(own, other, strict=True):
        assert (group["name"], group["lr"]) == (batch["name"], batch["lr"])
        shapes = [tuple(p.shape) for p in batch["params"]]
        assert shapes == [(5, *p.shape) for p in group["params"]]


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf")])
def test_learning_rate_out_of_domain(lr: float) -> None:
    """A positive number."""
    with pytest.raises(ValueError, match="lr must be a positive number, got"):
        parameter_groups(nn.Linear(2, 2), lr)

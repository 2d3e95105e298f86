"""What the benchmarks measure with, on layers whose answers are known; nothing here is timed."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import lipsplines
from lipsplines.experiments import EXPERIMENTS

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a benchmark as its own command line does: from its folder."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module


class Scaled(nn.Module):
    """QR times a factor, which may count its calls or give another gradient than its own."""

    def __init__(self, factor: float = 1.0, counts: bool = False, detached: bool = False) -> None:
        super().__init__()
        self.factor, self.counts, self.detached = factor, counts, detached
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, weight: Tensor) -> Tensor:
        if self.counts:
            self.calls += 1
        orthogonal = torch.linalg.qr(weight).Q
        if self.detached:
            orthogonal = orthogonal.detach() + 0.5 * weight - 0.5 * weight.detach()
        return self.factor * orthogonal


def scaled(**options) -> Callable[..., nn.Module]:
    """Build an orthogonal linear layer times a factor."""

    def build(seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        layer = nn.Linear(4, 4)
        parametrize.register_parametrization(layer, "weight", Scaled(**options))
        return layer

    return build


def test_functions_are_timed_in_turn(load) -> None:
    """Each round begins with the next function; minimum and median leave the warm-up out."""
    order: list[str] = []

    def function(name: str) -> Callable[[], dict[str, float]]:
        def once() -> dict[str, float]:
            order.append(name)
            return {"step": float(len(order))}

        return once

    times_in_turn = load("timing").times_in_turn
    table = times_in_turn({"a": function("a"), "b": function("b")}, 3, seconds=1, warm_up=1)
    assert "".join(order) == "abbaabba"
    assert table["a"] == {"repeats": 3, "step_min_ms": 4.0, "step_median_ms": 5.0}


def test_a_slow_function_leaves_after_five_rounds(load) -> None:
    """One that used up its time stops, the other goes on."""
    runs = {"slow": lambda: {"step": 900.0}, "fast": lambda: {"step": 1.0}}
    table = load("timing").times_in_turn(runs, 20, seconds=1)
    assert (table["slow"]["repeats"], table["fast"]["repeats"]) == (5, 20)


@pytest.mark.parametrize("index", range(11))
def test_singular_values_are_those_of_the_layer(load, index: int) -> None:
    """The caught weight gives the singular values of the layer itself, applied to unit vectors."""
    layers, abilities = load("layers"), load("abilities")
    full = layers.CASES[index]
    arguments = tuple(min(n, 3) for n in full.arguments[:2]) + full.arguments[2:]
    side = (layers.ZEROS_SIDE,) * (len(full.input_shape) - 2)
    shape = (2, arguments[0], *side)
    case = layers.Case(full.name, arguments, shape, full.options)
    layer = case.build(case.everyone()[0])
    found = layers.singular_values(case, layers.weight_in_use(layer, torch.randn(shape)))
    expected = torch.linalg.svdvals(abilities.matrix_of(layer, shape[1:]))
    torch.testing.assert_close(found.sort().values, expected.sort().values, atol=1e-5, rtol=0)


def test_the_weight_in_use_is_that_of_the_mode(load) -> None:
    """Power iteration moves in training mode: what the forward pass used is caught, not asked."""
    layer = parametrizations.spectral_norm(nn.Linear(6, 5))
    x = torch.eye(6)
    caught = load("layers").weight_in_use(layer.train(), x)
    with torch.no_grad():
        torch.testing.assert_close(caught.float(), layer.eval().weight)


def test_memory_counts_what_a_plain_layer_keeps(load) -> None:
    """A linear layer keeps its input; its weight and bias are parameters."""
    layers = load("layers")
    case = next(case for case in layers.CASES if not case.is_convolution)
    kept = layers.memory(case, case.everyone()[0])
    inputs, outputs = case.arguments
    assert kept["kept_mib"] == kept["input_mib"] == 4 * 64 * inputs / 2**20
    assert kept["parameters"] == inputs * outputs + outputs
    assert kept["other_state"] == 0


@pytest.mark.parametrize(
    ("ability", "good", "bad"),
    [
        ("norm", {}, {"factor": 1.1}),
        ("orthogonal", {}, {"factor": 0.9}),
        ("norm_after_a_wild_step", {}, {"factor": 1.1}),
        ("built_in_float64", {}, {"factor": 1.0 + 1e-9}),
        ("exact_gradient", {}, {"detached": True}),
        ("stateless", {}, {"counts": True}),
    ],
)
def test_abilities_tell_good_from_bad(load, ability: str, good: dict, bad: dict) -> None:
    """Each try holds for an orthogonal layer and fails for one that lacks just this."""
    attempt = getattr(load("abilities"), ability)
    assert attempt(scaled(**good), (4,))[0]
    assert not attempt(scaled(**bad), (4,))[0]


def test_an_error_is_an_answer(load) -> None:
    """What a layer raises is stored in place of a number."""

    def refuses() -> nn.Module:
        raise ValueError("no groups\nat all")

    entry = load("abilities")._attempt(refuses)
    assert entry == {"holds": False, "value": None, "why": "ValueError: no groups"}


def test_every_orthogonal_map_is_orthogonal(load) -> None:
    """In float64 and for a well-conditioned weight all maps give orthonormal columns."""
    maps = load("orthogonal_maps")
    for name, function in maps.MAPS.items():
        quality = maps.quality(function, (6, 3), "normal")["float64"]
        assert max(abs(quality["largest"]), abs(quality["smallest"])) < 1e-9, name


def test_weights_have_their_condition_number(load) -> None:
    """Norm and condition number are those of the name."""
    values = torch.linalg.svdvals(
        load("orthogonal_maps").weight_of((6, 3), "condition 1e3", torch.float64)
    )
    torch.testing.assert_close(values[0], torch.ones_like(values[0]))
    torch.testing.assert_close(values[0] / values[-1], torch.full_like(values[0], 1e3))


@pytest.mark.parametrize(
    ("shape", "size", "range_"),
    [((64, 6), 21, 0.15), ((2, 4, 5, 7), 51, 0.1), ((3, 10), 101, 0.5), ((40, 2), 4, 1.0)],
)
def test_all_splines_are_one_function(load, shape: tuple, size: int, range_: float) -> None:
    """Output and all gradients of the library's spline are those of the plain forms, in float64."""
    activations = load("activations")
    found = activations.equality(activations.Size("small", shape, size, range_), "cpu")
    assert set(found) == set(activations.BASELINES)
    for baseline, differences in found.items():
        assert set(differences) == {"output", "input", "coefficients", "log_scale"}
        assert max(differences.values()) < 1e-12, (baseline, differences)


def test_a_wrong_gradient_is_found(load, monkeypatch) -> None:
    """The comparison sees a baseline that is off in one quantity alone."""
    activations = load("activations")

    class Off(activations.GatherSpline):
        @property
        def scale(self) -> Tensor:
            return super().scale.detach() + 1e-6 * (self.log_scale - self.log_scale.detach())

    monkeypatch.setitem(activations.CONTENDERS, "spline, gather", lambda size: size.spline(Off))
    small = activations.Size("small", (8, 4), 21, 0.5)
    found = activations.equality(small, "cpu")["spline, gather"]
    assert found["log_scale"] > 0.1
    assert max(found["output"], found["input"], found["coefficients"]) < 1e-12


def test_inputs_hit_every_cell_and_the_outside(load) -> None:
    """What is timed meets all coefficients of nearly all channels."""
    activations = load("activations")
    size = activations.Size("small", (4096, 2), 21, 0.15)
    x, _ = size.inputs("cpu")
    module = size.spline(lipsplines.LinearSpline)
    scaled = (x * module.scale).detach() / size.range_
    assert 0.02 < (scaled.abs() > 1).double().mean() < 0.25
    assert min(torch.histc(channel, 20, -1, 1).min() for channel in scaled.T) > 0


def test_all_contenders_run(load) -> None:
    """Each takes every kind of input and gives one of the same shape."""
    activations = load("activations")
    for shape in ((6, 8), (2, 4, 3, 5)):
        size = activations.Size("small", shape, 5, 1.0)
        x, _ = size.inputs("cpu")
        for name, build in activations.CONTENDERS.items():
            assert build(size)(x).shape == shape, name


def test_memory_counts_tensors(load) -> None:
    """ReLU keeps its output and adds one gradient; a module that keeps three tensors keeps them."""
    memory = load("memory").memory
    x, gradient = torch.randn(64, 64, requires_grad=True), torch.ones(64, 64)

    class Keeper(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.exp() * x.sin()  # exp and sin keep or are kept, and so is x

    assert memory(nn.ReLU(), x, gradient) == {"kept": 1.0, "held": 1.0, "peak": 2.0}
    found = memory(Keeper(), x, gradient)
    assert (found["kept"], found["held"]) == (3.0, 3.0)
    assert found["peak"] >= 4


def test_import_times_are_summed_by_package(load) -> None:
    """The header is no module; what is nested counts once, as its own time."""
    report = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:      2000 |       2000 |     torch._C\n"
        "import time:      1000 |       3000 |   torch\n"
        "import time:       500 |       3500 | lipsplines.splines\n"
        "import time:       250 |        250 | torchless\n"
        "a warning\n"
    )
    found = load("startup").import_times(report)
    assert found == {"torch": 3.0, "numpy": 0.0, "lipsplines": 0.5, "other": 0.25}


def test_the_clock_gives_each_pass_to_its_part(load, monkeypatch) -> None:
    """A layer with a part of its own inside, then another: what each pass costs is known."""
    denoiser_step = load("denoiser_step")
    now = [0.0]
    monkeypatch.setattr(denoiser_step.time, "perf_counter", lambda: now[0])

    class Cost(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor, forward: float, backward: float) -> Tensor:
            ctx.backward_cost = backward
            now[0] += forward
            return x.clone()

        @staticmethod
        def backward(ctx, gradient: Tensor):
            now[0] += ctx.backward_cost
            return gradient, None, None

    class Costly(nn.Module):
        def __init__(self, forward: float, backward: float, inner: nn.Module | None = None) -> None:
            super().__init__()
            self.costs, self.inner = (forward, backward), inner
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight if self.inner is None else self.inner(self.weight)
            return Cost.apply(x * weight, *self.costs)

    clock, inner = denoiser_step.Clock(), Costly(1, 2)
    layers = [Costly(10, 20, inner), Costly(100, 200), Costly(1000, 2000)]
    names = ["convolution", "activation", "convolution"]
    for module, part in zip([inner, *layers], ["orthogonalisation", *names], strict=True):
        clock.watch(module, part)
    nn.Sequential(*layers)(torch.ones(2)).sum().backward()
    clock.switch("rest")
    assert clock.spent == {
        "convolution": 3030.0,
        "orthogonalisation": 3.0,
        "activation": 300.0,
        "rest": 0.0,
    }


def test_the_denoisers_differ_in_one_piece(load) -> None:
    """Before and after are one function; a step is timed whole, and it trains."""
    denoiser_step = load("denoiser_step")
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    outputs = []
    for name in ("before", "after"):
        model = denoiser_step.network(*denoiser_step.NETWORKS[name], depth=3).double()
        outputs.append(model(x))
    torch.testing.assert_close(*outputs, atol=1e-12, rtol=0)
    clock = denoiser_step.Clock()
    model = denoiser_step.watched(model, clock)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    parts = denoiser_step.step(model, clock, optimizer, x, torch.zeros_like(x))
    assert set(parts) == {"step", *denoiser_step.PARTS}
    assert min(parts.values()) > 0
    assert not torch.equal(model(x), outputs[1])


def test_stored_times_of_activations_are_complete(load) -> None:
    """All sizes and all contenders, with equal results."""
    module = load("activations")
    stored = json.loads((module.RESULTS / "activations.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in stored["sizes"]] == [size.name for size in module.SIZES]
    for size, entry in zip(module.SIZES, stored["sizes"], strict=True):
        assert tuple(entry["shape"]) == size.shape
        assert list(entry["rows"]) == list(module.CONTENDERS)
        assert max(max(found.values()) for found in entry["equality"].values()) < 1e-12


def test_stored_steps_and_starts_are_complete(load) -> None:
    """All networks at all batches, and all processes."""
    denoiser_step, startup = load("denoiser_step"), load("startup")
    stored = json.loads(denoiser_step.RESULT.read_text(encoding="utf-8"))
    assert [entry["batch"] for entry in stored["batches"]] == list(denoiser_step.BATCHES)
    assert all(list(e["rows"]) == list(denoiser_step.NETWORKS) for e in stored["batches"])
    stored = json.loads(startup.RESULT.read_text(encoding="utf-8"))
    assert list(stored["rows"]) == [*startup.PROCESSES, startup.FRESH]


@pytest.mark.parametrize("name", ["layers", "orthogonal_maps"])
def test_stored_results_are_complete(load, name: str) -> None:
    """All cases are there, and all contenders that need no further package."""
    module = load(name)
    stored = json.loads(module.RESULT.read_text(encoding="utf-8"))
    if name == "orthogonal_maps":
        assert [tuple(shape["shape"]) for shape in stored["shapes"]] == module.SHAPES
        assert all(list(shape["rows"]) == list(module.MAPS) for shape in stored["shapes"])
        return
    assert [case["name"] for case in stored["cases"]] == [case.name for case in module.CASES]
    for case, entry in zip(module.CASES, stored["cases"], strict=True):
        own = [c.name for c in case.contenders() if c.package in ("lipsplines", "torch")]
        assert [key for key in entry["rows"] if key in own] == own


def test_stored_norms_of_this_library_are_at_most_one(load) -> None:
    """The stored table bears the guarantee out, fresh and trained, in both modes."""
    stored = json.loads(load("layers").RESULT.read_text(encoding="utf-8"))
    rows = [row for case in stored["cases"] for row in case["rows"].values()]
    own = [row["norm"] for row in rows if row["package"] == "lipsplines"]
    assert len(own) > 10
    assert max(pair[0] for norms in own for pair in norms.values()) <= 1 + 1e-5
    assert stored["versions"]["lipsplines"] == lipsplines.__version__


def test_ways_to_a_polar_factor_agree(load) -> None:
    """On a well-conditioned weight all reach ``U V^T`` and its gradient; the plain way squarely."""
    benchmark = load("orthogonalization")
    for name, function in benchmark.MAPS.items():
        for shape in ((4, 12), (2, 12, 4)):
            quality = benchmark.quality(function, shape)
            assert max(map(abs, quality.values())) < 1e-4, name
            assert quality["largest"] <= 1e-6, name


def test_ways_to_a_step_of_a_critic_agree(load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every constrained way gives the parameters of a small critic the same gradients."""
    benchmark = load("orthogonalization")
    monkeypatch.setattr(benchmark, "WIDTHS", (12, 4, 3, 1))
    monkeypatch.setattr(benchmark, "BATCH", 16)
    monkeypatch.setattr(benchmark, "ITERATIONS", 60)
    for activation in benchmark.ACTIVATIONS:
        found = []
        for way in ("plain", "bjorck", "polar"):
            models: list[nn.Module] = []
            critic = benchmark.critic
            with monkeypatch.context() as patch:
                patch.setattr(
                    benchmark, "critic", lambda *a, c=critic, m=models: m.append(c(*a)) or m[-1]
                )
                step = benchmark.step_of(activation, way)
            assert list(step()) == ["step", "cpu"]
            found.append({p.shape: p.grad for p in models[0].parameters() if p.grad is not None})
        assert len(found[0]) >= 5
        for other in found[1:]:
            for shape, gradient in found[0].items():
                torch.testing.assert_close(other[shape], gradient, atol=1e-5, rtol=1e-4)


def test_stored_orthogonalization_is_complete_and_safe(load) -> None:
    """All shapes, maps and ways; norms of this library at most 1, its default orthonormal."""
    benchmark = load("orthogonalization")
    stored = json.loads(benchmark.RESULT.read_text(encoding="utf-8"))
    for run in stored["runs"]:
        found = {(tuple(row["shape"]), row["map"]): row for row in run["maps"]}
        for shape in benchmark.SHAPES:
            for name in ("polar_factor", "polar_factor by products"):
                assert found[shape, name]["largest"] <= 1e-6
                assert found[shape, name]["smallest"] >= -1e-3
        ways = [(row["activation"], row["way"]) for row in run["steps"]]
        kinds = benchmark.WAYS
        assert ways == [(name, way) for name in benchmark.ACTIVATIONS for way in kinds]


def test_batched_training_measures_the_whole_table(load) -> None:
    """Its groups hold each cell of the main table once, targets together, as it runs them."""
    module = load("batched_training")
    experiment = EXPERIMENTS["fitting1d"]
    for width in module.PAPER.widths:
        groups = module.groups(width)
        assert [len(cells) for cells in groups.values()] == [3] * 20
        for cells in groups.values():
            assert len({experiment.group(cell) for cell in cells}) == 1
        x, y = module.data(cells, 5)
        assert x.shape == y.shape == (3 * module.MODELS, 5, 1)
    all_cells = [c for w in module.PAPER.widths for cs in module.groups(w).values() for c in cs]
    splines = (None, module.fitting1d.SPLINE)
    main = [
        cell
        for cell in experiment.cells("paper", 0)
        if cell["spline"] in splines and cell["activation"] in module.ACTIVATIONS
    ]
    assert len(all_cells) == 180
    assert all(cell in all_cells for cell in main)


@pytest.mark.parametrize("activation", ["relu", "spline-relu"])
def test_both_ways_of_batched_training_do_the_same(
    load, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop and the batch start from the same models and make the same of them in an epoch."""
    module = load("batched_training")
    monkeypatch.setattr(module, "MODELS", 2)
    built, build, fit = [], module.build, module.fit_regression

    def remembered(cell: dict, count: int) -> list[nn.Module]:
        built.append(build(cell, count))
        return built[-1]

    def one_epoch(*arguments, epochs: int, on_epoch: Callable, **options) -> None:
        fit(*arguments, epochs=1, **options)
        on_epoch(1, None)
        on_epoch(epochs, None)

    monkeypatch.setattr(module, "build", remembered)
    monkeypatch.setattr(module, "fit_regression", one_epoch)
    (cell, *_) = module.groups(10)[activation, "orthogonal"]
    x, y = module.data([cell], module.POINTS)
    module.one_by_one(cell, x, y)
    module.batched([cell], x, y, epochs=10)
    start, (alone, together) = build(cell, 2), built
    for first, second, fresh in zip(alone, together, start, strict=True):
        pairs = zip(first.parameters(), second.parameters(), strict=True)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)
        pairs = zip(first.parameters(), fresh.parameters(), strict=True)
        assert not all(torch.allclose(a, b, atol=1e-3) for a, b in pairs)


def test_stored_table_of_batched_training_is_complete(load) -> None:
    """A row for each activation and constraint, a slice for each group of each width."""
    module = load("batched_training")
    stored = json.loads(module.RESULT.read_text(encoding="utf-8"))
    keys = list(module.groups(10))
    assert [(row["activation"], row["constraint"]) for row in stored["rows"]] == keys
    slices = [(row["width"], (row["activation"], row["constraint"])) for row in stored["slices"]]
    assert slices == [(width, key) for width in module.PAPER.widths for key in keys]


def test_peers_are_certified_from_the_plain_network(load) -> None:
    """What is exported answers as the trained model does, and a step trains."""
    module = load("classification_peers")
    torch.manual_seed(0)
    x, y = torch.rand(8, 784), torch.arange(8)
    for name, (package, build) in module.contenders().items():
        model = build()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        module.step(model, optimizer, x, y)
        network = module.exported(model)
        torch.testing.assert_close(network(x), model(x), atol=1e-4, rtol=1e-4, msg=name)
        upper = lipsplines.lipschitz_bounds(network, (784,))[1]
        assert (upper < 1 + 1e-3) is (package != "torch")


def test_stored_table_of_peers_is_complete(load) -> None:
    """All networks of this library and of torch, at the sizes of the reference runs."""
    module = load("classification_peers")
    stored = json.loads(module.RESULT.read_text(encoding="utf-8"))
    assert tuple(stored["widths"]) == module.WIDTHS
    assert stored["steps"] == module.SIZES.steps
    own = [name for name in module.contenders() if "torchlip" not in name]
    assert [name for name in stored["rows"] if name in own] == own
    for row in stored["rows"].values():
        assert len(row["runs"]) == module.SEEDS
        for run in row["runs"]:
            shares = [run["accuracy"], *run["certified"]]
            assert shares == sorted(shares, reverse=True)
            assert run["upper"] <= 1 + 1e-5 or row["package"] != "lipsplines"


def test_the_plain_form_has_what_pytorch_has(load) -> None:
    """Splines by gathers, with the same values; orthonormal weights of the same sizes."""
    torch.manual_seed(0)
    model = nn.Sequential(lipsplines.OrthogonalLinear(6, 5), lipsplines.LinearSpline(5, 9))
    weight, spline = load("end_to_end").plain_form(model)
    assert type(weight) is not type(model[0])
    assert type(model[1]) is lipsplines.LinearSpline
    torch.testing.assert_close(weight.weight @ weight.weight.mT, torch.eye(5), atol=1e-5, rtol=0)
    x = torch.randn(7, 5)
    torch.testing.assert_close(spline(x), model[1](x))
    assert type(spline) is load("plain_splines").GatherSpline


def test_both_ways_reconstruct_the_same_image(load) -> None:
    """Folded in the library and anew in every iteration: one iteration, one limit."""
    ways = load("end_to_end").reconstruction(3)
    images = [way() for way in ways.values()]
    torch.testing.assert_close(*images, atol=1e-5, rtol=0)


def test_stored_table_of_whole_pieces_is_complete(load) -> None:
    """Each piece of work, both ways, and the same image where there is one."""
    module = load("end_to_end")
    rows = json.loads(module.RESULT.read_text(encoding="utf-8"))["rows"]
    expected = [(name, unit, count) for name, (unit, count, _) in module.tasks().items()]
    assert [(row["work"], row["unit"], row["count"]) for row in rows] == expected
    assert rows[-1]["difference"] < 1e-5

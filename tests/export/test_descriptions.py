"""Descriptions of models: whole, of known modules only, and safe to build from."""

from __future__ import annotations

import copy
import inspect
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from lipsplines import (
    Absolute,
    Averaged,
    GroupSort,
    Householder,
    LinearSpline,
    LipschitzPReLU,
    NActivation,
    OrthogonalConv2d,
    OrthogonalConvTranspose2d,
    OrthogonalLinear,
    Residual,
    ShiftedAbsolute,
    SpectralLinear,
)
from lipsplines.export.descriptions import build, description
from lipsplines.export.fold import fold
from lipsplines.export.known_modules import CONTAINERS, KNOWN
from lipsplines.models.mlp import ACTIVATIONS, MLP, make_activation
from lipsplines.models.regularizers import ConvexRegularizer, WeaklyConvexRegularizer
from lipsplines.nn.convolution import CheckedConv2d
from lipsplines.nn.transposed import CircularConvTranspose2d

# At least one of each known type, with arguments that are not the defaults.
EXAMPLES = [
    nn.Sequential(),
    nn.Sequential(nn.Sequential(nn.ReLU()), nn.Identity()),
    Residual(nn.Sequential(nn.Linear(2, 2))),
    Averaged(Residual(Absolute()), 0.3),
    nn.Linear(3, 2, bias=False, dtype=torch.float64),
    OrthogonalLinear(3, 4, iterations=7),
    SpectralLinear(3, 4, bias=False, squarings=5),
    nn.Conv2d(4, 6, (3, 5), (2, 1), "valid", 2, 2, False, "reflect"),
    nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"),
    OrthogonalConv2d(3, 4, 4, 2, 1, padding_mode="circular"),
    CheckedConv2d(3, 4, 4, 2, 1, padding_mode="circular"),
    OrthogonalConv2d(3, 4, 3, padding="same", bias=False, dtype=torch.float64),
    nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 2),
    CircularConvTranspose2d(2, 3, 4, 2, 1),
    OrthogonalConvTranspose2d(2, 3, 4, 2, 1, padding_mode="circular"),
    OrthogonalConvTranspose2d(2, 3, 3, 2, 1, 1, bias=False),
    LinearSpline(3, 7, 0.5, "maxmin", "normalize", (-0.5, 0.5), scaling=False),
    LinearSpline(2, init=torch.sin, slope_bounds=(0, 1)),
    GroupSort(3, dim=2),
    Householder(4),
    LipschitzPReLU(3, init=-1.0),
    NActivation(3, init=(-0.5, 0.25)),
    ConvexRegularizer((2, 3), 3, 7, 0.5),
    WeaklyConvexRegularizer((2, 3), 3, 7, 0.5, 0.75),
    ShiftedAbsolute(4),
    nn.ReLU(inplace=True),
    nn.LeakyReLU(-0.5),
    nn.PReLU(4, init=0.5),
    nn.Flatten(2, 3),
    nn.Unflatten(1, (2, 5)),
    nn.PixelShuffle(2),
    nn.PixelUnshuffle(3),
    nn.AvgPool2d((2, 3), 2, (0, 1), True, False, 5),
    nn.MaxPool2d(3, 2, 1, 2, False, True),
    nn.AdaptiveAvgPool2d((None, 3)),
    nn.AdaptiveAvgPool2d(2),
    nn.Linear(2, 2).bfloat16(),
]

IDS = [f"{i}-{type(model).__name__}" for i, model in enumerate(EXAMPLES)]


@pytest.mark.parametrize("model", EXAMPLES, ids=IDS)
def test_built_anew(model: nn.Module) -> None:
    """By way of JSON a description gives the same modules, tensors and description again."""
    tree = description(model)
    rebuilt = build(json.loads(json.dumps(tree)))
    assert description(rebuilt) == tree
    assert repr(rebuilt).replace("Parametrized", "") == repr(model).replace("Parametrized", "")
    assert {n: (p.shape, p.dtype) for n, p in rebuilt.named_parameters()} == {
        n: (p.shape, p.dtype) for n, p in model.named_parameters()
    }
    assert all(p.is_meta for p in rebuilt.parameters())


def test_every_known_type_has_an_example() -> None:
    """So that nothing is known which was never tried."""
    kinds = {parametrize.type_before_parametrizations(m) for e in EXAMPLES for m in e.modules()}
    assert set(KNOWN) <= kinds


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
def test_options_are_the_arguments_of_the_constructor(kind: type) -> None:
    """None is left out, but for the start of slopes, which the parameters hold."""
    arguments = inspect.signature(kind).parameters.values()
    named = {a.name for a in arguments if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)}
    members = {"module"} if kind in CONTAINERS else set()
    start = {"init"} if kind is LipschitzPReLU else set()
    assert set(KNOWN[kind]) == named - {"device", "dtype"} - members - start


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_of_the_paper(activation: str) -> None:
    """An `MLP` is described as a chain, constrained and folded."""
    for model in (MLP((3, 10, 2), activation), fold(MLP((3, 10, 2), activation))):
        tree = description(model)
        assert tree["type"] == "Sequential"
        assert list(tree["modules"]) == ["0", "1", "2"]
        assert list(build(tree).state_dict()) == list(model.state_dict())


def test_repeated_modules() -> None:
    """A module in three places is described once, and built once."""
    layer, activation = OrthogonalLinear(3, 3), LinearSpline(3)
    inner = Residual(nn.Sequential(layer, activation))
    model = nn.Sequential(layer, activation, inner, inner, layer)
    tree = description(model)
    assert tree["modules"]["3"] == {"shared": "2"}
    assert tree["modules"]["2"]["modules"]["module"]["modules"]["1"] == {"shared": "1"}
    rebuilt = build(tree)
    assert rebuilt[0] is rebuilt[4]
    assert rebuilt[0] is rebuilt[2].module[0]
    assert rebuilt[2] is rebuilt[3]
    assert [n for n, _ in rebuilt.named_parameters()] == [n for n, _ in model.named_parameters()]


RELU = {"type": "ReLU", "options": {"inplace": False}}
LINEAR = {"in_features": 2, "out_features": 2, "bias": True}


class OwnChain(nn.Sequential):
    pass


def hooked(kind: str) -> nn.Module:
    layer = nn.Linear(2, 2)
    getattr(layer, f"register_{kind}")(lambda module, args, output=None: None)
    return layer


def patched() -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.forward = torch.neg
    return layer


def tied() -> nn.Module:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    return nn.Sequential(first, second)


def free() -> nn.Module:
    layer = OrthogonalLinear(2, 2)
    parametrize.remove_parametrizations(layer, "weight")
    return layer


def extended() -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.register_buffer("extra", torch.ones(1))
    return layer


def mixed() -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.bias.data = layer.bias.data.double()
    return layer


def twice_constrained() -> nn.Module:
    layer = OrthogonalLinear(2, 2)
    parametrize.register_parametrization(layer, "weight", nn.Identity())
    return layer


def cyclic() -> nn.Module:
    model = nn.Sequential(nn.ReLU(), nn.Sequential())
    model[1].append(model)
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (OwnChain(), r"model \(OwnChain\) cannot be described; known are Sequential, "),
        (nn.Sequential(nn.Tanh()), r"0 \(Tanh\) cannot be described"),
        (hooked("forward_hook"), r"model \(Linear\) has hooks"),
        (hooked("forward_pre_hook"), r"model \(Linear\) has hooks"),
        (patched(), "a forward method of its own"),
        (tied(), r"1\.weight is one tensor with another parameter"),
        (free(), r"model \(OrthogonalLinear\) is without its constraint; fold the model"),
        (extended(), "extra is not what the constructor"),
        (mixed(), "has parameters of dtype"),
        (nn.Linear(2, 2, dtype=torch.complex64), "has parameters of dtype"),
        (twice_constrained(), "is not what the constructor of its module makes"),
        (parametrizations.orthogonal(nn.Linear(2, 2)), "fold the model"),
        (OrthogonalLinear(2, 2, iterations=10**5), "has iterations=100000"),
        (nn.LeakyReLU(math.inf), "has negative_slope=inf"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_described(model: nn.Module, message: str) -> None:
    """A sentence that names the module and the reason."""
    with pytest.raises(TypeError, match=message):
        description(model)


def test_a_cycle_is_no_chain() -> None:
    """A module within itself has no description."""
    with pytest.raises(ValueError, match=r"1\.0 repeats '', which does not come before it"):
        description(cyclic())


def test_deeply_nested_modules() -> None:
    """Nesting has a limit, below that of the interpreter."""
    model, tree = nn.ReLU(), RELU
    for _ in range(102):
        model, tree = (
            Residual(model),
            {"type": "Residual", "options": {}, "modules": {"module": tree}},
        )
    with pytest.raises(TypeError, match="nested more than 100 deep cannot be described"):
        description(model)
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        build(tree)
    assert description(build(tree["modules"]["module"])) == tree["modules"]["module"]


def test_folding_makes_describable() -> None:
    """Constraints of torch and constructors of a user are gone after folding."""
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 3)), OwnChain(nn.ReLU()))
    assert [node["type"] for node in description(fold(model))["modules"].values()] == [
        "Linear",
        "Sequential",
    ]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (None, "model is not described by an object"),
        ([], "not described by an object"),
        ({}, "unknown type None"),
        ({"type": []}, r"unknown type \[\]"),
        ({"type": "os.system", "options": {"command": "true"}}, "unknown type 'os.system'; known"),
        ({"type": "Module", "options": {}}, "unknown type 'Module'"),
        ({"type": "ReLU"}, r"model \(ReLU\) is described by \['type'\], not by"),
        ({**RELU, "code": "1"}, "'options', 'code'], not by"),
        ({**RELU, "modules": {}}, "'options', 'modules'], not by"),
        ({"type": "ReLU", "options": {}}, r"has the options \[\], not \['inplace'\]"),
        ({"type": "ReLU", "options": {"inplace": 1}}, "cannot have inplace=1"),
        ({**RELU, "dtype": "float32"}, "cannot be built"),
        ({"type": "Linear", "options": LINEAR, "dtype": "int64"}, "unknown dtype 'int64'"),
        ({"type": "Linear", "options": {**LINEAR, "in_features": -1}}, "cannot be built"),
        ({"type": "Linear", "options": {**LINEAR, "bias": None}}, "cannot have bias=None"),
        ({"type": "Linear", "options": {**LINEAR, "in_features": True}}, "have in_features=True"),
        ({"type": "Linear", "options": {**LINEAR, "in_features": 10**20}}, "cannot be built"),
        ({"type": "GroupSort", "options": {"group_size": 0, "dim": 1}}, r"cannot be built \(group"),
        ({"type": "LeakyReLU", "options": {"negative_slope": math.inf, "inplace": False}}, "inf"),
        ({"type": "Sequential", "options": {}}, "without its modules"),
        ({"type": "Sequential", "options": {}, "modules": {"a.b": RELU}}, "of the name 'a.b'"),
        ({"type": "Sequential", "options": {}, "modules": {"forward": RELU}}, "cannot be built"),
        ({"type": "Sequential", "options": {}, "modules": {"0": {"shared": "1"}}}, "0 repeats '1'"),
        ({"shared": ""}, "repeats ''"),
        (
            {
                "type": "Sequential",
                "options": {},
                "modules": {"0": RELU, "1": {"shared": "0", **RELU}},
            },
            "1 repeats another module, and is described by",
        ),
        ({"type": "Residual", "options": {}, "modules": {}}, "cannot be built"),
        ({"type": "Residual", "options": {}, "modules": {"module": RELU, "b": RELU}}, "be built"),
        (
            {"type": "Averaged", "options": {"weight": 2}, "modules": {"module": RELU}},
            r"cannot be built \(weight must lie in \[0, 1\]",
        ),
        (
            {"type": "Averaged", "options": {"weight": 1}, "modules": {"weight": RELU}},
            "cannot be built",
        ),
    ],
)
def test_wrong_descriptions(tree, message: str) -> None:
    """A sentence that names the place."""
    with pytest.raises(ValueError, match=message):
        build(tree)


def test_large_sizes_cost_nothing() -> None:
    """Sizes that no memory could hold are built without a value."""
    size = 2**30
    rebuilt = build(
        {
            "type": "LinearSpline",
            "options": {**description(LinearSpline(1))["options"], "num_coefficients": size},
            "dtype": "float64",
        }
    )
    assert rebuilt.coefficients.shape == (1, size)


RICH = description(
    nn.Sequential(
        OrthogonalConv2d(1, 2, 3, padding=1, padding_mode="circular"),
        make_activation("spline-relu", 2),
        Residual(nn.Conv2d(2, 2, 3, padding="same")),
        nn.AvgPool2d(2),
        nn.Flatten(),
        Averaged(OrthogonalLinear(8, 8), 0.5),
        nn.PReLU(8),
    )
)
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.integers(-3, 5)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["Linear", "Conv2d", "__class__", "float16", "same", "circular"])
)
JSON = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def places(tree, path=()) -> list[tuple]:
    """All ways down a tree of objects."""
    children = tree.items() if isinstance(tree, dict) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


@st.composite
def mutations(draw) -> dict:
    """A description with up to three entries replaced, renamed, left out or put elsewhere."""
    tree = {"model": copy.deepcopy(RICH)}
    for _ in range(draw(st.integers(1, 3))):
        (*above, key) = draw(st.sampled_from(places(tree)[1:] or [("model",)]))
        parent = tree
        for step in above:
            parent = parent[step]
        how = draw(st.sampled_from(["replace", "rename", "remove", "move"]))
        if how == "replace":
            parent[key] = draw(JSON)
        elif how == "rename":
            parent[draw(st.text(max_size=6))] = parent.pop(key, None)
        elif how == "remove":
            parent.pop(key, None)
        else:
            parent[key] = copy.deepcopy(RICH)
    return tree.get("model")


@settings(max_examples=100)
@given(mutations())
def test_mutated_descriptions(tree) -> None:
    """Whatever a description says, it gives modules of the list, or one sentence."""
    message = None
    try:
        model = build(tree)
    except ValueError as error:
        message = str(error)
    if message is None:
        names = {parametrize.type_before_parametrizations(m).__name__ for m in model.modules()}
        known = {kind.__name__ for kind in KNOWN}
        assert names <= known | {
            "ModuleDict",
            "ParametrizationList",
            "Polar",
            "Bjorck",
            "BlockOrthogonal",
            "Cayley",
            "GramSchmidt",
        }
    else:
        assert message.endswith(".")
        assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (nn.Conv2d(1, 1, 3), "stride", [0, 0]),
        (nn.Conv2d(1, 1, 3), "padding", [10**12, 10**12]),
        (nn.Conv2d(1, 1, 3), "kernel_size", [-3, 3]),
        (nn.AvgPool2d(2), "divisor_override", 0),
        (nn.AvgPool2d(2), "kernel_size", [10**10, 3]),
        (nn.MaxPool2d(2), "kernel_size", -2),
        (nn.AdaptiveAvgPool2d(2), "output_size", 10**12),
        (OrthogonalConv2d(1, 1, 3), "kernel_size", [1001, 1001]),
    ],
)
def test_sizes_that_no_layer_has(kind: nn.Module, option: str, value) -> None:
    """Refused by name before anything is built, allocated or run."""
    tree = description(kind)
    tree["options"][option] = value
    with pytest.raises(ValueError, match=f"cannot have {option}="):
        build(tree)


def test_repetitions_that_grow_without_end() -> None:
    """Forty doublings of one layer are a small description of a model that never ends."""
    tree = {"type": "Sequential", "options": {}, "modules": {"a": description(nn.ReLU())}}
    tree["modules"]["b"] = {"shared": "a"}
    nodes = {"type": "Sequential", "options": {}, "modules": {"m0": description(nn.ReLU())}}
    for k in range(1, 41):
        pair = {"x": {"shared": f"m{k - 1}"}, "y": {"shared": f"m{k - 1}"}}
        nodes["modules"][f"m{k}"] = {"type": "Sequential", "options": {}, "modules": pair}
    assert len(build(tree)) == 2
    with pytest.raises(ValueError, match="repetitions amount to more than"):
        build(nodes)


def test_names_are_names() -> None:
    """A control character in a name would reach the terminal."""
    tree = {"type": "Sequential", "options": {}, "modules": {"w\n\x1b[31m": description(nn.ReLU())}}
    with pytest.raises(ValueError, match="has a module of the name"):
        build(tree)


def test_padding_that_was_changed_afterwards() -> None:
    """Torch pads a torus by what the constructor noted, not by the attribute."""
    layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
    layer.padding = (0, 0)
    with pytest.raises(TypeError, match="is not what the constructor of its module makes"):
        description(layer)

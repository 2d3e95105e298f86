"""States that were cast or averaged are taken over, and states that do not fit change nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from lipsplines import LinearSpline, OrthogonalConv2d, OrthogonalLinear, load_state


def network(range_: float = 0.1, width: int = 3) -> nn.Sequential:
    """Plain and constrained layers around two splines."""
    return nn.Sequential(
        nn.Linear(2, 3),
        OrthogonalLinear(3, 3),
        LinearSpline(3, 21, 0.1, slope_bounds=(-0.3, 1.0)),
        nn.BatchNorm1d(3),
        LinearSpline(3, 21, range_, slope_bounds=(-0.3, 1.0)),
        OrthogonalLinear(3, width),
    )


def contents(model: nn.Module) -> dict[str, Tensor]:
    """All that a load may change."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("range_", [0.1, 1 / 3, 0.05, 20.1])
def test_states_that_were_cast(kind: torch.dtype, back: bool, range_: float) -> None:
    """To less precision, and back: the grid is the module's own, the numbers those of the state."""
    stored, model = network(range_), network(range_)
    state = {name: value.to(kind) for name, value in stored.state_dict().items()}
    if back:
        state = {name: value.float() for name, value in state.items()}
    model.load_state_dict(state)
    assert model[4].range_ == range_
    for name, value in model.named_parameters():
        assert torch.equal(value, state[name].to(value.dtype))


def test_states_that_were_averaged() -> None:
    """Of several models, and as a running mean, in several precisions."""
    states = [network().state_dict() for _ in range(3)]
    for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        mean = {name: sum(state[name].to(kind) for state in states) / 3 for name in states[0]}
        network().load_state_dict(mean)
        running = {name: value.to(kind, copy=True) for name, value in states[0].items()}
        for step in range(20):
            for name, value in running.items():
                value.mul_(0.9).add_(states[step % 3][name].to(kind), alpha=0.1)
        if kind != torch.bfloat16:  # rounds down step after step
            network().load_state_dict(running)
    averaged = torch.optim.swa_utils.AveragedModel(network())
    averaged.update_parameters(network())
    other = torch.optim.swa_utils.AveragedModel(network())
    other.load_state_dict(averaged.state_dict())
    assert_equal(other.state_dict(), averaged.state_dict())


@pytest.mark.parametrize("range_", [0.1 * (1 + 2.0**-7), 0.1 * (1 - 2.0**-7), 0.2, float("nan")])
def test_another_grid_is_refused(range_: float) -> None:
    """In words that have the tolerance; the spline itself keeps its numbers."""
    state = network().state_dict()
    state["4._extra_state"] = torch.tensor([range_, -0.3, 1.0], dtype=torch.float64)
    state["4.coefficients"] = state["4.coefficients"] + 0.01
    model = network()
    before = contents(model)
    with pytest.raises(ValueError, match=r"no more than a relative 0\.004 counts as rounding"):
        model.load_state_dict(state)
    assert torch.equal(model[4].coefficients, before["4.coefficients"])
    for bounds in ([0.1, -0.3], [0.1, -0.3, 1.01], [0.1, 0.0, 1.0]):
        state["4._extra_state"] = torch.tensor(bounds)
        with pytest.raises(ValueError, match="build the module with the stored values"):
            network().load_state_dict(state)


WRONG = {
    "grid": lambda: network(0.2).state_dict(),
    "shape": lambda: network(width=2).state_dict(),
    "missing": lambda: {k: v for k, v in network().state_dict().items() if k != "5.bias"},
    "unknown": lambda: {**network().state_dict(), "6.weight": torch.zeros(1)},
    "number": lambda: {**network().state_dict(), "5.bias": 3.0},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_all_or_nothing(wrong: str) -> None:
    """What does not fit leaves every layer, buffers included, as it was; what fits is loaded."""
    model = network()
    before, state = contents(model), WRONG[wrong]()
    with pytest.raises((ValueError, RuntimeError)):
        load_state(model, state)
    assert_equal(contents(model), before)
    if wrong in ("missing", "unknown"):
        load_state(model, state, strict=False)
        assert torch.equal(model[0].weight, state["0.weight"])
    other = network().state_dict()
    load_state(model, other)
    assert_equal(contents(model), other)


def test_loading_reaches_the_layers_that_there_are() -> None:
    """The parameters of an optimizer go on to be those of the model."""
    model = nn.Sequential(OrthogonalConv2d(1, 2, 3), LinearSpline(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    load_state(model, copy.deepcopy(model).state_dict())
    before = contents(model)
    model(torch.randn(2, 1, 5, 5)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[1].coefficients, before["1.coefficients"])

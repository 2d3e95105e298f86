"""How modules of the registry are built, trained and fed by the properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

DTYPES = [torch.float32, torch.float64]
EXCESS = {torch.float32: 1e-5, torch.float64: 1e-10}  # guaranteed for norms of layers

Shape = tuple[int, ...]


@dataclass(frozen=True, repr=False)
class Case:
    """How to build a module, on what it acts, and what it promises.

    ``build(shape, dtype=..., device=...)`` makes a module for samples of that shape, without the
    batch dimension. ``rounding(module)`` is what the sizes of inputs and outputs do not tell about
    the rounding of an evaluation, in units of the roundoff: a part relative to the distance of two
    inputs and an absolute one.
    """

    name: str
    build: Callable[..., nn.Module]
    shapes: st.SearchStrategy[Shape]
    lipschitz: float = 1.0  # inf: nothing is promised
    gradients: bool = False  # |J^T u| = |u| at almost every point
    distances: bool = False  # |f(x) - f(y)| = |x - y|
    trained: bool = True  # the two promises above hold after training, not only at the start
    affine: bool = False
    channels: int | None = 1  # their dimension in a batch, if all positions are treated alike
    unbatched: bool = False  # takes one sample without its batch dimension
    twice: bool = True  # second derivatives in the parameters; otherwise they are refused
    rounding: Callable[[nn.Module], tuple[float, float]] = lambda module: (0.0, 0.0)

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Setup:
    """One example: a module, trained for some steps, and the source of its inputs."""

    case: Case
    shape: Shape
    seed: int
    dtype: torch.dtype
    steps: int
    rate: float
    optimizer: type[torch.optim.Optimizer]

    def fresh(self, offset: int = 0, device: str = "cpu") -> nn.Module:
        """The module before any training."""
        torch.default_generator.manual_seed(self.seed + offset)
        return self.case.build(self.shape, dtype=self.dtype, device=device)

    def module(self, offset: int = 0) -> nn.Module:
        """The module after `steps` steps."""
        return self.train(self.fresh(offset), self.steps, offset)

    def train(self, module: nn.Module, steps: int, offset: int = 0) -> nn.Module:
        """Steps towards random targets: rate 1e3 makes raw parameters of size 1e3 and more."""
        parameters = list(module.parameters())
        optimizer = self.optimizer(parameters, lr=self.rate) if parameters else None
        for step in range(steps if parameters else 0):
            optimizer.zero_grad()
            value = module(self.draw(8, 100 + offset + step))
            target = 3 * normal(self.seed + 200 + offset + step, *value.shape).to(value)
            # Gradients of a bounded size: no rate makes the parameters overflow.
            functional.smooth_l1_loss(value, target, reduction="sum").backward()
            optimizer.step()
        return module

    def draw(self, number: int, offset: int = 0, scale: float = 1.0) -> Tensor:
        """A batch of random inputs."""
        return (scale * normal(self.seed + offset, number, *self.shape)).to(self.dtype)


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers of a given seed, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def setups(
    case: Case, dtypes: list[torch.dtype] = DTYPES, rough: bool = False
) -> st.SearchStrategy[Setup]:
    """Random shapes, dtypes, seeds and training, up to rates of 1e3 if it may be rough."""
    return st.builds(
        Setup,
        case=st.just(case),
        shape=case.shapes,
        seed=st.integers(0, 2**31 - 1),
        dtype=st.sampled_from(dtypes),
        steps=st.integers(0, 5 if rough else 2),
        rate=st.sampled_from([1e-3, 0.1, 10.0, 1e3] if rough else [1e-3, 0.1]),
        optimizer=st.sampled_from([torch.optim.Adam, torch.optim.SGD]),
    )


def norms(batch: Tensor) -> Tensor:
    """Norm of each sample, in float64."""
    return batch.detach().double().flatten(1).norm(dim=1)


def roundoff(setup: Setup, module: nn.Module, *batches: Tensor) -> tuple[float, Tensor]:
    """Rounding of an evaluation: relative to a distance, and absolute for each sample.

    Eight units for each of the given batches (inputs, outputs), and what the case adds.
    """
    unit = 8 * torch.finfo(setup.dtype).eps
    relative, absolute = setup.case.rounding(module)
    entries = math.sqrt(math.prod(setup.shape))
    return unit * relative, unit * (sum(map(norms, batches)) + absolute * entries)


def assert_same(setup: Setup, module: nn.Module, got: Tensor, expected: Tensor, x: Tensor) -> None:
    """Equal outputs for the inputs `x`, up to the rounding of two evaluations."""
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    relative, absolute = roundoff(setup, module, x, expected)
    excess = norms(got - expected) - relative * norms(x) - absolute
    assert float(excess.max()) <= 0  # also fails for NaN


def equal_states(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Same names, same values."""
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def cloned_state(module: nn.Module) -> dict[str, Tensor]:
    """A ``state_dict`` that later changes of the module do not reach."""
    return {name: value.clone() for name, value in module.state_dict().items()}

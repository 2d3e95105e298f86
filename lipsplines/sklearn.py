"""A regressor with the interface of scikit-learn and a certified Lipschitz constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines.arguments import is_number, positive_integer
from lipsplines.certify.bounds import lipschitz_bounds, matrix_norm_bound
from lipsplines.export.fold import fold
from lipsplines.models.mlp import ACTIVATIONS, MLP
from lipsplines.nn.caching import constrain_once
from lipsplines.nn.linear_spline import tv2
from lipsplines.training.regression import TrainingError, build_models

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "lipsplines.sklearn needs scikit-learn 1.6 or newer; install the extra: "
        "pip install '.[sklearn]' in the folder of the sources."
    ) from error

__all__ = ["LipschitzRegressor"]

SPLINE = {"num_coefficients": 21, "range_": 2.0}
TV2_WEIGHT = 1e-6
KICK, KICKS = 3e-3, 5  # rate and number of the steps that lead away from a kink
START = 3.0  # of the factor in front of the network, in deviations of the targets
ABOVE = 1 + 1e-12  # more than the rounding of a norm of a column in float64


class LipschitzRegressor(RegressorMixin, BaseEstimator):
    """Least squares over networks with learned splines whose Lipschitz constant is bounded.

    ``f(x) = b + c g((x - m) / s)`` with the mean ``m`` of the training inputs, one number ``s``
    for the spread of all their features, a 1-Lipschitz network ``g`` and a learned factor ``c`` of
    at most ``lipschitz * s``. Features in different units belong behind a ``StandardScaler``; the
    constant then speaks of its outputs.

    With `monotone`, the network is ``g(x) + sum_i sign_i c_i x_i``, where ``c_i`` is the norm of
    the ``i``-th column of the first weight times the constants of the later layers, hence a bound
    of ``|dg / dx_i|``. This is the construction of Kitouni, Nolte and Williams (2023), with a
    constant of its own for each feature and the certificate in the 2-norm, not in the 1-norm: of
    the first weight ``W``, with columns ``S`` of monotone features and ``N`` of the others,
    ``(||W_S||_2 + ||W_S||_F)^2 + ||W_N||_2^2`` is kept at 1.

    Parameters
    ----------
    lipschitz
        Positive bound of the Lipschitz constant: units of the targets for each unit of the inputs
        as they are given, in the 2-norm of all features.
    monotone
        None, or for each feature 1 (the prediction never falls as it grows), -1 (never rises) or 0.
    hidden_sizes
        Widths of the hidden layers, at least one.
    activation
        A key of `mlp.ACTIVATIONS`; by default splines that start as absolute values.
    max_iter
        Iterations of L-BFGS, which sees all samples at once: made for small and medium data sets.
        Where kinks end it early, steps of Adam lead on and count as well.
    random_state
        A seed, an instance of ``numpy.random.RandomState``, or None.

    Attributes
    ----------
    lipschitz_
        Certified constant of `predict`, at most `lipschitz`: the bound of
        `bounds.lipschitz_bounds` for the stored numbers, scaling and monotone part included.
    n_iter_
        Iterations that were made.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        In `fit`, for an argument or data outside of its domain.

    Examples
    --------
    >>> import numpy as np
    >>> from lipsplines.sklearn import LipschitzRegressor
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> model = LipschitzRegressor(lipschitz=0.5, random_state=0, max_iter=20).fit(x, 2 * x[:, 0])
    >>> bool(model.lipschitz_ <= 0.5), model.predict(x).shape
    (True, (64,))
    """

    def __init__(
        self,
        lipschitz: float = 1.0,
        monotone: Sequence[int] | None = None,
        *,
        hidden_sizes: Sequence[int] = (32, 32),
        activation: str = "spline-absolute",
        max_iter: int = 100,
        random_state: Any = None,
    ) -> None:
        self.lipschitz = lipschitz
        self.monotone = monotone
        self.hidden_sizes = hidden_sizes
        self.activation = activation
        self.max_iter = max_iter
        self.random_state = random_state

    @torch.inference_mode(mode=False)
    @torch.enable_grad()
    def fit(self, X: ArrayLike, y: ArrayLike) -> LipschitzRegressor:
        """Train on inputs of shape ``(n, features)`` and targets of shape ``(n,)``."""
        inputs, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        targets = targets.astype(np.float64)
        signs = self._checked(inputs.shape[1])
        self._mean = inputs.mean(0)
        spread = _checked_spread("inputs", inputs, math.sqrt(inputs.var(0).mean()))
        level, deviation = targets.mean(), _checked_spread("targets", targets, targets.std())

        def build() -> _Network:
            core = MLP(
                (len(signs), *map(int, self.hidden_sizes), 1), self.activation, "orthogonal", SPLINE
            )
            return _Network(core, signs, float(self.lipschitz) * spread / deviation).double()

        (network,) = build_models(build, [check_random_state(self.random_state).randint(2**31 - 1)])
        self.n_iter_ = _train(
            network,
            torch.from_numpy((inputs - self._mean) / spread),
            torch.from_numpy((targets - level) / deviation),
            self.max_iter,
        )
        # The numbers that predictions use, in the units of the data.
        self._chain = cast(Any, fold(network.core))
        first, last = self._chain[0], self._chain[-1]
        factor = deviation * network.amplitude().item()
        first.weight.div_(spread)
        _multiply(last, factor)
        self._slopes, self.lipschitz_ = _certified(self._chain, signs)
        while self.lipschitz_ > self.lipschitz:  # by rounding
            _multiply(last, self.lipschitz / self.lipschitz_ * (1 - 1e-9))
            self._slopes, self.lipschitz_ = _certified(self._chain, signs)
        last.bias.add_(level)
        return self

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predictions of shape ``(n,)`` for inputs of shape ``(n, features)``."""
        check_is_fitted(self)
        inputs = validate_data(self, X, dtype=np.float64, reset=False) - self._mean
        with torch.inference_mode():
            values = self._chain(torch.from_numpy(inputs)).squeeze(1).numpy()
        return values + inputs @ self._slopes

    def _checked(self, features: int) -> np.ndarray:
        """The sign of each feature, if all arguments are valid."""
        lipschitz = self.lipschitz
        if not is_number(lipschitz) or not 0 < lipschitz < math.inf:
            raise ValueError(f"lipschitz must be a positive number, got {lipschitz!r}.")
        try:
            signs = np.zeros(features, int) if self.monotone is None else np.asarray(self.monotone)
        except ValueError:  # not a rectangle
            signs = np.empty(0)
        if signs.shape != (features,) or not np.isin(signs, (-1, 0, 1)).all():
            raise ValueError(
                f"monotone must be None or hold -1, 0 or 1 for each of the {features} features, "
                f"got {self.monotone!r}."
            )
        sizes = self.hidden_sizes
        if (
            not isinstance(sizes, (tuple, list, np.ndarray))
            or not len(sizes)
            or not all(map(is_number, sizes))
        ):
            raise ValueError(
                f"hidden_sizes must hold the width of at least one layer, got "
                f"{self.hidden_sizes!r}."
            )
        for width in sizes:
            positive_integer("hidden_sizes", width)
        if not isinstance(self.activation, str) or self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}."
            )
        positive_integer("max_iter", self.max_iter)
        return signs


class _Network(nn.Module):
    """``c (g(x) + sum_i sign_i |W_i| x_i)``, monotone for a ``g`` of 1-Lipschitz later layers."""

    def __init__(self, core: MLP, signs: np.ndarray, largest: float) -> None:
        super().__init__()
        self.core, self.largest = core, largest
        self.monotone = bool(signs.any())
        self.register_buffer("signs", torch.as_tensor(signs, dtype=torch.float64))
        self.log_factor = nn.Parameter(torch.tensor(math.log(START)))
        if self.monotone:
            first: Any = core[0]
            core[0] = nn.Linear(len(signs), first.out_features)
            parametrize.register_parametrization(core[0], "weight", _JointNorm(signs))

    def amplitude(self) -> Tensor:
        """The learned factor, below the largest that is allowed."""
        return -self.largest * torch.expm1(-self.log_factor.exp() / self.largest)

    def forward(self, x: Tensor) -> Tensor:
        value = self.core(x)
        if self.monotone:
            columns = torch.linalg.vector_norm(self.core[0].weight, dim=0)
            value = value + (x * (self.signs * columns)).sum(1, keepdim=True)
        return self.amplitude() * value


class _JointNorm(nn.Module):
    """Divides a weight by the bound of the network that it starts, monotone part included."""

    def __init__(self, signs: np.ndarray) -> None:
        super().__init__()
        self.parts = _parts(signs)

    def forward(self, weight: Tensor) -> Tensor:
        monotone, others = (weight[:, part] for part in self.parts)
        squares = (
            torch.linalg.matrix_norm(monotone, 2) + torch.linalg.matrix_norm(monotone)
        ).square()
        if others.shape[1]:
            squares = squares + torch.linalg.matrix_norm(others, 2).square()
        return weight / squares.sqrt()


def _train(network: _Network, inputs: Tensor, targets: Tensor, iterations: int) -> int:
    """Least squares by L-BFGS; the number of iterations.

    Where a kink ends it early, a few steps of Adam lead away from there, and it starts again.
    """

    def loss() -> Tensor:
        network.zero_grad()
        with constrain_once():
            errors = network(inputs).squeeze(1) - targets
            value = errors.square().mean() + TV2_WEIGHT * tv2(network)
        value.backward()
        return value

    made, best, kept = 0, math.inf, network.state_dict()
    while made < iterations:
        optimizer = torch.optim.LBFGS(
            network.parameters(),
            max_iter=int(iterations) - made,
            history_size=20,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(loss)
        made += max(1, next(iter(optimizer.state.values()))["n_iter"])
        value = loss().item()
        if value < best:
            best = value
            kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        adam = torch.optim.Adam(network.parameters(), lr=KICK)
        for _ in range(min(KICKS, int(iterations) - made)):
            adam.step(loss)
            made += 1
    if not math.isfinite(best):
        raise TrainingError(
            "The training diverged; scale the inputs and targets, or lower lipschitz or max_iter."
        )
    network.load_state_dict(kept)
    return made


def _certified(chain: nn.Sequential, signs: np.ndarray) -> tuple[np.ndarray, float]:
    """Slopes of the linear part that makes the sum with a chain monotone, and the sum's bound."""
    if not signs.any():
        return np.zeros(len(signs)), lipschitz_bounds(chain, probes=1).upper
    weight: Any = chain[0].weight
    later = lipschitz_bounds(chain[1:], input_shape=(len(weight),), probes=1).upper
    slopes = signs * torch.linalg.vector_norm(weight, dim=0).numpy() * (later * ABOVE)
    monotone, others = (weight[:, part] for part in _parts(signs))
    along = matrix_norm_bound(monotone) * later + float(np.linalg.norm(slopes)) * ABOVE
    across = matrix_norm_bound(others) * later if others.shape[1] else 0.0
    return slopes, math.hypot(along, across) * ABOVE


def _parts(signs: np.ndarray) -> tuple[list[int], list[int]]:
    """Indices of the monotone features, and of the others."""
    return np.flatnonzero(signs).tolist(), np.flatnonzero(signs == 0).tolist()


def _multiply(layer: Any, factor: float) -> None:
    layer.weight.mul_(factor)
    layer.bias.mul_(factor)


def _checked_spread(name: str, values: np.ndarray, spread: float) -> float:
    """A scale to divide by; of constant data, whose spread is 0, it is 1."""
    if (spread == 0 and np.ptp(values, 0).any()) or not math.isfinite(spread):
        raise ValueError(
            f"The squares of the {name} are too small or too large for double precision; scale "
            "them."
        )
    return float(spread) if spread > 0 else 1.0

"""Scores of generated images from the features and classes that a classifier gives them.

Both scores depend on the classifier: compare only values of one and the same.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lipsplines.measures.laws import Estimate

__all__ = ["bootstrap_score", "frechet_distance", "inception_score"]

Array = NDArray[np.float64]


def inception_score(probabilities: ArrayLike) -> float:
    """``exp(mean_i KL(p_i | mean_j p_j))`` of class probabilities (Salimans et al. 2016).

    Parameters
    ----------
    probabilities
        Of the classes for each image, shape ``(n, classes)``; rows sum to 1.

    Returns
    -------
    float
        From 1, all images alike to the classifier, to the number of classes, each image of one
        class for certain and all classes equally often.
    """
    p = _table(probabilities, "probabilities")
    if p.min() < 0 or not np.allclose(p.sum(1), 1, atol=1e-4):
        raise ValueError("Each row of probabilities must be non-negative and sum to 1.")
    mean = p.mean(0)
    logs = np.zeros_like(p)
    np.log(p / np.where(mean > 0, mean, 1), out=logs, where=p > 0)
    return float(np.exp((p * logs).sum(1).mean()))


def frechet_distance(features: ArrayLike, other: ArrayLike) -> float:
    """Squared Wasserstein-2 distance of the normal laws with the moments of two sets of features.

    ``|m - m'|^2 + tr(S + S' - 2 (S^(1/2) S' S^(1/2))^(1/2))`` with means ``m``, ``m'`` and
    covariances ``S``, ``S'`` (Dowson and Landau 1982; for images Heusel et al. 2017). With few
    samples it is on average larger than with many.

    Parameters
    ----------
    features, other
        Shapes ``(n, d)`` and ``(m, d)``, at least two rows each.
    """
    first, second = _table(features, "features"), _table(other, "other")
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"Both sets need as many features, got {first.shape[1]} and {second.shape[1]}."
        )
    if min(len(first), len(second)) < 2:
        raise ValueError(
            f"A covariance needs at least two images, got {len(first)} and {len(second)}."
        )
    mean, covariance = _moments(first)
    rival_mean, rival = _moments(second)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ rival @ root).clamp(min=0).sqrt().sum()
    shift = mean - rival_mean
    return (shift @ shift + covariance.trace() + rival.trace() - 2 * cross).item()


def bootstrap_score(
    score: Callable[[Array], float],
    samples: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 200,
) -> Estimate:
    """A score with the spread that comes from the number of images.

    The images are drawn anew with replacement, which gives the standard error, and the interval is
    the normal one (Efron and Tibshirani 1993, Chapter 12). It is one for the score *of as many
    images*: both scores depend on their number (with few images the Fréchet distance is too large
    on average), so compare values of one and the same number.

    Parameters
    ----------
    score
        From rows of `samples` to a number.
    samples
        One row for each image, shape ``(n, d)``.
    confidence, resamples
        Of the two-sided interval, and the number of draws. The same values give the same interval.
    """
    rows = _table(samples, "samples")
    if not (0 < confidence < 1 and resamples >= 2):
        raise ValueError(
            "confidence must lie in (0, 1) and resamples be at least 2, got "
            f"{confidence} and {resamples}."
        )
    generator = np.random.default_rng(0)
    value = score(rows.copy())  # it may work in place
    drawn = np.array(
        [score(rows[generator.integers(len(rows), size=len(rows))]) for _ in range(resamples)]
    )
    error = float(drawn.std(ddof=1))
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Estimate(value, error, value - reach, value + reach)


def _moments(table: Array) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the rows; torch keeps to the number of threads that it is given."""
    rows = torch.from_numpy(np.ascontiguousarray(table))
    return rows.mean(0), torch.atleast_2d(rows.T.cov())


def _table(array: ArrayLike, name: str) -> Array:
    table = np.asarray(array, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"{name} must be a table, one row an image, got the shape {table.shape}.")
    if not np.isfinite(table).all():
        raise ValueError(f"{name} holds NaN or infinity.")
    return table

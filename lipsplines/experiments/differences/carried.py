"""Figures that were measured once on the authors' public code itself, carried over.

That code has no licence; nothing of it is here, so these figures cannot be computed again by this
library.
"""

from __future__ import annotations

import dataclasses

__all__ = ["CARRIED", "COMMIT", "MEASURED_WITH", "REPOSITORY", "Carried"]

REPOSITORY, COMMIT = "Lipschitz_DSNN", "c6a8e08"
MEASURED_WITH = "by scripts, on two processor cores, with torch 2.13 and NumPy 2.4"


@dataclasses.dataclass(frozen=True)
class Carried:
    """One figure of the public code.

    Attributes
    ----------
    what, figure
        What it is, and the figure as it was noted.
    how
        ``"measured"``; ``"read"``, seen in the code only; ``"inferred"``.
    """

    what: str
    figure: str
    how: str = "measured"


# By name of the difference.
CARRIED: dict[str, tuple[Carried, ...]] = {
    "double-division": (
        Carried("largest pixel of a real training batch", "0.0039"),
        Carried("training estimate, two checkpoints", "5.99, 7.75 (one division: 1.44, 2.05)"),
        Carried("validation estimate there", "0.42, -0.31 (one division: 1.48, 2.08)"),
        Carried("since commit", "c13283e"),
    ),
    "digits-once-more": (Carried("largest magnitude of a real validation pixel", "0.0039"),),
    "generator-mode": (Carried("generator at validation", "in training mode", "read"),),
    "strided-kernels": (
        Carried("norm of the first layer, 1 to 64 channels", "2.0000"),
        Carried("norm of the second layer, 64 to 128 channels", "1.53; correlated taps: 1.92"),
        Carried("norm of the second layer from its start, 12 iterations", "0.34 to 0.38"),
        Carried("padding_mode='circular'", "set and ignored", "read"),
    ),
    "bjorck": (
        Carried("singular values after 15 iterations, 1024 x 784", "0.04 to 0.55"),
        Carried("singular values after 15 iterations, 1024 x 1024", "2e-4 to 0.47"),
        Carried("singular values after 15 iterations, 1024 x 6272", "0.06 to 0.14"),
        Carried("after 25 iterations", "0.998 to 1; 0.006 to 1; 1"),
        Carried("orthogonal start, after 15 iterations", "0.459, 0.408, 0.171"),
        Carried("row of ten entries 2.3; 1.8", "NaN; sign flipped"),
    ),
    "gram-side": (
        Carried("forward pass for 1024 x 6272, both sides", "18.3 s against 2.73 s"),
        Carried("part of a step of the Wasserstein critic", "7.0 of 7.8 s"),
    ),
    "initialisation": (
        Carried("weights after three names of a start", "identical"),
        Carried("an invalid name", "accepted"),
        Carried(
            "median error with He-uniform really applied, f1, f2, f3",
            "1.40e-4, 5.6e-5, 6.8e-5 (without: 1.32e-4, 4.0e-5, 3.7e-5)",
        ),
    ),
    "even-size": (Carried("shift of the identity, 50 coefficients", "+0.0102"),),
    "grid-ends": (
        Carried("pairs of size and range with a wrong cell", "73 of 1,881"),
        Carried("of these, reading the coefficient of a neighbour", "43"),
        Carried("error at size 47, range 0.15", "0.15"),
    ),
    "dead-clamp": (
        Carried("share of slopes without gradient, size 101, range 0.5, ReLU", "36 %"),
        Carried("size 51, range 0.1, identity", "76 %"),
        Carried("size 21, range 0.15, absolute value", "100 %, after 10 steps of Adam 55 %"),
    ),
    "scale": (
        Carried("value at scale 0", "-inf"),
        Carried("effect of the noise on Adam", "full steps", "inferred"),
    ),
    "prelu": (Carried("slopes that end without gradient", "56 %"),),
    "householder": (Carried("largest ratio of the unscaled form", "1.00000002"),),
    "averaged": (
        Carried("largest layer norm, averaged CNN of an older paper", "1.013"),
        Carried("largest layer norm, learned splines of an older paper", "1.045"),
        Carried("products of layer norms (upper bounds)", "1.04 to 1.13"),
    ),
    "snr": (Carried("'PSNR' of the older MRI scripts", "is an SNR", "read"),),
    "same-seed": (Carried("knots of f1 and first training points", "the same numbers"),),
    "late-seed": (Carried("models", "built before the seed is set; order of a `set`", "read"),),
    "median-plot": (Carried("plot named median", "always shows model 0", "read"),),
    "validation-noise": (Carried("noise at each validation", "fresh, unseeded", "read"),),
}

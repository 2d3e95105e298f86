"""What the records of the denoising experiment say: means, intervals, tests of its claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, pair_with_each
from lipsplines.experiments.denoising.protocol import cells, study_of
from lipsplines.runner.base import Settings

__all__ = [
    "OURS",
    "OURS_KIND",
    "RESAMPLES",
    "SHOWN",
    "Difference",
    "Kind",
    "comparisons",
    "differences",
    "label",
    "late_gain",
    "means",
    "needed",
    "of_study",
    "runs_of",
    "shown",
    "spreads",
    "trainings",
    "validation",
]

OURS = "spline-identity"
OURS_KIND = (OURS, "orthogonal")
RESAMPLES = 2_000
# Studies of which a page shows the quality, the one with the largest networks first.
SHOWN = ("network", "seeds", "first")
Kind = tuple[str, str]  # activation, constraint


def runs_of(records: Iterable[Record]) -> dict[int, dict[Kind, list[Record]]]:
    """Records by noise level and kind of network; the runs of each in order."""
    found: dict[int, dict[Kind, list[Record]]] = {}
    for record in records:
        s = record.settings
        kinds = found.setdefault(s["sigma"], {})
        kinds.setdefault((s["activation"], s["constraint"]), []).append(record)
    return {
        sigma: {kind: sorted(own, key=lambda r: r.settings["run"]) for kind, own in kinds.items()}
        for sigma, kinds in sorted(found.items())
    }


def label(kind: Kind) -> str:
    """Name of a kind of network."""
    from lipsplines.pages.figures import activation_label

    activation, constraint = kind
    name = activation_label(activation)
    return name if constraint == "orthogonal" else f"{name}, unconstrained"


def means(runs: Iterable[Record], mode: str, metric: str = "psnr") -> NDArray[np.float64]:
    """Mean over the test images for each run."""
    return np.array([np.mean(record.metrics[mode][metric]) for record in runs])


def spreads(records: Iterable[Record], mode: str = "direct") -> dict[str, float]:
    """Activation -> standard deviation of the PSNR over trainings in dB, mean over noise levels."""
    found: dict[str, list[float]] = {}
    for level in runs_of(records).values():
        for (activation, constraint), own in level.items():
            if constraint == "orthogonal" and len(own) > 1:
                found.setdefault(activation, []).append(float(np.std(means(own, mode), ddof=1)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def validation(record: Record) -> list[float]:
    """Mean PSNR in dB on the validation images, at each comparison with the best so far."""
    return record.metrics["curves"]["validation"]


def late_gain(record: Record) -> float | None:
    """What the last fifth of the steps added to the highest validation PSNR, if it was compared."""
    steps, values = (record.metrics["curves"][key] for key in ("step", "validation"))
    early = [value for step, value in zip(steps, values, strict=True) if step <= 0.8 * steps[-1]]
    return max(values) - max(early) if early else None


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean difference of the PSNR, splines less a rival, in dB, with a 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """Who is ahead: a difference whose interval holds zero is a tie."""
        return "tie" if self.low <= 0 <= self.high else "better" if self.low > 0 else "worse"


def differences(
    records: Sequence[Record], mode: str = "direct"
) -> dict[int, dict[Kind, Difference]]:
    """Splines against each 1-Lipschitz rival, paired over test images and runs.

    The interval is the percentile bootstrap over the images, drawn with replacement, in which each
    resample also draws one run with replacement for every run there is; so it speaks of other
    images and, as far as a few runs can, of other trainings.
    """
    found: dict[int, dict[Kind, Difference]] = {}
    for sigma, level in runs_of(records).items():
        ours = level.get(OURS_KIND, [])
        for kind, theirs in level.items():
            if kind == OURS_KIND or kind[1] != "orthogonal" or not ours:
                continue
            gaps = _gaps(ours, theirs, mode)
            random = np.random.default_rng(0)
            runs = random.integers(len(gaps), size=(RESAMPLES, len(gaps)))
            images = random.integers(gaps.shape[1], size=(RESAMPLES, gaps.shape[1]))
            drawn = gaps[runs[:, :, None], images[:, None, :]].mean((1, 2))
            low, high = np.quantile(drawn, [0.025, 0.975])
            found.setdefault(sigma, {})[kind] = Difference(
                float(gaps.mean()), float(low), float(high)
            )
    return found


def comparisons(
    records: Sequence[Record],
    rivals: Sequence[str] | None = None,
    ours: str = OURS,
    margin: float = 1.0,
    mode: str = "direct",
    study: str = "seeds",
) -> list[Comparison]:
    """For each rival (by default all but splines) the test of the claim, over trainings.

    Run ``i`` of all activations and noise levels has the same start of the weights and the same
    patches. The error of a training is the geometric mean of the squared errors over the test
    images, that is, its mean PSNR; what is compared is, for each run, their geometric mean over
    the noise levels. Images only describe a training: two trainings of one network can differ by
    more than two activations do.

    Raises
    ------
    ValueError
        If there are no records of ours or of a rival, or a rival has other runs.
    """
    errors: dict[str, dict[int, dict[int, float]]] = {}
    for sigma, level in runs_of(trainings(records, study)).items():
        for (activation, constraint), own in level.items():
            for record in own if constraint == "orthogonal" else ():
                runs = errors.setdefault(activation, {}).setdefault(record.settings["run"], {})
                runs[sigma] = 10 ** (-np.mean(record.metrics[mode]["psnr"]) / 10)
    others = [name for name in errors if not name.startswith("spline-")]
    names = others if rivals is None else rivals
    return pair_with_each(errors, ours, names, lambda name: label((name, "orthogonal")), margin)


def needed(planned: Sequence[Settings], methods: Collection[str]) -> list[Settings]:
    """Of the planned runs those that a comparison of these activations needs."""
    return [
        settings
        for settings in planned
        if study_of(settings) == "seeds"
        and settings["constraint"] != "none"
        and settings["activation"] in methods
    ]


def of_study(records: Iterable[Record], study: str) -> list[Record]:
    """Those records that belong to a study."""
    return [record for record in records if study_of(record.settings) == study]


def trainings(records: Sequence[Record], study: str) -> list[Record]:
    """Those that a study compares: ``tuned`` takes from ``seeds`` what it does not train again."""
    own = of_study(records, study)
    again = {record.settings["activation"] for record in own}
    same = of_study(records, "seeds") if study == "tuned" else []
    return own + [record for record in same if record.settings["activation"] not in again]


def shown(records: Sequence[Record]) -> list[Record]:
    """Records of the study that a page shows.

    The first of `SHOWN` with a run of every kind of network at every noise level; else the largest.
    """
    for study in SHOWN:
        own = of_study(records, study)
        planned = cells(own[0].settings["profile"]) if own else []
        kinds = {_kind_at(s) for s in planned if study_of(s) == study}
        if own and {_kind_at(record.settings) for record in own} >= kinds:
            return own
    return max((of_study(records, study) for study in SHOWN), key=len)


def _kind_at(settings: Settings) -> tuple[Kind, int]:
    return (settings["activation"], settings["constraint"]), settings["sigma"]


def _gaps(ours: Sequence[Record], theirs: Sequence[Record], mode: str) -> NDArray[np.float64]:
    """PSNR of ours less theirs, shape ``(runs, images)``, for the runs that both have."""
    rivals = {record.settings["run"]: record for record in theirs}
    shared = [record for record in ours if record.settings["run"] in rivals]
    return np.array(
        [
            np.subtract(
                record.metrics[mode]["psnr"], rivals[record.settings["run"]].metrics[mode]["psnr"]
            )
            for record in shared
        ]
    )

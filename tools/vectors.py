"""Write ``tests/vectors/*.json``: what the library computes for figures that readers move.

``python -m tools.vectors`` writes the files anew. The tests compare with them both the library and
``splines.js``, ``strips.js`` and ``live.js`` in ``book/_static``, the arithmetic of the figures.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch

from lipsplines import splines
from lipsplines.inverse import Identity, averaged, averaging_constant, plug_and_play, residual_bound
from lipsplines.linear import matrices
from lipsplines.linear.polar import polar_factor
from lipsplines.measures.transport import wasserstein_1d
from lipsplines.theory import strips
from lipsplines.theory.checks.projections import least_squares_projection

PATH = Path("tests") / "vectors" / "splines.json"
STRIPS = PATH.with_name("strips.json")
LIVE = PATH.with_name("live.json")
BOUNDS = [(-1.0, 1.0), (0.0, 1.0), (-0.25, 2.0)]


def inputs() -> list[dict[str, Any]]:
    """Return the splines: coefficients, range, scale, slope bounds, and points to evaluate at."""
    generator = random.Random(0)  # multiples of 1/256: the same on every machine
    points = [k / 2 for k in range(-5, 6)] + [-40.0, 33.0]
    chosen = [
        ([0.0, 0.0, 3.0], 1.0, 1.0),  # the example of the book
        ([0.5, 0.5, 0.5, 0.5], 1.0, 2.0),  # constant
        ([-1.0, -0.5, 0.0, 0.5, 1.0], 1.0, 1.0),  # the identity: every slope at the bound
        ([1.0, 0.5, 0.0, 0.5, 1.0], 1.0, 0.5),  # the absolute value
        ([0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0], 3.0, 1.0),  # flat pieces, slopes at the bound
        ([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 5.0, 5.0, 5.0, -5.0], 4.5, 1.0),  # ties
        ([(-1.0) ** k for k in range(21)], 1.0, 1.0),  # every slope too steep
        ([float(k * k) for k in range(12)], 2.0, 1.5),  # steeper and steeper
        ([-float(k % 3) for k in range(16)], 0.25, 1.0),
    ]
    for size in (3, 4, 8, 21, 60):
        for range_, scale in ((0.5, 1.0), (1.0, 0.3), (3.0, 2.5)):
            step = splines.spacing(size, range_)
            steps = (step * generator.randrange(-768, 769) / 256 for _ in range(size))
            chosen.append((list(itertools.accumulate(steps)), range_, scale))
        chosen.append(([generator.randrange(-16, 17) / 4 for _ in range(size)], 1.0, 1.0))
    return [
        {
            "coefficients": coefficients,
            "range": range_,
            "scale": scale,
            "bounds": list(BOUNDS[index % len(BOUNDS)]),
            "x": [point * range_ for point in points],
        }
        for index, (coefficients, range_, scale) in enumerate(chosen)
    ]


def results(case: dict[str, Any]) -> dict[str, Any]:
    """Return what the library computes for one of the `inputs`."""
    c = torch.tensor([case["coefficients"]], dtype=torch.float64)
    scale = torch.tensor([case["scale"]], dtype=torch.float64)
    x = torch.tensor([case["x"]], dtype=torch.float64).mT
    step = splines.spacing(c.shape[-1], case["range"])
    repaired = {
        "projected": splines.project_slopes(c, step, tuple(case["bounds"])),
        "normalised": splines.normalize_slopes(c, step),
        "nearest": least_squares_projection(c, step, tuple(case["bounds"])),
    }
    return {
        "knots": splines.knots(c.shape[-1], case["range"], dtype=torch.float64).tolist(),
        "values": splines.evaluate(x, c, case["range"], scale)[:, 0].tolist(),
        "slopes": splines.slopes(c, step)[0].tolist(),
        "lipschitz": splines.lipschitz_constant(c, step).item(),
        "tv2": splines.second_order_tv(c, step).item(),
        "regions": splines.effective_regions(c, step).item(),
        **{name: other[0].tolist() for name, other in repaired.items()},
        **{f"distance_{name}": (other - c).norm().item() for name, other in repaired.items()},
    }


def strip_inputs() -> list[dict[str, Any]]:
    """Return the strips: half width, number of folds, and points of the strip."""
    chosen = [(3.5, 2), (4.0, 6), (10.0, 7), (10.0, 12), (30.0, 17), (30.0, 30)]
    return [
        {"radius": radius, "folds": folds, "points": [-radius, -1.0, 0.25, 1.0, radius]}
        for radius, folds in chosen
    ]


def strip_results(case: dict[str, Any]) -> dict[str, Any]:
    """Return what the library computes for one of the `strip_inputs`."""
    strip = strips.fold_strip(case["radius"], folds=case["folds"])
    points = torch.tensor(case["points"], dtype=torch.float64)
    with torch.no_grad():
        outputs = strips.strip_network(strip)(points.unsqueeze(1))
    return {
        "rate": strips.folding_rate(case["radius"]),
        "angles": list(strip.angles),
        "error": strip.error,
        "paths": strips.strip_paths(strip, points).tolist(),
        "outputs": outputs[:, 0].tolist(),
    }


DENOISERS = {
    "mirror": torch.neg,
    "shift": lambda x: x + 0.125,
    "soft threshold": lambda x: torch.nn.functional.softshrink(x, 0.25),
}


def live_inputs() -> list[dict[str, Any]]:
    """Return samples on the line, matrices, and iterations on one coordinate, each with a kind."""
    samples = [
        ([-1.0, 1.0], [0.0, 0.0]),  # the example of the book
        ([-1.5, -0.5, 0.25, 2.0], [-1.0, 0.0, 0.75, 1.0]),
        ([0.5, 0.5, -0.25], [0.5, 1.5]),  # ties, and sizes that differ
        ([-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]),  # no distance
    ]
    entries = [
        [[1.0, 0.5], [-0.25, 0.75]],
        [[0.25, 1.0], [1.5, -0.5]],  # a reflection
        [[1.0, 1.5], [-1.5, 1.25]],  # singular values around 2: diverges unless it is scaled
        [[2.5, 0.0], [0.0, 0.125]],
    ]
    iterations = [
        (denoiser, step, averaging)
        for denoiser in DENOISERS
        for step, averaging in [(0.0, 0.75), (0.5, 0.5), (1.0, 1.0), (1.75, 0.75)]
    ]
    return [
        *({"kind": "critics", "x": x, "y": y} for x, y in samples),
        *({"kind": "bjorck", "matrix": matrix} for matrix in entries),
        *(
            {"kind": "averaged", "denoiser": name, "step": step, "averaging": averaging}
            | {"data": 0.5, "start": 1.25, "count": 12}
            for name, step, averaging in iterations
        ),
    ]


def live_results(case: dict[str, Any]) -> dict[str, Any]:
    """Return what the library computes for one of the `live_inputs`."""
    return {"critics": _critics, "bjorck": _bjorck, "averaged": _averaged}[case["kind"]](case)


def _critics(case: dict[str, Any]) -> dict[str, Any]:
    """Distance, which is what the best critic reaches, and what the best neuron reaches."""
    x, y = (torch.tensor(case[name], dtype=torch.float64) for name in "xy")
    kinks = torch.cat((x, y)).unsqueeze(1)
    values = [
        (side * (x - kinks)).relu().mean(1) - (side * (y - kinks)).relu().mean(1)
        for side in (1, -1)
    ]
    distance = wasserstein_1d(case["x"], case["y"])
    neuron = torch.stack(values).abs().max().item()
    return {"distance": distance, "best": distance, "neuron": neuron}


def _bjorck(case: dict[str, Any]) -> dict[str, Any]:
    """Steps of the layer's iteration, steps without its scaling, and the limit."""
    matrix = torch.tensor(case["matrix"], dtype=torch.float64)
    polar = polar_factor(matrix)
    return {
        "scaled": [matrices.bjorck(matrix, k).tolist() for k in (1, 2, 5, 15)],
        "plain": matrices.BjorckIterations.apply(matrix, (1.0,) * 4)[0].tolist(),
        "singular": torch.linalg.svdvals(matrix).tolist(),
        "polar": polar.tolist(),
        "apart": torch.linalg.matrix_norm(matrix - polar, 2).item(),
    }


def _averaged(case: dict[str, Any]) -> dict[str, Any]:
    """Iterates, residuals, averaging constant, fixed point and bound, None where there is none."""
    denoiser, step, averaging = DENOISERS[case["denoiser"]], case["step"], case["averaging"]
    start, data = (torch.full((1, 1, 1, 1), case[name]).double() for name in ("start", "data"))
    path = [start]

    def keep(_: int, x: torch.Tensor) -> None:
        path.append(x.clone())

    if step:
        settings = {"step": step, "averaging": averaging, "tolerance": 0.0, "start": start}
        for count, told in ((case["count"], keep), (2000, None)):
            run = plug_and_play(
                Identity((1, 1)), data, denoiser, max_iterations=count, callback=told, **settings
            )
        theta, limit = averaging_constant(step, 1.0, averaging), run.images.item()
    else:  # the data have no say
        for _ in range(case["count"]):
            path.append(averaged(denoiser, averaging)(path[-1]))
        theta, limit = averaging, None if case["denoiser"] == "shift" else 0.0
    iterates = torch.cat(path).flatten()
    bounds = None
    if theta < 1 and limit is not None:
        distance = abs(case["start"] - limit)
        bounds = [residual_bound(theta, distance, k) ** 0.5 for k in range(case["count"])]
    return {
        "iterates": iterates.tolist(),
        "residuals": iterates.diff().abs().tolist(),
        "theta": theta,
        "limit": limit,
        "bounds": bounds,
    }


def main() -> int:
    """Write the files; return the exit status."""
    PATH.parent.mkdir(exist_ok=True)
    for path, given, compute in (
        (PATH, inputs, results),
        (STRIPS, strip_inputs, strip_results),
        (LIVE, live_inputs, live_results),
    ):
        cases = [{"input": case, "expected": compute(case)} for case in given()]
        lines = ",\n".join(json.dumps(case) for case in cases)
        path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

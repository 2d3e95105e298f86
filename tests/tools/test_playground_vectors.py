"""The library, and the arithmetic of figures that readers move, against stored numbers."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from tools import vectors

ROOT = Path(__file__).parents[2]
CASES = json.loads((ROOT / vectors.PATH).read_text(encoding="utf-8"))
STRIPS = json.loads((ROOT / vectors.STRIPS).read_text(encoding="utf-8"))
LIVE = json.loads((ROOT / vectors.LIVE).read_text(encoding="utf-8"))
RUN_LIVE = """
const L = require(process.argv[1]);
const KINDS = {
  critics: ({ x, y }) => {
    const { distance, best, neuron } = L.critics(x, y);
    const steepest = Math.max(...[best, neuron].flatMap((f) => f.slopes.map(Math.abs)));
    if (steepest > 1) throw new Error(`a critic has the slope ${steepest}`);
    return { distance, best: L.value(best, x, y), neuron: L.value(neuron, x, y) };
  },
  bjorck: ({ matrix }) => {
    const scaled = L.iterates(L.bjorckStep, L.safeStart(matrix), 15);
    const polar = L.polarFactor(matrix);
    return {
      scaled: [1, 2, 5, 15].map((k) => scaled[k]),
      plain: L.iterates(L.bjorckStep, matrix, 4)[4],
      singular: L.singularValues(matrix),
      polar,
      apart: L.apart(matrix, polar),
    };
  },
  averaged: ({ denoiser, step, averaging, data, start, count }) => {
    const map = L.averaged(denoiser, step, averaging, data);
    const [iterates, limit] = [L.iterates(map, start, count), L.fixedPoint(map)];
    const residuals = iterates.slice(1).map((x, k) => Math.abs(x - iterates[k]));
    const theta = L.theta(step, averaging);
    const bound = (_, k) => L.residualBound(theta, Math.abs(start - limit), k);
    const bounds = theta < 1 && limit !== null ? residuals.map(bound) : null;
    return { iterates, residuals, theta, limit, bounds };
  },
};
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(given.map(({ input }) => KINDS[input.kind](input))));
"""
RUN_STRIPS = """
const S = require(process.argv[1]);
const results = JSON.parse(require("fs").readFileSync(0, "utf8")).map((given) => {
  const { radius, folds, points } = given.input;
  const angles = S.angles(radius, folds);
  const paths = points.map((point) => S.path(point, angles));
  return {
    rate: S.rate(radius),
    angles,
    error: S.error(radius, angles),
    paths: paths[0].map((_, k) => paths.map((path) => path[k])),
    outputs: points.map((point) => S.output(point, radius, angles)),
  };
});
console.log(JSON.stringify(results));
"""
RUN = """
const S = require(process.argv[1]);
const results = JSON.parse(require("fs").readFileSync(0, "utf8")).map((given) => {
  const { coefficients: c, range, scale, bounds, x } = given.input;
  const step = S.spacing(c.length, range);
  const repaired = {
    projected: S.projectSlopes(c, step, bounds),
    normalised: S.normalizeSlopes(c, step),
    nearest: S.nearestSlopes(c, step, bounds),
  };
  const found = {
    knots: S.knots(c.length, range),
    values: x.map((point) => S.evaluate(point, c, range, scale)),
    slopes: S.slopes(c, step),
    lipschitz: S.lipschitzConstant(c, step),
    tv2: S.secondOrderTv(c, step),
    regions: S.effectiveRegions(c, step),
    ...repaired,
  };
  for (const [name, other] of Object.entries(repaired)) {
    found[`distance_${name}`] = S.distance(c, other);
  }
  return found;
});
console.log(JSON.stringify(results));
"""


@pytest.fixture
def node(missing: Callable[[str], NoReturn]) -> str:
    """Node.js of the system, or the one inside the package playwright."""
    if found := shutil.which("node"):
        return found
    package = importlib.util.find_spec("playwright")
    inside = package and Path(package.origin).parent / "driver" / "node"
    if inside and inside.exists():
        return str(inside)
    return missing("no Node.js, on the path or in the package playwright, to run splines.js")


def assert_agree(found: dict[str, Any], case: dict[str, Any]) -> None:
    """All numbers, to 1e-12 of the largest of their kind (or of the coefficients)."""
    assert found.keys() == case["expected"].keys()
    size = np.abs(case["input"]["coefficients"]).max()
    for name, expected in case["expected"].items():
        largest = max(size, np.abs(expected).max())
        np.testing.assert_allclose(
            found[name], expected, rtol=0, atol=1e-12 * largest, err_msg=f"{name}: {case['input']}"
        )


def test_the_library_agrees_with_the_vectors() -> None:
    assert [case["input"] for case in CASES] == vectors.inputs()
    for case in CASES:
        assert_agree(vectors.results(case["input"]), case)


def run_script(node: str, program: str, name: str, cases: list[dict[str, Any]]) -> Any:
    """What a script of the book computes for the cases."""
    done = subprocess.run(
        [node, "-e", program, str(ROOT / "book" / "_static" / name)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_playground_agrees_with_the_vectors(node: str) -> None:
    for found, case in zip(run_script(node, RUN, "splines.js", CASES), CASES, strict=True):
        assert_agree(found, case)


def assert_strips_agree(found: dict[str, Any], case: dict[str, Any]) -> None:
    """All numbers, to 1e-11 of the half width: the recursion enlarges what is rounded."""
    assert found.keys() == case["expected"].keys()
    for name, expected in case["expected"].items():
        tolerance = 1e-11 * case["input"]["radius"]
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=tolerance, err_msg=name)


def test_the_library_agrees_with_the_strips() -> None:
    assert [case["input"] for case in STRIPS] == vectors.strip_inputs()
    for case in STRIPS:
        assert_strips_agree(vectors.strip_results(case["input"]), case)


def test_the_strip_that_readers_fold_agrees_with_the_vectors(node: str) -> None:
    for found, case in zip(run_script(node, RUN_STRIPS, "strips.js", STRIPS), STRIPS, strict=True):
        assert_strips_agree(found, case)


def assert_live_agree(found: dict[str, Any], case: dict[str, Any]) -> None:
    """All numbers, to 1e-11 of the largest of their kind, or of 1."""
    assert found.keys() == case["expected"].keys()
    for name, expected in case["expected"].items():
        message = f"{name}: {case['input']}"
        if expected is None or found[name] is None:
            assert found[name] == expected, message
            continue
        tolerance = 1e-11 * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=tolerance, err_msg=message)


def test_the_library_agrees_with_the_figures_of_chapters() -> None:
    assert [case["input"] for case in LIVE] == vectors.live_inputs()
    for case in LIVE:
        assert_live_agree(vectors.live_results(case["input"]), case)


def test_the_figures_of_chapters_agree_with_the_vectors(node: str) -> None:
    for found, case in zip(run_script(node, RUN_LIVE, "live.js", LIVE), LIVE, strict=True):
        assert_live_agree(found, case)


def test_the_vectors_cover_what_is_hard() -> None:
    """Inputs beyond the range, slopes at a bound, flat pieces, and three different repairs."""
    slopes = [np.array(case["expected"]["slopes"]) for case in CASES]
    assert any((np.abs(np.abs(slope) - 1) < 1e-12).all() for slope in slopes)
    assert any((slope == 0).any() and np.abs(slope).max() > 1 for slope in slopes)
    assert all(max(case["input"]["x"]) > case["input"]["range"] for case in CASES)
    names = ("distance_projected", "distance_normalised", "distance_nearest")
    assert any(len({round(case["expected"][name], 6) for name in names}) == 3 for case in CASES)

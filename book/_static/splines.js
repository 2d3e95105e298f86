/* Arithmetic of linear splines on a uniform grid, the same as in lipsplines/splines.py.
 *
 * A spline is an array c of K >= 3 values at the knots -R + k T, T = 2 R / (K - 1). All functions
 * are pure. In a page this script defines the global `Splines`; in Node.js it is a module.
 */
"use strict";

const Splines = (() => {
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const mean = (values) => sum(values) / values.length;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const differences = (values) => values.slice(1).map((value, k) => value - values[k]);

  const spacing = (size, range) => (2 * range) / (size - 1);

  const knots = (size, range) =>
    Array.from({ length: size }, (_, k) => (k - (size - 1) / 2) * spacing(size, range));

  /** s(alpha x) / alpha; the first and the last piece continue outside the range. */
  function evaluate(x, c, range, scale = 1) {
    const position = (x * scale + range) / spacing(c.length, range);
    const cell = clamp(Math.floor(position), 0, c.length - 2);
    return (c[cell] + (position - cell) * (c[cell + 1] - c[cell])) / scale;
  }

  const slopes = (c, step) => differences(c).map((difference) => difference / step);

  /** Largest absolute slope. */
  const lipschitzConstant = (c, step) => Math.max(...differences(c).map(Math.abs)) / step;

  /** Sum of the absolute slope changes at the inner knots. */
  const secondOrderTv = (c, step) => sum(differences(differences(c)).map(Math.abs)) / step;

  /** One more than the number of knots at which the slope changes by more than the tolerance. */
  const effectiveRegions = (c, step, tolerance = 0.01) =>
    1 + differences(slopes(c, step)).filter((jump) => Math.abs(jump) > tolerance).length;

  /** SplineProj: clip every slope, sum up, restore the mean. */
  function projectSlopes(c, step, [low, high] = [-1, 1]) {
    const total = [0];
    for (const difference of differences(c)) {
      total.push(total[total.length - 1] + clamp(difference, low * step, high * step));
    }
    const shift = mean(c) - mean(total);
    return total.map((value) => value + shift);
  }

  /** Divide by the Lipschitz constant where that exceeds the bound. */
  function normalizeSlopes(c, step, bound = 1) {
    const excess = Math.max(lipschitzConstant(c, step) / bound, 1);
    return c.map((value) => value / excess);
  }

  /** The coefficients nearest to c in the 2-norm whose slopes obey the bounds.
   *
   * Dynamic programming, as in `least_squares_projection` of lipsplines/checks/projections.py,
   * which explains it.
   */
  function nearestSlopes(c, step, bounds = [-1, 1]) {
    const [low, high] = bounds.map((bound) => bound * step);
    const cross = (corner, zero, slope, change) => [
      corner + ((zero - corner) * slope) / (slope + change),
      slope + change,
    ];
    let [best, slope] = [c[0], 1];
    let [left, right] = [0, 0];
    const [minimisers, lefts, rights] = [[best], [], []];
    for (const value of c.slice(1)) {
      lefts.push([best - left, slope]);
      rights.push([best - right, slope]);
      [left, right] = [left + low, right + high];
      [best, slope] = [value, 1];
      while (lefts.length && best < lefts[lefts.length - 1][0] + left) {
        const [corner, change] = lefts.pop();
        [best, slope] = cross(corner + left, best, slope, change);
        rights.push([corner + left - right, -change]);
      }
      while (rights.length && best > rights[rights.length - 1][0] + right) {
        const [corner, change] = rights.pop();
        [best, slope] = cross(corner + right, best, slope, change);
        lefts.push([corner + right - left, -change]);
      }
      minimisers.push(best);
    }
    const nearest = [best];
    for (let k = c.length - 2; k >= 0; k--) {
      nearest.unshift(clamp(minimisers[k], nearest[0] - high, nearest[0] - low));
    }
    return nearest;
  }

  const distance = (c, other) => Math.hypot(...c.map((value, k) => value - other[k]));

  return {
    clamp,
    distance,
    effectiveRegions,
    evaluate,
    knots,
    lipschitzConstant,
    mean,
    nearestSlopes,
    normalizeSlopes,
    projectSlopes,
    secondOrderTv,
    slopes,
    spacing,
  };
})();

if (typeof module !== "undefined") {
  module.exports = Splines;
}

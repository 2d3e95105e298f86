/* Arithmetic of the figures that readers move in chapters, the same as in the library:
 * critics on the line, Björck's iteration on 2 x 2 matrices, averaged maps of one coordinate.
 *
 * All functions are pure. In a page this script defines the global `Live`; in Node.js it is a
 * module.
 */
"use strict";

const Live = (() => {
  const sum = (values) => values.reduce((total, t) => total + t, 0);
  const mean = (values) => sum(values) / values.length;
  const ascending = (values) => [...values].sort((a, b) => a - b);

  /* Critics: f has knots, values at them, and slopes left of, between and right of them. */

  function critic(knots, slopes) {
    const values = [0];
    knots.slice(1).forEach((t, k) => values.push(values[k] + slopes[k + 1] * (t - knots[k])));
    const middle = (Math.max(...values) + Math.min(...values)) / 2;
    return { knots, slopes, values: values.map((v) => v - middle) };
  }

  function evaluate({ knots, slopes, values }, t) {
    const k = Math.max(knots.filter((knot) => knot <= t).length - 1, 0);
    return values[k] + slopes[t < knots[0] ? 0 : k + 1] * (t - knots[k]);
  }

  /** What a critic makes of two samples: the difference of its means. */
  const value = (f, x, y) =>
    mean(x.map((t) => evaluate(f, t))) - mean(y.map((t) => evaluate(f, t)));

  /**
   * Distance of two samples on the line; a best critic; and a best one-neuron critic
   * ±max(±(t - b), 0). The value of f is the integral of f'(G - F), with F and G the distribution
   * functions of x and y.
   */
  function critics(x, y) {
    const knots = ascending([...x, ...y]);
    const below = (sample, t) => sample.filter((s) => s <= t).length / sample.length;
    const excess = knots.slice(1).map((_, k) => below(y, knots[k]) - below(x, knots[k]));
    const work = excess.map((e, k) => e * (knots[k + 1] - knots[k]));
    const pieces = [...Array(knots.length + 1).keys()];
    let [most, slopes] = [-1, []];
    for (let k = 0; k < knots.length; k++) {
      for (const left of [true, false]) {
        const found = sum(left ? work.slice(0, k) : work.slice(k)); // on this side of knot k
        if (Math.abs(found) <= most + 1e-12) continue;
        most = Math.abs(found);
        slopes = pieces.map((piece) => (piece <= k === left ? Math.sign(found) : 0));
      }
    }
    return {
      distance: sum(work.map(Math.abs)),
      best: critic(knots, [0, ...excess.map(Math.sign), 0]),
      neuron: critic(knots, slopes),
      neuronValue: most,
    };
  }

  /* Björck: matrices are [[a, b], [c, d]]. */

  /** X (3 I - X^T X) / 2. */
  function bjorckStep([[a, b], [c, d]]) {
    const [first, mixed, second] = [a * a + c * c, a * b + c * d, b * b + d * d];
    const row = (s, t) => [((3 - first) * s - mixed * t) / 2, ((3 - second) * t - mixed * s) / 2];
    return [row(a, b), row(c, d)];
  }

  /** What the step makes of a singular value, with its sign. */
  const bjorckValue = (s) => (s * (3 - s * s)) / 2;

  /** Divided by the root of the product of the largest column and row sums: norm at most 1. */
  function safeStart(matrix) {
    const [[a, b], [c, d]] = matrix.map((row) => row.map(Math.abs));
    const scale = Math.sqrt(Math.max(a + c, b + d)) * Math.sqrt(Math.max(a + b, c + d)) || 1;
    return matrix.map((row) => row.map((entry) => entry / scale));
  }

  const lengths = ([[a, b], [c, d]]) => [Math.hypot(a + d, c - b), Math.hypot(a - d, b + c)];

  /** Both singular values, the larger first. */
  function singularValues(matrix) {
    const [turn, flip] = lengths(matrix);
    return [(turn + flip) / 2, Math.abs(turn - flip) / 2];
  }

  /** The nearest orthonormal matrix: a rotation for a positive determinant, else a reflection. */
  function polarFactor(matrix) {
    const [[a, b], [c, d]] = matrix;
    const [turn, flip] = lengths(matrix);
    return turn >= flip
      ? [[(a + d) / turn, (b - c) / turn], [(c - b) / turn, (a + d) / turn]]
      : [[(a - d) / flip, (b + c) / flip], [(b + c) / flip, (d - a) / flip]];
  }

  /** Largest singular value of the difference. */
  const apart = (one, other) =>
    singularValues(one.map((row, i) => row.map((entry, j) => entry - other[i][j])))[0];

  /* Averaged maps: x -> D_b(x - step (x - data)), D_b = (1 - b) Id + b D; H is the identity. */

  const DENOISERS = {
    mirror: (t) => -t,
    shift: (t) => t + 0.125,
    "soft threshold": (t) => Math.sign(t) * Math.max(Math.abs(t) - 0.25, 0),
  };

  const averaged = (denoiser, step, averaging, data) => (x) => {
    const t = x - step * (x - data);
    return (1 - averaging) * t + averaging * DENOISERS[denoiser](t);
  };

  /** The start and what `count` steps make of it. */
  function iterates(map, start, count) {
    const found = [start];
    while (found.length <= count) found.push(map(found[found.length - 1]));
    return found;
  }

  /** Averaging constant of the map; 1 where it need not be averaged. */
  function theta(step, averaging) {
    const [one, other] = [averaging, step / 2];
    return one < 1 && other < 1 ? (one + other - 2 * one * other) / (1 - one * other) : 1;
  }

  /** A fixed point, or null if there is none in [-1000, 1000]: x - T(x) never falls. */
  function fixedPoint(map) {
    let [low, high] = [-1000, 1000];
    if (low > map(low) || high < map(high)) return null;
    for (let k = 0; k < 80; k++) {
      const middle = (low + high) / 2;
      if (middle >= map(middle)) high = middle;
      else low = middle;
    }
    return high;
  }

  /** What residual number k is at most, from a start that lies `distance` from a fixed point. */
  const residualBound = (constant, distance, k) =>
    Math.sqrt(constant / (1 - constant) / (k + 1)) * distance;

  return {
    DENOISERS,
    apart,
    averaged,
    bjorckStep,
    bjorckValue,
    critics,
    evaluate,
    fixedPoint,
    iterates,
    mean,
    polarFactor,
    residualBound,
    safeStart,
    singularValues,
    theta,
    value,
  };
})();

if (typeof module !== "undefined") {
  module.exports = Live;
}

/* Arithmetic of folded strips, the same as in lipsplines/theory/strips.py, which explains it.
 *
 * The strip is [-R, R] in the plane, its middle [-1, 1] stays. All functions are pure. In a page
 * this script defines the global `Strips`; in Node.js it is a module.
 */
"use strict";

const Strips = (() => {
  /** Factor by which each further fold shrinks the angles that are left. */
  function rate(radius) {
    const rho = (radius - 1) / (radius - 3);
    return rho - Math.sqrt(rho * rho - 1);
  }

  /** B(x) = arg((R - 1) e^(i x) - 2). */
  const room = (angle, radius) =>
    Math.atan2((radius - 1) * Math.sin(angle), (radius - 1) * Math.cos(angle) - 2);

  /** What is left to the straight angle after each of K folds; left and right take turns. */
  function angles(radius, folds) {
    const back = (last) => {
      const found = [rate(radius) * last, last];
      while (found.length <= folds) {
        const [before, now] = found.slice(-2);
        found.push(Math.min(2 * room(now, radius) - before, Math.PI));
      }
      return found;
    };
    let [low, high] = [0, Math.PI];
    while (high - low > 1e-15 * high) {
      const middle = (low + high) / 2;
      if (middle === low || middle === high) break;
      [low, high] = back(middle)[folds] >= Math.PI ? [low, middle] : [middle, high];
    }
    return back(high).reverse().slice(1);
  }

  const lastTwo = (found) => [Math.PI, Math.PI, ...found].slice(-2);

  /** Distance of the folded strip from the N, up to the best constant. */
  const error = (radius, found) =>
    ((radius - 1) * lastTwo(found).reduce((total, x) => total + 1 - Math.cos(x), 0)) / 2;

  /** Where the point s of the strip lies before the first fold and after each. */
  function path(s, found) {
    const left = [Math.PI, Math.PI, ...found];
    const places = [[s, 0]];
    found.forEach((angle, k) => {
      const direction = Math.PI - (left[k] + angle) / 2;
      const side = k % 2 ? 1 : -1; // the arm that is turned
      const normal = [-side * Math.sin(direction), side * Math.cos(direction)];
      const [x, y] = places[k];
      const behind = Math.min((x - side) * normal[0] + y * normal[1], 0);
      places.push([x - 2 * behind * normal[0], y - 2 * behind * normal[1]]);
    });
    return places;
  }

  /** The output of the network of absolute values at s. */
  function output(s, radius, found) {
    const [up, down] = lastTwo(found).map((x) => 1 - Math.cos(x));
    const centre = ((found.length % 2 ? up - down : down - up) * (radius - 1)) / 2;
    return centre - path(s, found)[found.length][0];
  }

  return { angles, error, output, path, rate };
})();

if (typeof module !== "undefined") {
  module.exports = Strips;
}

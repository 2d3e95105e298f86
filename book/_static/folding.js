/* The interface of the strip that the reader folds; the arithmetic is in strips.js. */
"use strict";

(() => {
  const { figure, svg } = Drawing;
  const state = { folds: 6, radius: 10 };
  const rows = [
    ["folds", "folds K", { min: 2, max: 30, step: 1 }, 0],
    ["radius", "half width R", { min: 3.5, max: 30, step: 0.5 }, 1],
  ];
  const made = figure("folding", { state, rows, draw });
  if (!made) return;

  const viewBox = "-1.06 -1.06 2.12 2.12";
  const [strip, graph] = [
    "The strip in the plane before and after each fold, the last one in colour",
    "The N, and the output of the network of absolute values",
  ].map((label) => {
    const attributes = { class: "folding-picture", role: "img", "aria-label": label, viewBox };
    return svg("svg", attributes, made.pictures);
  });

  const line = (points) => `M${points.map((p) => p.map((c) => c.toFixed(4)).join(" ")).join("L")}`;

  function draw() {
    const { folds, radius } = state;
    const angles = Strips.angles(radius, folds);
    const scaled = ([x, y]) => [x / radius, -y / radius];
    // Between -R, the two ends of the middle and R the folded strip is straight.
    const corners = [-radius, -1, 1, radius].map((s) => Strips.path(s, angles));
    strip.replaceChildren();
    for (let k = 0; k <= folds; k++) {
      const places = corners.map((path) => scaled(path[k]));
      if (k < folds) {
        svg("path", { class: "before", d: line(places) }, strip);
        continue;
      }
      ["left", "middle", "right"].forEach((name, piece) =>
        svg("path", { class: name, d: line(places.slice(piece, piece + 2)) }, strip),
      );
    }
    const shape = [-radius, -1, 1, radius].map((s) =>
      scaled([s, s - 2 * Math.sign(s)]),
    );
    const found = [-radius, -1, 1, radius].map((s) =>
      scaled([s, Strips.output(s, radius, angles)]),
    );
    graph.replaceChildren();
    svg("path", { class: "axis", d: "M-1 0H1M0 -1V1" }, graph);
    svg("path", { class: "shape", d: line(shape) }, graph);
    svg("path", { class: "found", d: line(found) }, graph);
    const error = Strips.error(radius, angles);
    const size = error < 0.01 ? error.toExponential(1) : error.toPrecision(2);
    return (
      `${folds} folds, R = ${radius.toFixed(1)}: error ${error < 1e-12 ? "below 1e-12" : size}; ` +
      `each further fold divides it by about ${(Strips.rate(radius) ** -2).toFixed(1)}.`
    );
  }

  made.show();
})();

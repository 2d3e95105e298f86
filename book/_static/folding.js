/* The interface of the strip that the reader folds; the arithmetic is in strips.js. */
"use strict";

(() => {
  const root = document.getElementById("folding");
  if (!root) return;

  const SVG = "http://www.w3.org/2000/svg";
  const state = { folds: 6, radius: 10 };

  function fill(element, attributes, parent) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") element.textContent = value;
      else element.setAttribute(name, value);
    }
    parent.append(element);
    return element;
  }
  const html = (tag, attributes, parent) => fill(document.createElement(tag), attributes, parent);
  const svg = (tag, attributes, parent) =>
    fill(document.createElementNS(SVG, tag), attributes, parent);

  const sliders = html("div", { class: "folding-sliders" }, root);
  const outputs = {};
  for (const [key, name, limits] of [
    ["folds", "folds K", { min: 2, max: 30, step: 1 }],
    ["radius", "half width R", { min: 3.5, max: 30, step: 0.5 }],
  ]) {
    const row = html("label", {}, sliders);
    html("span", { text: name }, row);
    const input = html("input", { type: "range", ...limits }, row);
    input.value = state[key];
    outputs[key] = html("output", {}, row);
    input.oninput = () => {
      state[key] = Number(input.value);
      draw();
    };
  }

  const pictures = html("div", { class: "folding-pictures" }, root);
  const viewBox = "-1.06 -1.06 2.12 2.12";
  const [strip, graph] = [
    "The strip in the plane before and after each fold, the last one in colour",
    "The N, and the output of the network of absolute values",
  ].map((label) =>
    svg("svg", { class: "folding-picture", role: "img", "aria-label": label, viewBox }, pictures),
  );
  const readout = html("p", { class: "folding-readout", "aria-live": "polite" }, root);

  const line = (points) => `M${points.map((p) => p.map((c) => c.toFixed(4)).join(" ")).join("L")}`;

  function draw() {
    const { folds, radius } = state;
    const angles = Strips.angles(radius, folds);
    outputs.folds.textContent = folds;
    outputs.radius.textContent = radius.toFixed(1);
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
    readout.textContent =
      `${folds} folds, R = ${radius.toFixed(1)}: error ${error < 1e-12 ? "below 1e-12" : size}; ` +
      `each further fold divides it by about ${(Strips.rate(radius) ** -2).toFixed(1)}.`;
  }

  draw();
})();

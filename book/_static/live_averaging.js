/* A plug-and-play iteration on one coordinate, for the weight that the reader sets; see live.js. */
"use strict";

(() => {
  const { figure, number, plot, start } = Drawing;
  const LAST = 40;
  const FIRST = 1.25;
  const DATA = 0.5;
  const REACH = 1.5;

  const state = { preset: "mirror", averaging: 0.95, step: 0 };
  const made = figure("averaging", {
    state,
    presets: Object.keys(Live.DENOISERS),
    rows: [
      ["averaging", "averaging weight β", { min: 0.05, max: 1, step: 0.05 }, 2],
      ["step", "step α", { min: 0, max: 2, step: 0.05 }, 2],
    ],
    draw,
  });
  if (!made) return;

  const web = plot(made.pictures, {
    label: "Graph of the map, the diagonal, and the iterates between them",
    className: "square",
    x: [-REACH, REACH],
    y: [-REACH, REACH],
    xTicks: [-1, 0, 1],
    yTicks: [-1, 0, 1],
    names: ["x", "T(x)"],
  });
  const powers = [0, -2, -4, -6, -8];
  const residuals = plot(made.pictures, {
    label: "Residuals, step by step, on a logarithmic axis, and the bound of the theorem",
    className: "square",
    x: [0, LAST],
    y: [-8.5, 1],
    xTicks: [0, 10, 20, 30, 40],
    yTicks: powers,
    text: (power) => (power ? `1e−${-power}` : "1"),
    names: ["k", "residual"],
  });

  const short = (size) =>
    size < 0.001 && size > 0 ? size.toExponential(1).replace("-", "−") : number(size);

  function draw() {
    const { preset, averaging, step } = state;
    const map = Live.averaged(preset, step, averaging, DATA);
    const path = Live.iterates(map, FIRST, LAST);
    const sizes = path.slice(1).map((x, k) => Math.abs(x - path[k]));
    const limit = Live.fixedPoint(map);
    const theta = Live.theta(step, averaging);
    const promised = limit !== null && theta < 1;
    const bound = (k) => Live.residualBound(theta, Math.abs(FIRST - limit), k);

    if (web.clear() && residuals.clear()) {
      web.line([[-REACH, -REACH], [REACH, REACH]], "level");
      const grid = [...Array(61).keys()].map((k) => REACH * (k / 30 - 1));
      web.line(grid.map((x) => [x, map(x)]), "two");
      web.line(path.slice(1).flatMap((x, k) => [[path[k], x], [x, x]]), "one thin");
      web.dot([FIRST, path[1]], "hollow one");
      if (limit !== null) web.dot([limit, limit], "one");
      const logs = sizes.map((size, k) => [k, Math.log10(Math.max(size, 1e-300))]);
      residuals.line(logs, "one thin");
      for (const place of logs) residuals.dot(place, "one", 2.5);
      if (promised) residuals.line(logs.map(([k]) => [k, Math.log10(bound(k))]), "two dashed");
    }
    const last = `residual of step ${LAST}: ${short(sizes[LAST - 1])}`;
    if (limit === null) return `No fixed point, and the theorem is silent; ${last}.`;
    const found = `Fixed point ${number(limit)}; ${last}`;
    return promised
      ? `θ = ${number(theta)}. ${found}, by the theorem at most ${short(bound(LAST - 1))}.`
      : `θ = 1: not averaged, and the theorem is silent. ${found}.`;
  }

  start(made.show, [web, residuals]);
})();

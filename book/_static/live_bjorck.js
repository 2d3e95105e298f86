/* Björck's iteration on a 2 x 2 matrix, as an ellipse; see live.js. */
"use strict";

(() => {
  const { figure, html, number, plot, start } = Drawing;
  const LAST = 15;
  const HUGE = 1e6;
  const TURN = 0.6; // angle of the directions that the matrix stretches
  const CIRCLE = [...Array(97).keys()].map((k) => (k * Math.PI) / 48);

  const state = { first: 1.4, second: 0.3, angle: 30, step: 2, safe: false };
  const made = figure("bjorck", {
    state,
    rows: [
      ["first", "first singular value", { min: 0, max: 2.4, step: 0.05 }, 2],
      ["second", "second singular value", { min: 0, max: 2.4, step: 0.05 }, 2],
      ["angle", "turned by (degrees)", { min: -180, max: 180, step: 5 }, 0],
      ["step", "step k", { min: 0, max: LAST, step: 1 }, 0],
    ],
    draw,
  });
  if (!made) return;

  const label = html("label", { class: "live-check" }, made.controls);
  const box = html("input", { type: "checkbox" }, label);
  label.append("scale the start as the library does");
  box.onchange = () => {
    state.safe = box.checked;
    made.show();
  };

  const ticks = [-2, -1, 0, 1, 2];
  const plane = plot(made.pictures, {
    label: "Image of the unit circle: the start, the steps so far, the last in colour",
    className: "square",
    x: [-2.5, 2.5],
    y: [-2.5, 2.5],
    xTicks: ticks,
    yTicks: ticks,
    names: ["", ""],
  });
  const course = plot(made.pictures, {
    label: "Both singular values with sign, step by step",
    className: "square",
    x: [0, LAST],
    y: [-2.5, 2.5],
    xTicks: [0, 5, 10, 15],
    yTicks: ticks,
    names: ["k", "singular values"],
  });

  const rotation = (angle) => {
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    return [[c, -s], [s, c]];
  };
  const product = (m, n) =>
    m.map((row) => [0, 1].map((j) => row[0] * n[0][j] + row[1] * n[1][j]));
  const columns = ([[a, b], [c, d]]) => [[a, c], [b, d]];

  function draw() {
    const { first, second, angle, step, safe } = state;
    const stretch = product([[first, 0], [0, second]], rotation(-TURN));
    const given = product(rotation(TURN + (angle * Math.PI) / 180), stretch);
    const begin = safe ? Live.safeStart(given) : given;
    const scale = first || second ? Live.singularValues(begin)[0] / Math.max(first, second) : 1;
    const states = Live.iterates(Live.bjorckStep, begin, step);
    const values = [first, second].map((s) => Live.iterates(Live.bjorckValue, s * scale, LAST));
    const invertible = first > 0 && second > 0;
    const goal = invertible ? Live.polarFactor(begin) : null;
    const last = states[step];
    const [norm, least] = Live.singularValues(last);
    const lost = !(norm < HUGE);

    if (plane.clear() && course.clear()) {
      plane.line(CIRCLE.map((t) => [Math.cos(t), Math.sin(t)]), "dashed level");
      states.forEach((matrix, k) => {
        const [[a, b], [c, d]] = matrix;
        if (!(Live.singularValues(matrix)[0] < HUGE)) return;
        const image = CIRCLE.map((t) => [
          a * Math.cos(t) + b * Math.sin(t),
          c * Math.cos(t) + d * Math.sin(t),
        ]);
        plane.line(image, k === step ? "one" : "before");
      });
      const names = ["one", "two"];
      if (goal) columns(goal).forEach((column, k) => plane.dot(column, `hollow ${names[k]}`, 7));
      if (!lost) {
        columns(last).forEach((column, k) => {
          plane.line([[0, 0], column], names[k]);
          plane.dot(column, names[k]);
        });
      }
      course.line([[0, 1], [LAST, 1]], "dashed level");
      course.line([[step, -2.5], [step, 2.5]], "level");
      values.forEach((list, k) => {
        const shown = list.filter((s) => Math.abs(s) < HUGE);
        course.line(shown.map((s, at) => [at, s]), `${names[k]} thin`);
        shown.forEach((s, at) => course.dot([at, s], names[k], at === step ? 5 : 2.5));
      });
    }
    const after = `After ${step} step${step === 1 ? "" : "s"}: `;
    if (lost) return `${after}norm above a million. The iteration diverges.`;
    const distance = goal ? number(Live.apart(last, goal)) : "not defined (singular matrix)";
    return (
      `${after}singular values ${number(norm)} and ${number(least)}; ` +
      `distance to the polar factor ${distance}.`
    );
  }

  start(made.show, [plane, course]);
})();

/* Two samples on the line that the reader moves, and critics of them; see live.js. */
"use strict";

(() => {
  const { draggable, figure, fill, number, plot, start, svg } = Drawing;
  const PRESETS = {
    "both sides": [[-1.3, -0.9, 0.9, 1.3], [-0.4, -0.1, 0.1, 0.4]],
    "one side": [[-1.6, -1.2, -0.9, -0.5], [0.2, 0.6, 0.9, 1.3]],
    "in turns": [[-1.6, -0.2, 0.2, 1.6], [-1.1, -0.7, 0.7, 1.1]],
  };
  const ROWS = [0.72, 0.28]; // heights of the samples in the lower picture
  const REACH = 2;
  const SHAPES = ["M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z", "M-4.5-4.5h9v9h-9Z"];
  const NAMES = ["μ", "ν"];

  const state = {};
  const choose = (name) => {
    state.preset = name;
    state.samples = PRESETS[name].map((sample) => [...sample]);
  };
  choose("both sides");
  const made = figure("critic", { state, presets: Object.keys(PRESETS), choose, draw });
  if (!made) return;

  made.pictures.classList.add("wide");
  const axis = { x: [-REACH, REACH], xTicks: [-2, -1, 0, 1, 2] };
  const graph = plot(made.pictures, {
    ...axis,
    label: "The best 1-Lipschitz critic and the best ReLU critic with one hidden layer",
    y: [-2.1, 2.1],
    yTicks: [-2, -1, 0, 1, 2],
    names: ["x", "f(x)"],
  });
  const points = plot(made.pictures, {
    ...axis,
    label: "Two samples of four points, each point to be moved, and the best transport plan",
    role: "group",
    className: "low",
    y: [0, 1],
    yTicks: ROWS,
    text: (row) => NAMES[ROWS.indexOf(row)],
    names: ["", ""],
  });
  const handles = svg("g", {}, points.picture);
  state.samples.forEach((sample, s) => sample.forEach((_, k) => addHandle(s, k)));

  function addHandle(s, k) {
    const handle = svg("g", { class: `handle of-${NAMES[s] === "μ" ? "one" : "two"}` }, handles);
    const label = `Point ${k + 1} of ${NAMES[s]}`;
    fill(handle, { tabindex: 0, role: "slider", "aria-label": label });
    svg("rect", { class: "grip", x: -12, y: -20, width: 24, height: 40 }, handle);
    svg("circle", { class: "ring", r: 10 }, handle);
    svg("path", { class: "shape", d: SHAPES[s] }, handle);
    draggable(handle, {
      value: () => state.samples[s][k],
      at: (event) => points.value(event),
      limits: () => [-REACH, REACH],
      steps: [0.1, 0.01],
      move: (place) => {
        const bounded = Math.min(Math.max(place, -REACH), REACH);
        state.samples[s][k] = Math.round(100 * bounded) / 100;
        state.preset = null;
        made.show();
      },
    });
  }

  function drawCritic(f, kind) {
    const ends = [-REACH, ...f.knots, REACH];
    graph.line(ends.map((t) => [t, Live.evaluate(f, t)]), kind);
  }

  function draw() {
    const { samples } = state;
    const [x, y] = samples;
    const { distance, best, neuron, neuronValue } = Live.critics(x, y);
    if (graph.clear() && points.clear()) {
      drawCritic(neuron, "two dashed");
      drawCritic(best, "one");
      samples.forEach((sample, s) => {
        const values = sample.map((t) => Live.evaluate(best, t));
        const level = Live.mean(values);
        graph.line([[-REACH, level], [REACH, level]], `level ${s ? "two" : "one"}`);
        sample.forEach((t, k) => {
          const place = `translate(${graph.x(t)} ${graph.y(values[k])})`;
          svg("path", { class: `shape of-${s ? "two" : "one"}`, d: SHAPES[s] }, graph.curves);
          graph.curves.lastChild.setAttribute("transform", place);
        });
      });
      const sorted = samples.map((sample) => [...sample].sort((a, b) => a - b));
      sorted[0].forEach((t, k) => points.line([[t, ROWS[0]], [sorted[1][k], ROWS[1]]], "plan"));
      samples.flat().forEach((t, index) => {
        const row = ROWS[index < x.length ? 0 : 1];
        fill(handles.children[index], {
          transform: `translate(${points.x(t)} ${points.y(row)})`,
          "aria-valuemin": -REACH,
          "aria-valuemax": REACH,
          "aria-valuenow": t,
          "aria-valuetext": `x = ${number(t, 2)}`,
        });
      });
    }
    const share = distance > 1e-9 ? ` (${Math.round((100 * neuronValue) / distance)} %)` : "";
    return (
      `W₁ = ${number(distance)} = value of the best critic; ` +
      `of the best ReLU critic with one hidden layer: ${number(neuronValue)}${share}.`
    );
  }

  start(made.show, [graph, points]);
})();

/* The interface of the spline playground; the arithmetic is in splines.js. */
"use strict";

(() => {
  const root = document.getElementById("playground");
  if (!root) return;

  const { draggable, fill, html, number, svg } = Drawing;
  const START = { preset: "sawtooth", size: 9, range: 1, scale: 1 };
  const WINDOWS = [1.25, 2.5]; // half widths of the plot
  const SLOPE_LIMITS = [1.5, 3, 6, 12, 24, 48, 96];
  const MARGIN = { left: 40, right: 8, top: 8, bottom: 24 };
  const MARKERS = {
    raw: (x, y) => `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z`, // in the table; else a handle
    euclidean: (x, y) => `M${x - 3} ${y - 3}h6v6h-6Z`,
    normalised: (x, y) => `M${x} ${y - 4}l4 7h-8Z`,
  };
  // Drawn in this order; the look of each is in playground.css.
  const VERSIONS = [
    { key: "projected", name: "projected", repair: Splines.projectSlopes },
    { key: "euclidean", name: "Euclidean", repair: Splines.nearestSlopes },
    { key: "normalised", name: "normalised", repair: Splines.normalizeSlopes },
    { key: "raw", name: "raw", repair: (c) => c },
  ];
  const TABLE_ORDER = ["raw", "projected", "euclidean", "normalised"];
  const COLUMNS = [
    ["mean", (c) => short(Splines.mean(c))],
    ["Lip", (c, step) => short(Splines.lipschitzConstant(c, step))],
    ["TV⁽²⁾", (c, step) => short(Splines.secondOrderTv(c, step))],
    ["regions", (c, step) => String(Splines.effectiveRegions(c, step))],
    ["distance", (c) => short(Splines.distance(c, state.c))],
  ];
  // The values at given knots.
  const PRESETS = {
    ReLU: (x) => x.map((t) => Math.max(t, 0)),
    "absolute value": (x) => x.map(Math.abs),
    N: (x) => x.map((t) => (t < -0.5 ? t + 1 : t > 0.5 ? t - 1 : -t)),
    sawtooth: (x) => x.map((t) => 0.8 * (t + 1e-9 - Math.floor(t + 1e-9)) - 0.3),
    identity: (x) => x,
    "random, rough": roughly,
  };

  let seed = 0; // of the next rough spline
  let drawn = 0; // how many handles there are
  // A compact playground, as on the first page, starts with two of the four curves.
  const hidden = root.classList.contains("compact") ? ["euclidean", "normalised"] : [];
  const shown = {};
  const state = {};

  /* Elements ------------------------------------------------------------------------------- */

  const short = (value) => number(value, Math.abs(value) < 10 ? 3 : Math.abs(value) < 100 ? 2 : 1);

  function plot(className, attributes) {
    const picture = svg("svg", { class: `playground-plot ${className}`, ...attributes }, root);
    return {
      picture,
      ground: svg("g", { "aria-hidden": "true" }, picture),
      curves: Object.fromEntries(
        VERSIONS.map(({ key }) => [
          key,
          {
            line: svg("path", { class: `line ${key}`, "aria-hidden": "true" }, picture),
            marks: svg("path", { class: `marks ${key}`, "aria-hidden": "true" }, picture),
          },
        ]),
      ),
    };
  }

  const buttons = html("div", { class: "playground-presets", role: "group" }, root);
  buttons.setAttribute("aria-label", "Start from");
  for (const name of Object.keys(PRESETS)) {
    html("button", { type: "button", text: name, "data-preset": name }, buttons).onclick = () => {
      seed += name === "random, rough";
      choose(name);
    };
  }
  html("button", { type: "button", text: "Reset", class: "reset" }, buttons).onclick = reset;

  const sliders = html("div", { class: "playground-sliders" }, root);
  const inputs = {
    size: slider("coefficients K", { min: 3, max: 25, step: 1 }, (value) => ({ size: value })),
    range: slider("range R", { min: 0.5, max: 2, step: 0.05 }, (value) => ({ range: value })),
    scale: slider("scale α", { min: 0, max: 1, step: 0.05 }, (value) => ({ scale: 2 ** value })),
  };

  const values = plot("values", {
    role: "group",
    "aria-label": "The spline, its three repairs, and a handle for each coefficient",
  });
  const handles = svg("g", {}, values.picture);
  const readout = html("p", { class: "playground-readout", "aria-hidden": "true" }, root);
  const slopes = plot("slopes", {
    role: "img",
    "aria-label": "Slopes of the spline and of its repairs; a band marks those between −1 and 1",
  });
  const cells = table();

  function slider(label, limits, change) {
    return Drawing.slider(sliders, label, limits, (value) => {
      Object.assign(state, change(value));
      resample();
    });
  }

  function table() {
    const element = html("table", {}, html("div", { class: "playground-table" }, root));
    const head = html("tr", {}, html("thead", {}, element));
    html("th", { scope: "col", text: "show" }, head);
    for (const [name] of COLUMNS) html("th", { scope: "col", text: name }, head);
    const body = html("tbody", {}, element);
    return Object.fromEntries(
      TABLE_ORDER.map((key) => {
        const version = VERSIONS.find((other) => other.key === key);
        const row = html("tr", { "data-version": key }, body);
        const label = html("label", {}, html("th", { scope: "row" }, row));
        const box = html("input", { type: "checkbox" }, label);
        box.onchange = () => {
          shown[key] = box.checked;
          draw();
        };
        const sample = svg("svg", { class: "sample", viewBox: "0 0 32 12" }, label);
        sample.setAttribute("aria-hidden", "true");
        svg("path", { class: `line ${key}`, d: "M1 6H31" }, sample);
        const mark = MARKERS[key]?.(16, 6) ?? "";
        svg("path", { class: `marks ${key}`, d: mark }, sample);
        label.append(version.name);
        return [key, { box, numbers: COLUMNS.map(() => html("td", {}, row)) }];
      }),
    );
  }

  /* State ---------------------------------------------------------------------------------- */

  /** Slopes drawn evenly between −3 and 3, the same for the same seed. */
  function roughly(x) {
    let random = seed;
    let value = 0;
    const walk = x.map(() => {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      value += (x[1] - x[0]) * (6 * (random / 2 ** 32) - 3);
      return value;
    });
    return walk.map((entry) => entry - Splines.mean(walk));
  }

  const limit = () => 1.2 * Math.max(1, state.range); // of the coefficients
  const bounded = (value) => Splines.clamp(value, -limit(), limit());

  function choose(preset) {
    state.preset = preset;
    state.source = PRESETS[preset];
    if (preset === "random, rough") fix(PRESETS[preset](Splines.knots(state.size, state.range)));
    resample();
  }

  /** From now on, other grids sample the spline that has these coefficients on this grid. */
  function fix(c) {
    const { range } = state;
    state.source = (x) => x.map((t) => Splines.evaluate(t, c, range));
  }

  function resample() {
    state.c = state.source(Splines.knots(state.size, state.range)).map(bounded);
    draw();
  }

  function move(k, value) {
    state.c = state.c.slice();
    state.c[k] = Math.round(1000 * bounded(value)) / 1000;
    state.preset = null;
    fix(state.c);
    draw();
    tell(k);
  }

  function reset() {
    Object.assign(state, START);
    for (const key of TABLE_ORDER) shown[key] = cells[key].box.checked = !hidden.includes(key);
    readout.textContent = "Drag a circle, or use the Tab and the arrow keys.";
    choose(START.preset);
  }

  /* Drawing -------------------------------------------------------------------------------- */

  /** The half width of the plots: holds all knots and coefficients, whatever the scale. */
  function halfWidth() {
    const needed = Math.max(1.15 * state.range, limit());
    return WINDOWS.find((width) => width >= needed);
  }

  function axes(target, yLimit) {
    const { clientWidth, clientHeight } = target.picture;
    const [right, bottom] = [clientWidth - MARGIN.right, clientHeight - MARGIN.bottom];
    const reach = halfWidth();
    const along = (from, to, bound) => (value) =>
      from + ((value + bound) / (2 * bound)) * (to - from);
    return {
      reach,
      left: MARGIN.left,
      right,
      top: MARGIN.top,
      bottom,
      x: along(MARGIN.left, right, reach),
      y: along(bottom, MARGIN.top, yLimit),
    };
  }

  function ground(target, scales, yTicks) {
    const { left, right, top, bottom, x, y, reach } = scales;
    target.ground.replaceChildren();
    const add = (tag, attributes) => svg(tag, attributes, target.ground);
    const rectangle = (className, x0, y0, x1, y1) =>
      add("rect", { class: className, x: x0, y: y0, width: x1 - x0, height: y1 - y0 });
    const edge = state.range / state.scale;
    rectangle("outside", left, top, x(-edge), bottom);
    rectangle("outside", x(edge), top, right, bottom);
    if (target === slopes) rectangle("admissible", left, y(1), right, y(-1));
    for (const tick of [-0.8, -0.4, 0, 0.4, 0.8].map((part) => part * reach)) {
      add("path", { class: tick ? "grid" : "zero", d: `M${x(tick)} ${top}V${bottom}` });
      add("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle", text: number(tick, 1) });
    }
    for (const tick of yTicks) {
      add("path", { class: tick ? "grid" : "zero", d: `M${left} ${y(tick)}H${right}` });
      const label = number(tick, tick % 1 ? 1 : 0);
      if (tick || target === values) {
        add("text", { x: left - 5, y: y(tick) + 4, "text-anchor": "end", text: label });
      }
    }
    const name = target === slopes ? "slope" : "σ(x)";
    add("text", { class: "name", x: left + 6, y: top + 14, text: name });
    add("text", { class: "name", x: right - 6, y: bottom - 6, "text-anchor": "end", text: "x" });
  }

  function drawValues(versions) {
    const scales = axes(values, halfWidth());
    const { x, y, reach } = scales;
    ground(values, scales, [-0.8, -0.4, 0, 0.4, 0.8].map((part) => part * reach));
    const points = Splines.knots(state.size, state.range).map((knot) => knot / state.scale);
    for (const { key } of VERSIONS) {
      const at = (t) => Splines.evaluate(t, versions[key], state.range, state.scale);
      const corners = [-reach, ...points, reach].map((t) => `${x(t)} ${y(at(t))}`);
      const { line, marks } = values.curves[key];
      line.setAttribute("d", `M${corners.join("L")}`);
      const marker = key === "raw" ? null : MARKERS[key];
      if (marker) marks.setAttribute("d", points.map((t) => marker(x(t), y(at(t)))).join(""));
    }
    drawHandles(scales, points);
  }

  function drawHandles({ x, y }, points) {
    if (drawn !== state.size) {
      handles.replaceChildren();
      for (let k = 0; k < state.size; k++) addHandle(k);
      drawn = state.size;
    }
    const width = Math.min(44, x(points[1]) - x(points[0]));
    points.forEach((point, k) => {
      const value = state.c[k];
      const handle = handles.children[k];
      fill(handle, {
        transform: `translate(${x(point)} ${y(value / state.scale)})`,
        "aria-valuemin": -limit(),
        "aria-valuemax": limit(),
        "aria-valuenow": value,
        "aria-valuetext": `${number(value)} at x = ${number(point, 2)}`,
      });
      fill(handle.firstChild, { x: -width / 2, width });
    });
    handles.classList.toggle("faint", !shown.raw);
  }

  function drawSlopes(versions) {
    const step = Splines.spacing(state.size, state.range);
    const all = Object.fromEntries(
      Object.entries(versions).map(([key, c]) => [key, Splines.slopes(c, step)]),
    );
    const steepest = Math.max(
      ...Object.entries(all).flatMap(([key, own]) => (shown[key] ? own.map(Math.abs) : [])),
    );
    const bound = SLOPE_LIMITS.find((candidate) => candidate >= steepest) ?? 192;
    const scales = axes(slopes, 1.1 * bound);
    const { x, y, left, right } = scales;
    const ticks = bound < 3 ? [1] : bound > 6 ? [bound] : [1, bound];
    ground(slopes, scales, [0, ...ticks, ...ticks.map((tick) => -tick)]);
    const knots = Splines.knots(state.size, state.range).map((knot) => x(knot / state.scale));
    for (const [key, own] of Object.entries(all)) {
      const steps = own.map((slope, k) => {
        const end = k < own.length - 1 ? knots[k + 1] : right;
        return `V${y(slope)}H${end}`;
      });
      slopes.curves[key].line.setAttribute("d", `M${left} ${y(own[0])}${steps.join("")}`);
    }
  }

  function draw() {
    const step = Splines.spacing(state.size, state.range);
    const versions = Object.fromEntries(
      VERSIONS.map(({ key, repair }) => [key, repair(state.c, step)]),
    );
    for (const key of TABLE_ORDER) {
      for (const target of [values, slopes]) {
        for (const path of Object.values(target.curves[key])) {
          path.classList.toggle("hidden", !shown[key]);
        }
      }
      COLUMNS.forEach(([, compute], column) => {
        cells[key].numbers[column].textContent = compute(versions[key], step);
      });
    }
    for (const button of buttons.querySelectorAll("[data-preset]")) {
      button.setAttribute("aria-pressed", String(button.dataset.preset === state.preset));
    }
    const settings = {
      size: [state.size, state.size],
      range: [state.range, number(state.range, 2)],
      scale: [Math.log2(state.scale), number(state.scale, 2)],
    };
    for (const [name, [value, text]] of Object.entries(settings)) {
      inputs[name].set(value, text);
    }
    const { clientWidth, clientHeight } = slopes.picture;
    if (clientWidth < 100 || clientHeight < 100) return; // not laid out yet
    drawValues(versions);
    drawSlopes(versions);
  }

  /* Handles -------------------------------------------------------------------------------- */

  function tell(k) {
    const handle = handles.children[k];
    readout.textContent = `Coefficient ${k + 1}: ${handle.getAttribute("aria-valuetext")}`;
  }

  function addHandle(k) {
    const handle = svg("g", { class: "handle", tabindex: 0, role: "slider" }, handles);
    handle.setAttribute("aria-label", `Coefficient ${k + 1}`);
    handle.setAttribute("aria-orientation", "vertical");
    svg("rect", { class: "grip", y: -22, height: 44 }, handle);
    svg("circle", { class: "ring", r: 11 }, handle);
    svg("circle", { class: "dot", r: 5.5 }, handle);
    handle.onfocus = () => tell(k);
    draggable(handle, {
      value: () => state.c[k],
      at: (event) => {
        const { top, height } = values.picture.getBoundingClientRect();
        const plotted = height - MARGIN.top - MARGIN.bottom;
        const part = (event.clientY - top - MARGIN.top) / plotted;
        return state.scale * halfWidth() * (1 - 2 * part);
      },
      move: (value) => move(k, value),
      limits: () => [-limit(), limit()],
      steps: [0.05, 0.005],
    });
  }

  reset();
  const observer = new ResizeObserver(draw);
  observer.observe(values.picture);
  observer.observe(slopes.picture);
})();

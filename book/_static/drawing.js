/* Elements, sliders, handles and axes of the figures that readers move. */
"use strict";

const Drawing = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const STEPS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 };
  const MARGIN = { left: 38, right: 8, top: 8, bottom: 24 };

  function fill(element, attributes, parent) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") element.textContent = value;
      else element.setAttribute(name, value);
    }
    if (parent) parent.append(element);
    return element;
  }
  const html = (tag, attributes, parent) => fill(document.createElement(tag), attributes, parent);
  const svg = (tag, attributes, parent) =>
    fill(document.createElementNS(SVG, tag), attributes, parent);

  function number(value, digits = 3) {
    const text = Math.abs(value).toFixed(digits);
    return value < 0 && Number(text) !== 0 ? `−${text}` : text;
  }

  /** A labelled slider that calls `change` with its value; `set` shows a value and its text. */
  function slider(parent, name, limits, change) {
    const row = html("label", {}, parent);
    html("span", { text: name }, row);
    const input = html("input", { type: "range", ...limits }, row);
    const output = html("output", {}, row);
    input.oninput = () => change(Number(input.value));
    const set = (value, text) => {
      input.value = value;
      output.textContent = text;
      input.setAttribute("aria-valuetext", text);
    };
    return { input, output, set };
  }

  /**
   * Let a shape be moved by a pointer and by keys. `value()` is where it stands, `at(event)` where
   * the pointer is, `limits()` the range, `steps` those of the keys without and with Shift.
   */
  function draggable(handle, { value, at, move, limits, steps }) {
    handle.onkeydown = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const target = { Home: limits()[0], End: limits()[1] }[event.key];
      const direction = STEPS[event.key];
      if (target === undefined && direction === undefined) return;
      event.preventDefault();
      move(target ?? value() + direction * steps[event.shiftKey ? 1 : 0]);
    };
    let grip = null; // what is moved minus what the pointer points at
    handle.onpointerdown = (event) => {
      if (event.button !== 0) return;
      event.preventDefault(); // no selection of text
      handle.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      grip = value() - at(event);
    };
    // A touch that begins on a handle does not scroll the page; all others do. (Browsers do not
    // obey the property touch-action on shapes inside a picture.)
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    handle.onpointermove = (event) => {
      if (grip !== null) move(at(event) + grip);
    };
    handle.onpointerup = handle.onpointercancel = () => {
      grip = null;
    };
  }

  /**
   * The parts of a figure of a chapter, before its caption: buttons that choose one of `presets`,
   * sliders for `state` (rows of key, name, limits and digits), pictures and a sentence.
   */
  function figure(id, { state, presets = [], choose, rows = [], draw }) {
    const root = document.getElementById(id);
    if (!root) return null;
    const box = html("div", {});
    root.prepend(box);
    const group = html("div", { class: "live-buttons", role: "group", "aria-label": "Start from" });
    if (presets.length) box.append(group);
    for (const name of presets) {
      html("button", { type: "button", text: name }, group).onclick = () => {
        state.preset = name;
        choose?.(name);
        show();
      };
    }
    const controls = html("div", { class: "live-sliders" }, box);
    const sliders = rows.map(([key, name, limits]) =>
      slider(controls, name, limits, (value) => {
        state[key] = value;
        show();
      }),
    );
    const pictures = html("div", { class: "live-pictures" }, box);
    const readout = html("p", { class: "live-readout", "aria-live": "polite" }, box);
    const show = () => {
      for (const button of group.children) {
        button.setAttribute("aria-pressed", String(button.textContent === state.preset));
      }
      rows.forEach(([key, , , digits], k) => sliders[k].set(state[key], number(state[key], digits)));
      readout.textContent = draw();
    };
    return { pictures, show, controls };
  }

  /** Axes from x[0] to x[1] and y[0] to y[1], with ticks; call `clear` before drawing anew. */
  function plot(parent, { label, role = "img", className = "", x, y, xTicks, yTicks, names, text }) {
    const picture = svg("svg", { class: `live-picture ${className}`, role, "aria-label": label });
    parent.append(picture);
    const ground = svg("g", { "aria-hidden": "true" }, picture);
    const curves = svg("svg", { "aria-hidden": "true" }, picture); // cuts off what leaves the axes
    const self = { picture, curves };
    const scale = ([low, high], from, to) => (value) => {
      const place = from + ((value - low) / (high - low)) * (to - from);
      return Number(Math.min(Math.max(place, -1e4), 1e4).toFixed(2));
    };

    self.clear = () => {
      const { clientWidth: width, clientHeight: height } = picture;
      const { left, top } = MARGIN;
      const [right, bottom] = [width - MARGIN.right, height - MARGIN.bottom];
      if (right < left + 10 || bottom < top + 10) return false; // not laid out yet
      picture.setAttribute("viewBox", `0 0 ${width} ${height}`); // on paper it may be smaller
      const inner = [left, top, right - left, bottom - top];
      const size = { x: left, y: top, width: inner[2], height: inner[3] };
      fill(curves, { ...size, viewBox: inner.join(" ") });
      self.x = scale(x, left, right);
      self.y = scale(y, bottom, top);
      self.value = (event) => {
        const box = picture.getBoundingClientRect();
        const part = (event.clientX - box.left - left) / inner[2];
        return x[0] + part * (x[1] - x[0]);
      };
      curves.replaceChildren();
      ground.replaceChildren();
      const add = (tag, attributes) => svg(tag, attributes, ground);
      for (const tick of xTicks) {
        const at = self.x(tick);
        add("path", { class: "grid", d: `M${at} ${top}V${bottom}` });
        add("text", { x: at, y: bottom + 16, "text-anchor": "middle", text: number(tick, 0) });
      }
      for (const tick of yTicks) {
        const at = self.y(tick);
        add("path", { class: "grid", d: `M${left} ${at}H${right}` });
        const written = text ? text(tick) : number(tick, 0);
        add("text", { x: left - 5, y: at + 4, "text-anchor": "end", text: written });
      }
      const [below, beside] = names;
      add("text", { class: "name", x: right - 6, y: bottom - 6, "text-anchor": "end", text: below });
      add("text", { class: "name", x: left + 6, y: top + 13, text: beside });
      return true;
    };
    self.line = (points, kind) => {
      const places = points.map(([s, t]) => `${self.x(s)} ${self.y(t)}`);
      return svg("path", { class: `line ${kind}`, d: `M${places.join("L")}` }, curves);
    };
    self.dot = ([s, t], kind, r = 4.5) =>
      svg("circle", { class: `dot ${kind}`, cx: self.x(s), cy: self.y(t), r }, curves);
    return self;
  }

  /** Draw now, and whenever a picture changes its size. */
  function start(show, plots) {
    show();
    const observer = new ResizeObserver(show);
    for (const { picture } of plots) observer.observe(picture);
  }

  return { draggable, figure, fill, html, number, plot, slider, start, svg };
})();

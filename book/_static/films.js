// Films start at their first picture and can be played. Without scripts the last one is seen, as it
// is by a reader who wants no motion, and in print.
(() => {
  "use strict";

  const PACE = 800; // milliseconds that a picture stays
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  function equip(film) {
    const input = film.querySelector("input");
    const label = film.querySelector("label");
    const last = Number(input.max);
    const count = document.createElement("span");
    count.className = "film-count";
    label.append(count);
    const told = () => {
      count.textContent = `${Number(input.value) + 1} of ${last + 1}`;
    };
    const show = (k) => {
      input.value = k;
      input.dispatchEvent(new Event("input"));
    };
    input.addEventListener("input", told);
    told();
    if (still.matches || !last) return;

    const button = document.createElement("button");
    button.type = "button";
    button.className = "film-play";
    let timer = 0;
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      button.textContent = "▶ Play";
    };
    const play = () => {
      if (Number(input.value) === last) show(0);
      button.textContent = "❚❚ Pause";
      timer = setInterval(() => {
        show(Number(input.value) + 1);
        if (Number(input.value) === last) stop();
      }, PACE);
    };
    button.addEventListener("click", () => (timer ? stop() : play()));
    input.addEventListener("pointerdown", stop);
    input.addEventListener("keydown", stop);
    label.before(button);
    stop();
    show(0);
  }

  const all = () => document.querySelectorAll(".film").forEach(equip);
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", all);
  else all();
})();

// Tables that fit, and pages that print. Without scripts a page is whole, only less handy.
(() => {
  "use strict";

  // A number, an interval, a mark for "nothing"; also with a unit.
  const NUMBER = /^[-+−–±≤<>~≈?✓✗∎ ]*(\d[\d.,\s×·^e+\-−–%/()[\];±]*)?(s|ms|µs|min|h|d|dB|%|MB|GB|steps)?$/i;
  const LONG_CODE = 24; // letters from which on code in a cell may break
  const LONG_TEXT = 40; // letters from which on a cell is read, not looked up
  const phone = matchMedia("(max-width: 576px)");

  const text = (cell) => cell.textContent.trim();

  // Words stand to the left and may break; numbers stay to the right and on one line.
  function align(table) {
    const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
    const heads = table.tHead ? [...table.tHead.rows].at(-1).cells : [];
    const width = Math.max(0, ...rows.map((row) => row.cells.length));
    for (let k = 0; k < width; k += 1) {
      const cells = rows.filter((row) => row.cells.length === width).map((row) => row.cells[k]);
      const filled = cells.filter(text);
      const words = filled.filter((cell) => !NUMBER.test(text(cell))).length * 2 > filled.length;
      for (const cell of cells) {
        cell.classList.toggle("words", words);
        if (heads[k] && text(heads[k])) cell.dataset.head = text(heads[k]);
      }
      heads[k]?.classList.toggle("words", words);
    }
    for (const code of table.querySelectorAll("td code"))
      if (text(code).length > LONG_CODE) code.classList.add("long");
  }

  // On a phone, the cells of a table of words that does not fit stand below each other.
  function fit(table) {
    const box = table.parentElement;
    table.classList.remove("stacked");
    const cells = [...table.querySelectorAll("tbody td")];
    const reads = cells.some((cell) => text(cell).length > LONG_TEXT);
    if (phone.matches && reads && table.tHead) table.classList.add("stacked");
    cue(box);
  }

  // The edge behind which a table goes on is faded.
  function cue(box) {
    const left = box.scrollWidth - box.clientWidth - box.scrollLeft;
    box.classList.toggle("goes-on", left > 2);
  }

  function tables() {
    const all = [...document.querySelectorAll(".pst-scrollable-table-container > table")];
    all.forEach(align);
    all.forEach(fit);
    for (const table of all)
      table.parentElement.addEventListener("scroll", () => cue(table.parentElement), { passive: true });
    let waiting = 0;
    addEventListener("resize", () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(() => all.forEach(fit));
    });
    for (const fold of document.querySelectorAll("article details"))
      fold.addEventListener("toggle", () => fold.querySelectorAll("table").forEach((table) => {
        if (all.includes(table)) fit(table);
      }));
  }

  // In print everything is open but the code of figures, and links have their addresses at the end.
  let opened = [];
  function beforePrint() {
    if (document.querySelector(".print-links")) return;
    opened = [...document.querySelectorAll("article details:not([open])")]
      .filter((fold) => !fold.parentElement.matches(".tag_hide-input"));
    for (const fold of opened) fold.open = true;
    const addresses = [];
    for (const link of document.querySelectorAll("article a.external[href^='http']")) {
      let number = addresses.indexOf(link.href) + 1;
      if (!number) number = addresses.push(link.href);
      link.insertAdjacentHTML("afterend", `<sup class="print-mark">${number}</sup>`);
    }
    if (!addresses.length) return;
    const list = document.createElement("ol");
    list.className = "print-links";
    for (const address of addresses) list.appendChild(document.createElement("li")).textContent = address;
    document.querySelector("article").append(list);
  }
  function afterPrint() {
    for (const fold of opened) fold.open = false;
    opened = [];
    document.querySelectorAll(".print-mark, .print-links").forEach((made) => made.remove());
  }

  addEventListener("beforeprint", beforePrint);
  addEventListener("afterprint", afterPrint);
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", tables);
  else tables();
})();

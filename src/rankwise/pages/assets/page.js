"use strict";
(() => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const dark = matchMedia("screen and (prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");
  const form = document.querySelector(".controls");
  const charts = Object.entries(payload.charts).map(([id, pictures]) => [id, new Map(pictures)]);

  const views = charts.flatMap(([, pictures]) => [...pictures.keys()]).filter((view) => view !== null);

  // The figure in the colours of the scheme; beside what is highlighted only the baseline stays.
  function paint(figure, highlighted, isDark) {
    const twin = isDark ? payload.dark : {};
    const painted = JSON.parse(JSON.stringify(figure), (key, value) =>
      typeof value === "string" && Object.hasOwn(twin, value) ? twin[value] : value);
    for (const trace of painted.data) {
      const { method, role } = trace.meta;
      if (highlighted.length && ![null, payload.baseline, ...highlighted].includes(method)) {
        trace.opacity = 0.15 * (trace.opacity ?? 1);
      }
      if (narrow.matches && role === "label") trace.visible = false;
    }
    painted.layout.font.family = getComputedStyle(document.body).fontFamily;
    if (narrow.matches) painted.layout.margin = { ...painted.layout.margin, l: 40, r: 12 };
    return painted;
  }

  function draw(isDark = dark.matches) {
    const chosen = new FormData(form ?? undefined);
    const view = chosen.get("view") ?? views[0];
    for (const [id, pictures] of charts) {
      const figure = pictures.get(view) ?? pictures.get(null);
      const { data, layout } = paint(figure, chosen.getAll("highlight"), isDark);
      Plotly.react(id, data, layout, { displayModeBar: false, responsive: true });
    }
    for (const words of document.querySelectorAll("[data-view]")) {
      words.hidden = words.dataset.view !== view;
    }
  }

  function compare(first, second, isText, sign) {
    if (first === "" || second === "") return (first === "") - (second === "");
    const order = isText
      ? first.localeCompare(second, undefined, { numeric: true })
      : Number(first) - Number(second);
    return sign * order;
  }

  function sort(heading) {
    const opposite = { ascending: "descending", descending: "ascending" };
    const first = "fallingFirst" in heading.dataset ? "descending" : "ascending";
    const direction = opposite[heading.ariaSort] ?? first;
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
    const isText = heading.dataset.kind === "text";
    const value = (row) => row.cells[heading.cellIndex].dataset.value;
    const table = heading.closest("table");
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
      const sign = direction === "ascending" ? 1 : -1;
      rows.sort((one, two) => compare(value(one), value(two), isText, sign));
      body.append(...rows);
    }
    const within = table.dataset.sortedWithin ? `, within ${table.dataset.sortedWithin}` : "";
    document.getElementById("sorted").textContent =
      `Sorted by ${heading.textContent.trim()}, ${direction}${within}.`;
  }

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }
  form?.addEventListener("change", () => draw());
  dark.addEventListener("change", () => draw());
  narrow.addEventListener("change", () => draw());
  addEventListener("beforeprint", () => draw(false));
  addEventListener("afterprint", () => draw());
  draw();
})();

"use strict";
(() => {
  const rows = [...document.querySelectorAll("#rows > article")];
  const box = document.getElementById("rows");
  const chips = [...document.querySelectorAll(".chips button")];
  const choice = document.getElementById("class");
  const order = document.getElementById("order");
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  let kind = "all", name = "";

  const shown = (row) =>
    (kind === "all" || (kind === "wrong" ? row.dataset.wrong === "1" : row.dataset.answer === name)) &&
    row.dataset.path.toLowerCase().includes(search.value.trim().toLowerCase());

  const filter = () => {
    let n = 0;
    for (const row of rows) { row.hidden = !shown(row); n += !row.hidden; }
    count.textContent = `${n.toLocaleString("en")} shown`;
    for (const chip of chips) {
      chip.setAttribute("aria-pressed", String(chip.dataset.kind === kind && chip.dataset.name === name));
    }
  };

  const sort = () => {
    const by = {
      "sure": (a, b) => a.dataset.sure - b.dataset.sure,
      "-sure": (a, b) => b.dataset.sure - a.dataset.sure,
      "place": (a, b) => a.dataset.place - b.dataset.place,
      "path": (a, b) => a.dataset.path.localeCompare(b.dataset.path, "en", { numeric: true }),
    }[order.value];
    box.append(...rows.sort(by));
  };

  const step = (by) => {
    const visible = rows.filter((row) => !row.hidden);
    const here = visible.indexOf(document.activeElement.closest("#rows > article"));
    const next = visible[Math.min(visible.length - 1, Math.max(0, here + by))];
    if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "center" }); }
  };

  for (const chip of chips) {
    chip.addEventListener("click", () => {
      [kind, name] = [chip.dataset.kind, chip.dataset.name];
      if (choice) choice.value = "";
      filter();
    });
  }
  choice?.addEventListener("change", () => {
    [kind, name] = choice.value ? ["answer", choice.value] : ["all", ""];
    filter();
  });
  order.addEventListener("change", sort);
  search.addEventListener("input", filter);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select") || document.querySelector("dialog[open]")) {
      if (event.key === "Escape") event.target.blur();
    } else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/") { event.preventDefault(); search.focus(); }
  });
  document.getElementById("controls").hidden = false;
  filter();
})();

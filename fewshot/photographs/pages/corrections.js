"use strict";
(() => {
  const rows = document.getElementById("rows");
  const classes = JSON.parse(rows.dataset.classes);
  const bar = document.getElementById("corrections");
  const [status, link, forget] = ["span", "a", "button"].map((name) => bar.querySelector(name));
  const found = new Map();  // file -> class, "" for none of them
  const NONE = "\u0000none", NEW = "\u0000new";

  const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  const show = () => {
    const lines = [["file", "class"], ...found].map((row) => row.map(cell).join(","));
    link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(lines.join("\n") + "\n")}`;
    status.textContent = `${found.size} ${found.size === 1 ? "correction" : "corrections"}`;
    bar.hidden = found.size === 0;
  };

  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });

  const choose = (select, row) => {
    let value = select.value;
    if (value === NEW) {
      value = (window.prompt("Name of the new class") ?? "").trim();
      if (value && !classes.includes(value)) classes.push(value);
      if (value) select.add(option(value, value), select.options[1]);
      select.value = value;
    }
    row.classList.toggle("corrected", value !== "");
    if (value === "") found.delete(row.dataset.path);
    else found.set(row.dataset.path, value === NONE ? "" : value);
    show();
  };

  const fill = (select) => {
    if (select.options.length > 1) return;
    select.append(...classes.map((name) => option(name, name)), option(NONE, "none of these"), option(NEW, "another class…"));
  };

  for (const row of rows.children) {
    const select = document.createElement("select");
    select.className = "fix";
    select.setAttribute("aria-label", `the right class of ${row.dataset.path}`);
    select.append(option("", "It is …"));
    for (const event of ["pointerdown", "focus"]) select.addEventListener(event, () => fill(select));
    select.addEventListener("change", () => choose(select, row));
    row.querySelector(".says").append(select);
  }
  forget.addEventListener("click", () => {
    found.clear();
    for (const row of rows.children) { row.classList.remove("corrected"); row.querySelector(".fix").value = ""; }
    show();
  });
})();

// Sorts a table by the column whose heading is pressed; pressed again, the other way round.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  document.documentElement.classList.add("can-sort");
  for (const button of document.querySelectorAll("th > button.sort")) {
    button.addEventListener("click", () => sortBy(button.closest("th")));
  }
});

function sortBy(heading) {
  const wanted = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  const body = heading.closest("table").tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, key: keyOf(row.cells[heading.cellIndex]) }));
  const filled = rows.filter((entry) => entry.key.text !== "");
  const areNumbers = filled.every((entry) => !Number.isNaN(entry.key.number));
  const sign = wanted === "ascending" ? 1 : -1;
  filled.sort((a, b) => sign * compare(a.key, b.key, areNumbers));
  const empty = rows.filter((entry) => entry.key.text === ""); // last, whichever way
  body.append(...[...filled, ...empty].map((entry) => entry.row));
  for (const other of heading.parentElement.cells) {
    if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  }
  heading.setAttribute("aria-sort", wanted);
}

function keyOf(cell) {
  const text = cell ? cell.textContent.trim() : "";
  const number = cell && cell.dataset.sort !== undefined ? Number(cell.dataset.sort) : NaN;
  return { text, number };
}

function compare(a, b, areNumbers) {
  if (areNumbers) return a.number - b.number;
  return a.text.localeCompare(b.text, "en", { numeric: true });
}

// Gives every table a region that scrolls, headings with a scope, and buttons that sort its rows.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-article table").forEach(prepare);
  // The theme gives its arrows in the navigation no name.
  document.querySelectorAll("summary:has(.toctree-toggle)").forEach((one) => {
    one.ariaLabel = `Pages below ${one.closest("li").querySelector("a").textContent}`;
  });
});

function prepare(table, place) {
  const region = document.createElement("div");
  region.className = "table-region";
  region.tabIndex = 0;
  region.setAttribute("role", "region");
  const title = (table.caption || document.querySelector("h1")).textContent.trim();
  region.setAttribute("aria-label", `Table ${place + 1} of this page: ${title}`);
  table.replaceWith(region);
  region.append(table);
  for (const cell of table.querySelectorAll("th")) {
    cell.scope = cell.closest("thead") ? "col" : "row";
    if (!cell.textContent.trim()) cell.replaceWith(document.createElement("td"));
  }
  for (const cell of table.querySelectorAll("td")) {
    cell.classList.toggle("long", cell.textContent.length > 24 && !cell.querySelector(".origin"));
  }
  if (table.tHead?.rows.length !== 1 || table.querySelector("[rowspan], [colspan]")) return;
  for (const cell of table.tHead.querySelectorAll("th")) {
    const button = document.createElement("button");
    button.className = "sort";
    button.append(...cell.childNodes);
    button.addEventListener("click", () => sortBy(table, cell));
    cell.replaceChildren(button);
    cell.setAttribute("aria-sort", "none");
  }
}

function sortBy(table, heading) {
  const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows];
  const textOf = (row) => row.cells[heading.cellIndex].textContent.trim();
  const filled = rows.filter(textOf);
  const areNumbers = filled.every((row) => !Number.isNaN(Number.parseFloat(textOf(row))));
  filled.sort((a, b) =>
    sign * (areNumbers ? Number.parseFloat(textOf(a)) - Number.parseFloat(textOf(b))
      : textOf(a).localeCompare(textOf(b), "en")));
  table.tBodies[0].append(...filled, ...rows.filter((row) => !textOf(row))); // empty ones last
  table.tHead.querySelectorAll("[aria-sort]").forEach((one) => { one.ariaSort = "none"; });
  heading.setAttribute("aria-sort", order);
}

// Gives every table a region that scrolls, and buttons that sort its rows or show all of them.

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-article table").forEach(prepare);
  // The theme gives its arrows in the navigation no name.
  document.querySelectorAll("summary:has(.toctree-toggle)").forEach((one) => {
    one.ariaLabel = `Pages below ${one.closest("li").querySelector("a").textContent}`;
  });
});

function prepare(table, place) {
  const title = (table.caption || document.querySelector("h1")).textContent.trim();
  const label = `Table ${place + 1} of this page: ${title}`;
  const region = document.createElement("div");
  Object.assign(region, { className: "table-region", tabIndex: 0, role: "region", ariaLabel: label });
  table.replaceWith(region);
  region.append(table);
  const texts = [...table.querySelectorAll("td:not(:has(.origin))")];
  texts.forEach((cell) => cell.classList.toggle("long", cell.textContent.length > 24));
  const isFlat = table.tHead?.rows.length === 1 && !table.querySelector("[rowspan], [colspan]");
  shorten(region, isFlat);
  if (!isFlat) return;
  table.classList.add("flat");
  for (const cell of table.tHead.querySelectorAll("th")) {
    if (!cell.textContent.trim()) continue;
    for (const row of table.tBodies[0].rows) row.cells[cell.cellIndex].dataset.name = cell.textContent;
    const sort = { className: "sort", textContent: cell.textContent, onclick: () => sortBy(table, cell) };
    cell.replaceChildren(Object.assign(document.createElement("button"), sort));
    cell.ariaSort = "none";
  }
}

// Of a long table shows eight rows, with a verdict where there are any, and a button for the rest.
function shorten(region, isFlat) {
  const rows = [...region.querySelectorAll("tbody tr")];
  if (rows.length <= 12) return;
  const place = [...region.querySelectorAll("thead th")].findIndex((head) => /^(verdict|as in)/.test(head.textContent));
  const judged = rows.filter((row) => isFlat && row.cells[place]?.textContent.trim());
  for (const row of (judged.length ? judged : rows).slice(0, 8)) row.classList.add("first");
  region.classList.add("short");
  const onclick = () => { region.classList.remove("short"); region.focus(); };
  const more = { className: "more", textContent: `Show all ${rows.length} rows`, onclick };
  region.after(Object.assign(document.createElement("button"), more));
}

// Sorts within each unit by number; then come words, and empty cells last.
function sortBy(table, heading) {
  const sign = heading.ariaSort === "ascending" ? -1 : 1;
  const keys = [...table.tBodies[0].rows].map((row) => {
    const text = row.cells[heading.cellIndex].textContent.trim();
    const number = Number.parseFloat(text.replace(/,(?=\d{3})/g, "")); // as in "14,165 images"
    const unit = Number.isNaN(number) ? "" : text.replace(/\[.*|[-–\d.,\s]/g, "");
    return { row, text, number, unit, rank: text ? Number(Number.isNaN(number)) : 2 };
  });
  keys.sort((a, b) => a.rank - b.rank || a.unit.localeCompare(b.unit)
    || sign * (a.number - b.number || a.text.localeCompare(b.text, "en")));
  table.tBodies[0].append(...keys.map(({ row }) => row));
  table.parentElement.classList.remove("short");
  table.tHead.querySelectorAll("[aria-sort]").forEach((one) => { one.ariaSort = "none"; });
  heading.ariaSort = sign > 0 ? "ascending" : "descending";
}

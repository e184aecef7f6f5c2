// Sorting on every column, and a filter over rows. What has no number goes last, whichever way the rest is sorted.

function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    const button = make("button", { type: "button" }, cell.textContent);
    cell.replaceChildren(button);
    cell.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortBy(table, original, column));
  });
}

function sortBy(table, original, column) {
  const heads = [...table.tHead.rows[0].cells];
  const numeric = original.some((row) => row.cells[column].dataset.sort !== undefined);
  const order = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
  const now = heads[column].getAttribute("aria-sort");
  const next = now === "none" ? order[0] : order[(order.indexOf(now) + 1) % 3];
  heads.forEach((head, place) => head.setAttribute("aria-sort", place === column ? next : "none"));
  const sign = next === "descending" ? -1 : 1;
  const key = (row) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent;
    return cell.dataset.sort === undefined ? null : Number(cell.dataset.sort);
  };
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
  };
  table.tBodies[0].append(...(next === "none" ? original : [...original].sort(compare)));
}

function filterRows(table, text, count) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) {
    const content = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => content.includes(word));
  }
  const shown = rows.filter((row) => !row.hidden).length;
  count.textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
}

function withFilter(table, id) {
  const count = make("span", { role: "status" });
  const box = make("input", { type: "search", id, placeholder: "Filter rows, such as: dissl", "aria-label": "Filter rows" });
  box.addEventListener("input", () => filterRows(table, box.value, count));
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    box.value = "";
    filterRows(table, "", count);
  });
  filterRows(table, "", count);
  return make("div", { class: "controls" }, box, count);
}

// The results' own table: swatches of the arms, and rows that the legend has switched off are dimmed.
function dressResults(table) {
  for (const line of table.tBodies[0].rows) {
    const row = page.run.rows[Number(line.dataset.row)];
    const mark = swatch(colourOf(row));
    Object.assign(mark.style, { display: "inline-block", marginRight: ".5rem" });
    line.cells[0].prepend(mark);
  }
  dimHidden();
}

function dimHidden() {
  for (const line of document.querySelectorAll("#results tbody tr[data-row], #table tbody tr[data-row]")) {
    const row = page.run.rows[Number(line.dataset.row)];
    line.classList.toggle("off", row !== undefined && page.hidden.has(row.name));
  }
}

function startTables() {
  for (const table of document.querySelectorAll("table")) {
    sortable(table);
    if (table.tBodies[0].rows.length > 3 && table.tBodies[0].rows[0].cells.length > 1) {
      table.parentElement.before(withFilter(table, `filter-${table.id}`));
    }
  }
  dressResults(document.querySelector("#table table"));
  onChange(dimHidden);
}

// A fresh table of a run that is under way, sorted and filtered as the one before.
function replaceResults(html) {
  const before = document.querySelector("#table table");
  const heads = [...before.tHead.rows[0].cells].map((head) => head.getAttribute("aria-sort"));
  const filter = document.getElementById("filter-results-table")?.value ?? "";
  const fresh = new DOMParser().parseFromString(html, "text/html").querySelector("table");
  const place = before.parentElement;
  const focused = place.contains(document.activeElement) || document.activeElement?.id === "filter-results-table";
  if (focused) return; // whoever types or tabs there is not to lose the place
  before.replaceWith(fresh);
  sortable(fresh);
  const column = heads.findIndex((sort) => sort !== "none");
  const button = fresh.tHead.rows[0].cells[column]?.querySelector("button");
  for (let clicks = 0; button && clicks < 3 && button.parentElement.getAttribute("aria-sort") !== heads[column]; clicks++) {
    button.click();
  }
  place.previousElementSibling?.remove();
  if (fresh.tBodies[0].rows.length > 3) {
    const controls = withFilter(fresh, "filter-results-table");
    place.before(controls);
    controls.querySelector("input").value = filter;
    controls.querySelector("input").dispatchEvent(new Event("input"));
  }
  dressResults(fresh);
}

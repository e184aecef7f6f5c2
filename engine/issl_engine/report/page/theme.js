// Light, dark, or as the system says; the choice is kept where the browser lets a page keep something.

const THEMES = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" };

function keptTheme() {
  try {
    return localStorage.getItem("issl-theme") ?? "auto";
  } catch {
    return "auto";
  }
}

function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("issl-theme", name);
  } catch {
    // A browser that keeps nothing shows the choice until the page is closed.
  }
  document.dispatchEvent(new Event("theme"));
}

function themeButton() {
  const names = Object.keys(THEMES);
  let current = names.includes(keptTheme()) ? keptTheme() : "auto";
  setTheme(current);
  const button = make("button", { type: "button", id: "theme" }, THEMES[current]);
  button.addEventListener("click", () => {
    current = names[(names.indexOf(current) + 1) % names.length];
    button.textContent = THEMES[current];
    setTheme(current);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));
  return button;
}

const legend = { themes: null, names: "" };

function startLegend() {
  legend.themes = themeButton();
  fillLegend();
}

// Again only where there are other arms than before: whoever tabs through the chips keeps the place.
function fillLegend() {
  const names = page.run.rows.map((row) => row.name).join("\n");
  if (names === legend.names) return;
  legend.names = names;
  const chips = page.run.rows.map((row) => legendChip(row));
  document.getElementById("legend").replaceChildren(...chips, legend.themes);
}

function legendChip(row) {
  const chip = make("button", { type: "button", class: "chip" }, swatch(colourOf(row)), row.name);
  chip.title = `Show or hide ${row.name}; with Shift, show it alone`;
  const paint = () => chip.setAttribute("aria-pressed", String(!page.hidden.has(row.name)));
  chip.addEventListener("click", (event) => {
    const others = page.run.rows.map((other) => other.name).filter((name) => name !== row.name);
    if (event.shiftKey) page.hidden = new Set(others);
    else if (!page.hidden.delete(row.name)) page.hidden.add(row.name);
    changed();
  });
  onChange(paint);
  paint();
  return chip;
}

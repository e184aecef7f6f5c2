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

function startLegend() {
  const legend = document.getElementById("legend");
  const theme = themeButton();
  const fill = () => {
    const chips = page.run.rows.map((row) => {
      const chip = toggle("", !page.hidden.has(row.name), (shown) => {
        if (shown) page.hidden.delete(row.name);
        else page.hidden.add(row.name);
        changed();
      }, "chip");
      chip.append(swatch(colourOf(row)), row.name);
      chip.title = `Show or hide ${row.name}; with Shift, show it alone`;
      chip.addEventListener("click", (event) => {
        if (!event.shiftKey) return;
        page.hidden = new Set(page.run.rows.map((other) => other.name).filter((name) => name !== row.name));
        fill();
        changed();
      });
      return chip;
    });
    legend.replaceChildren(...chips, theme);
  };
  fill();
}

// What the page shows, and how its elements are made. Text only ever becomes text nodes, so that no name can be markup.

const page = {
  run: JSON.parse(document.getElementById("run-data").textContent),
  hidden: new Set(),
  listeners: [],
};
document.documentElement.classList.add("js");

function onChange(listener) {
  page.listeners.push(listener);
}

function changed() {
  for (const listener of page.listeners) listener();
}

function visibleRows() {
  return page.run.rows.filter((row) => !page.hidden.has(row.name));
}

function visibleArms() {
  return visibleRows().filter((row) => !row.control);
}

const NUM_HUES = 8;

function hueOf(index) {
  return `var(--hue-${index % NUM_HUES})`;
}

function colourOf(row) {
  return row.control ? "var(--control)" : hueOf(row.index);
}

// Lines of arms beyond the eighth share a hue, and differ by their dashes.
function dashOf(row) {
  return ["", "6 3", "2 3", "8 3 2 3"][Math.floor(row.index / NUM_HUES) % 4];
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") Object.assign(element.style, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function swatch(colour) {
  return make("span", { class: "swatch", style: { background: colour }, "aria-hidden": "true" });
}

function toggle(title, pressed, change, kind = "toggle") {
  const button = make("button", { type: "button", class: kind, "aria-pressed": String(pressed) }, title);
  button.addEventListener("click", () => {
    const now = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(now));
    change(now);
  });
  return button;
}

function choice(title, options, chosen, change) {
  const select = make("select", {});
  for (const [value, text] of options) select.append(make("option", { value }, text));
  select.value = chosen;
  select.addEventListener("change", () => change(select.value));
  return make("label", {}, title, select);
}

// One of several, as buttons side by side.
function segmented(title, options, chosen, change) {
  const group = make("span", { class: "segmented", role: "group", "aria-label": title });
  for (const [value, text] of options) {
    const button = make("button", { type: "button", "aria-pressed": String(value === chosen) }, text);
    button.addEventListener("click", () => {
      for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
      change(value);
    });
    group.append(button);
  }
  return group;
}

function shortNumber(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return Number(value.toPrecision(3)).toExponential();
  return String(Number(value.toPrecision(4)));
}

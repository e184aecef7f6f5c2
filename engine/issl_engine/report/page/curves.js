// Curves of what training logged: seeds thin, their mean thick.

const FIRST_CURVES = [
  ["loss", "Loss"],
  ["online_top1", "Online probe, top-1 % of augmented crops"],
  ["gradient_norm", "Norm of the gradient"],
  ["images_per_second", "Images a second"],
];
const X_AXES = [["epoch", "epoch"], ["step", "step"], ["seconds", "minutes"]];
const WINDOWS = [1, 3, 5, 9, 17, 33, 65];
const view = { x: "epoch", log: false, window: 1, panels: null, further: null };

function smoothed(values, window) {
  if (window === 1) return values;
  return values.map((value, place) => {
    const part = values.slice(Math.max(0, place - window + 1), place + 1).filter((one) => one !== null);
    return value === null || !part.length ? null : part.reduce((a, b) => a + b, 0) / part.length;
  });
}

function xOf(seed) {
  const values = seed.curves[view.x] ?? [];
  return view.x === "seconds" ? values.map((value) => value / 60) : values;
}

function meanLine(seeds, key) {
  const sums = new Map();
  for (const seed of seeds) {
    const [x, y] = [xOf(seed), smoothed(seed.curves[key], view.window)];
    (seed.curves.step ?? x).forEach((step, place) => {
      if (x[place] === null || y[place] === null) return;
      const sum = sums.get(step) ?? [0, 0, 0];
      sums.set(step, [sum[0] + x[place], sum[1] + y[place], sum[2] + 1]);
    });
  }
  const whole = [...sums.values()].filter((sum) => sum[2] === seeds.length);
  return (whole.length ? whole : [...sums.values()]).map(([x, y, count]) => [x / count, y / count]).sort((a, b) => a[0] - b[0]);
}

function linesOf(row, key) {
  const seeds = row.seeds.filter((seed) => seed.curves[key]);
  if (!seeds.length) return [];
  const look = { name: row.name, colour: colourOf(row), dash: dashOf(row) };
  const line = (seed, window, kind) => {
    const [x, y] = [xOf(seed), smoothed(seed.curves[key], window)];
    return { ...look, kind, dash: "", points: x.map((value, place) => [value, y[place]]) };
  };
  const thin = seeds.length > 1 ? seeds.map((seed) => line(seed, view.window, "seed")) : [];
  const raw = seeds.length === 1 && view.window > 1 ? [line(seeds[0], 1, "raw")] : [];
  return [...raw, ...thin, { ...look, kind: "mean", points: meanLine(seeds, key) }];
}

function collapseLine(row) {
  const value = row.seeds[0]?.curves.collapse_loss?.at(-1);
  return value === undefined || value === null ? [] : [{ name: "collapse", kind: "level", points: [[0, value]] }];
}

function curveSpec(title, key, rows, levels = []) {
  const xTitle = X_AXES.find(([name]) => name === view.x)[1];
  return { title, xTitle, log: view.log, lines: [...rows.flatMap((row) => linesOf(row, key)), ...levels] };
}

function loggedKeys() {
  const keys = new Set();
  for (const row of page.run.rows) for (const seed of row.seeds) Object.keys(seed.curves).forEach((key) => keys.add(key));
  return [...keys];
}

function curveControls(redraw) {
  const smoothing = make("input", { type: "range", min: 0, max: WINDOWS.length - 1, value: WINDOWS.indexOf(view.window), "aria-label": "Smoothing" });
  const shown = make("span", {}, `mean of ${view.window}`);
  smoothing.addEventListener("input", () => {
    view.window = WINDOWS[Number(smoothing.value)];
    shown.textContent = `mean of ${view.window}`;
    redraw();
  });
  return make("div", { class: "controls" },
    choice("over", X_AXES, view.x, (value) => { view.x = value; redraw(); }),
    toggle("log scale", view.log, (on) => { view.log = on; redraw(); }),
    toggle("one loss panel per arm", apart(), (on) => { view.panels = on; redraw(); }),
    make("label", {}, "smoothing", smoothing, shown));
}

// Losses of different objectives do not compare, so each has its own panel until the reader wants otherwise.
function apart() {
  return view.panels ?? new Set(page.run.rows.filter((row) => !row.control).map((row) => row.objective)).size > 1;
}

function lossCards() {
  const objectives = new Set(visibleArms().map((row) => row.objective));
  if (!apart()) {
    const note = objectives.size > 1 ? "losses of different objectives do not compare" : "";
    const levels = visibleArms().length === 1 ? collapseLine(visibleArms()[0]) : [];
    return [chartCard("Loss", note, () => curveSpec("Loss", "loss", visibleArms(), levels))];
  }
  return visibleArms().map((row) => {
    const title = `Loss of ${row.name}`;
    return chartCard(title, row.objective === row.name ? "" : row.objective, () => ({ ...curveSpec(title, "loss", [row], collapseLine(row)), height: 190 }));
  });
}

function furtherCard(redraw) {
  const known = new Set([...FIRST_CURVES.map(([key]) => key), ...X_AXES.map(([key]) => key)]);
  const keys = loggedKeys().filter((key) => !known.has(key) && !key.startsWith("diagnostics."));
  if (!keys.length) return [];
  if (!keys.includes(view.further)) view.further = keys[0];
  const card = chartCard(choice("", keys.map((key) => [key, key]), view.further, (key) => {
    view.further = key;
    redraw();
    document.querySelector("#curves .card select").focus(); // it was made anew
  }), "any other value that was logged",
    () => curveSpec(view.further, view.further, visibleArms()));
  card.querySelector("select").setAttribute("aria-label", "Which value");
  return [card];
}

function startCurves() {
  const place = document.getElementById("curves");
  if (!place) return;
  const losses = make("div", { class: "grid small" });
  const others = make("div", { class: "grid" });
  const redraw = () => {
    const keys = new Set(loggedKeys());
    const cards = keys.has("loss") ? lossCards() : [];
    losses.replaceChildren(...(apart() ? cards : []));
    others.replaceChildren(
      ...(apart() ? [] : cards),
      ...FIRST_CURVES.slice(1).filter(([key]) => keys.has(key)).map(([key, title]) => chartCard(title, "", () => curveSpec(title, key, visibleArms()))),
      ...furtherCard(redraw));
    drawDiagnosticCurves();
  };
  const every = Math.max(1, ...page.run.rows.flatMap((row) => row.seeds.map((seed) => seed.every)));
  const thinned = every > 1 ? make("p", { class: "hint" }, `Every ${every}th logged line is drawn.`) : null;
  place.replaceChildren(...[curveControls(redraw), thinned, losses, others].filter(Boolean));
  redraw();
  onChange(redraw);
}

// What the probes say: a dot for the mean, a bar for the 95 % interval, one ring per seed or draw, controls as dashed lines.

const FIRST_SCORES = 4;
let allScores = false;

function scoreCard(column, place) {
  const host = make("div", { class: "chart" });
  const card = make("div", { class: "card" }, make("h4", {}, column.title), host);
  let width = 0;
  new ResizeObserver(() => {
    if (host.clientWidth === width || !host.clientWidth) return;
    width = host.clientWidth;
    drawScores(host, column, place);
  }).observe(host);
  return card;
}

function drawScores(host, column, place) {
  const rows = visibleRows().map((row) => ({ row, score: row.scores[place] })).filter(({ score }) => score && score.mean !== null);
  const arms = rows.filter(({ row }) => !row.control);
  const controls = rows.filter(({ row }) => row.control);
  host.replaceChildren();
  if (!rows.length) {
    host.append(make("p", { class: "hint" }, "Not probed yet, or switched off in the legend."));
    return;
  }
  const width = host.clientWidth;
  const names = Math.min(0.38 * width, Math.max(60, ...arms.map(({ row }) => row.name.length * 7)));
  const top = controls.length ? 16 + 13 * controls.length : 8;
  const plot = { left: names + 10, right: width - 14, top, bottom: top + arms.length * 30 };
  const all = rows.flatMap(({ score }) => [score.mean, ...(score.ends ?? []), ...score.dots]);
  let [low, high] = extent(all);
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  [low, high] = [low - pad, high + pad];
  const x = scale(low, high, plot.left, plot.right, false);
  const height = plot.bottom + 24;
  const label = rows.map(({ row, score }) => `${row.name} ${score.text}`).join(", ");
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${column.title}: ${label}` });
  for (const tick of niceTicks(low, high, (plot.right - plot.left) / 60)) {
    svg.append(
      draw("line", { class: "rule", x1: x(tick), x2: x(tick), y1: plot.top, y2: plot.bottom }),
      draw("text", { x: x(tick), y: plot.bottom + 16, "text-anchor": "middle" }, shortNumber(tick)),
    );
  }
  controls.forEach(({ row, score }, line) => {
    const at = x(score.mean);
    const anchor = at + 6 * `${row.name} ${score.text}`.length > plot.right ? "end" : "start";
    svg.append(
      draw("line", { x1: at, x2: at, y1: 10 + 13 * line, y2: plot.bottom, "stroke-dasharray": line ? "2 3" : "6 3", style: { stroke: "var(--control)" } }),
      draw("text", { x: at + (anchor === "end" ? -5 : 5), y: 16 + 13 * line, "text-anchor": anchor }, `${row.name} ${score.text}`),
    );
  });
  arms.forEach(({ row, score }, line) => svg.append(scoreLine(row, score, x, plot, plot.top + 15 + line * 30)));
  host.append(svg);
}

function scoreLine(row, score, x, plot, middle) {
  const colour = colourOf(row);
  const group = draw("g", {}, draw("title", {}, `${row.name}: ${score.text}`));
  const cut = (plot.left - 20) / 6.6;
  const name = row.name.length > cut ? `${row.name.slice(0, cut - 1)}…` : row.name;
  group.append(draw("text", { class: "strong", x: plot.left - 10, y: middle + 4, "text-anchor": "end" }, name));
  if (score.ends) {
    group.append(draw("line", { x1: x(score.ends[0]), x2: x(score.ends[1]), y1: middle, y2: middle, "stroke-linecap": "round", style: { stroke: colour, strokeWidth: 5, opacity: 0.35 } }));
  }
  if (score.dots.length > 1) {
    for (const dot of score.dots) group.append(draw("circle", { cx: x(dot), cy: middle, r: 3, style: { fill: "var(--card)", stroke: colour, strokeWidth: 1.4 } }));
  }
  group.append(draw("circle", { cx: x(score.mean), cy: middle, r: 5, style: { fill: colour } }));
  const right = x(score.mean) + 7 * score.text.length > plot.right;
  group.append(draw("text", { class: "strong", x: x(score.mean) + (right ? -9 : 9), y: middle - 8, "text-anchor": right ? "end" : "start" }, score.text));
  return group;
}

function startScores() {
  const place = document.getElementById("scores");
  const fill = () => {
    const columns = page.run.columns;
    const shown = allScores ? columns : columns.slice(0, FIRST_SCORES);
    const grid = make("div", { class: "grid" }, ...shown.map((column, index) => scoreCard(column, index)));
    const more = columns.length > shown.length
      ? make("button", { type: "button", onclick: () => { allScores = true; fill(); } }, `Show all ${columns.length} columns`)
      : null;
    place.replaceChildren(grid, ...(more ? [more] : []));
  };
  fill();
  onChange(fill);
}

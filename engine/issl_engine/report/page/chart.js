// A line chart as SVG, drawn anew for the width that it has, with a read-out at the pointer or the arrow keys' place.

const MARGIN = { left: 52, right: 12, top: 8, bottom: 34 };

function niceTicks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.ceil(low / step);
  const number = Math.min(100, Math.floor(high / step + 1e-9) - first + 1);
  return Array.from({ length: Math.max(0, number) }, (_, place) => Number(((first + place) * step).toPrecision(12)));
}

function logTicks(low, high) {
  const ticks = [];
  const factors = Math.log10(high / low) > 2 ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of factors) ticks.push(Number((factor * 10 ** power).toPrecision(6)));
  }
  const inside = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  const every = Math.ceil(inside.length / 7);
  return inside.filter((_, place) => place % every === 0);
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function scale(low, high, from, to, log) {
  const map = log ? Math.log10 : (value) => value;
  const [a, b] = [map(low), map(high)];
  return (value) => from + ((map(value) - a) / (b - a || 1)) * (to - from);
}

function usable(line, log) {
  return line.points.filter(([x, y]) => x !== null && y !== null && (!log || y > 0));
}

// spec: { title, note, xTitle, log, height, lines: [{ name, colour, dash, kind, points: [[x, y], ...] }] }, where kind is
// mean (thick, read out), seed or raw (thin), or level (a dashed horizontal line at points[0][1]).
function drawChart(host, spec) {
  const width = host.clientWidth || 320;
  const height = spec.height ?? 230;
  const lines = spec.lines.map((line) => ({ ...line, points: usable(line, spec.log) })).filter((line) => line.points.length);
  const curves = lines.filter((line) => line.kind !== "level");
  host.replaceChildren();
  if (!curves.length) {
    host.append(make("p", { class: "hint" }, spec.log ? "No positive values, so no logarithmic scale." : "Nothing logged for the arms shown."));
    return;
  }
  const [x0, x1] = extent(curves.flatMap((line) => line.points.map((point) => point[0])));
  let [y0, y1] = extent(lines.flatMap((line) => line.points.map((point) => point[1])));
  // The mean of equal numbers may differ in its last bit, and an axis cannot show that.
  if (y1 - y0 <= Math.abs(y1) * 1e-9) [y0, y1] = spec.log ? [y0 / 2, y1 * 2] : [y0 - Math.abs(y0 || 1) * 0.1, y1 + Math.abs(y1 || 1) * 0.1];
  if (!spec.log) [y0, y1] = [y0 - (y1 - y0) * 0.04, y1 + (y1 - y0) * 0.04];
  const plot = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const x = scale(x0, x1, plot.left, plot.right, false);
  const y = scale(y0, y1, plot.bottom, plot.top, spec.log);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: "0", "aria-label": describe(spec, curves) });
  drawAxes(svg, plot, { x, y, x0, x1, y0, y1 }, spec);
  for (const line of lines) svg.append(drawLine(line, x, y, plot));
  host.append(svg);
  addReadout(host, svg, curves.filter((line) => line.kind === "mean"), { x, y, plot }, spec);
}

function describe(spec, curves) {
  const ends = curves.filter((line) => line.kind === "mean").map((line) => `${line.name} ends at ${shortNumber(line.points.at(-1)[1])}`);
  return `${spec.title} over ${spec.xTitle}: ${ends.join(", ")}. Arrow keys read values.`;
}

function drawAxes(svg, plot, { x, y, x0, x1, y0, y1 }, spec) {
  const ticks = spec.log ? logTicks(y0, y1) : niceTicks(y0, y1, 5);
  for (const tick of ticks) {
    svg.append(
      draw("line", { class: "rule", x1: plot.left, x2: plot.right, y1: y(tick), y2: y(tick) }),
      draw("text", { x: plot.left - 7, y: y(tick) + 4, "text-anchor": "end" }, shortNumber(tick)),
    );
  }
  for (const tick of niceTicks(x0, x1 === x0 ? x0 + 1 : x1, Math.max(4, (plot.right - plot.left) / 75))) {
    if (tick > x1) continue;
    svg.append(draw("text", { x: x(tick), y: plot.bottom + 16, "text-anchor": "middle" }, shortNumber(tick)));
  }
  svg.append(draw("text", { x: plot.right, y: plot.bottom + 31, "text-anchor": "end" }, spec.xTitle));
}

function drawLine(line, x, y, plot) {
  if (line.kind === "level") {
    const height = y(line.points[0][1]);
    return draw("g", {},
      draw("line", { x1: plot.left, x2: plot.right, y1: height, y2: height, "stroke-dasharray": "5 4", style: { stroke: "var(--soft)" } }),
      draw("text", { x: plot.right, y: height - 5, "text-anchor": "end" }, line.name));
  }
  const path = line.points.map(([a, b], place) => `${place ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const look = { mean: [2.2, 1], seed: [1, 0.45], raw: [1, 0.25] }[line.kind];
  const style = { stroke: line.colour, strokeWidth: look[0], opacity: look[1] };
  if (line.points.length === 1) {
    const [[a, b]] = line.points;
    return draw("circle", { cx: x(a), cy: y(b), r: 3, style: { fill: line.colour, opacity: look[1] } });
  }
  return draw("path", { d: path, fill: "none", "stroke-linejoin": "round", "stroke-dasharray": line.dash || null, style });
}

function nearestPoint(points, at) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < at) low = middle;
    else high = middle;
  }
  return Math.abs(points[low][0] - at) <= Math.abs(points[high][0] - at) ? points[low] : points[high];
}

function addReadout(host, svg, means, { x, y, plot }, spec) {
  if (!means.length) return;
  const box = make("div", { class: "readout", "aria-live": "polite", hidden: "" });
  const marks = draw("g", {});
  svg.append(marks);
  host.append(box);
  const longest = means.reduce((a, b) => (b.points.length > a.points.length ? b : a)).points;
  let place = null;
  const hide = () => {
    box.hidden = true;
    marks.replaceChildren();
    place = null;
  };
  const show = (index) => {
    place = Math.max(0, Math.min(longest.length - 1, index));
    const at = longest[place][0];
    const found = means.map((line) => [line, nearestPoint(line.points, at)]).sort((a, b) => b[1][1] - a[1][1]);
    marks.replaceChildren(
      draw("line", { class: "cursor", x1: x(at), x2: x(at), y1: plot.top, y2: plot.bottom }),
      ...found.map(([line, point]) => draw("circle", { cx: x(point[0]), cy: y(point[1]), r: 3.5, style: { fill: line.colour } })),
    );
    box.replaceChildren(
      make("div", {}, `${spec.xTitle} ${shortNumber(at)}`),
      ...found.map(([line, point]) => make("div", {}, swatch(line.colour), line.name, make("span", { class: "value" }, shortNumber(point[1])))),
    );
    box.hidden = false;
    const ratio = svg.clientWidth / Number(svg.getAttribute("viewBox").split(" ")[2]);
    const left = svg.offsetLeft ?? 0;
    const right = x(at) * ratio > svg.clientWidth / 2;
    box.style.left = right ? "" : `${left + x(at) * ratio + 14}px`;
    box.style.right = right ? `${svg.clientWidth - x(at) * ratio + 14}px` : "";
    box.style.top = `${plot.top}px`;
  };
  svg.addEventListener("pointermove", (event) => {
    const bounds = svg.getBoundingClientRect();
    const at = (event.clientX - bounds.left) * (Number(svg.getAttribute("viewBox").split(" ")[2]) / bounds.width);
    let [best, distance] = [0, Infinity];
    longest.forEach(([value], index) => {
      const away = Math.abs(x(value) - at);
      if (away < distance) [best, distance] = [index, away];
    });
    show(best);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") hide();
    if (!(event.key in moves)) return;
    event.preventDefault();
    show(place === null ? (moves[event.key] < 0 ? longest.length - 1 : 0) : place + moves[event.key]);
  });
}

// A card whose chart is drawn for its width, and again when that changes; spec is asked for anew each time.
function chartCard(title, note, spec) {
  const host = make("div", { class: "chart", style: { position: "relative" } });
  const card = make("div", { class: "card" }, make("h4", {}, title, note ? make("small", {}, note) : null), host);
  let width = 0;
  new ResizeObserver(() => {
    if (host.clientWidth === width || !host.clientWidth) return;
    width = host.clientWidth;
    drawChart(host, spec());
  }).observe(host);
  return card;
}

// Diagnostics: their curves while training ran, and the spectra that it ended with.

function drawDiagnosticCurves() {
  const place = document.getElementById("diagnostic-curves");
  if (!place) return;
  const keys = loggedKeys().filter((key) => key.startsWith("diagnostics."));
  const cards = keys.map((key) => {
    const title = key.slice("diagnostics.".length);
    return chartCard(title, "", () => ({ ...curveSpec(title, key, visibleArms()), height: 190 }));
  });
  const nothing = !cards.length && !document.querySelector("#measures-table, #spectra > *");
  const heading = cards.length ? [make("h3", {}, "While training")] : nothing ? [make("p", { class: "hint" }, "Nothing yet.")] : [];
  place.replaceChildren(...heading, make("div", { class: "grid small" }, ...cards));
}

function spectrumSpec(name, log) {
  const lines = visibleArms().flatMap((row) => {
    const spectra = row.seeds.map((seed) => seed.spectra[name]).filter(Boolean);
    if (!spectra.length) return [];
    const look = { name: row.name, colour: colourOf(row), dash: dashOf(row) };
    const thin = spectra.length > 1
      ? spectra.map((values) => ({ ...look, dash: "", kind: "seed", points: values.map((value, place) => [place + 1, value]) }))
      : [];
    const length = Math.min(...spectra.map((values) => values.length));
    const mean = Array.from({ length }, (_, place) => [place + 1, spectra.reduce((sum, values) => sum + values[place], 0) / spectra.length]);
    return [...thin, { ...look, kind: "mean", points: mean }];
  });
  return { title: `Spectrum of ${name}`, xTitle: "singular value", log, lines };
}

function startSpectra() {
  const place = document.getElementById("spectra");
  if (!place) return;
  let log = true;
  const grid = make("div", { class: "grid" });
  const fill = () => {
    const names = new Set(page.run.rows.flatMap((row) => row.seeds.flatMap((seed) => Object.keys(seed.spectra))));
    if (names.size && !grid.isConnected) {
      const controls = make("div", { class: "controls" }, toggle("log scale", log, (on) => { log = on; fill(); }));
      place.replaceChildren(make("h3", {}, "Spectra after training"), controls, grid);
    }
    grid.replaceChildren(...[...names].map((name) => chartCard(`Spectrum: ${name}`, "singular values over their sum", () => spectrumSpec(name, log))));
  };
  fill();
  onChange(fill);
}

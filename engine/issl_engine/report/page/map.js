// Feature maps side by side: pointing at an image shows it in all of them, picking it shows its nearest neighbours.

const MOST_CHIPS = 40;

function thumbnail(sprite, image, side) {
  const canvas = make("canvas", { class: "thumb", width: sprite.side, height: sprite.side, role: "img", "aria-label": className(sprite, image) });
  Object.assign(canvas.style, { width: `${side}px`, height: `${side}px` });
  const left = (image % sprite.columns) * sprite.side;
  const top = Math.floor(image / sprite.columns) * sprite.side;
  sprite.ready.then(() => {
    canvas.getContext("2d").drawImage(sprite.picture, left, top, sprite.side, sprite.side, 0, 0, sprite.side, sprite.side);
    canvas.dataset.drawn = "";
  });
  return canvas;
}

function className(sprite, image) {
  return sprite.classes[sprite.labels[image]] ?? "no class";
}

function classMark(label) {
  const { hue, shape } = classLook(label);
  const shapes = {
    circle: ["circle", { cx: 6, cy: 6, r: 5 }],
    square: ["rect", { x: 1.5, y: 1.5, width: 9, height: 9 }],
    triangle: ["path", { d: "M6 .6 11.4 10.4H.6Z" }],
    diamond: ["path", { d: "M6 0 11.2 6 6 12 .8 6Z" }],
  };
  const [tag, attributes] = shapes[shape];
  return draw("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, draw(tag, { ...attributes, style: { fill: hue === null ? "var(--control)" : `var(--hue-${hue})` } }));
}

function startMap() {
  const place = document.getElementById("feature-map");
  const data = JSON.parse(document.getElementById("map-data").textContent);
  if (!place || !data.maps.length) return;
  for (const sprite of Object.values(data.sprites)) {
    sprite.picture = new Image();
    sprite.picture.src = sprite.src;
    sprite.ready = sprite.picture.decode();
  }
  const box = make("div", { class: "readout", id: "map-readout", hidden: "", "aria-live": "polite" });
  const picked = make("div", { class: "picked", id: "picked", "aria-live": "polite" });
  const grid = make("div", { class: "maps" });
  const shared = { projection: "pca", picked: null, pickedSprite: null, pointed: null, onlyClass: null };
  const panels = data.maps.map((map) => new MapPanel(map, page.run.rows[map.row], data.sprites[map.sprite], shared));
  const shown = () => panels.filter((panel) => !page.hidden.has(panel.row.name));
  const redraw = () => shown().forEach((panel) => panel.redraw());
  shared.point = (panel, image) => {
    if (image === shared.pointed) return;
    shared.pointed = image;
    shown().forEach((one) => one.overlay());
    showReadout(box, panel, image);
  };
  shared.pick = (image, sprite) => {
    shared.picked = image;
    shared.pickedSprite = sprite;
    shown().forEach((one) => one.overlay());
    showPicked(picked, panels, shared);
  };
  const fill = () => {
    grid.replaceChildren(...shown().map((panel) => panel.card));
  };
  document.addEventListener("theme", redraw);
  place.style.position = "relative";
  place.replaceChildren(...mapControls(place, data, shared, redraw), picked, grid, box);
  fill();
  showPicked(picked, panels, shared);
  onChange(fill);
}

function mapControls(place, data, shared, redraw) {
  const hasUmap = data.maps.some((map) => map.umap);
  const choose = hasUmap ? segmented("Projection", [["pca", "PCA"], ["umap", "UMAP"]], shared.projection, (value) => {
    shared.projection = value;
    redraw();
  }) : null;
  const hint = make("p", { class: "hint" },
    "The same test images in each panel, by their features on the unit sphere; one colour and shape per class, which its button shows alone. ",
    hasUmap ? "" : place.dataset.noUmap);
  const sprite = Object.values(data.sprites)[0];
  return [hint, ...(choose ? [make("div", { class: "controls" }, choose)] : []), classLegend(sprite, shared, redraw)];
}

// One chip per class, to show it alone; a list to choose from where there are too many for chips.
function classLegend(sprite, shared, redraw) {
  const only = (label) => {
    shared.onlyClass = label;
    redraw();
  };
  const legend = make("div", { class: "classes", role: "group", "aria-label": "Show one class alone" });
  if (sprite.classes.length > MOST_CHIPS) {
    const options = [["", "all classes"], ...sprite.classes.map((name, label) => [String(label), name])];
    legend.append(choice("class", options, "", (value) => only(value === "" ? null : Number(value))));
    return legend;
  }
  const chips = sprite.classes.map((name, label) => {
    const chip = make("button", { type: "button", class: "chip", "aria-pressed": "true" }, classMark(label), name);
    chip.addEventListener("click", () => {
      const alone = shared.onlyClass !== label;
      only(alone ? label : null);
      chips.forEach((other, place) => other.setAttribute("aria-pressed", String(!alone || place === label)));
    });
    return chip;
  });
  legend.append(...chips);
  return legend;
}

function showReadout(box, panel, image) {
  if (image === null) {
    box.hidden = true;
    return;
  }
  const [x, y] = panel.at(image);
  const label = panel.sprite.labels[image];
  const near = panel.neighboursOf(image);
  const same = near.filter((one) => panel.sprite.labels[one.image] === label).length;
  box.replaceChildren(
    thumbnail(panel.sprite, image, 112),
    make("div", {}, make("strong", {}, className(panel.sprite, image))),
    make("div", {}, `${same} of ${near.length} nearest share it`));
  box.hidden = false;
  const area = box.parentElement.getBoundingClientRect();
  const canvas = panel.canvas.getBoundingClientRect();
  const left = canvas.left - area.left + x;
  const flipped = left + 190 > area.width;
  box.style.left = flipped ? "" : `${left + 16}px`;
  box.style.right = flipped ? `${area.width - left + 16}px` : "";
  box.style.top = `${canvas.top - area.top + Math.max(0, y - 60)}px`;
}

// The picked image above the panels, and in each panel its neighbours there.
function showPicked(place, panels, shared) {
  const image = shared.picked;
  for (const panel of panels) {
    const able = image !== null && panel.map.sprite === shared.pickedSprite;
    panel.near.replaceChildren(...(able ? neighbours(panel, image, shared) : []));
  }
  if (image === null) {
    place.replaceChildren(make("p", {}, "Point at an image to find it in every panel. Pick it (click, or arrow keys and Enter) to see its nearest neighbours."));
    return;
  }
  const { sprite } = panels.find((panel) => panel.map.sprite === shared.pickedSprite);
  const close = make("button", { type: "button", onclick: () => shared.pick(null, null) }, "Let go");
  place.replaceChildren(thumbnail(sprite, image, 64),
    make("p", {}, make("strong", {}, className(sprite, image)), make("br"), "and its nearest neighbours in each panel, by cosine in all dimensions"), close);
}

function neighbours(panel, image, shared) {
  const { sprite } = panel;
  const near = panel.neighboursOf(image);
  const label = sprite.labels[image];
  const same = near.filter((one) => sprite.labels[one.image] === label).length;
  const items = near.map((one) => {
    const alike = sprite.labels[one.image] === label;
    const name = className(sprite, one.image);
    const title = `${name}, cosine ${one.cosine.toFixed(3)}${alike ? ", the same class" : ", another class"}`;
    const button = make("button", { type: "button", class: alike ? "same" : "other", title, "aria-label": title },
      thumbnail(sprite, one.image, 56), make("span", {}, name), make("span", {}, one.cosine.toFixed(3)));
    button.addEventListener("click", () => {
      shared.pick(one.image, panel.map.sprite);
      panel.canvas.focus({ preventScroll: true }); // the button is gone
    });
    return make("li", {}, button);
  });
  return [make("p", {}, `${same} of ${near.length} share the class`), make("ol", {}, ...items)];
}

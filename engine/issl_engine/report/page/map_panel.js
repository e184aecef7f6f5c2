// One arm's map on a canvas: one mark per image, in its class's colour and shape.

const SHAPES = ["circle", "square", "triangle", "diamond"];
const PAD = 14;

function decoded(text, kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new kind(bytes.buffer);
}

// Neighbouring classes differ in colour and in shape; 8 colours and 4 shapes tell 32 classes apart.
function classLook(label) {
  if (label < 0) return { hue: null, shape: "circle" };
  return { hue: label % NUM_HUES, shape: SHAPES[(label + Math.floor(label / NUM_HUES)) % SHAPES.length] };
}

function classColours() {
  const style = getComputedStyle(document.documentElement);
  return {
    hues: Array.from({ length: NUM_HUES }, (_, hue) => style.getPropertyValue(`--hue-${hue}`).trim()),
    ink: style.getPropertyValue("--ink").trim(),
    soft: style.getPropertyValue("--control").trim(),
    card: style.getPropertyValue("--card").trim(),
  };
}

function markPath(context, shape, x, y, r) {
  context.beginPath();
  if (shape === "circle") context.arc(x, y, r, 0, 2 * Math.PI);
  else if (shape === "square") context.rect(x - r * 0.88, y - r * 0.88, r * 1.76, r * 1.76);
  else if (shape === "triangle") {
    context.moveTo(x, y - r * 1.15);
    context.lineTo(x + r * 1.1, y + r * 0.8);
    context.lineTo(x - r * 1.1, y + r * 0.8);
    context.closePath();
  } else {
    context.moveTo(x, y - r * 1.25);
    context.lineTo(x + r * 1.1, y);
    context.lineTo(x, y + r * 1.25);
    context.lineTo(x - r * 1.1, y);
    context.closePath();
  }
}

class MapPanel {
  constructor(map, row, sprite, shared) {
    Object.assign(this, { map, row, sprite, shared });
    this.places = { pca: decoded(map.pca, Uint16Array), umap: map.umap ? decoded(map.umap, Uint16Array) : null };
    this.neighbours = decoded(map.neighbours, Int16Array);
    this.cosines = decoded(map.cosines, Int16Array);
    this.count = sprite.labels.length;
    this.canvas = make("canvas", { class: "plot", tabindex: "0", role: "img", "aria-label": this.label() });
    this.note = make("small", {});
    this.near = make("div", { class: "neighbours" });
    this.card = make("div", { class: "card" }, make("h4", {}, swatch(colourOf(row)), row.name, this.note), this.canvas, this.near);
    this.base = document.createElement("canvas");
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    this.listen();
  }

  label() {
    return `Map of ${this.count} test images as ${this.row.name} represents them. Arrow keys go from image to image, Enter picks one, Escape lets go.`;
  }

  // Places on the canvas in CSS pixels.
  at(image) {
    const places = this.places[this.shared.projection] ?? this.places.pca;
    const side = this.side - 2 * PAD;
    return [PAD + (places[2 * image] / 65535) * side, this.side - PAD - (places[2 * image + 1] / 65535) * side];
  }

  neighboursOf(image) {
    const k = this.map.num_neighbours;
    return Array.from({ length: k }, (_, place) => ({
      image: this.neighbours[image * k + place],
      cosine: this.cosines[image * k + place] / 10000,
    }));
  }

  redraw() {
    this.side = this.canvas.clientWidth;
    if (!this.side) return;
    const density = window.devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.base]) canvas.width = canvas.height = Math.round(this.side * density);
    const context = this.base.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, this.side, this.side);
    const colours = classColours();
    const radius = Math.max(2.4, Math.min(4.2, this.side / 90));
    for (const dimmed of [true, false]) {
      for (let image = 0; image < this.count; image++) {
        if (this.isDimmed(image) === dimmed) this.mark(context, image, colours, radius, dimmed ? 0.12 : 0.8);
      }
    }
    const shares = this.map.explained.map((share) => `${(100 * share).toFixed(0)} %`).join(" and ");
    this.note.textContent = this.shared.projection === "pca" ? `${shares} of the variance` : "UMAP";
    this.overlay();
  }

  isDimmed(image) {
    return this.shared.onlyClass !== null && this.sprite.labels[image] !== this.shared.onlyClass;
  }

  mark(context, image, colours, radius, opacity) {
    const { hue, shape } = classLook(this.sprite.labels[image]);
    const [x, y] = this.at(image);
    markPath(context, shape, x, y, radius);
    context.globalAlpha = opacity;
    context.fillStyle = hue === null ? colours.soft : colours.hues[hue];
    context.fill();
    context.globalAlpha = opacity * 0.7;
    context.strokeStyle = colours.card;
    context.lineWidth = 0.6;
    context.stroke();
    context.globalAlpha = 1;
  }

  // What is under the pointer or picked, above the marks that are drawn once.
  overlay() {
    if (!this.side) return;
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.base, 0, 0);
    const density = window.devicePixelRatio || 1;
    context.setTransform(density, 0, 0, density, 0, 0);
    const colours = classColours();
    const { picked, pointed } = this.shared;
    if (picked !== null) {
      const [x, y] = this.at(picked);
      context.strokeStyle = colours.ink;
      context.lineWidth = 1;
      for (const { image } of this.neighboursOf(picked)) {
        const [a, b] = this.at(image);
        context.globalAlpha = 0.55;
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(a, b);
        context.stroke();
        context.globalAlpha = 1;
        this.mark(context, image, colours, 5, 1);
      }
      this.ring(context, picked, colours, 7.5, 2.4);
    }
    if (pointed !== null && pointed !== picked) this.ring(context, pointed, colours, 7, 1.6);
  }

  ring(context, image, colours, radius, width) {
    const [x, y] = this.at(image);
    this.mark(context, image, colours, 5, 1);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.lineWidth = width;
    context.strokeStyle = colours.ink;
    context.stroke();
  }

  nearest(x, y, within) {
    let [best, distance] = [null, within * within];
    for (let image = 0; image < this.count; image++) {
      if (this.isDimmed(image)) continue;
      const [a, b] = this.at(image);
      const away = (a - x) ** 2 + (b - y) ** 2;
      if (away < distance) [best, distance] = [image, away];
    }
    return best;
  }

  // The nearest image within a right angle around the arrow's direction.
  beside(image, [dx, dy]) {
    const [x, y] = this.at(image);
    let [best, distance] = [null, Infinity];
    for (let other = 0; other < this.count; other++) {
      if (other === image || this.isDimmed(other)) continue;
      const [a, b] = this.at(other);
      const along = (a - x) * dx + (b - y) * dy;
      const across = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      if (along <= 0 || across > along) continue;
      if (along + across < distance) [best, distance] = [other, along + across];
    }
    return best;
  }

  listen() {
    this.canvas.addEventListener("pointermove", (event) => {
      const bounds = this.canvas.getBoundingClientRect();
      this.shared.point(this, this.nearest(event.clientX - bounds.left, event.clientY - bounds.top, 14));
    });
    this.canvas.addEventListener("pointerleave", () => this.shared.point(this, null));
    this.canvas.addEventListener("blur", () => this.shared.point(this, null));
    this.canvas.addEventListener("click", (event) => {
      const bounds = this.canvas.getBoundingClientRect();
      this.shared.pick(this.nearest(event.clientX - bounds.left, event.clientY - bounds.top, 20), this.map.sprite);
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const now = this.shared.pointed ?? this.shared.picked;
    if (event.key in arrows) {
      event.preventDefault();
      const next = now === null ? this.nearest(this.side / 2, this.side / 2, Infinity) : this.beside(now, arrows[event.key]);
      if (next !== null) this.shared.point(this, next);
    } else if ((event.key === "Enter" || event.key === " ") && this.shared.pointed !== null) {
      event.preventDefault();
      this.shared.pick(this.shared.pointed, this.map.sprite);
    } else if (event.key === "Escape") {
      this.shared.point(this, null);
      this.shared.pick(null, null);
    }
  }
}

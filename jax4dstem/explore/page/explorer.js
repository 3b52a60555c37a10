// The explorer of jax4dstem: a map of the scan beside the pattern at the pointer. One module without dependencies;
// `mount` draws it into an element and asks a host for data. Hosts: a loopback server, a notebook's widget, the file itself.
// Arrays are {shape, data}; positions and vectors are [y, x]; pixel centers lie at whole numbers.

// ---------------------------------------------------------------- colours

const TABLES = {
  viridis: "44015448186a472d7b4240863b528b33638d2c728e26828e21918c1fa08828ae803fbc735ec96284d44baddc30d8e219fde725",
  cividis: "00224e002e6a1a386f32436d434e6c535a6d61656f6f70737d7c788c88789b9476aba072bcae6ccdbb63dec958f0d846fee838",
  signed: "0530611752902a71b23f8ec06bacd19bc9e0c2ddece0ecf3f7f6f6fbe5d8fbccb4f5aa89e48066d05548ba2832930e2667001f",
};
// No two of them look alike; the report has the same for the same domains: `plots.label_color`, as a test knows.
const LABELS = [
  "4477aa", "ee6677", "228833", "ccbb44", "66ccee", "aa3377", "693c00", "00ffb4", "e1d2f0", "f07800", "3c00d2", "e169ff", "004b4b", "c3000f",
  "968778", "ffd2b4", "3c4b00", "96b496", "4b4b5a", "a5ff00", "009696", "877800", "9687a5", "96a5ff", "00c32d", "693c3c", "785ab4", "00ffff",
  "5a695a", "b4694b", "ffa5c3", "ff0fa5", "ff9678", "e1e1b4", "695a4b", "ffb44b", "004b78", "b4b4b4", "1ea5ff", "c3f0e1", "c300d2", "00c3a5",
  "692d78", "ff2d00", "a5690f",
];
const NO_VALUE = [128, 128, 128], MARK = "#ffffff", ACCENT = "#ff7f0e", OUTLINE = "rgba(0,0,0,0.75)";

const rgb = (hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));

function colorTable(name) {
  const stops = TABLES[name].match(/.{6}/g).map(rgb);
  const table = new Uint8Array(768);
  for (let i = 0; i < 256; i++) {
    const t = (i / 255) * (stops.length - 1), k = Math.min(Math.floor(t), stops.length - 2);
    for (let c = 0; c < 3; c++) table[3 * i + c] = Math.round(stops[k][c] + (t - k) * (stops[k + 1][c] - stops[k][c]));
  }
  return table;
}
const COLORS = Object.fromEntries(Object.keys(TABLES).map((name) => [name, colorTable(name)]));

export function labelColor(label) {
  if (!(label >= 0)) return [0, 0, 0];
  return rgb(LABELS[label % LABELS.length]);
}

// Color of a value of an image {kind, colors, range: [low, high], log}.
export function colorOf(image, value) {
  if (Number.isNaN(value)) return NO_VALUE;
  if (image.kind === "labels") return labelColor(value);
  const index = Math.round(255 * shade(image, value)), table = COLORS[image.colors];
  return [table[3 * index], table[3 * index + 1], table[3 * index + 2]];
}

// The same for all values at once, dimmed where they are not selected, as an image's bytes.
function colorAll(image, bytes) {
  const { data, kind, dim } = image, table = COLORS[image.colors], labels = new Map();
  for (let i = 0, at = 0; i < data.length; i++, at += 4) {
    const value = data[i];
    let from = table, k = 0;
    if (kind === "labels" || Number.isNaN(value)) {
      if (!labels.has(value)) labels.set(value, colorOf(image, value));
      from = labels.get(value);
    } else k = 3 * Math.round(255 * shade(image, value));
    bytes[at] = from[k];
    bytes[at + 1] = from[k + 1];
    bytes[at + 2] = from[k + 2];
    bytes[at + 3] = dim && !dim[i] ? 70 : 255;
  }
}

const DECADES = 1000; // what a logarithmic shade spans
function shade({ range: [low, high], log }, value) {
  const t = Math.min(Math.max((value - low) / (high - low || 1), 0), 1);
  return log ? Math.log1p(DECADES * t) / Math.log1p(DECADES) : t;
}

// ---------------------------------------------------------------- geometry

// Weights of a detector's pixels; the formulas are those of jax4dstem.patterns.
export function detectorMask(detector, [height, width]) {
  if (detector.kind === "paint") return detector.painted;
  const mask = new Float32Array(height * width), [cy, cx] = detector.center;
  const disk = (radius, distance) => Math.min(Math.max(radius + 0.5 - distance, 0), 1);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const distance = Math.hypot(y - cy, x - cx);
      mask[i] = disk(detector.outer, distance) - (detector.kind === "disk" ? 0 : disk(detector.inner, distance));
      if (detector.kind === "wedge" && mask[i] > 0 && turn(angleOf(cy - y, x - cx) - detector.start) >= detector.span) mask[i] = 0;
    }
  }
  return mask;
}

const angleOf = (up, right) => turn((Math.atan2(up, right) * 180) / Math.PI); // counter-clockwise from the right
const turn = (degrees) => ((degrees % 360) + 360) % 360;

// Points of a polygon, or a rectangle's two corners, as a mask of the pixels whose centers lie inside.
export function insideMask(outline, [height, width]) {
  const mask = new Uint8Array(height * width), inside = insideOf(outline);
  for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++, i++) mask[i] = inside(y, x) ? 1 : 0;
  return mask;
}

function insideOf({ kind, points }) {
  if (kind === "rectangle") {
    const [y0, y1, x0, x1] = corners(points);
    return (y, x) => y >= y0 && y < y1 && x >= x0 && x < x1;
  }
  return (y, x) => {
    let odd = false;
    for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
      const [yi, xi] = points[i], [yj, xj] = points[j];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
    }
    return odd;
  };
}

// First and last+1 row and column of a rectangle's corners.
function corners([[ya, xa], [yb, xb]]) {
  const from = (a, b) => Math.round(Math.min(a, b)), to = (a, b) => Math.round(Math.max(a, b)) + 1;
  return [from(ya, yb), to(ya, yb), from(xa, xb), to(xa, xb)];
}

// ---------------------------------------------------------------- numbers

const round = (value, digits = 2) => Math.round(value * 10 ** digits) / 10 ** digits;

export function words(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "none";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

function finite(data) {
  return Float32Array.from(data).filter(Number.isFinite).sort();
}

function quantile(sorted, share) {
  return sorted.length ? sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)] : 0;
}

// The range that a map is first shown in: all but its tails; equally far to both sides of zero where it has a sign.
function usualRange({ kind, data }) {
  const sorted = finite(kind === "signed" ? data.map(Math.abs) : data);
  const high = quantile(sorted, 0.99);
  return kind === "signed" ? [-high || -1, high || 1] : [quantile(sorted, 0.01), high];
}

function bar(length, step) {
  const most = length * step, power = 10 ** Math.floor(Math.log10(most));
  return Math.max(...[1, 2, 5].map((m) => m * power).filter((size) => size <= most * (1 + 1e-9)));
}

// One question at a time: the newest waits, those between are dropped.
function newest(ask) {
  let busy = false, next = null;
  return async function run(...args) {
    if (busy) return void (next = args);
    busy = true;
    try {
      await ask(...args);
    } finally {
      busy = false;
      if (next) {
        const waiting = next;
        next = null;
        run(...waiting);
      }
    }
  };
}

// ---------------------------------------------------------------- hosts

// A host answers meta(), map(name), points(), places(), pattern(y, x), cepstrum(y, x), residual(y, x),
// virtual(mask, rows), mean(mask); all but meta with {shape, data, ...}.
function askingHost(ask) {
  return {
    meta: () => ask("meta", {}),
    map: (name) => ask("map", { name }),
    points: () => ask("points", {}),
    places: () => ask("places", {}),
    pattern: (y, x) => ask("pattern", { y, x }),
    cepstrum: (y, x) => ask("cepstrum", { y, x }),
    residual: (y, x) => ask("residual", { y, x }),
    virtual: (mask, rows) => ask("virtual", { mask: packed(mask), ...(rows ? { rows } : {}) }),
    mean: (mask) => ask("mean", { mask: packed(mask) }),
  };
}

function packed({ shape, data }) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const parts = [];
  for (let i = 0; i < bytes.length; i += 8192) parts.push(String.fromCharCode(...bytes.subarray(i, i + 8192)));
  return { shape, dtype: data instanceof Uint8Array ? "uint8" : "float32", base64: btoa(parts.join("")) };
}

export function serverHost() {
  return askingHost(async (name, args) => {
    const reply = await fetch(name, { method: "POST", body: JSON.stringify(args) });
    if (!reply.ok) throw new Error(await reply.text());
    const bytes = new Uint8Array(await reply.arrayBuffer()), end = bytes.indexOf(10);
    return { ...JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))), data: new Float32Array(bytes.slice(end + 1).buffer) };
  });
}

export function widgetHost(model) {
  const waiting = new Map();
  let last = 0;
  model.on("msg:custom", ({ id, error, about }, [body]) => {
    const { resolve, reject } = waiting.get(id) ?? {};
    if (!waiting.delete(id)) return; // of another view
    if (error) reject(new Error(error));
    else resolve({ ...about, data: body ? new Float32Array(new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice().buffer) : null });
  });
  const own = Math.random().toString(36).slice(2);
  return askingHost(
    (name, args) =>
      new Promise((resolve, reject) => {
        const id = `${own}-${last++}`;
        waiting.set(id, { resolve, reject });
        model.send({ id, name, args });
      }),
  );
}

export function fileHost() {
  // Taken out of the page before the explorer is mounted in their place.
  const texts = new Map([...document.querySelectorAll("script[id]")].map((script) => [script.id, script.textContent]));
  const about = JSON.parse(texts.get("about"));
  const once = new Map();
  const blob = (name, read) => {
    if (!once.has(name)) once.set(name, inflated(texts.get(name)).then(read));
    return once.get(name);
  };
  const floats = ({ blob: name, shape }) => blob(name, (bytes) => ({ shape, data: new Float32Array(bytes.buffer) }));
  const patterns = () => blob("patterns", (bytes) => bytes);
  const { meta, arrays, store } = about;
  const size = store ? store.shape[0] * store.shape[1] : 0;
  const level = store ? Float32Array.from({ length: 256 }, (_, q) => store.unit * Math.expm1((q * store.span) / 255)) : null;
  const pattern = async (y, x) => {
    const bytes = await patterns(), { per } = meta.patterns, [height, width] = store.scan;
    const start = (Math.min(Math.floor(y / per), height - 1) * width + Math.min(Math.floor(x / per), width - 1)) * size;
    return { shape: store.shape, data: Float32Array.from(bytes.subarray(start, start + size), (q) => level[q]) };
  };
  return {
    meta: async () => meta,
    map: (name) => floats(arrays[name]),
    points: () => floats(arrays["@points"]),
    places: () => floats(arrays["@places"]),
    pattern,
    async cepstrum(y, x) {
      return cepstrum(await pattern(y, x), meta.patterns.center, meta.patterns.quefrency);
    },
    async virtual({ data: mask }) {
      const bytes = await patterns(), [height, width] = store.scan, image = new Float32Array(height * width);
      const used = [...mask.keys()].filter((i) => mask[i] > 0), weights = used.map((i) => mask[i]);
      for (let p = 0, start = 0; p < image.length; p++, start += size) {
        let sum = 0;
        for (let k = 0; k < used.length; k++) sum += weights[k] * level[bytes[start + used[k]]];
        image[p] = sum;
      }
      return { shape: store.scan, data: image, step: 1 };
    },
    async mean({ data: mask }) {
      const bytes = await patterns(), sum = new Float64Array(size);
      let count = 0;
      for (let p = 0, start = 0; p < mask.length; p++, start += size) {
        if (!mask[p]) continue;
        count++;
        for (let i = 0; i < size; i++) sum[i] += level[bytes[start + i]];
      }
      return { shape: store.shape, data: Float32Array.from(sum, (value) => value / count) };
    },
  };
}

async function inflated(base64) {
  const packedBytes = await (await fetch(`data:;base64,${base64.trim()}`)).blob();
  return new Uint8Array(await new Response(packedBytes.stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
}

// The exit-wave power cepstrum as jax4dstem.ewpc, by two matrix products; see its docstring for the formula.
export function cepstrum({ shape: [height, width], data }, [cy, cx], { window, step, unit }) {
  const total = data.reduce((sum, value) => sum + value, 0), mean = total / data.length;
  const offset = data.length / Math.max(total, 1);
  const weight = new Float64Array(data.length), signal = new Float64Array(data.length);
  let weights = 0, level = 0;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      weight[i] = Math.exp(-0.5 * (Math.hypot(y - cy, x - cx) / window) ** 2);
      signal[i] = Math.log(data[i] / mean + offset);
      weights += weight[i];
      level += weight[i] * signal[i];
    }
  }
  for (let i = 0; i < signal.length; i++) signal[i] = (signal[i] - level / weights) * weight[i];
  const wave = (n) => [Math.cos, Math.sin].map((f) => Float64Array.from({ length: n }, (_, k) => f((2 * Math.PI * k) / n)));
  const [cosX, sinX] = wave(width), [cosY, sinY] = wave(height);
  const re = new Float64Array(height * width), im = new Float64Array(height * width), out = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let q = 0; q < width; q++) {
      let a = 0, b = 0;
      for (let x = 0, k = 0; x < width; x++, k = (k + q) % width) {
        a += signal[y * width + x] * cosX[k];
        b -= signal[y * width + x] * sinX[k];
      }
      re[y * width + q] = a;
      im[y * width + q] = b;
    }
  }
  const middleY = height >> 1, middleX = width >> 1;
  for (let p = 0; p < height; p++) {
    for (let q = 0; q < width; q++) {
      let a = 0, b = 0;
      for (let y = 0, k = 0; y < height; y++, k = (k + p) % height) {
        const i = y * width + q;
        a += re[i] * cosY[k] + im[i] * sinY[k];
        b += im[i] * cosY[k] - re[i] * sinY[k];
      }
      out[((p + middleY) % height) * width + ((q + middleX) % width)] = Math.hypot(a, b);
    }
  }
  return { shape: [height, width], data: out, step, unit };
}

// ---------------------------------------------------------------- views

function el(tag, properties = {}, ...children) {
  const { data, aria, ...rest } = properties;
  const node = Object.assign(document.createElement(tag), rest);
  Object.assign(node.dataset, data);
  for (const [name, value] of Object.entries(aria ?? {})) node.setAttribute(name === "role" ? name : `aria-${name}`, value);
  node.append(...children);
  return node;
}

// A canvas in CSS pixels, drawn again when its size changes.
class Canvas {
  constructor(name, label, draw) {
    this.node = el("canvas", { className: `j4-canvas j4-${name}`, aria: { role: "img", label } });
    this.node.view = this; // what is drawn can be read here
    this.draw = draw;
    new ResizeObserver(() => this.redraw()).observe(this.node);
  }

  get size() {
    return [this.node.clientHeight, this.node.clientWidth];
  }

  redraw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      const [height, width] = this.size, ratio = window.devicePixelRatio || 1, { node } = this;
      if (!height || !width) return;
      if (node.width !== Math.round(width * ratio) || node.height !== Math.round(height * ratio)) {
        node.width = Math.round(width * ratio);
        node.height = Math.round(height * ratio);
      }
      const context = node.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      this.draw(context);
    });
  }

  // Pointer events as (phase, event, [y, x] in CSS pixels); phase is "hover", "down", "drag", "up" or "leave".
  listen(handle) {
    const { node } = this, at = (event) => {
      const box = node.getBoundingClientRect();
      return [event.clientY - box.top, event.clientX - box.left];
    };
    let down = false;
    node.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      node.setPointerCapture(event.pointerId);
      down = true;
      handle("down", event, at(event));
    });
    node.addEventListener("pointermove", (event) => handle(down ? "drag" : "hover", event, at(event)));
    node.addEventListener("pointerup", (event) => {
      if (down) handle("up", event, at(event));
      down = false;
    });
    node.addEventListener("pointerleave", (event) => !down && handle("leave", event, at(event)));
  }
}

// An image in world coordinates: pixel i covers [i * scale - 1/2, (i + 1) * scale - 1/2) of the world.
class ImageView extends Canvas {
  constructor(name, label, overlay) {
    super(name, label, (context) => this.paint(context));
    this.overlay = overlay;
    this.world = [1, 1];
    this.image = null;
    this.zoom = 1;
    this.corner = [0, 0]; // of the shown part, in world coordinates
    this.node.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.node.addEventListener("dblclick", () => this.whole());
  }

  show(image, world) {
    this.image = image;
    this.world = world;
    const [height, width] = image.shape, raster = (this.raster ??= document.createElement("canvas"));
    if (raster.width !== width || raster.height !== height) Object.assign(raster, { width, height });
    const context = raster.getContext("2d"), pixels = context.createImageData(width, height);
    colorAll(image, pixels.data);
    context.putImageData(pixels, 0, 0);
    this.redraw();
  }

  whole() {
    this.zoom = 1;
    this.corner = [0, 0];
    this.redraw();
  }

  wheel(event) {
    event.preventDefault();
    const box = this.node.getBoundingClientRect(), at = [event.clientY - box.top, event.clientX - box.left];
    const before = this.worldOf(at);
    this.zoom = Math.min(Math.max(this.zoom * Math.exp(-event.deltaY / 300), 1), 40);
    const after = this.worldOf(at);
    this.corner = this.corner.map((c, i) => Math.min(Math.max(c + before[i] - after[i], 0), this.world[i] * (1 - 1 / this.zoom)));
    this.redraw();
  }

  // CSS pixels per unit of the world, and where its corner lies.
  get frameOf() {
    const [height, width] = this.size, unit = Math.min(height / this.world[0], width / this.world[1]);
    const origin = [(height - unit * this.world[0]) / 2, (width - unit * this.world[1]) / 2];
    return { unit: unit * this.zoom, origin };
  }

  screenOf([y, x]) {
    const { unit, origin } = this.frameOf;
    return [origin[0] + (y + 0.5 - this.corner[0]) * unit, origin[1] + (x + 0.5 - this.corner[1]) * unit];
  }

  worldOf([sy, sx]) {
    const { unit, origin } = this.frameOf;
    return [(sy - origin[0]) / unit + this.corner[0] - 0.5, (sx - origin[1]) / unit + this.corner[1] - 0.5];
  }

  valueAt([y, x]) {
    const { shape: [height, width], data, scale } = this.image;
    const row = Math.floor((Math.round(y) + 0.5) / scale), col = Math.floor((Math.round(x) + 0.5) / scale);
    return row >= 0 && col >= 0 && row < height && col < width ? data[row * width + col] : NaN;
  }

  paint(context) {
    if (!this.image) return;
    const { unit, origin } = this.frameOf, [top, left] = this.screenOf([-0.5, -0.5]), { scale, shape } = this.image;
    context.save();
    context.beginPath();
    context.rect(origin[1], origin[0], (unit / this.zoom) * this.world[1], (unit / this.zoom) * this.world[0]);
    context.clip();
    context.fillStyle = "#000";
    context.fillRect(origin[1], origin[0], (unit / this.zoom) * this.world[1], (unit / this.zoom) * this.world[0]);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.raster, left, top, shape[1] * scale * unit, shape[0] * scale * unit);
    this.overlay(context, this);
    context.restore();
  }
}

// A line that is seen on light and on dark: a dark one below it.
function line(context, color, width, path) {
  for (const [stroke, size] of [[OUTLINE, width + 2], [color, width]]) {
    context.beginPath();
    path(context);
    context.strokeStyle = stroke;
    context.lineWidth = size;
    context.stroke();
  }
}

function label(context, text, [y, x], align = "center") {
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = align;
  context.lineJoin = "round";
  context.strokeStyle = OUTLINE;
  context.lineWidth = 4;
  context.strokeText(text, x, y);
  context.fillStyle = MARK;
  context.fillText(text, x, y);
}

function scaleBar(context, view, { size, unit }) {
  const { unit: pixels, origin } = view.frameOf, [height, width] = view.size;
  const length = bar((width - 2 * origin[1]) / pixels / 4, size), long = (length / size) * pixels;
  const y = height - origin[0] - 12, x = origin[1] + 12;
  context.fillStyle = OUTLINE;
  context.fillRect(x - 2, y - 2, long + 4, 8);
  context.fillStyle = MARK;
  context.fillRect(x, y, long, 4);
  label(context, `${words(length)} ${unit}`, [y - 6, x + long / 2]);
}

function outlinePath(view, { kind, points }) {
  let shown = points;
  if (kind === "rectangle") {
    const [y0, y1, x0, x1] = corners(points);
    shown = [[y0, x0], [y0, x1], [y1, x1], [y1, x0]].map(([y, x]) => [y - 0.5, x - 0.5]);
  }
  return (context) => {
    shown.forEach((point, i) => {
      const [y, x] = view.screenOf(point);
      if (i) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    context.closePath();
  };
}

// Counts of the shown values by height; the two lines are the range, dragged with the pointer. Of labels, a legend.
class Histogram extends Canvas {
  constructor(change) {
    super("histogram", "Histogram of the map", (context) => this.paint(context));
    this.image = null;
    this.listen((phase, event, at) => this.pointer(phase, at, change));
    this.node.addEventListener("dblclick", () => this.image && change(usualRange(this.image)));
  }

  show(image) {
    this.image = image;
    const sorted = finite(image.data), [low, high] = image.range, margin = 0.25 * (high - low) || 1;
    if (!this.held) this.span = [Math.max(sorted[0] ?? 0, low - margin * 2), Math.min(sorted.at(-1) ?? 1, high + margin * 2)];
    if (!this.held) this.span = [Math.min(this.span[0], low), Math.max(this.span[1], high)];
    const bins = new Uint32Array(96), [from, to] = this.span;
    for (const value of sorted) {
      const bin = Math.floor(((value - from) / (to - from || 1)) * bins.length);
      if (bin >= 0 && bin <= bins.length) bins[Math.min(bin, bins.length - 1)]++;
    }
    this.bins = bins;
    this.redraw();
  }

  xOf(value) {
    const [from, to] = this.span;
    return 12 + ((value - from) / (to - from || 1)) * (this.size[1] - 24);
  }

  pointer(phase, [, x], change) {
    if (!this.image || this.image.kind === "labels") return;
    const [from, to] = this.span, value = from + ((x - 12) / (this.size[1] - 24)) * (to - from), { range } = this.image;
    if (phase === "down") this.held = Math.abs(this.xOf(range[0]) - x) < Math.abs(this.xOf(range[1]) - x) ? 1 : 2;
    if (phase === "drag" && this.held === 1) change([Math.min(value, range[1]), range[1]]);
    if (phase === "drag" && this.held === 2) change([range[0], Math.max(value, range[0])]);
    if (phase === "up") this.held = 0;
    this.node.style.cursor = "ew-resize";
  }

  paint(context) {
    if (!this.image) return;
    if (this.image.kind === "labels") return this.legend(context);
    const [height, width] = this.size, base = height - 34, most = Math.sqrt(Math.max(...this.bins, 1));
    const [from, to] = this.span, wide = (width - 24) / this.bins.length;
    this.bins.forEach((count, i) => {
      const value = from + ((i + 0.5) / this.bins.length) * (to - from), tall = (Math.sqrt(count) / most) * (base - 4);
      context.fillStyle = "#6b7280";
      context.fillRect(12 + i * wide, base - tall, Math.max(wide - 0.5, 0.5), tall);
      context.fillStyle = `rgb(${colorOf(this.image, value)})`;
      context.fillRect(12 + i * wide, base + 2, wide + 0.5, 10);
    });
    this.image.range.forEach((value, i) => {
      const x = this.xOf(value);
      context.strokeStyle = context.fillStyle = "#b45309";
      context.lineWidth = 2;
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, base + 12);
      context.stroke();
      context.beginPath();
      context.arc(x, 6, 5, 0, 7);
      context.fill();
      context.font = "12px system-ui, sans-serif";
      context.textAlign = i ? "right" : "left";
      context.fillStyle = "#1f2937";
      context.fillText(words(value), i ? Math.max(x + 12, 90) : Math.min(x - 12, width - 90), height - 6);
    });
  }

  legend(context) {
    const counts = new Map(), [height, width] = this.size;
    for (const value of this.image.data) if (!Number.isNaN(value)) counts.set(value, (counts.get(value) ?? 0) + 1);
    const names = [...counts.keys()].sort((a, b) => a - b), columns = Math.max(1, Math.floor(width / 92)), rows = Math.floor(height / 20);
    names.slice(0, columns * rows).forEach((value, i) => {
      const y = 4 + 20 * Math.floor(i / columns), x = 6 + 92 * (i % columns);
      context.fillStyle = `rgb(${labelColor(value)})`;
      context.fillRect(x, y, 12, 12);
      context.font = "12px system-ui, sans-serif";
      context.textAlign = "left";
      context.fillStyle = "#1f2937";
      context.fillText(`${value < 0 ? "none" : value}: ${counts.get(value)}`, x + 17, y + 11);
    });
  }
}

// The embedding: a point per position, in the colors of the map.
class Scatter extends Canvas {
  constructor(lassoed) {
    super("scatter", "Embedding: one point per position", (context) => this.paint(context));
    this.box = [[0, 1], [0, 1]]; // of the points, once they are there
    this.listen((phase, event, at) => {
      if (!this.points) return;
      if (phase === "down") this.lasso = [at];
      if (phase === "drag") this.lasso.push(at);
      if (phase === "up") {
        if (this.lasso.length > 2) lassoed({ kind: "polygon", points: this.lasso.map((point) => this.worldOf(point)) });
        this.lasso = null;
      }
      this.redraw();
    });
  }

  load({ shape, data }) {
    this.points = { count: shape[0] * shape[1], data };
    const axis = (k) => finite(data.filter((_, i) => i % 2 === k));
    this.box = [0, 1].map((k) => [axis(k)[0] ?? 0, axis(k).at(-1) ?? 1]);
    this.redraw();
  }

  show(image, selected) {
    Object.assign(this, { image, selected });
    this.redraw();
  }

  // The first coordinate goes to the right, the second up; points are (second, first), as (y, x).
  screenOf([second, first]) {
    const [height, width] = this.size, part = (value, [low, high]) => (value - low) / (high - low || 1);
    return [height - 12 - part(second, this.box[1]) * (height - 24), 12 + part(first, this.box[0]) * (width - 24)];
  }

  worldOf([sy, sx]) {
    const [height, width] = this.size, value = (part, [low, high]) => low + part * (high - low);
    return [value((height - 12 - sy) / (height - 24), this.box[1]), value((sx - 12) / (width - 24), this.box[0])];
  }

  maskOf(outline) {
    const inside = insideOf(outline), { count, data } = this.points;
    return Uint8Array.from({ length: count }, (_, i) => (inside(data[2 * i + 1], data[2 * i]) ? 1 : 0));
  }

  paint(context) {
    if (!this.points || !this.image) return;
    const { count, data } = this.points, size = count > 20000 ? 1 : count > 3000 ? 2 : 3;
    const { image } = this, whole = image.scale === 1;
    const draw = (wanted) => {
      for (let i = 0; i < count; i++) {
        if (Number.isNaN(data[2 * i]) || (this.selected && !!this.selected[i] !== wanted)) continue;
        const [y, x] = this.screenOf([data[2 * i + 1], data[2 * i]]), color = whole ? colorOf(image, image.data[i]) : NO_VALUE;
        context.fillStyle = this.selected && !wanted ? "rgba(160,160,160,0.35)" : `rgb(${color})`;
        context.fillRect(x - size / 2, y - size / 2, size, size);
        if (this.selected && wanted && size > 1) {
          context.strokeStyle = "#000";
          context.lineWidth = 0.5;
          context.strokeRect(x - size / 2, y - size / 2, size, size);
        }
      }
    };
    draw(false);
    if (this.selected) draw(true);
    if (this.lasso) {
      line(context, ACCENT, 1.5, () => {
        this.lasso.forEach(([y, x], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      });
    }
  }
}

// ---------------------------------------------------------------- the explorer

const VIRTUAL = "virtual image", REDRAWN = 200; // ms between two pictures of an image that is not yet exact
const VIEWS = { pattern: "Counts", mean: "Mean", cepstrum: "Cepstrum", expected: "Fitted", residual: "Residual" };
const TOOLS = { point: "Point", rectangle: "Rectangle", polygon: "Lasso" };
const DETECTORS = { disk: "Disk", ring: "Ring", wedge: "Wedge", paint: "Paint" };
const KEYS = [
  ["arrows", "move the position (with Shift by 10)"],
  ["click, Esc", "hold the position, follow the pointer again"],
  ["1 2 3 4 5", "counts, mean of the region, cepstrum, fitted, residual"],
  ["p r o", "point, rectangle, lasso on the map"],
  ["d", "next kind of detector"],
  ["v", "the detector's virtual image"],
  ["[ ]", "previous, next map"],
  ["l", "logarithm of the pattern"],
  ["g", "fitted lattice over the pattern"],
  ["s", "strain relative to the region"],
  ["c", "other colours (viridis, cividis)"],
  ["x", "no region"],
  ["wheel, double click", "zoom, the whole image"],
  ["?", "this help"],
];

class Explorer {
  constructor(root, host, meta) {
    Object.assign(this, { root, host, meta, map: null, ranges: {}, held: false, region: null, referenced: false, tool: "point" });
    Object.assign(this, { view: "pattern", log: true, lattice: true, colors: "viridis", text: "python", hover: null, changes: 0 });
    this.position = meta.scan.map((n) => n >> 1);
    this.detector = this.firstDetector();
    this.build();
    this.askPattern = newest(() => this.loadPattern());
    this.askVirtual = newest(() => this.loadVirtual());
    this.askMean = newest(() => this.loadMean());
  }

  // Ready is the page when every answer that it begins with is there, or has failed, which it then says.
  async start() {
    const { meta } = this, first = meta.maps.find(({ name }) => name === "images/annular_dark_field") ?? meta.maps[0];
    const parts = [
      meta.embedding && this.host.points().then((points) => (this.scatter.load(points), this.drawMap())),
      meta.lattices && this.host.places().then((places) => ((this.places = places), this.pattern.redraw())),
    ].map((part) => part && part.catch(this.fail));
    const shown = new Promise((done) => (this.firstMap = done));
    const map = Promise.race([shown, this.choose(first ? first.name : VIRTUAL)]);
    await Promise.all([meta.patterns && this.askPattern(), map, ...parts]);
    this.root.dataset.ready = "true";
  }

  firstDetector() {
    if (!this.meta.patterns) return null;
    const { center, radius, shape } = this.meta.patterns;
    return { kind: "ring", center: center.map((c) => round(c)), inner: round(1.5 * radius), outer: round(Math.min(4 * radius, 0.45 * Math.min(...shape))), start: 0, span: 90, painted: null };
  }

  // ------------------------------------------------------------ the page's parts

  build() {
    const { meta } = this;
    this.image = new ImageView("map", "Map of the scan", (context, view) => this.drawOnMap(context, view));
    this.pattern = new ImageView("pattern", "Diffraction pattern", (context, view) => this.drawOnPattern(context, view));
    this.histogram = new Histogram((range) => this.setRange(range));
    this.scatter = new Scatter((outline) => this.setRegion({ ...outline, of: "embedding", mask: this.scatter.maskOf(outline) }));
    this.select = el("select", { className: "j4-maps", aria: { label: "Map" }, onchange: () => this.choose(this.select.value) }, ...this.options());
    this.mapText = el("p", { className: "j4-caption" });
    this.patternText = el("p", { className: "j4-caption" });
    this.regionText = el("p", { className: "j4-caption" });
    this.detectorText = el("p", { className: "j4-caption" });
    this.message = el("p", { className: "j4-message", aria: { role: "status" } });
    this.code = el("textarea", { className: "j4-code", readOnly: true, spellcheck: false, rows: 9, aria: { label: "The same in Python, or as a recipe" } });
    const has = { pattern: meta.patterns, mean: meta.patterns, cepstrum: meta.cepstrum, expected: meta.residual, residual: meta.residual };
    this.views = this.buttons(VIEWS, "view", (view) => this.setView(view), (name) => has[name]);
    this.tools = this.buttons(TOOLS, "tool", (tool) => this.setTool(tool), () => true);
    this.detectors = this.buttons(DETECTORS, "detector", (kind) => this.setDetector({ kind }), () => meta.patterns);
    this.texts = this.buttons({ python: "Python", recipe: "Recipe" }, "text", (text) => ((this.text = text), this.write()), () => true);
    this.toggles = this.buttons({ log: "log", lattice: "lattice" }, "toggle", (name) => this.toggle(name), (name) => name === "log" || meta.lattices);
    this.reference = el("button", { textContent: "Strain relative to region", data: { action: "reference" }, onclick: () => this.refer() });
    this.clear = el("button", { textContent: "No region", data: { action: "clear" }, onclick: () => this.setRegion(null) });
    const copy = el("button", { textContent: "Copy", data: { action: "copy" }, onclick: () => this.copy(copy) });
    this.help = el("dialog", { className: "j4-help" }, el("h2", { textContent: "Keys" }), el("dl", {}, ...KEYS.flatMap(([key, what]) => [el("dt", { textContent: key }), el("dd", { textContent: what })])), el("form", { method: "dialog" }, el("button", { textContent: "Close" })));
    const heading = (text) => el("h2", { textContent: text }), row = (...parts) => el("div", { className: "j4-row" }, ...parts);
    const section = (name, ...parts) => el("section", { className: `j4-${name}-part` }, ...parts);
    this.root.classList.add("j4");
    this.root.tabIndex = 0;
    this.root.replaceChildren(
      el("header", {}, el("h1", { textContent: meta.name }), el("p", { className: "j4-about", textContent: this.about() }), el("button", { textContent: "? keys", data: { action: "help" }, onclick: () => this.help.showModal() }), el("span", { className: "j4-busy", textContent: "computing ..." })),
      this.message,
      el("main", {},
        section("scan", row(heading("Scan"), this.select), row(...this.tools), this.image.node, this.mapText, this.histogram.node),
        section("detector", row(heading("Pattern"), ...this.views), row(...this.toggles), this.pattern.node, this.patternText, row(heading("Virtual detector"), ...this.detectors), this.detectorText),
        section("more",
          el("div", {}, row(heading("Region"), this.reference, this.clear), this.regionText, row(heading("As text"), ...this.texts, copy), this.code),
          ...(meta.embedding ? [el("div", {}, row(heading("Embedding")), this.scatter.node)] : []))),
      this.help,
    );
    const [rows, columns] = meta.scan;
    this.image.node.style.aspectRatio = Math.min(Math.max(columns / rows, 0.6), 2.5);
    this.image.listen((phase, event, at) => this.onMap(phase, event, at));
    this.pattern.listen((phase, event, at) => this.onPattern(phase, event, at));
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.describeRegion();
    this.describeDetector();
    this.fail = (error) => (this.message.textContent = error.message);
    for (const note of meta.notes) this.message.append(el("span", { textContent: note }));
    this.mark();
    this.write();
  }

  options() {
    const groups = new Map(this.meta.patterns ? [["from the patterns", [el("option", { value: VIRTUAL, textContent: VIRTUAL })]]] : []);
    for (const { name, about } of this.meta.maps) {
      const group = name.split("/").slice(0, -1).join("/") || "scan";
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(el("option", { value: name, textContent: name, title: about }));
    }
    return [...groups].map(([name, options]) => el("optgroup", { label: name }, ...options));
  }

  about() {
    const { scan, patterns, step, pixel } = this.meta, sizes = [`${scan.join(" x ")} positions`];
    if (step.unit !== "positions") sizes.push(`${words(step.size)} ${step.unit} apart`);
    if (patterns) sizes.push(`patterns of ${patterns.shape.join(" x ")} px`);
    if (patterns && pixel.unit !== "px") sizes.push(`${words(pixel.size)} ${pixel.unit} per px`);
    return sizes.join(", ");
  }

  buttons(names, group, act, there) {
    return Object.entries(names).map(([name, text]) =>
      el("button", { textContent: text, data: { [group]: name }, disabled: !there(name), title: there(name) ? "" : "not available here", onclick: () => act(name) }),
    );
  }

  // Which buttons are pressed.
  mark() {
    const press = (buttons, group, on) => buttons.forEach((button) => button.setAttribute("aria-pressed", on(button.dataset[group])));
    press(this.views, "view", (name) => name === this.view);
    press(this.tools, "tool", (name) => name === this.tool);
    press(this.texts, "text", (name) => name === this.text);
    press(this.toggles, "toggle", (name) => this[name]);
    press(this.detectors, "detector", (name) => name === this.detector?.kind);
    this.reference.setAttribute("aria-pressed", this.referenced);
    this.reference.disabled = !this.region || !this.canRefer();
    this.clear.disabled = !this.region;
  }

  // ------------------------------------------------------------ the map

  async choose(name) {
    this.select.value = name;
    this.chosen = name;
    if (name === VIRTUAL) {
      this.describeDetector();
      return this.askVirtual();
    }
    try {
      const about = this.meta.maps.find((map) => map.name === name), array = await this.host.map(name);
      if (this.chosen === name) this.setMap({ ...about, ...array, scale: 1 });
    } catch (error) {
      this.fail(error);
    }
  }

  setMap(map) {
    this.map = map;
    this.firstMap();
    this.drawMap();
    this.mark();
    this.describe();
    this.describeRegion();
    this.write();
  }

  // The map as it is shown: relative to the region, in its range and colors.
  drawMap() {
    if (!this.map) return;
    const { map } = this, own = this.referenced && this.region && this.canRefer();
    const data = own ? map.data.map((value) => value - this.statistics().mean) : map.data;
    const shown = { ...map, data, log: false, colors: map.kind === "signed" ? "signed" : this.colors };
    shown.range = this.ranges[this.rangeName()] ?? usualRange(shown);
    shown.dim = this.region?.of === "embedding" ? this.region.mask : null;
    this.image.show(shown, this.meta.scan);
    this.histogram.show(shown);
    this.scatter.show(shown, this.region?.mask ?? null);
  }

  rangeName() {
    return `${this.map.name}${this.referenced ? " referenced" : ""}`;
  }

  setRange(range) {
    this.ranges[this.rangeName()] = range;
    this.drawMap();
    this.describe();
  }

  setTool(tool) {
    this.tool = tool;
    this.mark();
  }

  onMap(phase, event, at) {
    if (!this.map) return;
    const where = this.image.worldOf(at);
    if (this.tool === "point") {
      if (phase === "hover" && !this.held) this.move(where);
      if (phase === "down" || phase === "drag") {
        this.held = true;
        this.move(where);
      }
      return;
    }
    if (phase === "hover" && !this.held) this.move(where);
    if (phase === "down") this.drawn = { kind: this.tool, points: [where, where] };
    if (phase === "drag" && this.tool === "rectangle") this.drawn.points[1] = where;
    if (phase === "drag" && this.tool === "polygon") this.drawn.points.push(where);
    if (phase === "up") {
      const outline = this.drawn;
      this.drawn = null;
      if (outline.kind === "rectangle") outline.points = this.clipped(outline.points);
      if (outline.points.length > 3 || outline.kind === "rectangle") this.setRegion({ ...outline, of: "map", mask: insideMask(outline, this.meta.scan) });
    }
    this.image.redraw();
  }

  clipped(points) {
    return points.map((point) => point.map((value, i) => Math.min(Math.max(Math.round(value), 0), this.meta.scan[i] - 1)));
  }

  move(where) {
    const position = where.map((value, i) => Math.min(Math.max(Math.round(value), 0), this.meta.scan[i] - 1));
    if (position.every((value, i) => value === this.position[i])) return;
    this.position = position;
    this.image.redraw();
    this.describe();
    if (this.view !== "mean") this.askPattern();
    this.write();
  }

  drawOnMap(context, view) {
    const { unit } = view.frameOf, [y, x] = view.screenOf(this.position), half = Math.max(unit / 2, 4);
    const outline = this.drawn ?? (this.region?.of === "map" ? this.region : null);
    if (outline) line(context, ACCENT, 2, outlinePath(view, outline));
    line(context, this.held ? ACCENT : MARK, 1.5, () => context.rect(x - half, y - half, 2 * half, 2 * half));
    scaleBar(context, view, this.meta.step);
  }

  describe() {
    const { map, position: [y, x], meta } = this, { step } = meta;
    const where = step.unit === "positions" ? "" : ` (${words(y * step.size)}, ${words(x * step.size)} ${step.unit})`;
    const value = map && this.image.image ? this.image.valueAt([y, x]) : NaN;
    const units = map && map.units && map.units !== "1" ? ` ${map.units}` : "";
    this.mapText.textContent = map ? `y ${y}, x ${x}${where}: ${words(value)}${map.kind === "labels" ? "" : units}. ${this.title()}` : "";
    Object.assign(this.mapText.dataset, { y, x, value });
  }

  title() {
    const { map } = this;
    return `${map.name}${map.about ? `: ${map.about}` : ""}${this.referenced && this.canRefer() && this.region ? ", minus its mean over the region" : ""}`;
  }

  // ------------------------------------------------------------ regions

  setRegion(region) {
    this.region = region && region.mask.some(Boolean) ? region : null;
    if (!this.region) {
      this.referenced = false;
      if (this.view === "mean") this.setView("pattern");
    }
    this.drawMap();
    this.mark();
    this.describe();
    this.describeRegion();
    this.write();
    if (this.region && this.meta.patterns) this.setView("mean");
  }

  statistics() {
    const { data, shape: [, width], scale } = this.map, { mask } = this.region, values = [], columns = this.meta.scan[1];
    for (let i = 0; i < mask.length; i++) {
      if (!mask[i]) continue;
      const value = scale === 1 ? data[i] : data[Math.floor(Math.floor(i / columns) / scale) * width + Math.floor((i % columns) / scale)];
      if (Number.isFinite(value)) values.push(value);
    }
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return { count: values.length, mean, spread: Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length) };
  }

  describeRegion() {
    if (!this.region || !this.map) return void (this.regionText.textContent = "Draw a rectangle or a lasso on the map, or a lasso in the embedding.");
    const positions = this.region.mask.reduce((sum, inside) => sum + inside, 0), { count, mean, spread } = this.statistics();
    const of = this.map.kind === "labels" ? "" : `; ${this.map.name} ${words(mean)} ± ${words(spread)} (mean, standard deviation; ${count} with a value)`;
    this.regionText.textContent = `${positions} positions${of}`;
  }

  canRefer() {
    return !!this.map && /^strain\/.*(e_xx|e_yy|e_xy|theta)$/.test(this.map.name);
  }

  refer() {
    if (!this.region || !this.canRefer()) return;
    this.referenced = !this.referenced;
    this.drawMap();
    this.mark();
    this.describe();
    this.write();
  }

  // ------------------------------------------------------------ the pattern

  setView(view) {
    if (this.views.find((button) => button.dataset.view === view)?.disabled) return;
    if (view === "mean" && !this.region) return;
    this.view = view;
    this.mark();
    if (view === "mean") this.askMean();
    else this.askPattern();
  }

  toggle(name) {
    this[name] = !this[name];
    this.mark();
    this.drawPattern();
  }

  // Says that an answer is awaited, where that takes longer than a blink.
  async awaited(answer) {
    const blink = setTimeout(() => (this.root.dataset.busy = "true"), 200);
    try {
      return await answer;
    } finally {
      clearTimeout(blink);
      delete this.root.dataset.busy;
    }
  }

  async loadPattern() {
    const { view, position: [y, x], host } = this;
    this.asking = true;
    try {
      if (view === "pattern") return this.setPattern({ ...(await this.awaited(host.pattern(y, x))), what: "counts", kind: "amount", at: [y, x] });
      if (view === "cepstrum") return this.setPattern({ ...(await this.awaited(host.cepstrum(y, x))), what: "cepstrum", kind: "amount", at: [y, x] });
      const found = await this.awaited(host.residual(y, x));
      if (!found.lattice) return this.setPattern({ ...(await host.pattern(y, x)), what: "counts; no lattice was fitted here", kind: "amount", at: [y, x] });
      const size = found.shape[1] * found.shape[2], part = view === "expected" ? 0 : 1;
      this.setPattern({
        shape: found.shape.slice(1), data: found.data.slice(part * size, (part + 1) * size), at: [y, x],
        what: part ? "electrons minus expected ones" : "electrons expected of the fitted lattice", kind: part ? "signed" : "amount",
      });
    } catch (error) {
      this.fail(error);
    } finally {
      this.asking = false;
    }
  }

  async loadMean() {
    const { patterns, scan } = this.meta, { per } = patterns, mask = per === 1 ? this.region.mask : this.regionOf(per);
    const shape = per === 1 ? scan : scan.map((n) => Math.floor(n / per));
    try {
      if (!mask.some(Boolean)) throw new Error("the region holds no block of positions");
      const array = await this.awaited(this.host.mean({ shape, data: mask }));
      if (this.view === "mean") this.setPattern({ ...array, what: `mean of ${mask.reduce((a, b) => a + b, 0)} ${per === 1 ? "patterns" : "blocks"}`, kind: "amount", at: "mean" });
    } catch (error) {
      this.fail(error);
    }
  }

  // The region in blocks of positions: those whose middle position is in it.
  regionOf(per) {
    const [rows, columns] = this.meta.scan.map((n) => Math.floor(n / per)), { mask } = this.region, middle = per >> 1;
    return Uint8Array.from({ length: rows * columns }, (_, i) => mask[(Math.floor(i / columns) * per + middle) * this.meta.scan[1] + (i % columns) * per + middle]);
  }

  setPattern(pattern) {
    this.shown = pattern;
    this.drawPattern();
  }

  drawPattern() {
    if (!this.shown) return;
    const { shown } = this, sorted = finite(shown.kind === "signed" ? shown.data.map(Math.abs) : shown.data);
    const log = this.log && shown.kind !== "signed" && shown.what !== "cepstrum";
    const high = quantile(sorted, log ? 1 : 0.998) || 1;
    const image = { ...shown, scale: 1, log, range: shown.kind === "signed" ? [-high, high] : [0, high], colors: shown.kind === "signed" ? "signed" : this.colors };
    this.pattern.show(image, shown.shape);
    this.describePattern();
  }

  get onDetector() {
    return this.shown && this.shown.what !== "cepstrum";
  }

  describePattern() {
    const { shown, hover, meta } = this, [low, high] = this.pattern.image.range;
    const place = shown.at === "mean" ? "" : ` at y ${shown.at[0]}, x ${shown.at[1]}`;
    let text = `${shown.what}${place}, ${words(low)} to ${words(high)}`;
    if (hover && !Number.isNaN(this.pattern.valueAt(hover))) {
      const [y, x] = hover.map(Math.round), center = this.onDetector ? meta.patterns.center : shown.shape.map((n) => n >> 1);
      const { size, unit } = this.onDetector ? meta.pixel : { size: shown.step, unit: shown.unit };
      text += `; pixel ${y}, ${x}: ${words(this.pattern.valueAt(hover))}, ${words(Math.hypot(y - center[0], x - center[1]) * size)} ${unit} from the center`;
    }
    this.patternText.textContent = text;
    this.patternText.dataset.at = String(shown.at);
  }

  drawOnPattern(context, view) {
    const { meta } = this;
    if (!this.onDetector) return scaleBar(context, view, { size: this.shown.step, unit: this.shown.unit });
    if (this.lattice && this.places && this.view !== "mean") this.drawLattice(context, view);
    this.drawDetector(context, view);
    scaleBar(context, view, meta.pixel);
  }

  // Disks where the fit has them, g1 and g2.
  drawLattice(context, view) {
    const [y, x] = this.shown.at, channels = this.places.shape[2], start = (y * this.meta.scan[1] + x) * channels;
    const [cy, cx, ay, ax, by, bx, number] = this.places.data.subarray(start, start + channels), found = this.meta.lattices[number];
    if (!found) return;
    const { bin } = this.meta.patterns, { unit } = view.frameOf, host = (value) => (value + 0.5) / bin - 0.5;
    const at = (h, k) => view.screenOf([host(cy + h * ay + k * by), host(cx + h * ax + k * bx)]);
    for (const [h, k] of found.indices) {
      const [sy, sx] = at(h, k);
      context.beginPath();
      context.arc(sx, sy, (found.radius / bin) * unit, 0, 7);
      context.strokeStyle = "rgba(255,255,255,0.7)";
      context.lineWidth = 1;
      context.stroke();
    }
    for (const [h, k, color, name] of [[1, 0, "#ff9f40", "g1"], [0, 1, "#7fdbff", "g2"]]) {
      const [y0, x0] = at(0, 0), [y1, x1] = at(h, k);
      line(context, color, 2, () => (context.moveTo(x0, y0), context.lineTo(x1, y1)));
      label(context, name, [y1 - 6, x1]);
    }
  }

  // ------------------------------------------------------------ the virtual detector

  setDetector(change) {
    if (!this.meta.patterns) return;
    const [height, width] = this.meta.patterns.shape, detector = { ...this.detector, ...change };
    if (detector.kind === "paint") detector.painted ??= new Float32Array(height * width);
    this.detector = detector;
    this.changes++;
    this.mark();
    this.describeDetector();
    this.pattern.redraw();
    this.write();
    if (this.chosen === VIRTUAL) this.askVirtual();
    else this.choose(VIRTUAL);
  }

  mask() {
    const { shape } = this.meta.patterns;
    return { shape, data: detectorMask(this.detector, shape) };
  }

  // A coarse image at once, then rows of the exact one, as long as the detector stays what it is.
  async loadVirtual() {
    const { host, meta, changes } = this, mask = this.mask(), { per, band } = meta.patterns;
    const begin = performance.now(), about = { name: VIRTUAL, about: "sum over the detector", units: "counts", kind: "amount" };
    const show = (image) => this.chosen === VIRTUAL && (this.setMap({ ...about, ...image }), (this.root.dataset.virtual = String(changes)));
    try {
      const coarse = await this.awaited(host.virtual(mask));
      this.firstImage = performance.now() - begin;
      if (coarse.step === 1) return show({ ...coarse, scale: per });
      const [height, width] = meta.scan, data = new Float32Array(height * width), across = coarse.shape[1];
      for (let y = 0, i = 0; y < height; y++) {
        const row = Math.min(Math.floor(y / coarse.step), coarse.shape[0] - 1) * across;
        for (let x = 0; x < width; x++, i++) data[i] = coarse.data[row + Math.min(Math.floor(x / coarse.step), across - 1)];
      }
      show({ shape: meta.scan, data, scale: 1 });
      let drawn = performance.now();
      for (let row = 0; row < height; row += band) {
        while (this.asking) await new Promise((done) => setTimeout(done, 20)); // the pattern at the pointer comes first
        if (changes !== this.changes || this.chosen !== VIRTUAL) return;
        const start = Math.min(row, Math.max(height - band, 0)), part = await host.virtual(mask, [start, Math.min(start + band, height)]);
        data.set(part.data, start * width);
        if (row + band < height && performance.now() - drawn < REDRAWN) continue;
        show({ shape: meta.scan, data, scale: 1 });
        drawn = performance.now();
      }
      this.root.dataset.exact = String(changes);
    } catch (error) {
      this.fail(error);
    }
  }

  describeDetector() {
    const { detector, meta } = this;
    if (!detector) return void (this.detectorText.textContent = "");
    const { kind, center, inner, outer, start, span } = detector, length = (r) => `${words(r * meta.pixel.size)} ${meta.pixel.unit}`;
    const texts = {
      disk: `radius ${length(outer)}`,
      ring: `radii ${length(inner)} to ${length(outer)}`,
      wedge: `radii ${length(inner)} to ${length(outer)}, ${words(start)}° to ${words(start + span)}°`,
      paint: "drag to paint, with Shift to erase",
    };
    const place = kind === "paint" ? "" : ` around ${center.map((c) => words(c)).join(", ")}`;
    const how = kind === "paint" ? "" : ". Drag it, or its edges.";
    this.detectorText.textContent = `${kind}${place}, ${texts[kind]}${how}`;
  }

  // What of the detector lies at a point: an edge, an end of the wedge, or all of it.
  gripAt([y, x]) {
    const { kind, center: [cy, cx], inner, outer, start, span } = this.detector, near = 8 / this.pattern.frameOf.unit;
    const distance = Math.hypot(y - cy, x - cx), angle = angleOf(cy - y, x - cx);
    const off = (a) => Math.abs(turn(angle - a + 180) - 180) * (Math.PI / 180) * distance;
    if (kind === "wedge" && distance > inner && distance < outer) {
      if (off(start) < near) return "start";
      if (off(start + span) < near) return "end";
    }
    if (Math.abs(distance - outer) < near) return "outer";
    return kind !== "disk" && Math.abs(distance - inner) < near ? "inner" : "center";
  }

  onPattern(phase, event, at) {
    if (!this.shown) return;
    const where = this.pattern.worldOf(at);
    this.hover = phase === "leave" ? null : where;
    this.describePattern();
    if (!this.onDetector || !this.detector) return;
    if (phase === "hover") this.pattern.node.style.cursor = this.detector.kind === "paint" ? "crosshair" : { center: "move" }[this.gripAt(where)] ?? "ew-resize";
    if (phase === "down") this.grip = { part: this.detector.kind === "paint" ? "paint" : this.gripAt(where), from: where, detector: this.detector };
    if ((phase === "down" || phase === "drag") && this.grip.part === "paint") return this.paint(where, event.shiftKey ? 0 : 1);
    if (phase === "drag") this.drag(where);
  }

  drag([y, x]) {
    const { part, from, detector } = this.grip, [cy, cx] = detector.center;
    const distance = round(Math.hypot(y - cy, x - cx)), angle = round(angleOf(cy - y, x - cx), 1);
    if (part === "center") this.setDetector({ center: [round(cy + y - from[0]), round(cx + x - from[1])] });
    if (part === "outer") this.setDetector({ outer: Math.max(distance, detector.kind === "disk" ? 0.5 : detector.inner + 0.5) });
    if (part === "inner") this.setDetector({ inner: Math.min(distance, detector.outer - 0.5) });
    if (part === "start") this.setDetector({ start: angle, span: round(turn(detector.start + detector.span - angle) || 360, 1) });
    if (part === "end") this.setDetector({ span: round(turn(angle - detector.start) || 360, 1) });
  }

  // A stroke from where the pointer was: fast ones have no gaps.
  paint(where, value) {
    const [height, width] = this.meta.patterns.shape, painted = this.detector.painted.slice(), radius = Math.max(1, Math.min(height, width) / 64);
    const from = this.grip.from, steps = Math.ceil(Math.hypot(where[0] - from[0], where[1] - from[1]) / radius) || 1;
    for (let step = 1; step <= steps; step++) {
      const [y, x] = where.map((to, i) => from[i] + ((to - from[i]) * step) / steps);
      for (let row = Math.max(Math.ceil(y - radius), 0); row <= Math.min(y + radius, height - 1); row++) {
        for (let col = Math.max(Math.ceil(x - radius), 0); col <= Math.min(x + radius, width - 1); col++) {
          if (Math.hypot(row - y, col - x) <= radius) painted[row * width + col] = value;
        }
      }
    }
    this.grip.from = where;
    this.setDetector({ painted });
  }

  drawDetector(context, view) {
    if (!this.detector) return;
    const { kind, center, inner, outer, start, span, painted } = this.detector, { unit } = view.frameOf, [y, x] = view.screenOf(center);
    if (kind === "paint") {
      context.fillStyle = "rgba(255,127,14,0.55)";
      const width = this.meta.patterns.shape[1];
      painted.forEach((value, i) => {
        if (!value) return;
        const [top, left] = view.screenOf([Math.floor(i / width) - 0.5, (i % width) - 0.5]);
        context.fillRect(left, top, unit, unit);
      });
      return;
    }
    const radians = (degrees) => (-degrees * Math.PI) / 180, wedge = kind === "wedge";
    const [from, to] = wedge ? [radians(start), radians(start + span)] : [0, 2 * Math.PI];
    line(context, ACCENT, 2, () => {
      if (wedge && span < 360) {
        context.arc(x, y, outer * unit, from, to, true);
        context.arc(x, y, inner * unit, to, from);
        context.closePath();
        return;
      }
      context.arc(x, y, outer * unit, 0, 2 * Math.PI);
      if (kind !== "disk") {
        context.moveTo(x + inner * unit, y);
        context.arc(x, y, inner * unit, 0, 2 * Math.PI);
      }
    });
  }

  // ------------------------------------------------------------ keys and texts

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || ["SELECT", "TEXTAREA", "INPUT"].includes(event.target.tagName)) return;
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key], far = event.shiftKey ? 10 : 1;
    const next = (names, now, by = 1) => names[(names.indexOf(now) + by + names.length) % names.length];
    const maps = [...this.select.options].map((option) => option.value);
    const acts = {
      Escape: () => (this.held = false),
      l: () => this.toggle("log"),
      g: () => this.toggle("lattice"),
      p: () => this.setTool("point"),
      r: () => this.setTool("rectangle"),
      o: () => this.setTool("polygon"),
      d: () => this.detector && this.setDetector({ kind: next(Object.keys(DETECTORS), this.detector.kind) }),
      v: () => this.meta.patterns && this.choose(VIRTUAL),
      s: () => this.refer(),
      x: () => this.setRegion(null),
      c: () => ((this.colors = next(["viridis", "cividis"], this.colors)), this.drawMap(), this.drawPattern()),
      "[": () => this.choose(next(maps, this.chosen, -1)),
      "]": () => this.choose(next(maps, this.chosen)),
      "?": () => this.help.showModal(),
      ...Object.fromEntries(Object.keys(VIEWS).map((name, i) => [String(i + 1), () => this.setView(name)])),
    };
    if (steps) {
      this.held = true;
      this.move(this.position.map((value, i) => value + far * steps[i]));
    } else if (acts[event.key]) acts[event.key]();
    else return;
    event.preventDefault();
    this.image.redraw();
  }

  write() {
    this.code.value = this.text === "python" ? pythonOf(this) : recipeOf(this);
  }

  async copy(button) {
    this.code.select();
    try {
      await navigator.clipboard.writeText(this.code.value);
      button.textContent = "Copied";
    } catch {
      button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }
}

// ---------------------------------------------------------------- the same as text

// Python that gives what is shown: the pattern, the detector's image, the region's mean, strain relative to the region.
export function pythonOf({ meta, position: [y, x], detector, region, chosen, referenced }) {
  const out = meta.out || '"OUT"', opening = meta.opening || "...  # the scan that is shown";
  const names = new Set(), body = [`scan = ${opening}`, `pattern = scan.source.read(slice(${y}, ${y + 1}), slice(${x}, ${x + 1}))[0, 0]`];
  if (meta.opening) names.add("from jax4dstem import open_dataset");
  if (chosen === VIRTUAL && detector) {
    names.add("from jax4dstem import map_patterns, virtual_image");
    body.push(...maskLines(detector, meta.patterns, names), "image = map_patterns(virtual_image, scan, mask)");
  } else if (chosen) {
    names.add("from jax4dstem import open_results");
    const [, path, part] = chosen.match(/^([^[]*)(?:\[(.*)\])?$/), index = { y: 0, x: 1 }[part] ?? part;
    body.push(`results = open_results(${out}).to_xarray()`, `image = results["${path}"]${part ? `[..., ${index}]` : ""}`);
  }
  if (region) {
    body.push(...regionLines(region, names, `open_results(${out}).${meta.embedding}`));
    if (meta.patterns) {
      names.add("from jax4dstem import Mean, reduce_patterns");
      body.push("mean = reduce_patterns(Mean(), scan, weights=region)");
    }
  }
  if (region && referenced) {
    names.add("from jax4dstem import open_results");
    names.add("from jax4dstem.strain import StrainReference");
    body.push(
      "# Shown is the map minus its mean over the region, which is right to first order in strain.",
      "# Exact, position by position, relative to the region's median lattice:",
      `strain = open_results(${out}).strain.relative_to(StrainReference.region(region)).strain`,
    );
    if (chosen.startsWith("strain/pooled/")) {
      names.add("from jax4dstem import pool_strain");
      body.push("strain = pool_strain(strain).strain");
    }
  }
  const uses = (alias) => body.some((line) => new RegExp(`\\b${alias}\\.`).test(line));
  const arrays = [["jnp", "import jax.numpy as jnp"], ["np", "import numpy as np"]].filter(([alias]) => uses(alias)).map(([, text]) => text);
  return [...arrays, ...imports(names), "", ...body].join("\n");
}

// "from a import b" lines, one for each module.
function imports(names) {
  const modules = new Map();
  for (const name of names) {
    const [, module, what] = name.match(/^from (\S+) import (.*)$/);
    modules.set(module, new Set([...(modules.get(module) ?? []), ...what.split(", ")]));
  }
  return [...modules].sort().map(([module, what]) => `from ${module} import ${[...what].sort().join(", ")}`);
}

function maskLines({ kind, center, inner, outer, start, span, painted }, { shape, bin }, names) {
  const raw = (value) => round(bin * (value + 0.5) - 0.5), at = `jnp.array([${center.map(raw).join(", ")}])`;
  const whole = "scan.pattern_shape", [big, small] = [outer, inner].map((r) => round(r * bin));
  if (kind === "disk") {
    names.add("from jax4dstem.patterns import disk_mask");
    return [`mask = disk_mask(${whole}, ${at}, ${big})`];
  }
  if (kind === "paint") {
    return ["mask = np.zeros(scan.pattern_shape, np.float32)", `for y, x0, x1 in [${runs(painted, shape[1], bin)}]:`, `    mask[${bin === 1 ? "y" : `y : y + ${bin}`}, x0:x1] = 1`];
  }
  names.add("from jax4dstem.patterns import annular_mask");
  const ring = `annular_mask(${whole}, ${at}, ${small}, ${big})`;
  if (kind === "ring") return [`mask = ${ring}`];
  return [
    `up, right = np.array([${center.map(raw).join(", ")}])[:, None, None] - np.indices(${whole})`,
    "angle = np.degrees(np.arctan2(up, -right))  # counter-clockwise from the right",
    `mask = ${ring} * ((angle - ${start}) % 360 < ${span})`,
  ];
}

// Runs of painted pixels in rows, as (row, first column, last + 1).
function runs(painted, width, bin) {
  const found = [];
  for (let i = 0; i < painted.length; i++) {
    if (!painted[i] || (i % width && painted[i - 1])) continue;
    let end = i;
    while (end % width < width - 1 && painted[end + 1]) end++;
    found.push(`(${Math.floor(i / width) * bin}, ${(i % width) * bin}, ${((end % width) + 1) * bin})`);
  }
  return found.join(", ");
}

function regionLines(region, names, embedding) {
  if (region.kind === "rectangle") {
    const [y0, y1, x0, x1] = corners(region.points);
    return ["region = np.zeros(scan.scan_shape, bool)", `region[${y0}:${y1}, ${x0}:${x1}] = True`];
  }
  names.add("from matplotlib.path import Path");
  const corner = region.points.map(([second, first]) => `(${round(first, 3)}, ${round(second, 3)})`).join(", ");
  const points = region.of === "map" ? "np.indices(scan.scan_shape)[::-1].reshape(2, -1).T" : `${embedding}[..., :2].reshape(-1, 2)`;
  if (region.of !== "map") names.add("from jax4dstem import open_results");
  return [`outline = Path([${corner}])  # (x, y)`, `region = outline.contains_points(${points}).reshape(scan.scan_shape)`];
}

// The recipe's keys that say the same: the strain reference, where the region is a rectangle.
export function recipeOf({ region }) {
  if (!region) return "# Draw a region: its recipe appears here. A recipe has no key for detectors; see Python.";
  if (region.kind !== "rectangle") return "# A recipe takes rectangles: draw one. Other regions: see Python.";
  return `# Strain relative to the median of these positions (y0, y1, x0, x1).\n[strain]\nregion = [${corners(region.points).join(", ")}]`;
}

// ---------------------------------------------------------------- entry points

export async function mount(root, host) {
  try {
    const explorer = new Explorer(root, host, await host.meta());
    root.explorer = explorer;
    await explorer.start();
  } catch (error) {
    root.append(el("p", { className: "j4-message", textContent: error.message }));
  }
}

// A notebook's widget, as anywidget has them.
export default { render: ({ model, el: root }) => void mount(root.appendChild(el("div")), widgetHost(model)) };

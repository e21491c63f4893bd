const byId = (id) => document.getElementById(id);
const card = JSON.parse(byId("card").textContent);
const { image_size: SIZE, resize: RESIZE, mean: MEAN, std: STD, crop_pct: CROP_PCT } = card.preprocess;
const CHANNELS = MEAN.length;
const MOST_PIXELS = 16e6; // larger photos are reduced by the browser first: canvases have limits
const SHOWN = 5;
const TINY = 1e-6; // a map that does not exceed it is drawn as 0

// ---- what the page carries ----

async function unpacked(id) {
  const packed = Uint8Array.from(atob(byId(id).textContent), (c) => c.charCodeAt(0));
  byId(id).remove();
  const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).arrayBuffer();
}

async function start() {
  const [script, binary, network] = await Promise.all(["runtime", "wasm", "onnx"].map(unpacked));
  const ort = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = binary;
  const session = await ort.InferenceSession.create(new Uint8Array(network), { executionProviders: ["wasm"] });
  return { ort, session };
}

const ready = start();

// ---- preprocessing: Pillow's antialiased bilinear filter, in its fixed-point arithmetic ----

const PRECISION = 22;

function coefficients(from, to, low, high) {
  const scale = (high - low) / to;
  const support = Math.max(scale, 1);
  const rows = [];
  for (let out = 0; out < to; out++) {
    const centre = low + (out + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = [];
    let total = 0;
    for (let x = first; x < last; x++) {
      const weight = Math.max(0, 1 - Math.abs((x - centre + 0.5) / support));
      weights.push(weight);
      total += weight;
    }
    rows.push({ first, weights: weights.map((w) => Math.trunc(0.5 + (w / total) * (1 << PRECISION))) });
  }
  return rows;
}

// One pass along a line of `from` pixels: `step` between neighbours on the line, `across` between lines.
function pass(source, rows, lines, step, across, target, targetStep, targetAcross) {
  for (let line = 0; line < lines; line++) {
    for (let out = 0; out < rows.length; out++) {
      const { first, weights } = rows[out];
      for (let c = 0; c < CHANNELS; c++) {
        let sum = 1 << (PRECISION - 1);
        let at = line * across + first * step + c;
        for (let k = 0; k < weights.length; k++, at += step) sum += source[at] * weights[k];
        target[line * targetAcross + out * targetStep + c] = Math.min(255, Math.max(0, sum >> PRECISION));
      }
    }
  }
}

function resized(pixels, width, height, toWidth, toHeight, box = [0, 0, width, height]) {
  let now = pixels;
  if (toWidth !== width || box[0] !== 0 || box[2] !== width) {
    const next = new Uint8Array(toWidth * height * CHANNELS);
    pass(now, coefficients(width, toWidth, box[0], box[2]), height, CHANNELS, width * CHANNELS, next, CHANNELS, toWidth * CHANNELS);
    now = next;
  }
  if (toHeight !== height || box[1] !== 0 || box[3] !== height) {
    const next = new Uint8Array(toWidth * toHeight * CHANNELS);
    pass(now, coefficients(height, toHeight, box[1], box[3]), toWidth, toWidth * CHANNELS, CHANNELS, next, toWidth * CHANNELS, CHANNELS);
    now = next;
  }
  return now;
}

function rounded(value) { // half to even, as Python rounds
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

function scaledSize(width, height) {
  if (RESIZE === "squash") return [SIZE, SIZE];
  if (RESIZE === "crop") {
    const short = rounded(SIZE / CROP_PCT);
    const factor = short / Math.min(width, height);
    return [Math.max(short, rounded(width * factor)), Math.max(short, rounded(height * factor))];
  }
  const factor = SIZE / Math.max(width, height);
  return [width, height].map((side) => Math.max(1, Math.min(SIZE, rounded(side * factor))));
}

// original = input * scale + offset, per axis
function geometry(width, height) {
  const [w, h] = scaledSize(width, height);
  const [left, top] = [Math.floor((w - SIZE) / 2), Math.floor((h - SIZE) / 2)];
  return { sx: width / w, sy: height / h, ox: (left * width) / w, oy: (top * height) / h };
}

function square(pixels, width, height) {
  const [w, h] = scaledSize(width, height);
  if (w * h > MOST_PIXELS) { // extremely elongated
    const g = geometry(width, height);
    return resized(pixels, width, height, SIZE, SIZE, [g.ox, g.oy, g.ox + SIZE * g.sx, g.oy + SIZE * g.sy]);
  }
  const small = resized(pixels, width, height, w, h);
  const [left, top] = [Math.floor((w - SIZE) / 2), Math.floor((h - SIZE) / 2)];
  const out = new Uint8Array(SIZE * SIZE * CHANNELS);
  for (let y = 0; y < SIZE; y++) {
    for (let x = 0; x < SIZE; x++) {
      const inside = x + left >= 0 && x + left < w && y + top >= 0 && y + top < h;
      for (let c = 0; c < CHANNELS; c++) {
        const at = (y * SIZE + x) * CHANNELS + c;
        out[at] = inside ? small[((y + top) * w + x + left) * CHANNELS + c] : rounded(255 * MEAN[c]);
      }
    }
  }
  return out;
}

// RGBA over white, as RGB or as gray levels
function opaque(rgba) {
  const count = rgba.length / 4;
  const out = new Uint8Array(count * CHANNELS);
  for (let i = 0; i < count; i++) {
    const alpha = rgba[4 * i + 3] / 255;
    const [r, g, b] = [0, 1, 2].map((c) => (alpha === 1 ? rgba[4 * i + c] : Math.round(rgba[4 * i + c] * alpha + 255 * (1 - alpha))));
    if (CHANNELS === 1) out[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
    else [out[3 * i], out[3 * i + 1], out[3 * i + 2]] = [r, g, b];
  }
  return out;
}

async function decoded(blob) {
  const bitmap = await createImageBitmap(blob, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const factor = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  const width = Math.max(1, Math.round(bitmap.width * factor));
  const height = Math.max(1, Math.round(bitmap.height * factor));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

// ---- the network ----

const SEVERAL = card.thresholds.length > 0; // any number of labels, rather than one class

function softmax(logits) {
  const top = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - top));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((value) => value / total);
}

const sigmoid = (logits) => logits.map((value) => 1 / (1 + Math.exp(-value)));

// Returns {probabilities, labels (null of one class), unlike the training images, masks: {output: {values (C * h * w), shape}}, image}.
async function classify(blob) {
  const { ort, session } = await ready;
  const image = await decoded(blob);
  const pixels = square(opaque(image.data), image.width, image.height);
  const input = new Float32Array(CHANNELS * SIZE * SIZE);
  for (let c = 0; c < CHANNELS; c++) {
    for (let i = 0; i < SIZE * SIZE; i++) input[c * SIZE * SIZE + i] = (pixels[i * CHANNELS + c] - 255 * MEAN[c]) / (255 * STD[c]);
  }
  const out = await session.run({ images: new ort.Tensor("float32", input, [1, CHANNELS, SIZE, SIZE]) });
  const probabilities = (SEVERAL ? sigmoid : softmax)(Array.from(out.logits.data, (value) => value / card.temperature));
  const masks = Object.fromEntries(card.masks.map(({ output }) => [output, { values: out[output].data, shape: out[output].dims }]));
  const unlike = card.least_likeness !== null && out.likeness !== undefined && out.likeness.data[0] < card.least_likeness;
  const labels = SEVERAL ? card.classes.filter((_, i) => probabilities[i] >= card.thresholds[i]) : null;
  return { probabilities, labels, unlike, masks, image };
}

// ---- what is drawn ----

function meanOverChannels({ values, shape }) {
  const [, channels, height, width] = shape;
  const mean = new Float32Array(height * width);
  for (let c = 0; c < channels; c++) for (let i = 0; i < mean.length; i++) mean[i] += values[c * mean.length + i] / channels;
  return { mean, height, width };
}

function sampled({ mean, height, width }, u, v) { // u, v in [0, 1] over the square; bilinear between position centres
  const [x, y] = [Math.min(width - 1, Math.max(0, u * width - 0.5)), Math.min(height - 1, Math.max(0, v * height - 0.5))];
  const [x0, y0] = [Math.floor(x), Math.floor(y)];
  const [x1, y1] = [Math.min(width - 1, x0 + 1), Math.min(height - 1, y0 + 1)];
  const [fx, fy] = [x - x0, y - y0];
  const above = mean[y0 * width + x0] * (1 - fx) + mean[y0 * width + x1] * fx;
  const below = mean[y1 * width + x0] * (1 - fx) + mean[y1 * width + x1] * fx;
  return above * (1 - fy) + below * fy;
}

// The ends of the colour scale, as display_range in attention/overlay.py: a nearly flat map looks flat.
function displayRange(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const largest = Math.max(Math.abs(low), Math.abs(high));
  if (card.signed) return [-Math.max(largest, TINY), Math.max(largest, TINY)];
  const lacking = Math.max(0, card.least_span * largest - (high - low));
  return [low - lacking / 2, Math.max(high + lacking / 2, low - lacking / 2 + TINY)];
}

function rangeText(low, high) {
  const text = (value) => (Math.max(Math.abs(low), Math.abs(high)) >= 0.1 ? value.toFixed(2) : String(Number(value.toPrecision(2))));
  return `${text(low)} to ${text(high)}`;
}

let shown = null;

function drawPhoto(result, output) {
  const canvas = byId("photo");
  const { image } = result;
  const times = Math.min(4, Math.max(1, 320 / Math.max(image.width, image.height))) * Math.min(1, 1024 / Math.max(image.width, image.height));
  canvas.width = Math.max(1, Math.round(image.width * times));
  canvas.height = Math.max(1, Math.round(image.height * times));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const original = new OffscreenCanvas(image.width, image.height);
  original.getContext("2d").putImageData(image, 0, 0);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = times < 1;
  context.drawImage(original, 0, 0, canvas.width, canvas.height);
  if (output === null) {
    byId("about").textContent = "The photo alone.";
    return;
  }
  const map = meanOverChannels(result.masks[output]);
  const [low, high] = displayRange(map.mean);
  const place = geometry(image.width, image.height);
  const drawn = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const u = (((x + 0.5) * image.width) / canvas.width - place.ox) / place.sx / SIZE;
      const v = (((y + 0.5) * image.height) / canvas.height - place.oy) / place.sy / SIZE;
      const at = 4 * (y * canvas.width + x);
      const inside = u >= 0 && u <= 1 && v >= 0 && v <= 1;
      const level = inside ? Math.round((255 * (sampled(map, u, v) - low)) / (high - low)) : 0;
      for (let c = 0; c < 3; c++) {
        drawn.data[at + c] = inside ? 0.45 * drawn.data[at + c] + 0.55 * card.colours[3 * level + c] : 0.35 * drawn.data[at + c];
      }
    }
  }
  context.putImageData(drawn, 0, 0);
  const { name, module } = card.masks.find((mask) => mask.output === output);
  const scale = card.signed ? "purple is negative, orange positive" : "dark is low, bright is high";
  byId("about").textContent = `Mean of the mask, ${name} (${module}), colours from ${rangeText(low, high)}: ${scale}.`;
}

function drawClasses({ probabilities, labels }) {
  const ranked = probabilities.map((share, i) => [share, i]).sort((a, b) => b[0] - a[0]);
  const given = (i) => labels === null || probabilities[i] >= card.thresholds[i];
  const best = labels === null ? ranked.slice(0, SHOWN) : [...ranked.filter(([, i]) => given(i)), ...ranked.filter(([, i]) => !given(i))].slice(0, Math.max(SHOWN, labels.length));
  byId("labels").hidden = labels === null;
  if (labels !== null) byId("labels").textContent = labels.length ? `Labels: ${labels.join(", ")}` : "No label reaches its threshold.";
  byId("classes").replaceChildren(...best.map(([share, i]) => {
    const row = document.createElement("tr");
    row.classList.toggle("below", !given(i));
    const [name, cell, percent] = [0, 1, 2].map(() => row.appendChild(document.createElement("td")));
    name.textContent = card.classes[i];
    const bar = cell.appendChild(document.createElement("div"));
    bar.className = "bar";
    bar.style.width = `${100 * share}%`;
    percent.textContent = `${(100 * share).toFixed(1)} %`;
    return row;
  }));
}

function choose(output) {
  for (const button of byId("levels").children) button.setAttribute("aria-pressed", String(button.value === (output ?? "")));
  drawPhoto(shown, output);
}

async function show(blob) {
  byId("problem").textContent = "";
  byId("prompt").textContent = "Classifying…";
  try {
    shown = await classify(blob);
    byId("result").hidden = false;
    drawClasses(shown);
    byId("unlike").hidden = !shown.unlike;
    choose(card.masks.length ? card.masks[card.masks.length - 1].output : null);
  } catch (error) {
    byId("problem").textContent = `This file cannot be read as an image (${error.message}).`;
  }
  byId("prompt").textContent = "Drop, paste or choose another photo";
}

for (const { output, name } of card.masks.length ? [...card.masks, { output: "", name: "photo" }] : []) {
  const button = document.createElement("button");
  [button.type, button.value, button.textContent] = ["button", output, name];
  button.addEventListener("click", () => choose(output || null));
  byId("levels").append(button);
}
byId("file").addEventListener("change", ({ target }) => { if (target.files.length) show(target.files[0]); target.value = ""; });
const drop = byId("drop");
for (const kind of ["dragover", "dragenter"]) document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files.length) show(event.dataTransfer.files[0]); });
document.addEventListener("paste", ({ clipboardData }) => { if (clipboardData.files.length) show(clipboardData.files[0]); });
ready.then(
  () => { byId("prompt").textContent = "Drop, paste or choose a photo"; },
  (error) => {
    byId("prompt").textContent = "The network cannot start here";
    byId("problem").textContent = `This browser cannot run the network (${error.message}). Use a recent Chrome, Edge, Firefox or Safari.`;
  },
);
Object.assign(globalThis, { classify, displayRange }); // for scripts and tests

// Chunks, elements, numbers, pictures. These files share one scope, in the order of build.py; data is only ever text.
const SCHEMA = 2, views = {};
// What is read once, at the start; and what changes with each step of the reader.
let meta, explained, classes, byLabel, byName, labels;
let state = {view: "", args: [], params: {}}, graph = null, fromKeyboard = false;

// ---- chunks: data files call gigraph.chunk(id, data); scripts, because pages opened from disk may not fetch ----
const waiting = {}, loaded = {};
window.gigraph = {chunk: (id, data) => { loaded[id] = data; }};
class Missing extends Error {}
const load = id => waiting[id] ||= new Promise((resolve, reject) => {
  const file = `data/${id.replaceAll("/", "-")}.js`, script = document.createElement("script");
  const end = () => {
    script.remove();
    if (id in loaded) return resolve(loaded[id]);
    delete waiting[id];
    reject(new Missing(file));
  };
  script.onload = script.onerror = end;
  script.src = file;
  document.head.append(script);
});

// ---- elements: h("p.note", {title: name}, "text", node); never markup ----
const $ = id => document.getElementById(id);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const fill = (node, rest) => {
  if (rest[0] && rest[0].constructor === Object) for (const [key, value] of Object.entries(rest.shift())) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") for (const name in value) node.style.setProperty(name, value[name]);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children(rest));
  return node;
};
const children = list => list.flat(9).filter(child => child || child === 0);
const h = (kind, ...rest) => {
  const [tag, ...names] = kind.split("."), node = document.createElement(tag);
  if (names.length) node.className = names.join(" ");
  return fill(node, rest);
};
const s = (tag, ...rest) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), rest);
const show = (node, ...rest) => { node.replaceChildren(...children(rest)); return node; };
// A name is isolated, so that right-to-left text cannot disturb what stands beside it.
const bdi = text => h("bdi", text === "" ? "(no name)" : text);
const meter = value => h("span.meter", {"aria-hidden": true}, h("span", {style: {width: 100 * Math.min(1, Math.max(0, value || 0)) + "%"}}));
const table = (head, rows, kind = "table") => h("div.table", h(kind, h("thead", h("tr", head.map(t => h("th", {scope: "col", title: t[1]}, t[0] || "")))), h("tbody", rows)));
const notice = text => {
  const node = h("p", text, h("button.plain", {"aria-label": "Dismiss", onclick: () => node.remove()}, "×"));
  $("notice").append(node);
};
const empty = (...text) => h("p.state", {role: "status"}, text);
const download = (name, type, text) => {
  const url = URL.createObjectURL(new Blob([text], {type}));
  h("a", {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
};

// ---- numbers ----
const isNumber = value => typeof value === "number";
const num = (value, digits = 3) => {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  const text = !size ? "0" : size >= 1e5 || size < 1e-4 ? size.toExponential(digits - 1) : size.toPrecision(digits);
  return (value < 0 ? "−" : "") + (text.includes("e") && size >= 1e-4 && size < 1e5 ? Number(text) : text);
};
const percent = (value, digits = 0) => {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value) * 100, text = size.toFixed(size >= 0.05 && size < 0.95 && !digits ? 1 : digits);
  return (value < 0 && +text ? "−" : "") + text + "%";
};
const tally = value => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
const plural = (n, one, many = one + "s") => tally(n) + " " + (n === 1 ? one : many);
const pm = (mean, se) => num(mean) + (isNumber(se) ? " ± " + num(se, 2) : "");
const sum = (list, of = x => x) => list.reduce((n, x) => n + of(x), 0);
const largest = values => values.reduce((most, v) => Math.max(most, Math.abs(v || 0)), 0);
const strongest = (list, of) => list.reduce((a, b) => (a && of(a) >= of(b) ? a : b), null);

// The three normalisations: [mean, weight, share] -> the number shown and, for drawing, a size in [0, 1].
const NORMS = {
  raw: ["raw", "mean GIG over the images"],
  share: ["share", "mean GIG over the sum of |GIG| into the same target"],
  paper: ["[0, 1]", "|GIG| over the largest of the layer pair, as in the paper"],
};
const norm = () => (state.params.norm in NORMS ? state.params.norm : "share");
const value = (mean, weight, share) => norm() === "share" ? percent(share) : num(norm() === "paper" ? Math.sign(mean) * weight : mean);
const sizeOf = (weight, share, most) => norm() === "share" ? Math.min(1, Math.abs(share) / (most || 1)) : weight;
// An ablation in the unit that its GIG is shown in.
const like = (mean, weight, share, ablation) => value(ablation, mean && weight * Math.abs(ablation / mean), mean && share * ablation / mean);

// ---- pictures: one request a sheet, however many of its tiles are shown ----
const sheets = {};
const sheet = file => sheets[file] ||= new Promise(resolve => {
  const image = new Image();
  image.onload = () => resolve(true);
  image.onerror = () => { notice(`The pictures in ${file} cannot be loaded; is the file missing?`); resolve(false); };
  image.src = file;
});
const paint = async node => {
  const [file, columns, rows, row, column] = node.tile, whole = await sheet(file);
  node.classList.add(whole ? "painted" : "broken");
  if (whole) Object.assign(node.style, {
    backgroundImage: `url("${file}")`, backgroundSize: `${columns * 100}% ${rows * 100}%`,
    backgroundPosition: `${columns > 1 ? column / (columns - 1) * 100 : 0}% ${rows > 1 ? row / (rows - 1) * 100 : 0}%`,
  });
};
const watching = new IntersectionObserver(entries => {
  for (const {isIntersecting, target} of entries) if (isIntersecting) { watching.unobserve(target); paint(target); }
}, {rootMargin: "300px"});
const pane = (place, alt, over) => {
  const node = h("span.tile", alt ? {role: "img", "aria-label": alt} : {"aria-hidden": true}, over);
  node.tile = place;
  watching.observe(node);
  return node;
};
// [sheet, row, column] of a layer's sheets.
const tile = (layer, [at, row, column], alt) => pane([...meta.layers[layer].sheets[at], row, column], alt);
// An image of the data set: [sheet, row, column] of sheets of 8 x 8, or the name of a file of its own.
const photo = (at, alt, map) => at === null ? h("span.tile.broken") : pane(typeof at === "string" ? [`sheets/images/${at}.webp`, 1, 1, 0, 0]
  : [`sheets/images/${String(at[0]).padStart(3, "0")}.webp`, 8, 8, at[1], at[2]], alt, map && shade(map));
// Where a concept is: rows of base-36 digits; the rest of the picture is dimmed.
const shade = map => {
  const rows = map.split("/"), canvas = h("canvas", {width: rows[0].length, height: rows.length}), pen = canvas.getContext("2d");
  const pixels = pen.createImageData(canvas.width, canvas.height);
  [...rows.join("")].forEach((digit, i) => { pixels.data[4 * i + 3] = 178 * (1 - Math.sqrt(parseInt(digit, 36) / 35)); });
  pen.putImageData(pixels, 0, 0);
  return canvas;
};
const face = (layer, tiles) => tiles.length
  ? h("span.face", {"data-n": tiles.length > 1 ? 4 : 1}, tiles.slice(0, 4).map(t => tile(layer, t)))
  : h("span.face.none", "no picture");

// ---- concepts and classes ----
const idOf = (layer, concept) => `${meta.layers[layer].name}:${concept}`;
const keyId = key => idOf(...key.split(":"));
const parseId = (id = "") => {
  const cut = id.lastIndexOf(":"), layer = meta.layers.findIndex(l => l.name === id.slice(0, cut)), digits = id.slice(cut + 1);
  return layer >= 0 && /^\d{1,9}$/.test(digits) && meta.layers[layer].last >= +digits ? [layer, +digits] : null;
};
const keyOf = id => (parseId(id) || []).join(":");
// The reader's label, or else the part that ground truth says it detects.
const labelOf = key => labels[key];
const guessOf = key => {
  const best = (meta.aligned[key] || [])[0];
  return best && best[1] >= 0.5 ? best[0] : null;
};
const captionOf = key => labelOf(key) ? bdi(labelOf(key)) : guessOf(key) && h("i", {title: `aligns with the part “${guessOf(key)}”`}, "≈ " + guessOf(key));
const say = (layer, concept) => {
  const key = `${layer}:${concept}`, label = labelOf(key) || guessOf(key);
  return `concept ${concept} of ${meta.layers[layer].name}` + (label ? `, ${label}` : "");
};
const classOf = label => byLabel.get(label);
const className = label => bdi(classOf(label) ? classOf(label).name : "unlabelled");

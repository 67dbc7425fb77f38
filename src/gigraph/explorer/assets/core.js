// Chunks, elements, numbers, pictures. These files share one scope, in the order of build.py; data is only ever text.
const LAYOUT = 7, views = {__proto__: null};
// What is read once, at the start; and what changes with each step of the reader.
let meta, explained, layers, everyone, classes, byLabel, byName, labels;
let state = {view: "", args: []}, params = {}, graph = null, fromKeyboard = false;

const {max: larger, min: smaller, abs, sqrt, round, log10} = Math, {assign, entries} = Object, page = document;
const active = () => page.activeElement, keyIn = node => node.dataset.key;
const rect = node => node.getBoundingClientRect();

// ---- chunks: data files call gigraph.chunk(id, data); scripts, because pages opened from disk may not fetch ----
const waiting = {}, loaded = {};
window.gigraph = {chunk: (id, data) => { loaded[id] = data; }};
const load = id => waiting[id] ||= new Promise((resolve, reject) => {
  const file = `data/${id.replaceAll("/", "-")}.js`, script = page.createElement("script");
  const end = () => {
    script.remove();
    if (id in loaded) return resolve(loaded[id]);
    delete waiting[id];
    reject({file});
  };
  script.onload = script.onerror = end;
  script.src = file;
  page.head.append(script);
});

// ---- elements: h("p.note", {title: name, onclick: work}, "text", node); never markup ----
const WORDS = {label: "aria-label", key: "data-key", pressed: "aria-pressed", silent: "aria-hidden"};
const $ = id => page.getElementById(id);
const $$ = (selector, root = page) => [...root.querySelectorAll(selector)];
const fill = (node, first, ...rest) => {
  const more = first && first.constructor === Object;
  for (const [key, value] of entries(more ? first : {})) {
    if (key in WORDS) node.setAttribute(WORDS[key], value);
    else if (value === null || value === undefined || value === false) continue;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") assign(node.style, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children(more ? rest : [first, rest]));
  return node;
};
const children = list => list.flat(9).filter(child => child || child === 0);
const h = (kind, ...rest) => {
  const [tag, ...names] = kind.split("."), node = page.createElement(tag);
  if (names.length) node.className = names.join(" ");
  return fill(node, ...rest);
};
const s = (tag, ...rest) => fill(page.createElementNS("http://www.w3.org/2000/svg", tag), ...rest);
const show = (node, ...rest) => { node.replaceChildren(...children(rest)); return node; };
// A name is isolated, so that right-to-left text cannot disturb what stands beside it.
const bdi = (text, title) => h("bdi", {title}, text || "(no name)");
const link = (href, text, more) => h("a", {href, ...more}, text);
const note = (...text) => h("p.note", text);
// A button; what it does in words is its name for those who cannot see its sign, and its tooltip.
const press = (sign, words, onclick, more) => h("button", {label: words, title: words, onclick, ...more}, sign);
const plain = (sign, words, onclick, more) => press(sign, words, onclick, {class: "plain", ...more});
// Buttons of which one is pressed: [[value, text, tooltip], ...].
const choice = (name, options, now, set) => h("fieldset.segmented", h("legend", name),
  options.map(([value, text, title]) =>
    h("button", {key: name + value, title, pressed: value === now, onclick: () => set(value)}, text)));
const facts = list => h("dl", list.map(([name, value]) => h("div", h("dt", name), h("dd", value))));
const heading = (title, sub, ...actions) =>
  h("div.heading", h("div", h("h1", title), note(sub)), h("div.actions", actions));
// A bar, and a mark on it where a second value is; from below 0 it stands at its beginning, in the colour of what lowers.
const part = value => 100 * smaller(1, larger(0, value || 0)) + "%";
const meter = (value, mark, title, unsure) => h("span.meter", {silent: true, title},
  h("span", {style: {width: part(value)}}), isNumber(mark) && h("i" + (mark < 0 ? ".less" : "") + (unsure ? ".out" : ""), {style: {left: part(mark)}}));
const table = (head, rows) => h("div.table", h("table",
  h("thead", h("tr", head.map(([name, title]) => h("th", {scope: "col", title}, name)))),
  h("tbody", rows)));
const line = (head, ...cells) => h("tr", h("th", {scope: "row"}, head), cells.map(cell => h("td", cell)));
const number = text => h("span.value", text);
// The tooltip, at the pointer; without content it goes.
const tip = (event, content) => {
  const node = $("tip"), near = (at, size, room) => smaller(room - size - 8, at + 14) + "px";
  node.hidden = !content;
  show(node, content);
  assign(node.style, {
    left: near(event.clientX, node.offsetWidth, innerWidth),
    top: near(event.clientY, node.offsetHeight, innerHeight),
  });
};
const notice = text => {
  const node = h("p", text, plain("×", "Dismiss", () => node.remove()));
  $("notice").append(node);
};
const chorded = event => event.altKey || event.ctrlKey || event.metaKey;
const empty = (...text) => h("p.state", {role: "status"}, text);
const download = (name, type, text) => {
  const url = URL.createObjectURL(new Blob([text], {type}));
  assign(link(url), {download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
};

// ---- numbers ----
const isNumber = value => typeof value === "number";
const num = (value, digits = 3) => {
  if (!isNumber(value)) return "–";
  const size = abs(value), far = size >= 1e5 || size < 1e-4;
  return (value < 0 ? "−" : "") + (!size ? 0 : far ? size.toExponential(digits - 1)
    : size < 10 ** digits ? size.toPrecision(digits) : round(size));
};
const percent = (value, digits = 0) => {
  if (!isNumber(value)) return "–";
  const size = abs(value) * 100, text = size.toFixed(size >= 0.05 && size < 0.95 && !digits ? 1 : digits);
  return (value < 0 && +text ? "−" : "") + text + "%";
};
const tally = value => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
const plural = (n, one, many = one + "s") => tally(n) + " " + (n === 1 ? one : many);
// An error is missing where there is one image only.
const pm = (mean, se) => num(mean) + " ± " + (isNumber(se) ? num(se, 2) : "– (one image)");
const sum = (list, of = x => x) => list.reduce((n, x) => n + of(x), 0);
const largest = values => values.reduce((most, v) => larger(most, abs(v || 0)), 0);
const strongest = (list, of) => list.reduce((a, b) => (a && of(a) >= of(b) ? a : b), null);

// The three normalisations: [mean, weight, share] -> the number shown and, for drawing, a size in [0, 1].
const NORMS = {
  raw: ["raw", "mean over the images"],
  share: ["share", "mean over all sizes into the target"],
  paper: ["[0, 1]", "size over the pair’s largest, as in the paper"],
};
// What sizes are called by the graph's attribution method, as |GIG|.
const sized = () => `|${meta.gig}|`;
const norm = () => (params.norm in NORMS ? params.norm : "share");
const value = (mean, weight, share) =>
  norm() === "share" ? percent(share) : num(norm() === "paper" ? Math.sign(mean) * weight : mean);
const sizeOf = (weight, share, most) => norm() === "share" ? smaller(1, abs(share) / (most || 1)) : weight;
// An ablation in the unit that its attribution is shown in.
const like = (mean, weight, share, ablation) =>
  value(ablation, mean && weight * abs(ablation / mean), mean && share * ablation / mean);

// ---- pictures: one request a sheet, however many of its tiles are shown ----
const sheets = {};
const sheet = file => sheets[file] ||= new Promise(resolve => {
  const image = new Image();
  image.onload = () => resolve(true);
  image.onerror = () => { notice(`The pictures in ${file} cannot be loaded.`); resolve(false); };
  image.src = file;
});
const paint = async node => {
  const [file, columns, rows, row, column] = node.tile, whole = await sheet(file);
  node.classList.add(whole ? "painted" : "broken");
  if (whole) assign(node.style, {
    backgroundImage: `url("${file}")`, backgroundSize: `${columns * 100}% ${rows * 100}%`,
    backgroundPosition: `${columns > 1 ? column / (columns - 1) * 100 : 0}% ${rows > 1 ? row / (rows - 1) * 100 : 0}%`,
  });
};
const watching = new IntersectionObserver(entries => {
  for (const {isIntersecting, target} of entries) if (isIntersecting) { watching.unobserve(target); paint(target); }
}, {rootMargin: "300px"});
const pane = (place, alt, over) => {
  const node = h("span.tile", alt ? {role: "img", label: alt} : {silent: true}, over);
  node.tile = place;
  watching.observe(node);
  return node;
};
// [sheet, row, column] of a layer's sheets.
const tile = (layer, [at, row, column], alt) => pane([...layers[layer].sheets[at], row, column], alt);
// An image of the data set: [sheet, row, column] of sheets of 8 x 8, or the name of a file of its own.
const photo = (at, alt, map) => at === null ? h("span.tile.broken")
  : pane(typeof at === "string" ? [`sheets/images/${at}.webp`, 1, 1, 0, 0]
    : [`sheets/images/${String(at[0]).padStart(3, "0")}.webp`, 8, 8, at[1], at[2]], alt, map && map.split("|").map(shade));
// Where a concept is: rows of base-36 digits; the rest of the picture is dimmed. Behind a | are the tokens beside it.
const shade = map => {
  const rows = map.split("/"), canvas = h("canvas", {width: rows[0].length, height: rows.length});
  const pen = canvas.getContext("2d");
  const pixels = pen.createImageData(canvas.width, canvas.height);
  [...rows.join("")].forEach((digit, i) => {
    pixels.data[4 * i + 3] = 178 * (1 - sqrt(parseInt(digit, 36) / 35));
  });
  pen.putImageData(pixels, 0, 0);
  return canvas;
};
const face = (layer, tiles) => h("span.face" + (tiles[1] ? "" : ".one") + (tiles[0] ? "" : ".none"),
  tiles[0] ? tiles.slice(0, 4).map(t => tile(layer, t)) : "no picture");

// ---- concepts and classes ----
const idOf = (layer, concept) => `${layers[layer].name}:${concept}`;
const keyId = key => idOf(...key.split(":"));
const parseId = (id = "") => {
  const cut = id.lastIndexOf(":"), layer = layers.findIndex(l => l.name === id.slice(0, cut));
  const digits = id.slice(cut + 1);
  return layer >= 0 && /^\d{1,9}$/.test(digits) && layers[layer].last >= +digits ? [layer, +digits] : null;
};
const keyOf = id => (parseId(id) || []).join(":");
// The reader's label, or else the part that ground truth says it detects.
const labelOf = key => labels[key];
const guessOf = key => {
  const best = (meta.aligned[key] || [])[0];
  return best && best[1] >= 0.5 ? best[0] : null;
};
const captionOf = key => labelOf(key) ? bdi(labelOf(key))
  : guessOf(key) && h("i", "≈ " + guessOf(key));
const say = (layer, concept) => {
  const key = `${layer}:${concept}`, label = labelOf(key) || guessOf(key);
  return `concept ${concept} of ${layers[layer].name}` + (label ? `, ${label}` : "");
};
const classOf = label => byLabel.get(label);
const conceptLink = (layer, concept) => [
  link(select(layer, concept), "#" + concept, {key: `to-${layer}:${concept}`}), " ", captionOf(`${layer}:${concept}`),
];
const namedLike = (text, list = classes) => list.filter(c => `${c.shown} ${c.name}`.toLowerCase().includes(text.trim().toLowerCase()));
const className = label => {
  const {shown, name} = classOf(label) || {shown: "unlabelled"};
  return bdi(shown, shown === name ? null : name);
};

// Chunks, elements, numbers, pictures. Everything hangs on one global; data reaches the page only as text nodes.
"use strict";
var gigraph = {SCHEMA: 2, views: {}};

(g => {
  // ---- chunks: data files call gigraph.chunk(id, data); scripts, because pages opened from disk may not fetch ----
  const waiting = {}, loaded = {};
  g.chunk = (id, data) => { loaded[id] = data; };
  g.Missing = class extends Error {};
  g.load = id => waiting[id] ||= new Promise((resolve, reject) => {
    const file = `data/${id.replaceAll("/", "-")}.js`, script = document.createElement("script");
    const end = () => {
      script.remove();
      if (id in loaded) return resolve(loaded[id]);
      delete waiting[id];
      reject(new g.Missing(file));
    };
    script.onload = script.onerror = end;
    script.src = file;
    document.head.append(script);
  });

  // ---- elements: h("p.note", {title: name}, "text", node); never markup ----
  g.$ = id => document.getElementById(id);
  g.all = (selector, root = document) => [...root.querySelectorAll(selector)];
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
  g.h = (kind, ...rest) => {
    const [tag, ...names] = kind.split("."), node = document.createElement(tag);
    if (names.length) node.className = names.join(" ");
    return fill(node, rest);
  };
  g.s = (tag, ...rest) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), rest);
  g.show = (node, ...rest) => { node.replaceChildren(...children(rest)); return node; };
  const {h} = g;
  // A name is isolated, so that right-to-left text cannot disturb what stands beside it.
  g.name = text => h("bdi", text === "" ? "(no name)" : text);
  g.meter = value => h("span.meter", {"aria-hidden": true}, h("span", {style: {width: 100 * Math.min(1, Math.max(0, value || 0)) + "%"}}));
  g.table = (head, rows, kind = "table") => h("div.table", h(kind, h("thead", h("tr", head.map(t => h("th", {scope: "col", title: t[1]}, t[0] || "")))), h("tbody", rows)));
  g.state = {view: "", args: [], params: {}};
  g.notice = text => {
    const node = h("p", text, h("button.plain", {"aria-label": "Dismiss", onclick: () => node.remove()}, "×"));
    g.$("notice").append(node);
  };
  g.empty = (...text) => h("p.state", {role: "status"}, text);
  g.download = (name, type, text) => {
    const url = URL.createObjectURL(new Blob([text], {type}));
    h("a", {href: url, download: name}).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };

  // ---- numbers ----
  const isNumber = value => typeof value === "number";
  g.num = (value, digits = 3) => {
    if (!isNumber(value)) return "–";
    const size = Math.abs(value);
    const text = !size ? "0" : size >= 1e5 || size < 1e-4 ? size.toExponential(digits - 1) : size.toPrecision(digits);
    return (value < 0 ? "−" : "") + (text.includes("e") && size >= 1e-4 && size < 1e5 ? Number(text) : text);
  };
  g.percent = (value, digits = 0) => {
    if (!isNumber(value)) return "–";
    const size = Math.abs(value) * 100, text = size.toFixed(size >= 0.05 && size < 0.95 && !digits ? 1 : digits);
    return (value < 0 && +text ? "−" : "") + text + "%";
  };
  g.count = value => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
  g.plural = (n, one, many = one + "s") => g.count(n) + " " + (n === 1 ? one : many);
  g.pm = (mean, se) => g.num(mean) + (isNumber(se) ? " ± " + g.num(se, 2) : "");
  g.sum = (list, of = x => x) => list.reduce((n, x) => n + of(x), 0);
  g.most = values => values.reduce((most, v) => Math.max(most, Math.abs(v || 0)), 0);
  g.strongest = (list, of) => list.reduce((a, b) => (a && of(a) >= of(b) ? a : b), null);

  // The three normalisations: [mean, weight, share] -> the number shown and, for drawing, a size in [0, 1].
  g.NORMS = {
    raw: ["raw", "mean GIG over the images"],
    share: ["share", "mean GIG over the sum of |GIG| into the same target"],
    paper: ["[0, 1]", "|GIG| over the largest of the layer pair, as in the paper"],
  };
  g.norm = () => (g.state.params.norm in g.NORMS ? g.state.params.norm : "share");
  g.value = (mean, weight, share) => g.norm() === "share" ? g.percent(share) : g.num(g.norm() === "paper" ? Math.sign(mean) * weight : mean);
  g.size = (weight, share, most) => g.norm() === "share" ? Math.min(1, Math.abs(share) / (most || 1)) : weight;
  // An ablation in the unit that its GIG is shown in.
  g.like = (mean, weight, share, ablation) => g.value(ablation, mean && weight * Math.abs(ablation / mean), mean && share * ablation / mean);

  // ---- pictures: one request a sheet, however many of its tiles are shown ----
  const sheets = {};
  const sheet = file => sheets[file] ||= new Promise(resolve => {
    const image = new Image();
    image.onload = () => resolve(true);
    image.onerror = () => { g.notice(`The pictures in ${file} cannot be loaded; is the file missing?`); resolve(false); };
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
  const tile = (place, alt, over) => {
    const node = h("span.tile", alt ? {role: "img", "aria-label": alt} : {"aria-hidden": true}, over);
    node.tile = place;
    watching.observe(node);
    return node;
  };
  // [sheet, row, column] of a layer's sheets.
  g.tile = (layer, [at, row, column], alt) => tile([...g.meta.layers[layer].sheets[at], row, column], alt);
  // An image of the data set: [sheet, row, column] of sheets of 8 x 8, or the name of a file of its own.
  g.picture = (at, alt, map) => at === null ? h("span.tile.broken") : tile(typeof at === "string" ? [`sheets/images/${at}.webp`, 1, 1, 0, 0]
    : [`sheets/images/${String(at[0]).padStart(3, "0")}.webp`, 8, 8, at[1], at[2]], alt, map && shade(map));
  // Where a concept is: rows of base-36 digits; the rest of the picture is dimmed.
  const shade = map => {
    const rows = map.split("/"), canvas = h("canvas", {width: rows[0].length, height: rows.length}), pen = canvas.getContext("2d");
    const pixels = pen.createImageData(canvas.width, canvas.height);
    [...rows.join("")].forEach((digit, i) => { pixels.data[4 * i + 3] = 178 * (1 - Math.sqrt(parseInt(digit, 36) / 35)); });
    pen.putImageData(pixels, 0, 0);
    return canvas;
  };
  g.face = (layer, tiles) => tiles.length
    ? h("span.face", {"data-n": tiles.length > 1 ? 4 : 1}, tiles.slice(0, 4).map(t => g.tile(layer, t)))
    : h("span.face.none", "no picture");

  // ---- concepts and classes ----
  g.idOf = (layer, concept) => `${g.meta.layers[layer].name}:${concept}`;
  g.keyId = key => g.idOf(...key.split(":"));
  g.parseId = (id = "") => {
    const cut = id.lastIndexOf(":"), layer = g.meta.layers.findIndex(l => l.name === id.slice(0, cut)), digits = id.slice(cut + 1);
    return layer >= 0 && /^\d{1,9}$/.test(digits) && g.meta.layers[layer].last >= +digits ? [layer, +digits] : null;
  };
  g.keyOf = id => (g.parseId(id) || []).join(":");
  // The reader's label, or else the part that ground truth says it detects.
  g.labelOf = key => g.labels[key];
  g.guessOf = key => {
    const best = (g.meta.aligned[key] || [])[0];
    return best && best[1] >= 0.5 ? best[0] : null;
  };
  g.captionOf = key => g.labelOf(key) ? g.name(g.labelOf(key)) : g.guessOf(key) && h("i", {title: `aligns with the part “${g.guessOf(key)}”`}, "≈ " + g.guessOf(key));
  g.say = (layer, concept) => {
    const key = `${layer}:${concept}`, label = g.labelOf(key) || g.guessOf(key);
    return `concept ${concept} of ${g.meta.layers[layer].name}` + (label ? `, ${label}` : "");
  };
  g.classOf = label => g.byLabel.get(label);
  g.className = label => g.name(g.classOf(label) ? g.classOf(label).name : "unlabelled");
})(gigraph);

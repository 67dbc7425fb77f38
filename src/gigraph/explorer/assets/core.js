// Chunks, elements, numbers. Everything hangs on one global, `gigraph`; data reaches the page only as text nodes.
"use strict";
var gigraph = {SCHEMA: 1, views: {}};

(function (g) {
  const waiting = {}, loaded = {};

  // Data files call this: gigraph.chunk("class/3", {...}).
  g.chunk = (id, data) => { loaded[id] = data; };

  g.fileOf = (id) => "data/" + id.replaceAll("/", "-") + ".js";

  // A script, because pages opened from disk may not fetch.
  g.load = (id) => waiting[id] || (waiting[id] = new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const fail = () => { delete waiting[id]; reject(new g.Missing(g.fileOf(id))); };
    script.src = g.fileOf(id);
    script.onload = () => { script.remove(); id in loaded ? resolve(loaded[id]) : fail(); };
    script.onerror = () => { script.remove(); fail(); };
    document.head.append(script);
  }));

  g.Missing = class extends Error {
    constructor(file) { super(file); this.file = file; }
  };

  g.$ = (id) => document.getElementById(id);

  // h("p.note", {title: name}, "text", node): attributes, "on..." listeners, children; never markup.
  g.h = (kind, props, ...children) => {
    const [tag, ...names] = kind.split(".");
    const node = document.createElement(tag || "div");
    if (names.length) node.className = names.join(" ");
    return g.fill(node, props, children);
  };
  const SVG = "http://www.w3.org/2000/svg";
  g.s = (tag, props, ...children) => g.fill(document.createElementNS(SVG, tag), props, children);
  g.fill = (node, props, children) => {
    for (const [key, value] of Object.entries(props || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "style") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
      else node.setAttribute(key, value === true ? "" : value);
    }
    for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) node.append(child);
    return node;
  };
  g.show = (node, ...children) => { node.replaceChildren(...children.flat(Infinity).filter(Boolean)); return node; };
  // A name is isolated, so that right-to-left text cannot disturb what stands beside it.
  g.name = (text) => g.h("bdi", {}, text === "" ? "(no name)" : text);

  // ---- numbers ----
  const MINUS = "\u2212";
  g.num = (value, digits = 3) => {
    if (value === null || value === undefined) return "\u2013";
    if (value === 0) return "0";
    const size = Math.abs(value);
    let text = size >= 1e5 || size < 1e-4 ? size.toExponential(digits - 1)
      : size.toPrecision(digits);
    if (text.includes("e") && size < 1e5 && size >= 1e-4) text = String(Number(text));
    return (value < 0 ? MINUS : "") + text;
  };
  g.percent = (value, digits = 0) => {
    if (value === null || value === undefined) return "\u2013";
    const size = Math.abs(value) * 100;
    if (size > 0 && size < 0.5 && !digits) return (value < 0 ? MINUS : "") + "<1%";
    return (value < 0 && size >= 0.5 ? MINUS : "") + size.toFixed(digits) + "%";
  };
  g.count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
  g.plural = (n, one, many = one + "s") => g.count(n) + " " + (n === 1 ? one : many);

  // ---- the three normalisations: [mean, weight, share] -> the number shown and a size in [0, 1] ----
  g.NORMS = {
    raw: ["raw", "mean GIG over the images"],
    share: ["share", "mean GIG over the sum of |GIG| into the same target"],
    paper: ["[0, 1]", "|GIG| over the largest of the layer pair, as in the paper"],
  };
  g.value = (norm, mean, weight, share) =>
    norm === "share" ? g.percent(share) : g.num(norm === "paper" ? Math.sign(mean) * weight : mean);
  // An ablation in the unit that its GIG is shown in.
  g.like = (mean, weight, share, ablation) => {
    const ratio = mean ? ablation / mean : 0;
    return g.value(g.norm(), ablation, weight * Math.abs(ratio), share * ratio);
  };
  // Shares are drawn relative to the largest one shown beside them.
  g.size = (norm, weight, share, most) => (norm === "share" ? Math.min(1, Math.abs(share) / (most || 1)) : weight);
  g.most = (values) => values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);

  // ---- pictures ----
  const watching = "IntersectionObserver" in window ? new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { watching.unobserve(entry.target); paint(entry.target); }
  }, {rootMargin: "300px"}) : null;
  // One request a sheet, however many of its tiles are shown.
  const sheets = {};
  const sheet = (file) => sheets[file] || (sheets[file] = new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve(true);
    image.onerror = () => { g.notice(`The pictures in ${file} cannot be loaded; is the file missing?`); resolve(false); };
    image.src = file;
  }));
  const paint = async (node) => {
    const [file, columns, rows] = node.sheet, [, row, column] = node.tile;
    const whole = await sheet(file);
    node.classList.add(whole ? "painted" : "broken");
    if (!whole) return;
    node.style.backgroundImage = `url("${file}")`;
    node.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
    node.style.backgroundPosition = `${columns > 1 ? column / (columns - 1) * 100 : 0}% ${rows > 1 ? row / (rows - 1) * 100 : 0}%`;
  };
  g.tile = (layer, tile, alt) => {
    const node = g.h("span.tile", alt ? {role: "img", "aria-label": alt} : {"aria-hidden": "true"});
    node.sheet = g.meta.layers[layer].sheets[tile[0]];
    node.tile = tile;
    if (watching) watching.observe(node); else paint(node);
    return node;
  };
  g.face = (layer, tiles) => tiles.length
    ? g.h("span.face", {"data-n": Math.min(tiles.length, 4)}, tiles.slice(0, 4).map((tile) => g.tile(layer, tile)))
    : g.h("span.face.none", {}, "no picture");

  // ---- the run ----
  g.layerIndex = (name) => g.meta.layers.findIndex((layer) => layer.name === name);
  g.idOf = (layer, concept) => `${g.meta.layers[layer].name}:${concept}`;
  g.parseId = (id) => {
    const cut = (id || "").lastIndexOf(":"), layer = g.layerIndex((id || "").slice(0, cut)), digits = id.slice(cut + 1);
    return layer >= 0 && /^\d{1,9}$/.test(digits) && g.meta.layers[layer].last >= +digits ? [layer, +digits] : null;
  };
  // The user's label, or else the part that ground truth says it detects.
  g.labelOf = (layer, concept) => g.meta.labels[`${layer}:${concept}`] || null;
  g.guessOf = (layer, concept) => {
    const best = (g.meta.aligned[`${layer}:${concept}`] || [])[0];
    return best && best[1] >= 0.5 ? best[0] : null;
  };
  g.captionOf = (layer, concept) => {
    const label = g.labelOf(layer, concept), guess = g.guessOf(layer, concept);
    return label ? g.name(label) : guess ? g.h("i", {title: `aligns with the part \u201c${guess}\u201d`}, "\u2248\u2009" + guess) : null;
  };
  g.say = (layer, concept) => {
    const label = g.labelOf(layer, concept) || g.guessOf(layer, concept);
    return `concept ${concept} of ${g.meta.layers[layer].name}` + (label ? `, ${label}` : "");
  };
  g.classOf = (label) => g.byLabel.get(label);

  g.notice = (text) => {
    const node = g.h("p", {}, text, g.h("button.plain", {type: "button", "aria-label": "Dismiss", onclick: () => node.remove()}, "\u00d7"));
    g.$("notice").append(node);
  };
  g.calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
})(gigraph);

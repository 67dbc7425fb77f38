// Draws rows of concepts and the edges between them: of one class, of two side by side, or of one image.
const CAP = 600; // drawn edges; beyond it the weakest are counted as hidden
const toClass = label => "class:" + label;

// scopes: [{label, letter, data}], data as in the chunk class/C;
// rows: deepest layer first, [{layer, groups: [[title, concepts]]}].
const modelOf = (scopes, rows, min, picture) => {
  const nodes = new Map(), edges = [], cover = [], last = layers.length - 1;
  const ofScope = scopes.map(({data}) => data.layers.map(list => new Map(list.map(n => [n[0], n]))));
  for (const {label} of scopes) nodes.set(toClass(label), {key: toClass(label), edges: []});
  for (const {layer, groups} of rows) for (const [, concepts] of groups) for (const concept of concepts) {
    const key = `${layer}:${concept}`;
    const parts = scopes.map(s => s.data.members[key]).find(Boolean);
    nodes.set(key, {key, layer, concept, parts, edges: [], of: ofScope.map(layers => layers[layer].get(concept))});
  }
  scopes.forEach(({label, data}, scope) => {
    for (const {layer} of rows) {
      const inRow = l => [...nodes.values()].filter(n => n.layer === l && n.of[scope]).map(n => n.concept);
      const sources = new Set(inRow(layer)), targets = layer === last ? [label] : inRow(layer + 1);
      const keyOf = t => layer === last ? toClass(t) : `${layer + 1}:${t}`, {edges: all, into} = data.pairs[layer];
      const sum = {layer, total: 0, drawn: 0, error: 0, rest: 0, hidden: 0, errors: []};
      for (const target of targets) if (into[target]) {
        const [count, total, error, , rest] = into[target];
        sum.hidden += count; sum.total += total; sum.error += abs(error); sum.rest += abs(rest);
        sum.errors.push({to: keyOf(target), mean: error, share: total ? error / total : 0});
      }
      for (const row of all) {
        const [a, b, mean, , , , , weight, share] = row;
        if (sources.has(a) && targets.includes(b))
          edges.push({scope, sum, row, from: `${layer}:${a}`, to: keyOf(b), mean, weight, share});
      }
      cover.push(sum);
    }
  });
  const shown = edges.filter(e => e.mean && e.weight >= min / 100 || e.to[0] === "c")
    .sort((a, b) => b.weight - a.weight).slice(0, CAP);
  const most = largest(shown.map(e => e.share)), twice = new Map();
  for (const e of shown) {
    const id = e.from + e.to;
    twice.set(id, (twice.get(id) || 0) + 1);
    e.sum.drawn += abs(e.mean); e.sum.hidden--; e.size = sizeOf(e.weight, e.share, most);
    nodes.get(e.from).edges.push(e); nodes.get(e.to).edges.push(e);
  }
  for (const e of shown) e.shift = twice.get(e.from + e.to) > 1 ? 8 * e.scope - 4 : 0;
  const known = [...nodes.values()].flatMap(n => (n.of || []).filter(Boolean)), relevance = largest(known.map(v => v[5]));
  // What a concept does for the class, and what that would be by its exact ablation, where there is one.
  for (const v of known) {
    v.bar = sizeOf(v[4], v[5], relevance);
    v.mark = isNumber(v[7]) && v[1] ? v.bar * v[7] / v[1] : null;
  }
  const longest = larger(1, ...known.map(v => v.mark));
  return {scopes, rows, nodes, edges: shown, cover, most, relevance, longest, picture};
};

const coverage = ({nodes, cover}) => {
  const parts = cover.filter(c => c.total).map(c => c.drawn / c.total);
  return h("p.coverage", {
    id: "coverage",
    title: `Drawn ${sized()} over all into the row above; mean over layers`,
  },
  h("b", `${[...nodes.values()].filter(n => n.of).length} of ${plural(sum(layers, l => l.families), ...meta.unit)}`),
  ", ", h("b", `${percent(parts.length ? sum(parts) / parts.length : null)} of ${sized()}`),
  "; ", plural(sum(cover, c => c.hidden), "edge") + " hidden");
};

// ---- nodes ----
const relevanceBar = (v, longest) => meter(v.bar / longest, v.mark && v.mark / longest,
  `${meta.gig} ${pm(v[1], v[2])}, n ${v[3]}` + (isNumber(v.mark) ? `; ablation ${pm(v[7], v[8])}` : ""), abs(v[7]) < 2 * v[8]);
const conceptNode = (node, {scopes, relevance, longest, picture}) => {
  const {layer, concept, key, parts} = node, mine = node.of.find(Boolean);
  const values = node.of.map((v, i) =>
    v && [scopes[i], value(v[1], v[4], v[5]), relevanceBar(v, longest)]).filter(Boolean);
  const [[, text, bar]] = values, caption = captionOf(key), map = picture && picture.maps[key];
  return h("button.node" + (values[1] ? ".shared" : ""), {
    tabindex: -1, key,
    label: `${say(layer, concept)}${parts ? `, a family of ${parts[0]}` : ""}; `
      + values.map(v => `${meta.gig} to ${classOf(v[0].label).shown} ${v[1]}`).join(", "),
  }, map ? h("span.face.one", photo(picture.at, "", map)) : face(layer, mine[6]),
  map && h("span.strip", mine[6].slice(0, 3).map(t => tile(layer, t))),
  caption && h("span.caption", caption), h("span.line",
    h("span.id", "#" + concept), parts && h("span.more", {title: "Its members (M)"}, "×" + parts[0]),
    !values[1] && number(text)),
  values[1] ? values.map(([{letter}, shown, bar]) => h("span.line", h("b", letter), bar, number(shown))) : bar,
  parts && listed("open").includes(keyId(key)) && parts.slice(1).map(([id, mean, , , weight, share]) =>
    h("span.line", h("span.id", "#" + id), meter(sizeOf(weight, share, relevance) / longest), number(value(mean, weight, share)))));
};
// What is said of a layer and the next one up stands between their rows, beside the edges that it is said of.
const pairOf = layer => `${layers[layer].name} → ${layer < layers.length - 1 ? layers[layer + 1].name : "class"}`;
const errorNode = (layer, sums, scopes) => {
  const shares = sums.map(({error, total}, i) => [scopes[i].letter, percent(total ? error / total : null)]);
  const text = `Error node of ${pairOf(layer)}: unexplained, of ${sized()} ${shares.map(s => s.join(" ")).join(", ")}`;
  return press([h("span.hatch"), h("span.caption", "unexplained"),
    h("span.line", shares.map(([letter, share]) => [letter && h("b", letter), number(share)]))],
  text, null, {class: "node error", tabindex: -1, key: "error:" + layer});
};
const gutter = (layer, count, part, more) => {
  const [drawn, rest, error] = ["drawn", "rest", "error"].map(part), concealed = larger(0, 1 - drawn - rest - error);
  const {name, families} = layers[layer];
  const text = `${pairOf(layer)}: of ${sized()} ${percent(drawn)} drawn, ${percent(concealed)} hidden, ${
    percent(rest)} not kept (remainder), ${percent(error)} unexplained (error node)`;
  return h("div.gutter", h("h2", link(linkTo("atlas", [name]), name)),
    h("p", `${count} of ${tally(families)}`, more > 0 && `, ${more} more shared`),
    h("div.cover", {title: text}, h("span.stack", {role: "img", label: text}, entries({drawn, concealed, rest, error})
      .map(([kind, size]) => h("span." + kind, {style: {width: 100 * size + "%"}}))), percent(drawn) + " drawn"));
};
const pill = ({label, letter, note}) => h("button.node.pill", {
  tabindex: -1, key: toClass(label), label: "class " + classOf(label).shown,
}, letter && h("span.letter", letter), className(label), note && h("span.id", note));

// ---- the drawing ----
const drawGraph = model => {
  const svg = s("svg", {class: "edges", silent: true}), {scopes, rows, cover} = model, two = scopes[1];
  const stage = h("div.stage" + (two ? ".pair" : ""), svg,
    h("div.row.tops", {role: "group", label: "Classes"}, h("div.gutter"),
      h("div.nodes", two
        ? ["A only", "shared", "B only"].map((title, i) =>
          h("div.group", h("span.id", title), i !== 1 && pill(scopes[i / 2])))
        : pill(scopes[0])),
      h("div.chips")),
    rows.map(({layer, groups, more}) => {
      const sums = cover.filter(c => c.layer === layer), total = sum(sums, c => c.total);
      const part = key => sum(sums, c => c[key]) / (total || 1);
      return h("div.row", {role: "group", label: layers[layer].name, "data-layer": layer},
        gutter(layer, sum(groups, x => x[1].length), part, more),
        h("div.nodes", groups.map(([title, concepts]) => h("div.group", title ? {label: title, role: "group"} : {},
          concepts.length ? concepts.map(c => conceptNode(model.nodes.get(`${layer}:${c}`), model))
            : h("p.id", "none")))),
        h("div.chips", total > 0 && errorNode(layer, sums, scopes)));
    }));
  const scroller = h("div.scroller", stage);
  const base = s("g", {class: "base"}), lit = s("g", {class: "lit"}), hits = s("g", {class: "hits"});
  svg.append(base, lit, hits);
  const view = graph = {
    stage, scroller, svg, model, base, lit, hits, held: [],
    nodes: new Map($$(".node", stage).map(n => [keyIn(n), n])),
  };
  let width = 0;
  view.place = () => {
    const room = scroller.clientWidth, narrow = room < (two ? 1100 : 736);
    if (!room) return; // not on the page, or behind the maximised card
    stage.classList.toggle("narrow", narrow);
    if (!width || narrow || width < 1100) measure(view);
    width = room;
    const k = view.k = view.zoom || (narrow ? 1 : larger(0.62, smaller(1, (room - 4) / stage.offsetWidth)));
    assign(stage.style, {
      transform: `scale(${k})`, marginBottom: `${(k - 1) * stage.offsetHeight}px`,
      marginLeft: `${larger(0, (room - k * stage.offsetWidth) / 2)}px`,
    });
  };
  new ResizeObserver(() => scroller.clientWidth !== width && view.place()).observe(scroller);
  interact(view);
  return scroller;
};
const zoom = factor => {
  graph.zoom = factor && smaller(1.6, larger(0.4, graph.k * factor));
  graph.place();
};

// An edge is a cubic that leaves and arrives upright; here its point at t, and its path.
const along = (t, [x1, y1, x2, y2]) => ({
  x: x1 + (x2 - x1) * t * t * (3 - 2 * t), y: y1 + (y2 - y1) * (1.5 * t * (1 - t) + t ** 3) + 4,
});
const curve = ([x1, y1, x2, y2]) => {
  const m = (y1 + y2) / 2;
  return `M${x1} ${y1}C${x1} ${m} ${x2} ${m} ${x2} ${y2}`;
};
const pathOf = (e, opacity = 0.28 + 0.55 * sqrt(e.size)) => s("path", {
  d: curve(e.line), class: e.mean < 0 ? "neg" : "pos",
  "stroke-width": (0.8 + 7.2 * e.size).toFixed(2), "stroke-opacity": opacity.toFixed(2),
  "stroke-dasharray": e.mean < 0 && `${(3 + 4 * e.size).toFixed(1)} ${(2.5 + 3 * e.size).toFixed(1)}`,
});
const minus = e => s("text", {...along(0.5, e.line), class: "minus"}, "−");
const between = (a, b, shift = 0) => [a.x + shift, a.top - 1, b.x + shift, b.bottom + 1];

const measure = view => {
  const {stage, svg, model, base, hits} = view, box = rect(stage), k = box.width / stage.offsetWidth;
  const paths = [], targets = [];
  view.spots = new Map();
  for (const [key, node] of view.nodes) {
    const r = rect(node);
    view.spots.set(key, {
      x: round((r.left + r.width / 2 - box.left) / k),
      top: (r.top - box.top) / k, bottom: (r.bottom - box.top) / k,
    });
  }
  for (const e of [...model.edges].reverse()) {
    e.line = between(view.spots.get(e.from), view.spots.get(e.to), e.shift);
    paths.push(pathOf(e), ...e.mean < 0 && e.size > 0.12 ? [minus(e)] : []);
    targets.push(assign(s("path", {d: curve(e.line)}), {edge: e}));
  }
  fill(svg, {width: stage.offsetWidth, height: stage.offsetHeight});
  base.replaceChildren(...paths);
  hits.replaceChildren(...targets);
  light(view, view.key);
};

const strongestEdge = (node, end) => node && strongest(node.edges.filter(e => e[end] === node.key), e => e.size);
// The edges of a node, and from there the strongest way up to a class and down to the first layer.
const pathsOf = (model, key) => {
  const found = new Map(), node = model.nodes.get(key);
  if (node) for (const e of node.edges) found.set(e, true);
  for (const [near, far] of [["from", "to"], ["to", "from"]]) {
    for (let e = strongestEdge(node, near); e; e = strongestEdge(model.nodes.get(e[far]), near))
      if (!found.has(e)) found.set(e, false);
  }
  return found;
};

// Groups are dimmed, never single paths; what is lit is drawn once more above them.
const light = (view, key) => {
  const {stage, model, lit} = view, edges = new Map(), on = new Set(), drawn = [], main = key || view.selected;
  view.key = key;
  for (const one of new Set([...key ? [key] : [], ...view.held])) {
    on.add(one);
    for (const [e, direct] of pathsOf(model, one)) edges.set(e, edges.get(e) || direct && one === main);
  }
  for (const [e, direct] of [...edges].sort((a, b) => a[0].size - b[0].size)) {
    on.add(e.from).add(e.to);
    drawn.push(pathOf(e, 0.95));
    if (e.mean < 0) drawn.push(minus(e));
    if (direct) drawn.push(s("text", {...along(e.to === main ? 0.22 : 0.76, e.line), class: "number"},
      value(e.mean, e.weight, e.share)));
  }
  if (key && key[0] === "e")
    for (const e of model.cover.filter(c => c.layer === +key.slice(6)).flatMap(c => c.errors)) if (e.mean) {
      const line = between(view.spots.get(key), view.spots.get(e.to));
      on.add(e.to);
      drawn.push(
        s("path", {
          d: curve(line), class: "err", "stroke-width": 1 + 7 * smaller(1, abs(e.share) / (model.most || 1)),
        }),
        s("text", {...along(0.8, line), class: "number"}, norm() === "raw" ? num(e.mean) : percent(e.share)));
    }
  lit.replaceChildren(...drawn);
  stage.classList.toggle("lighting", on.size > 0);
  for (const [k, node] of view.nodes) node.classList.toggle("on", on.has(k));
};

// ---- pointer and keys ----
let clicked = "";
const placeOf = event => [event.screenX | 0, event.screenY | 0].join();
const interact = view => {
  const {stage, scroller, svg, model} = view, two = model.scopes[1], nodeAt = event => event.target.closest(".node");
  const roam = node => { for (const other of view.nodes.values()) other.tabIndex = other === node ? 0 : -1; };
  roam(stage.querySelector(".row:not(.tops) .node") || stage.querySelector(".node"));
  const focused = () => {
    const node = active();
    return stage.contains(node) && node.matches(":focus-visible") ? keyIn(node) : "";
  };
  const open = key => {
    if (key[0] !== "c") visit({sel: params.sel === keyId(key) ? null : keyId(key), on: null});
    else if (state.view === "class") visit({sel: null});
    else location.hash = linkTo("class", [slug(+key.slice(6))]);
  };
  // Handlers of the stage that concern the node at hand.
  const forNode = work => event => { const node = nodeAt(event); if (node) work(keyIn(node), node, event); };
  fill(stage, {
    // Not what moves below a pointer that rests where it clicked.
    onpointerover: forNode((key, _, event) => { if (placeOf(event) !== clicked) light(view, key); }),
    onpointerout: forNode(() => light(view, focused())),
    onfocusin: forNode((key, node) => { roam(node); if (focused()) light(view, key); }),
    onfocusout: () => light(view, ""),
    onclick: forNode((key, _, event) => {
      fromKeyboard = !event.detail;
      clicked = placeOf(event);
      if (event.target.className === "more") toggle("open", key); else if (key[0] !== "e") open(key);
    }),
    onkeydown: forNode((_, node, event) => {
      const to = !chorded(event) && step(view, node, event.key);
      if (to) { event.preventDefault(); to.focus(); to.scrollIntoView({block: "nearest", inline: "nearest"}); }
    }),
  });
  const words = key => key[0] === "c" ? className(+key.slice(6)) : "#" + key.split(":")[1];
  const about = ({scope, from, to, row: [, , mean, se, support, ablation, ablationSe, weight, share]}) => [
    h("b", two && model.scopes[scope].letter + ": ", words(from), " → ", words(to)),
    facts([
      [meta.gig, pm(mean, se)], ["ablation", ablation === null ? "not checked" : pm(ablation, ablationSe)],
      ["share of target", percent(share, 1)], ["[0, 1] in the pair", num(weight)],
      ["support", plural(support, "image")],
    ]),
  ];
  fill(svg, {
    onpointermove: event => tip(event, event.target.edge && about(event.target.edge)),
    onpointerleave: event => tip(event),
  });
  fill(scroller, {onpointermove: event => {
    if (event.buttons & 1 && event.pointerType === "mouse") scroller.scrollLeft -= event.movementX;
  }});
};

const step = ({stage, model, spots, nodes}, node, key) => {
  const rows = $$(".row", stage).map(row => $$(".node", row)).filter(row => row.length);
  const r = rows.findIndex(row => row.includes(node));
  const row = rows[r], i = row.indexOf(node), x = n => spots.get(keyIn(n)).x;
  if (key === "ArrowLeft") return row[i - 1];
  if (key === "ArrowRight") return row[i + 1];
  if (key === "Home") return row[0];
  if (key === "End") return row.at(-1);
  if (key !== "ArrowUp" && key !== "ArrowDown") return null;
  const up = key === "ArrowUp", best = strongestEdge(model.nodes.get(keyIn(node)), up ? "from" : "to");
  return best ? nodes.get(up ? best.to : best.from)
    : strongest(rows[r + (up ? -1 : 1)] || [], n => -abs(x(n) - x(node)));
};

const toggle = (list, key) => {
  if (!/^\d+:\d+$/.test(key)) return;
  const id = keyId(key), ids = listed(list);
  visit({[list]: (ids.includes(id) ? ids.filter(p => p !== id) : [...ids, id]).join(",")});
};
// What is selected and pinned stays lit; called after each change of the hash.
const mark = () => {
  const pins = listed("pin").map(keyOf), selected = keyOf(params.sel), view = graph;
  for (const node of $$(".node[data-key]", $("main"))) {
    const key = keyIn(node);
    node.classList.toggle("pinned", pins.includes(key));
    if (/^\d/.test(key)) fill(node, {pressed: key === selected});
  }
  if (!view) return;
  if (ring) {
    const {stops} = ring, field = $("ring"), at = larger(0, stops.findIndex(s => s[0] === params.circuit));
    field.value = at;
    show(field.nextSibling, stops[at][1]);
    view.nodes.forEach((node, key) => node.classList.toggle("out", stops[at][2].includes(key)));
  }
  view.selected = selected;
  view.held = [...pins, selected].filter(key => view.nodes.has(key));
  light(view, "");
};

// ---- export: the graph in view as SVG, its pictures by their addresses ----
const exportGraph = () => {
  const {stage, svg, k} = graph, box = rect(stage);
  const look = (node, name) => getComputedStyle(node)[name];
  const seen = selector => $$(selector, stage).filter(node => node.offsetParent);
  const at = node => {
    const r = rect(node);
    return {x: (r.x - box.x) / k, y: (r.y - box.y) / k, width: r.width / k, height: r.height / k};
  };
  const edges = svg.cloneNode(true), drawn = $$(".base > *, .lit > *", svg);
  edges.querySelector(".hits").remove();
  $$("path, text", edges).forEach((node, i) => {
    for (const name of ["fill", "stroke"]) node.setAttribute(name, look(drawn[i], name));
  });
  const boxes = seen(".node").map(node => s("rect", {
    ...at(node), rx: 10, fill: look(node, "backgroundColor"), stroke: look(node, "borderTopColor"),
  }));
  const tiles = seen(".tile").filter(node => node.tile).map(node => {
    const [file, columns, rows, row, column] = node.tile;
    return s("svg", {...at(node), viewBox: `${column} ${row} 1 1`, preserveAspectRatio: "none"},
      s("image", {href: new URL(file, location), width: columns, height: rows, preserveAspectRatio: "none"}));
  });
  const words = seen(".id, .more, .value, .caption, .pill bdi, .gutter h2, .gutter p, .cover").map(node => {
    const {x, y, height} = at(node);
    return s("text", {
      x, y: y + height / 2 + 4, "font-size": look(node, "fontSize"), fill: look(node, "color"),
    }, node.textContent);
  });
  const {offsetWidth: width, offsetHeight: height} = stage;
  const all = s("svg", {
    xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${width} ${height}`, width, height, "font-family": "sans-serif",
  },
  s("style", ".edges text { font: 600 12px sans-serif; text-anchor: middle; paint-order: stroke; stroke-width: 4px }"),
  s("rect", {width, height, fill: look(page.body, "backgroundColor")}), edges, boxes, tiles, words);
  download(page.title.replace(/\W+/g, "-") + ".svg", "image/svg+xml", new XMLSerializer().serializeToString(all));
};

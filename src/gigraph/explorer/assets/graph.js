// Draws rows of concepts and the edges between them, for one class or for two side by side.
"use strict";
(function (g) {
  const {h, s} = g;
  const CAP = 600; // drawn edges; beyond it the weakest are counted as hidden
  const LETTERS = ["A", "B"];
  g.LETTERS = LETTERS;

  // The model of a drawing:
  //   scopes: [{label, letter, data}]     rows: top (deepest layer) to bottom, [{layer, groups: [[title, concepts]]}]
  g.model = (scopes, rows, min) => {
    const nodes = new Map(), top = {};
    for (const {label} of scopes) nodes.set("class:" + label, {key: "class:" + label, label, row: 0, edges: []});
    rows.forEach(({layer, groups}, r) => {
      for (const [group, concepts] of groups) for (const concept of concepts) {
        const key = `${layer}:${concept}`;
        nodes.set(key, {
          key, layer, concept, group, row: r + 1, edges: [],
          of: scopes.map(({data}) => data.layers[layer].nodes.find((n) => n[0] === concept) || null),
        });
      }
      top[layer] = r;
    });
    const edges = [], cover = [];
    scopes.forEach(({label, data}, scope) => {
      for (const {layer} of rows) {
        const last = layer === g.meta.layers.length - 1;
        const inRow = (l) => [...nodes.values()].filter((n) => n.layer === l && n.of[scope]);
        let found, into;
        if (last) {
          found = inRow(layer).map((n) => { const [c, mean, se, support, weight, share] = n.of[scope]; return [c, label, mean, se, support, null, null, weight, share]; });
          into = {[label]: data.layers[layer].into};
        } else {
          const targets = new Set(inRow(layer + 1).map((n) => n.concept)), sources = new Set(inRow(layer).map((n) => n.concept));
          found = data.pairs[layer].edges.filter(([a, b]) => sources.has(a) && targets.has(b));
          into = Object.fromEntries([...targets].map((t) => [t, data.pairs[layer].into[t]]));
        }
        const sum = {scope, layer, total: 0, drawn: 0, error: 0, rest: 0, hidden: 0, errors: []};
        for (const [target, entry] of Object.entries(into)) {
          if (!entry) continue;
          sum.total += entry[1]; sum.hidden += entry[0];
          sum.error += Math.abs(entry[2]); sum.rest += Math.abs(entry[4]);
          sum.errors.push({to: last ? "class:" + target : `${layer + 1}:${target}`, mean: entry[2], se: entry[3], share: entry[1] ? entry[2] / entry[1] : 0});
        }
        for (const [a, b, mean, se, support, ablation, ablationSe, weight, share] of found) {
          edges.push({scope, sum, from: `${layer}:${a}`, to: last ? "class:" + b : `${layer + 1}:${b}`, mean, se, support, ablation, ablationSe, weight, share});
        }
        cover.push(sum);
      }
    });
    let shown = edges.filter((e) => e.mean !== 0 && Math.max(e.weight, 0) >= min / 100 || e.to.startsWith("class:"));
    shown = shown.sort((a, b) => b.weight - a.weight).slice(0, CAP);
    const most = g.most(shown.map((e) => e.share));
    for (const e of shown) {
      e.sum.drawn += Math.abs(e.mean); e.sum.hidden -= 1; e.size = g.size(g.norm(), e.weight, e.share, most);
      nodes.get(e.from).edges.push(e); nodes.get(e.to).edges.push(e);
    }
    const relevance = g.most([...nodes.values()].flatMap((n) => (n.of || []).map((v) => (v ? v[5] : 0))));
    return {scopes, rows, nodes, edges: shown, cover, most, relevance};
  };

  const ratio = (sums) => {
    const parts = sums.filter((c) => c.total > 0).map((c) => c.drawn / c.total);
    return parts.length ? parts.reduce((a, b) => a + b, 0) / parts.length : null;
  };
  g.coverage = (model) => {
    const count = [...model.nodes.values()].filter((n) => n.layer !== undefined).length;
    const all = g.meta.layers.reduce((n, layer) => n + layer.concepts, 0);
    const hidden = model.cover.reduce((n, c) => n + c.hidden, 0);
    return h("p.coverage", {
      id: "coverage",
      title: "For each layer: |GIG| of the drawn edges over all |GIG| that reaches the concepts of the row above, with what is unexplained and not kept. The number here is the mean over layers.",
    }, h("b", {}, `${count} of ${g.plural(all, "concept")}`), ", ", h("b", {}, `${g.percent(ratio(model.cover))} of |GIG|`), "; ",
      `${g.plural(hidden, "edge")} hidden`);
  };

  // ---- nodes ----
  const gauge = (size) => h("span.gauge", {}, h("span", {style: {width: Math.min(100, 100 * size) + "%"}}));
  const nodeButton = (node, model) => {
    const norm = g.norm();
    const values = node.of.map((v, i) => v && {letter: model.scopes[i].letter, name: g.classOf(model.scopes[i].label).name, text: g.value(norm, v[1], v[4], v[5]), size: g.size(norm, v[4], v[5], model.relevance)}).filter(Boolean);
    const tiles = (node.of.find(Boolean) || [])[6] || [];
    const caption = g.captionOf(node.layer, node.concept);
    return h("button.node" + (values.length > 1 ? ".shared" : ""), {
      type: "button", tabindex: "-1", "data-key": node.key,
      "aria-label": `${g.say(node.layer, node.concept)}; ` + values.map((v) => `GIG to ${v.name} ${v.text}`).join(", "),
    },
    g.face(node.layer, tiles),
    caption && h("span.caption", {}, caption),
    h("span.line", {}, h("span.id", {}, "#" + node.concept), values.length === 1 && h("span.value", {}, values[0].text)),
    values.map((v) => values.length > 1 ? h("span.line.two", {}, h("b", {}, v.letter), gauge(v.size), h("span.value", {}, v.text)) : gauge(v.size)));
  };

  const errorButton = (layer, sums) => {
    const share = sums.reduce((n, c) => n + c.error, 0) / (sums.reduce((n, c) => n + c.total, 0) || 1);
    return h("button.node.error", {
      type: "button", tabindex: "-1", "data-key": `error:${layer}`,
      "aria-label": `Error node of ${g.meta.layers[layer].name}: what its concepts leave unexplained, ${g.percent(share)} of |GIG| into the row above`,
    }, h("span.hatch"), h("span.caption", {}, "unexplained"), h("span.value", {}, g.percent(share)));
  };

  const gutter = (layer, count, sums, more) => {
    const total = sums.reduce((n, c) => n + c.total, 0) || 1;
    const part = (key) => sums.reduce((n, c) => n + c[key], 0) / total;
    const parts = {drawn: part("drawn"), error: part("error"), rest: part("rest")};
    const hidden = Math.max(0, 1 - parts.drawn - parts.error - parts.rest);
    const text = `Of the |GIG| into the row above: ${g.percent(parts.drawn)} drawn, ${g.percent(hidden)} hidden, ${g.percent(parts.rest)} not kept (remainder), ${g.percent(parts.error)} unexplained (error node)`;
    const {name, concepts} = g.meta.layers[layer];
    return h("div.gutter", {},
      h("h2", {}, name), h("p", {}, `${count} of ${g.count(concepts)}`), more ? h("p", {}, `+${more} shared`) : null,
      h("span.stack", {role: "img", "aria-label": text, title: text},
        [["drawn", parts.drawn], ["hidden", hidden], ["rest", parts.rest], ["error", parts.error]].map(([kind, share]) =>
          h("span." + kind, {style: {width: 100 * share + "%"}}))),
      h("p", {}, `${g.percent(parts.drawn)} drawn`));
  };

  // ---- the drawing ----
  g.draw = (model) => {
    const svg = s("svg", {class: "edges", "aria-hidden": "true"});
    const two = model.scopes.length > 1;
    const pill = ({label, letter}) => h("button.node.pill", {type: "button", tabindex: "-1", "data-key": "class:" + label, "aria-label": "class " + g.classOf(label).name},
      letter && h("span.letter", {}, letter), g.name(g.classOf(label).name));
    const stage = h("div.stage" + (two ? ".two" : ""), {}, svg,
      h("div.row.tops", {role: "group", "aria-label": "Classes"}, h("div.gutter", {}, h("h2", {}, two ? "classes" : "class")),
        h("div.nodes", {}, two ? ["A only", "shared", "B only"].map((title, i) => h("div.group", {}, h("span.heads", {}, title), i !== 1 && pill(model.scopes[i / 2]))) : pill(model.scopes[0])), h("div.chips")),
      model.rows.map(({layer, groups, more}) => {
        const sums = model.cover.filter((c) => c.layer === layer);
        const count = groups.reduce((n, [, list]) => n + list.length, 0);
        return h("div.row", {role: "group", "aria-label": g.meta.layers[layer].name, "data-layer": layer}, gutter(layer, count, sums, more),
          h("div.nodes", {}, groups.map(([title, concepts]) => h("div.group", {"aria-label": title, role: title ? "group" : null},
            concepts.length ? concepts.map((c) => nodeButton(model.nodes.get(`${layer}:${c}`), model)) : h("p.none", {}, two ? "none" : "no concept kept")))),
          h("div.chips", {}, sums.some((c) => c.total) && errorButton(layer, sums)));
      }));
    const scroller = h("div.scroller", {}, stage);
    const place = () => layOut(scroller, stage, svg, model);
    const watch = new ResizeObserver(() => requestAnimationFrame(place));
    watch.observe(scroller);
    interact(scroller, stage, svg, model);
    stage.place = place;
    g.stage = {stage, scroller, model, place, scale: null};
    return scroller;
  };

  const at = (node, box, k) => {
    const r = node.getBoundingClientRect();
    return {x: (r.left + r.width / 2 - box.left) / k, top: (r.top - box.top) / k, bottom: (r.bottom - box.top) / k};
  };
  g.curve = (x1, y1, x2, y2) => { const k = (y1 - y2) / 2; return `M${x1} ${y1}C${x1} ${y1 - k} ${x2} ${y2 + k} ${x2} ${y2}`; };
  const along = (t, x1, y1, x2, y2) => {
    const k = (y1 - y2) / 2, u = 1 - t, mix = (a, b, c, d) => u * u * u * a + 3 * u * u * t * b + 3 * u * t * t * c + t * t * t * d;
    return [mix(x1, x1, x2, x2), mix(y1, y1 - k, y2 + k, y2)];
  };
  const pathOf = (e) => s("path", {
    d: g.curve(...e.line), class: e.mean < 0 ? "neg" : "pos",
    "stroke-width": (0.8 + 7.2 * e.size).toFixed(2), "stroke-opacity": (0.28 + 0.55 * Math.sqrt(e.size)).toFixed(2),
    "stroke-dasharray": e.mean < 0 ? `${(3 + 4 * e.size).toFixed(1)} ${(2.5 + 3 * e.size).toFixed(1)}` : null,
  });
  const minus = (e, t = 0.5) => { const [x, y] = along(t, ...e.line); return s("text", {x, y: y + 4, class: "minus"}, "\u2212"); };

  const layOut = (scroller, stage, svg, model) => {
    if (!stage.isConnected) return;
    const natural = stage.offsetWidth, room = scroller.clientWidth;
    const k = g.stage.scale || Math.max(room < 736 ? 0.9 : 0.62, Math.min(1, (room - 8) / natural));
    stage.style.transform = k === 1 ? "" : `scale(${k})`;
    stage.style.marginBottom = k === 1 ? "" : `${(k - 1) * stage.offsetHeight}px`;
    stage.dataset.scale = k.toFixed(2);
    const box = stage.getBoundingClientRect(), spots = {};
    for (const node of stage.querySelectorAll(".node")) spots[node.dataset.key] = at(node, box, k);
    const base = s("g", {class: "base"}), hits = s("g", {class: "hits"});
    const both = new Set();
    const seen = new Set();
    for (const e of model.edges) { const id = e.from + ">" + e.to; (seen.has(id) ? both : seen).add(id); }
    for (const e of [...model.edges].reverse()) {
      const a = spots[e.from], b = spots[e.to];
      if (!a || !b) continue;
      const shift = both.has(e.from + ">" + e.to) ? (e.scope ? 4 : -4) : 0;
      e.line = [a.x + shift, a.top - 1, b.x + shift, b.bottom + 1];
      base.append(pathOf(e));
      if (e.mean < 0 && e.size > 0.12) base.append(minus(e));
      const hit = s("path", {d: g.curve(...e.line)});
      hit.edge = e;
      hits.append(hit);
    }
    svg.setAttribute("width", stage.offsetWidth);
    svg.setAttribute("height", stage.offsetHeight);
    stage.spots = spots;
    g.show(svg, base, s("g", {class: "lit"}), hits);
    light(stage, svg, model, stage.lit);
  };

  // The edges of a node, and from there the strongest way up to a class and down to the first layer.
  const pathsOf = (model, key) => {
    const found = new Map(), node = model.nodes.get(key);
    if (!node) return found;
    for (const e of node.edges) found.set(e, true);
    for (const [near, far] of [["from", "to"], ["to", "from"]]) {
      let here = node;
      while (here) {
        const best = here.edges.filter((e) => e[near] === here.key).sort((a, b) => b.size - a.size)[0];
        if (!best) break;
        if (!found.has(best)) found.set(best, false);
        here = model.nodes.get(best[far]);
      }
    }
    return found;
  };

  const light = (stage, svg, model, key) => {
    const group = svg.querySelector(".lit");
    if (!group) return;
    const lit = new Map(), on = new Set();
    stage.lit = key;
    for (const one of new Set([...(key ? [key] : []), ...stage.held || []])) {
      on.add(one);
      for (const [e, direct] of pathsOf(model, one)) lit.set(e, lit.get(e) || (direct && one === (key || stage.selected)));
    }
    const drawn = [];
    for (const [e, direct] of [...lit].sort((a, b) => a[0].size - b[0].size)) {
      if (!e.line) continue;
      on.add(e.from).add(e.to);
      const path = pathOf(e);
      path.setAttribute("stroke-opacity", 0.95);
      drawn.push(path);
      if (e.mean < 0) drawn.push(minus(e));
      if (direct) {
        const [x, y] = along(e.to === (key || stage.selected) ? 0.22 : 0.76, ...e.line);
        drawn.push(s("text", {x, y: y + 4, class: "number"}, g.value(g.norm(), e.mean, e.weight, e.share)));
      }
    }
    if (key && key.startsWith("error:") && stage.spots[key]) {
      const layer = +key.slice(6), a = stage.spots[key];
      on.add(key);
      for (const sum of model.cover.filter((c) => c.layer === layer)) for (const e of sum.errors) {
        const b = stage.spots[e.to];
        if (!b || !e.mean) continue;
        on.add(e.to);
        const line = [a.x, a.top - 1, b.x, b.bottom + 1], [x, y] = along(0.8, ...line);
        drawn.push(s("path", {d: g.curve(...line), class: "err", "stroke-width": 1 + 7 * g.size("share", 0, e.share, model.most)}),
          s("text", {x, y: y + 4, class: "number"}, g.norm() === "raw" ? g.num(e.mean) : g.percent(e.share)));
      }
    }
    g.show(group, drawn);
    stage.classList.toggle("lighting", on.size > 0);
    for (const node of stage.querySelectorAll(".node")) node.classList.toggle("on", on.has(node.dataset.key));
  };

  const interact = (scroller, stage, svg, model) => {
    const nodeAt = (event) => event.target.closest(".node");
    const relight = (key) => light(stage, svg, model, key);
    stage.relight = relight;
    const roam = (node) => {
      for (const other of stage.querySelectorAll(".node[tabindex='0']")) other.tabIndex = -1;
      node.tabIndex = 0;
    };
    stage.roam = roam;
    stage.addEventListener("pointerover", (event) => { const node = nodeAt(event); if (node) relight(node.dataset.key); });
    stage.addEventListener("pointerout", (event) => { if (nodeAt(event)) relight(focused()); });
    const focused = () => { const node = document.activeElement; return node && stage.contains(node) && node.matches(":focus-visible") ? node.dataset.key : null; };
    stage.addEventListener("focusin", (event) => { const node = nodeAt(event); if (node) { roam(node); if (node.matches(":focus-visible")) relight(node.dataset.key); } });
    stage.addEventListener("focusout", () => relight(null));
    stage.addEventListener("click", (event) => {
      const node = nodeAt(event), key = node && node.dataset.key;
      if (!key || key.startsWith("error:")) return;
      if (key.startsWith("class:")) { if (model.scopes.length > 1) location.hash = g.link("class", [g.slug(+key.slice(6))]); else g.go({params: {sel: null}}); return; }
      const id = g.idOf(...key.split(":").map(Number));
      g.fromKeyboard = event.detail === 0;
      g.go({params: {sel: g.state.params.sel === id ? null : id, on: null}});
    });
    stage.addEventListener("keydown", (event) => {
      const node = nodeAt(event);
      if (!node || event.altKey || event.ctrlKey || event.metaKey) return;
      const to = step(stage, model, node, event.key);
      if (to) { event.preventDefault(); to.focus(); to.scrollIntoView({block: "nearest", inline: "nearest"}); }
      if (event.key.toLowerCase() === "p") g.pin(node.dataset.key);
    });
    edgeTips(svg, model);
    pan(scroller);
  };

  const step = (stage, model, node, key) => {
    const rows = [...stage.querySelectorAll(".row")].map((row) => [...row.querySelectorAll(".node")]).filter((row) => row.length);
    const r = rows.findIndex((row) => row.includes(node)), row = rows[r], i = row.indexOf(node);
    if (key === "ArrowLeft") return row[i - 1];
    if (key === "ArrowRight") return row[i + 1];
    if (key === "Home") return row[0];
    if (key === "End") return row[row.length - 1];
    if (key !== "ArrowUp" && key !== "ArrowDown") return null;
    const [near, far] = key === "ArrowUp" ? ["from", "to"] : ["to", "from"], mine = model.nodes.get(node.dataset.key);
    const best = mine && mine.edges.filter((e) => e[near] === mine.key).sort((a, b) => b.size - a.size)[0];
    if (best) return stage.querySelector(`.node[data-key="${best[far]}"]`);
    const next = rows[r + (key === "ArrowUp" ? -1 : 1)], x = stage.spots[node.dataset.key].x;
    return next && next.reduce((a, b) => Math.abs(stage.spots[a.dataset.key].x - x) <= Math.abs(stage.spots[b.dataset.key].x - x) ? a : b);
  };

  g.pin = (key) => {
    if (!key || !/^\d+:\d+$/.test(key)) return;
    const id = g.idOf(...key.split(":").map(Number)), pins = g.list("pin");
    g.go({params: {pin: (pins.includes(id) ? pins.filter((p) => p !== id) : [...pins, id]).join(",")}});
  };

  // What is selected and pinned stays lit; called after each change of the hash.
  g.mark = () => {
    if (!g.stage || !g.stage.stage.isConnected) return;
    const {stage} = g.stage;
    const keyOf = (id) => { const found = g.parseId(id); return found ? found.join(":") : null; };
    const pins = g.list("pin").map(keyOf), selected = g.state.params.sel ? keyOf(g.state.params.sel) : null;
    for (const node of stage.querySelectorAll(".node")) {
      const key = node.dataset.key, chosen = key === selected;
      node.classList.toggle("pinned", pins.includes(key));
      if (/^\d/.test(key)) node.setAttribute("aria-pressed", String(chosen));
    }
    stage.selected = selected;
    stage.held = [...pins, selected].filter((key) => key && stage.querySelector(`.node[data-key="${key}"]`));
    if (!stage.querySelector(".node[tabindex='0']")) {
      const first = stage.querySelector(`.node[data-key="${selected}"]`) || stage.querySelector(".row:not(.tops) .node") || stage.querySelector(".node");
      if (first) stage.roam(first);
    }
    stage.relight(null);
  };

  const edgeTips = (svg, model) => {
    const tip = g.$("tip");
    const words = (key) => key.startsWith("class:") ? g.classOf(+key.slice(6)).name : "#" + key.split(":")[1];
    svg.addEventListener("pointermove", (event) => {
      const e = event.target.edge;
      if (!e) { tip.hidden = true; return; }
      const letter = model.scopes[e.scope].letter;
      g.show(tip, h("b", {}, letter && letter + ": ", words(e.from), " \u2192 ", g.name(words(e.to))), g.edgeTable(e));
      tip.hidden = false;
      tip.style.left = Math.min(innerWidth - tip.offsetWidth - 8, event.clientX + 14) + "px";
      tip.style.top = Math.min(innerHeight - tip.offsetHeight - 8, event.clientY + 14) + "px";
    });
    svg.addEventListener("pointerleave", () => { tip.hidden = true; });
  };
  g.edgeTable = (e) => h("dl", {}, [
    ["GIG", `${g.num(e.mean)} \u00b1 ${g.num(e.se, 2)}`],
    ["ablation", e.ablation === null ? "not checked" : `${g.num(e.ablation)} \u00b1 ${g.num(e.ablationSe, 2)}`],
    ["share of target", g.percent(e.share, 1)], ["[0, 1] in the pair", g.num(e.weight)], ["support", g.plural(e.support, "image")],
  ].map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", {}, v))));

  const pan = (scroller) => {
    let from = null;
    scroller.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button === 0 && !event.target.closest("button")) from = [event.clientX, scroller.scrollLeft];
    });
    scroller.addEventListener("pointermove", (event) => {
      if (!from || !(event.buttons & 1)) { from = null; return; }
      scroller.scrollLeft = from[1] - (event.clientX - from[0]);
    });
  };
  g.zoom = (factor) => {
    const now = +g.stage.stage.dataset.scale || 1;
    g.stage.scale = factor ? Math.min(1.6, Math.max(0.4, now * factor)) : null;
    g.stage.place();
  };
})(gigraph);

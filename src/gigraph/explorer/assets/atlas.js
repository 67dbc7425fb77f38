// Every concept of a layer: as a dot (importance x spread) or as a leaf of the split tree; and as a sortable list.
const SORTS = {importance: 1, spread: 2, members: 3, cohesion: 4}, LIST = 60, HEIGHT = 430;
const colour = name => getComputedStyle(document.body).getPropertyValue(name);
const concept = (layer, id) => ({sel: idOf(layer, id)});

views.atlas = {
  title: "Atlas", takes: ["layer"], needs: layer => ["atlas/" + layer], scopes: () => [],
  draw: ([layer], [{rows, tree}]) => {
    const {params} = state, {name, kept} = meta.layers[layer], sort = SORTS[params.sort] ? params.sort : "importance", byTree = params.as === "tree" && tree;
    const label = byName.get(params.of), of = r => label === undefined || r[5].includes(label), hits = rows.filter(of);
    const set = (key, value) => go({params: {[key]: value}}, true);
    const choice = (name, key, options, now) => h("fieldset.segmented", h("legend", name), options.map(([value, text]) => h("button", {"data-key": key + value, "aria-pressed": String(value === now), onclick: () => set(key, value)}, text)));
    const canvas = h("canvas.atlas", {"aria-hidden": true, height: HEIGHT}), tip = $("tip"), crumbs = h("p.note");
    const node = byTree ? plant(tree, rows) : null;
    let spots = [], root = node;
    const paint = () => {
      const width = canvas.width = canvas.parentNode.clientWidth * devicePixelRatio | 0, pen = canvas.getContext("2d");
      canvas.height = HEIGHT * devicePixelRatio;
      pen.scale(devicePixelRatio, devicePixelRatio);
      const ink = {fill: colour("--pos"), faint: colour("--line"), soft: colour("--soft"), sel: colour("--neg"), paper: colour("--paper")}, selected = (parseId(state.params.sel) || [])[1];
      pen.font = "12px sans-serif";
      spots = (byTree ? icicle : scatter)(pen, width / devicePixelRatio, root || rows, of, ink, parseId(state.params.sel) && keyOf(state.params.sel).startsWith(layer + ":") ? selected : -1);
      show(crumbs, byTree ? root === node ? `${plural(root.leaves, "concept")} of ${plural(root.size, "PFV")}; width is members, depth of blue is importance. Click a branch to enter it.` : [h("button", {onclick: () => { root = node; paint(); }}, "Whole tree"), ` ${plural(root.leaves, "concept")} of ${plural(root.size, "PFV")}`]
        : "To the right: more relevance over all images (log scale). Up: spread over more classes, exp of the entropy of its relevance. Area is members.");
    };
    const at = event => {
      const r = canvas.getBoundingClientRect(), x = event.clientX - r.left, y = event.clientY - r.top;
      return byTree ? spots.find(s => x >= s.x && x < s.x + s.w && y >= s.y && y < s.y + s.h) : spots.findLast(s => (s.x - x) ** 2 + (s.y - y) ** 2 <= (s.r + 2) ** 2);
    };
    canvas.addEventListener("pointermove", event => {
      const spot = at(event);
      tip.hidden = !spot;
      canvas.style.cursor = spot ? "pointer" : "";
      if (!spot) return;
      const r = spot.row;
      show(tip, r ? [h("b", "#" + r[0], " ", captionOf(`${layer}:${r[0]}`)), h("dl", facts(r).map(([k, v]) => h("div", h("dt", k), h("dd", v))))] : h("b", `${plural(spot.node.leaves, "concept")}, ${plural(spot.node.size, "PFV")}`));
      tip.style.left = Math.min(innerWidth - tip.offsetWidth - 8, event.clientX + 14) + "px";
      tip.style.top = Math.min(innerHeight - tip.offsetHeight - 8, event.clientY + 14) + "px";
    });
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("click", event => {
      const spot = at(event);
      if (spot && spot.row) go({params: concept(layer, spot.row[0])});
      else if (spot) { root = spot.node; paint(); }
    });
    const sorted = hits.toSorted((a, b) => b[SORTS[sort]] - a[SORTS[sort]] || a[0] - b[0]), list = h("div"), count = whole("rows", LIST, 1, 9999);
    const head = [["Concept"], ...Object.keys(SORTS).map(k => [h("button.plain", {"data-key": "sort" + k, "aria-pressed": String(k === sort), onclick: () => set("sort", k)}, k)]), ["Classes", "up to three, by relevance"]];
    show(list, table(head, sorted.slice(0, count).map(r => h("tr", h("th", {scope: "row"}, h("a", {href: select(layer, r[0]), "data-key": "row-" + r[0]}, "#" + r[0]), " ", captionOf(`${layer}:${r[0]}`)), facts(r).map(([, v]) => h("td", v)),
      h("td.aside", r[5].map((c, i) => [i > 0 && ", ", className(c)])))), "table.layers"),
    hits.length > count && h("button", {"data-key": "more", onclick: () => set("rows", Math.min(9999, count * 4))}, `Show more of ${tally(hits.length)}`));
    const watch = new ResizeObserver(() => canvas.isConnected ? paint() : watch.disconnect());
    const box = h("div", canvas);
    watch.observe(box);
    return [
      h("div.heading", h("div", h("h1", bdi(name)), h("p.note", `${plural(rows.length, "concept")}, ${tally(kept)} of them kept for some class`)),
        h("div.actions", meta.layers.length > 1 && pick(layer, "Layer", i => go({args: [meta.layers[i].name], params: {sel: null}}), null, meta.layers.map((l, i) => ({label: i, name: l.name}))),
          pick(label, "Of class", to => set("of", classOf(to).name), "Of any class"), label !== undefined && h("button", {onclick: () => set("of", null)}, "All"))),
      h("div.tools", tree ? choice("Show", "as", [["map", "importance × spread"], ["tree", "split tree"]], byTree ? "tree" : "map") : null),
      hits.length ? null : empty("No concept has this class among its three most relevant ones."),
      box, crumbs, list,
    ];
  },
};
const facts = r => [["importance", num(r[1])], ["spread", num(r[2])], ["members", tally(r[3])], ["cohesion", num(r[4])]];

const scatter = (pen, width, rows, of, ink, selected) => {
  const seen = rows.filter(r => r[1] > 0), least = Math.log10(Math.max(seen.reduce((m, r) => Math.min(m, r[1]), 1), 1e-7)), most = Math.log10(seen.reduce((m, r) => Math.max(m, r[1]), 1e-6)), high = Math.max(2, ...[seen.reduce((m, r) => Math.max(m, r[2]), 1)]), large = rows.reduce((m, r) => Math.max(m, r[3]), 1);
  const x = v => 46 + (width - 70) * (Math.log10(Math.max(v, 10 ** least)) - least) / (most - least || 1), y = v => HEIGHT - 34 - (HEIGHT - 60) * (v - 1) / (high - 1);
  pen.strokeStyle = ink.faint; pen.fillStyle = ink.soft; pen.textAlign = "center";
  for (let e = Math.ceil(least); e <= most; e++) { pen.strokeRect(x(10 ** e), 10, 0, HEIGHT - 40); pen.fillText(num(10 ** e, 1), x(10 ** e), HEIGHT - 14); }
  pen.textAlign = "right";
  const step = Math.max(1, Math.round(high / 5));
  for (let s = 1; s <= high; s += step) { pen.strokeRect(46, y(s), width - 60, 0); pen.fillText(s, 38, y(s) + 4); }
  const spots = seen.map(row => ({row, x: x(row[1]), y: y(Math.max(1, row[2])), r: 2 + 9 * Math.sqrt(row[3] / large)})).sort((a, b) => b.r - a.r);
  for (const s of spots) {
    pen.globalAlpha = of(s.row) ? 0.5 : 0.08;
    pen.fillStyle = s.row[0] === selected ? ink.sel : ink.fill;
    if (s.row[0] === selected) pen.globalAlpha = 1;
    pen.beginPath(); pen.arc(s.x, s.y, s.r, 0, 7); pen.fill();
  }
  pen.globalAlpha = 1;
  return spots;
};

// The tree comes as its nodes in preorder: a concept, or -1 for a split.
const plant = (tree, rows) => {
  const byId = new Map(rows.map(r => [r[0], r])), open = [], top = {children: []};
  open.push([top, 1]);
  for (const id of tree) {
    const [parent] = open.at(-1), row = byId.get(id), node = {row, children: [], size: row ? row[3] : 0, leaves: row ? 1 : 0};
    parent.children.push(node);
    open.at(-1)[1]--;
    if (!row) { open.push([node, 2]); continue; }
    while (open.length > 1 && !open.at(-1)[1]) {
      const [done] = open.pop();
      done.children.sort((a, b) => b.size - a.size);
      done.size = sum(done.children, c => c.size);
      done.leaves = sum(done.children, c => c.leaves);
    }
  }
  return top.children[0];
};
const icicle = (pen, width, root, of, ink, selected) => {
  const spots = [], depth = node => node.row ? 1 : 1 + Math.max(...node.children.map(depth)), deep = depth(root), row = HEIGHT / deep;
  const most = (find => find(root, find))((n, find) => n.row ? n.row[1] || 0 : Math.max(...n.children.map(c => find(c, find))));
  const place = (node, x, w, level) => {
    if (w < 0.4) return;
    const s = {node, row: node.row, x, w, y: level * row, h: node.row ? HEIGHT - level * row : row};
    spots.push(s);
    pen.globalAlpha = node.row ? (of(node.row) ? 0.12 + 0.88 * Math.sqrt(Math.max(0, node.row[1]) / (most || 1)) : 0.05) : 1;
    pen.fillStyle = node.row ? node.row[0] === selected ? ink.sel : ink.fill : ink.faint;
    if (node.row && node.row[0] === selected) pen.globalAlpha = 1;
    const gap = w > 3 ? 1 : 0;
    pen.fillRect(x, s.y, w - gap, s.h - 1);
    if (node.row && w > 30) { pen.globalAlpha = 1; pen.fillStyle = ink.soft; pen.textAlign = "center"; pen.fillText("#" + node.row[0], x + w / 2, HEIGHT - 8); }
    for (const child of node.children) { const part = w * child.size / node.size; place(child, x, part, level + 1); x += part; }
  };
  place(root, 0, width, 0);
  pen.globalAlpha = 1;
  return spots;
};

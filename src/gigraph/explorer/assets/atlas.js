// Every concept of a layer: as a dot (importance x spread) or in the split tree; and as a sortable list.
const SORTS = {importance: 1, spread: 2, members: 3, cohesion: 4}, LIST = 60, HEIGHT = 430, LEVELS = 6;
const measures = ([, importance, spread, members, cohesion]) => [
  ["importance", num(importance)], ["spread", num(spread)], ["members", tally(members)], ["cohesion", num(cohesion)],
];

views.atlas = {
  title: "Atlas", takes: ["layer"], needs: layer => ["atlas/" + layer],
  draw: ([layer], [{rows, tree}]) => {
    const {name, kept} = layers[layer];
    const sort = params.sort in SORTS ? params.sort : "importance", byTree = params.as === "tree" && tree;
    const label = byName.get(params.of), of = row => label === undefined || row[5].includes(label);
    const hits = rows.filter(of);
    const canvas = h("canvas.atlas", {silent: true}), crumbs = h("div"), trunk = byTree && plant(tree, rows);
    let spots = [], root = trunk;
    const paint = () => {
      const pen = canvas.getContext("2d"), width = canvas.parentNode.clientWidth;
      const [chosen, concept] = parseId(params.sel) || [];
      canvas.width = width * devicePixelRatio;
      canvas.height = HEIGHT * devicePixelRatio;
      canvas.style.height = HEIGHT + "px";
      pen.scale(devicePixelRatio, devicePixelRatio);
      pen.font = "12px sans-serif";
      const ink = colour => { canvas.style.color = `var(--${colour})`; return getComputedStyle(canvas).color; };
      spots = (byTree ? icicle : scatter)(pen, width, root || rows, of, ink, chosen === layer ? concept : -1);
      const inside = byTree && `${plural(root.leaves, "concept")} of ${plural(root.size, "PFV")}`;
      show(crumbs, note(!byTree
        ? "Right: relevance over all images (log). Up: spread over classes. Area: members."
        : root === trunk
          ? inside + ". Width: members. Blue: importance. Named by the class that most serve; click to enter."
          : [h("button", {onclick: () => { root = trunk; paint(); }}, "Whole tree"), " " + inside]));
    };
    const at = event => {
      const {left, top} = rect(canvas), x = event.clientX - left, y = event.clientY - top;
      return byTree ? spots.find(s => x >= s.x && x < s.x + s.w && y >= s.y && y < s.y + s.h)
        : spots.findLast(s => (s.x - x) ** 2 + (s.y - y) ** 2 <= (s.r + 2) ** 2);
    };
    const about = ({row, node}) => row
      ? [h("b", "#" + row[0], " ", captionOf(`${layer}:${row[0]}`)), facts(measures(row))]
      : h("b", `${plural(node.leaves, "concept")}, ${plural(node.size, "PFV")}`);
    fill(canvas, {
      onpointermove: event => {
        const spot = at(event);
        canvas.style.cursor = spot ? "pointer" : "";
        tip(event, spot && about(spot));
      },
      onpointerleave: event => tip(event),
      onclick: event => {
        const spot = at(event);
        if (spot && spot.row) visit({sel: idOf(layer, spot.row[0])});
        else if (spot) { root = spot.node; paint(); }
      },
    });
    const sorted = hits.toSorted((a, b) => b[SORTS[sort]] - a[SORTS[sort]] || a[0] - b[0]);
    const count = whole("rows", LIST, 1, 9999);
    const head = [
      ["Concept"],
      ...Object.keys(SORTS).map(key =>
        [h("button.plain", {key: "sort" + key, pressed: key === sort, onclick: () => adjust({sort: key})}, key)]),
      ["Classes"],
    ];
    const watch = new ResizeObserver(() => canvas.isConnected ? paint() : watch.disconnect()), box = h("div", canvas);
    watch.observe(box);
    return [
      heading(bdi(name), `${plural(rows.length, "concept")}, ${plural(kept, ...meta.unit)} kept for some class`,
        pick(layer, "Layer", i => go({args: [layers[i].name], params: {sel: null}}), null,
          layers.map((l, i) => ({label: i, shown: l.name, name: ""}))),
        pick(label, "Of class", of => adjust({of: classOf(of).name}), "Of any class"),
        label !== undefined && h("button", {onclick: () => adjust({of: null})}, "All")),
      h("div.tools", tree && choice("Show",
        [["map", "importance × spread"], ["tree", "split tree"]], byTree ? "tree" : "map", as => adjust({as}))),
      !hits.length && empty("No concept serves it most."),
      box, crumbs,
      table(head, sorted.slice(0, count).map(row => line(
        conceptLink(layer, row[0]), ...measures(row).map(m => m[1]),
        h("span.aside", row[5].map((c, i) => [i > 0 && ", ", className(c)]))))),
      hits.length > count && h("button", {
        key: "more", onclick: () => adjust({rows: smaller(9999, count * 4)}),
      }, `More of ${tally(hits.length)}`),
    ];
  },
};

const scatter = (pen, width, rows, of, ink, selected) => {
  const seen = rows.filter(r => r[1] > 0), logs = seen.map(r => log10(r[1]));
  const least = larger(-7, smaller(0, ...logs)), most = larger(-6, ...logs);
  const high = larger(2, largest(seen.map(r => r[2]))), large = largest(rows.map(r => r[3]));
  const x = v => 46 + (width - 70) * (larger(log10(v), least) - least) / (most - least || 1);
  const y = v => HEIGHT - 34 - (HEIGHT - 60) * (larger(1, v) - 1) / (high - 1);
  const grid = (text, at, up, wide, tall) => {
    pen.strokeRect(up ? 46 : at, up ? at : 10, wide, tall);
    pen.fillText(text, up ? 38 : at, up ? at + 4 : HEIGHT - 14);
  };
  pen.strokeStyle = ink("line"); pen.fillStyle = ink("soft"); pen.textAlign = "center";
  for (let e = Math.ceil(least); e <= most; e++) grid(num(10 ** e, 1), x(10 ** e), false, 0, HEIGHT - 40);
  pen.textAlign = "right";
  for (let v = 1; v <= high; v += larger(1, round(high / 5))) grid(v, y(v), true, width - 60, 0);
  const spots = seen.map(row => ({row, x: x(row[1]), y: y(row[2]), r: 2 + 9 * sqrt(row[3] / large)}))
    .sort((a, b) => b.r - a.r);
  const [fill, lit] = [ink("pos"), ink("neg")];
  for (const s of spots) {
    const mine = s.row[0] === selected;
    pen.globalAlpha = mine ? 1 : of(s.row) ? 0.5 : 0.08;
    pen.fillStyle = mine ? lit : fill;
    pen.beginPath(); pen.arc(s.x, s.y, s.r, 0, 7); pen.fill();
  }
  return spots;
};

// The tree comes as its nodes in preorder: a concept, or of a split -2 - its class.
const plant = (tree, rows) => {
  const byId = new Map(rows.map(r => [r[0], r]));
  let at = 0;
  const grow = () => {
    const id = tree[at++], row = byId.get(id);
    if (row) return {row, size: row[3], leaves: 1, peak: row[1] || 0, best: row[5][0]};
    const children = [grow(), grow()].sort((a, b) => b.size - a.size), total = key => sum(children, c => c[key]);
    return {
      children, size: total("size"), leaves: total("leaves"), peak: larger(...children.map(c => c.peak)), best: -2 - id,
    };
  };
  return grow();
};
// So many levels as can be read; what lies below is entered by a click.
const icicle = (pen, width, root, of, ink, selected) => {
  const spots = [], tall = HEIGHT / LEVELS, [fill, lit, text, paper] = ["pos", "neg", "ink", "paper"].map(ink);
  const shown = node => node.row ? of(node.row) : node.children.some(shown);
  const place = (node, x, w, level) => {
    const {row, children, leaves, peak} = node, end = row || level === LEVELS - 1, y = level * tall;
    const tone = shown(node) ? 0.08 + 0.8 * sqrt(larger(0, peak) / (root.peak || 1)) : 0.03;
    if (w < 0.5) return;
    spots.push({node, row, x, w, y, h: end ? HEIGHT - y : tall});
    pen.globalAlpha = row && row[0] === selected ? 1 : tone;
    pen.fillStyle = row && row[0] === selected ? lit : fill;
    pen.fillRect(x, y, w - smaller(1, w / 4), (end ? HEIGHT - y : tall) - 1);
    pen.globalAlpha = 1;
    pen.fillStyle = tone > 0.7 ? paper : text;
    const best = classOf(node.best);
    [
      row ? "#" + row[0] : best ? best.shown : "", row ? best && best.shown : plural(leaves, "concept"),
    ].forEach((words, line) => {
      if (words && pen.measureText(words).width < w - 8) pen.fillText(words, x + 5, y + 18 + 15 * line);
    });
    if (!end) for (const child of children) {
      const part = w * child.size / node.size;
      place(child, x, part, level + 1);
      x += part;
    }
  };
  place(root, 0, width, 0);
  return spots;
};

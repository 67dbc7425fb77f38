// How far to trust the run: its curves and tables, each with the file that it comes from.
const SHOWN = 14, W = 250, H = 150;
const scale = (values, from, to) => {
  const low = smaller(0, ...values), high = larger(...values, low + 1e-9);
  return assign(v => from + (to - from) * (v - low) / (high - low), {low, high});
};
const axes = (x, y) => [
  s("path", {d: `M46 8V${H - 20}H${W - 6}`, class: "axis"}),
  ...[y.low, y.high].map(v => s("text", {x: 42, y: y(v) + 4, "text-anchor": "end"}, num(v, 2))),
  ...[x.low, x.high].map((v, i) => s("text", {x: x(v), y: H - 5, "text-anchor": i ? "end" : "start"}, num(v, 2))),
];
// A figure a panel: [title, [[series, [[x, y, se], ...]], ...]].
const figures = (panels, draw) => h("div.panels", panels.map(([title, curves]) => {
  const all = curves.flatMap(c => c[1]), x = scale(all.map(p => p[0]), 46, W - 6);
  const y = scale(all.map(p => p[1] + (p[2] || 0)), H - 20, 8);
  return h("figure", h("figcaption", title), s("svg", {viewBox: `0 0 ${W} ${H}`, role: "img", label: title},
    axes(x, y), curves.map(([i, list]) => draw(list, p => x(p[0]), y, x, i))));
}));
const lines = ({panels, series}) => [
  h("p.legend", series.map((name, i) => h("span",
    h("i.series-" + i % 5, {style: {borderTopStyle: i < 5 ? "solid" : "dashed"}}), bdi(name)))),
  figures(panels, (list, x, y, _, i) => {
    const side = sign => list.map(p => [x(p), y(p[1] + sign * (p[2] || 0))]);
    const path = (kind, points, more) =>
      s("path", {class: `${kind} series-${i % 5}`, d: "M" + points.join("L"), ...more});
    return [
      path("band", [...side(1), ...side(-1).reverse()]),
      path("curve", side(0), {"stroke-dasharray": i > 4 && "6 3"}),
    ];
  }),
];
// Dots, and the diagonal on which both numbers agree.
const points = ({panels}) => figures(panels, (list, at, y, x) => [
  s("path", {
    class: "axis", "stroke-dasharray": "2 3",
    d: "M" + [larger(x.low, y.low), smaller(x.high, y.high)].map(v => [x(v), y(v)]).join("L"),
  }),
  list.map(p => s("circle", {cx: at(p), cy: y(p[1]), r: 1.6, class: p[0] * p[1] < 0 && "off"})),
]);
const cell = value => Array.isArray(value)
  ? [num(value[0]), isNumber(value[1]) && h("span.note", " ± " + num(value[1], 2))]
  : isNumber(value) ? Number.isInteger(value) ? tally(value) : num(value) : value === null ? "–" : bdi(value);
const cells = ({head, rows}) => {
  const box = h("div"), list = count => show(box,
    table(head.map(t => [t.replaceAll("_", " ")]), rows.slice(0, count).map(row => line(...row.map(cell)))),
    rows.length > count && h("button", {onclick: () => list(rows.length)}, `All ${tally(rows.length)} rows`));
  list(SHOWN);
  return box;
};
const DRAW = {lines, points, table: cells};
const exhibit = one => [
  h("h3", one.title, " ", h("code", one.file)), one.note && h("p.note", one.note), DRAW[one.kind](one),
];

// A chapter answers with all up to its first table; the others are folded away.
const chapter = ({title, note, parts, empty: why}) => {
  const answer = parts.findIndex(one => one.kind === "table") + 1 || parts.length, more = parts.slice(answer);
  return h("section", h("h2", title), h("p.note", note), why && empty(why), parts.slice(0, answer).map(exhibit),
    more.length > 0 && h("details", h("summary", plural(more.length, "further table")), more.map(exhibit)));
};

views.evidence = {
  title: "Evidence", needs: () => ["evidence"],
  draw: (_, [chapters]) => h("div.overview.evidence", h("h1", "How far to trust this run"),
    chapters.map(chapter)),
};

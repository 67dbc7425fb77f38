// How far to trust the run: its curves and tables, each with the file that it comes from.
const SHOWN = 14, W = 250, H = 150, LOOKS = ["", "6 3", "2 3", "8 3 2 3"];
const scale = (values, from, to) => {
  const low = Math.min(0, ...values), high = Math.max(...values, low + 1e-9);
  return Object.assign(v => from + (to - from) * (v - low) / (high - low), {low, high});
};
const axes = (x, y) => [
  s("path", {d: `M46 8V${H - 20}H${W - 6}`, class: "axis"}),
  ...[y.low, y.high].map(v => s("text", {x: 42, y: y(v) + 4, "text-anchor": "end"}, num(v, 2))),
  ...[x.low, x.high].map((v, i) => s("text", {x: x(v), y: H - 5, "text-anchor": i ? "end" : "start"}, num(v, 2))),
];
const chart = (title, ...parts) => h("figure", h("figcaption", title), s("svg", {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title}, parts));
const lines = ({panels, series}) => [
  series.length > 1 && h("p.legend", series.map((name, i) => h("span", h("i.series-" + i % 5, {style: {"border-style": LOOKS[i / 5 | 0] ? "dashed" : "solid"}}), bdi(name)))),
  h("div.panels", panels.map(([title, curves]) => {
    const points = curves.flatMap(c => c[1]), x = scale(points.map(p => p[0]), 46, W - 6), y = scale(points.flatMap(p => [p[1], p[1] + (p[2] || 0)]), H - 20, 8);
    return chart(title, axes(x, y), curves.map(([i, line]) => [
      line.some(p => p[2]) && s("path", {class: `band series-${i % 5}`, d: "M" + [...line.map(p => [x(p[0]), y(p[1] + p[2])]), ...[...line].reverse().map(p => [x(p[0]), y(p[1] - p[2])])].join("L") + "Z"}),
      s("path", {class: `curve series-${i % 5}`, "stroke-dasharray": LOOKS[i / 5 | 0] || null, d: "M" + line.map(p => [x(p[0]), y(p[1])]).join("L")}),
    ]));
  })),
];
const points = ({panels}) => h("div.panels", panels.map(([title, list]) => {
  const all = list.flat(), x = scale(list.map(p => p[0]), 46, W - 6), y = scale(list.map(p => p[1]), H - 20, 8), low = Math.min(...all), high = Math.max(...all);
  return chart(title, axes(x, y), s("path", {class: "axis", "stroke-dasharray": "2 3", d: `M${x(Math.max(x.low, low))} ${y(Math.max(y.low, low))}L${x(Math.min(x.high, high))} ${y(Math.min(x.high, high))}`}), list.map(p => s("circle", {cx: x(p[0]), cy: y(p[1]), r: 1.6, class: p[0] * p[1] < 0 ? "off" : ""})));
}));
const cell = value => Array.isArray(value) ? [num(value[0]), typeof value[1] === "number" && h("span.note", " ± " + num(value[1], 2))] : typeof value === "number" ? Number.isInteger(value) ? tally(value) : num(value) : value === null ? "–" : bdi(value);
const longTable = ({head, rows}) => {
  const box = h("div"), fill = count => show(box, table(head.map(t => [t.replaceAll("_", " ")]), rows.slice(0, count).map(row => h("tr", row.map((value, i) => h(i ? "td" : "th", i ? {} : {scope: "row"}, cell(value))))), "table.layers"),
    rows.length > count && h("button", {onclick: () => fill(rows.length)}, `All ${tally(rows.length)} rows`));
  fill(SHOWN);
  return box;
};
const DRAW = {lines, points, table: longTable};

views.evidence = {
  title: "Evidence", takes: [], needs: () => ["evidence"], scopes: () => [],
  draw: (_, [parts]) => h("div.overview.evidence", h("h1", "How far to trust this run"),
    h("p.note.reading", "Every number here and in the graphs is a row of a table in the results folder; the file stands beside each title."),
    parts.length ? parts.map(part => h("section", h("h2", part.title), h("p.note", part.note, " ", h("code", part.file)), part.empty ? empty(part.empty) : part.kinds.map(k => DRAW[k.kind](k))))
      : empty("No evaluation was run.")),
};

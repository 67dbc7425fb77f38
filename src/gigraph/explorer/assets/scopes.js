// The graph of a class (Fig. 3 of the paper), of two classes (Figs. 1 and 10), and of one image (Fig. 3, left).
const kept = () => classes.filter(c => c.kept);
const min = () => whole("min", 10, 0, 100); // hide edges below so many percent of the pair's largest
const top = () => whole("top", meta.top, 1, 99);
const downwards = row => layers.map((_, layer) => ({layer, ...row(layer)})).reverse();

// ---- controls ----
const norms = () => choice("Numbers", entries(NORMS).map(([id, words]) => [id, ...words]), norm(),
  id => adjust({norm: id}));
const stepper = (key, name, value, low, most) => {
  const step = (sign, by, words) => press(sign, `${words}: ${name}`,
    () => adjust({[key]: value + by}),
    {key: key + by, disabled: value + by < low || value + by > most});
  return h("fieldset", h("legend", name), step("−", -1, "Fewer"), h("output", value), step("+", 1, "More"));
};
const slider = () => {
  const output = h("output", min() + "%");
  return h("label", {title: "Of the pair’s largest"}, "Hide below",
    h("input", {
      type: "range", max: 100, step: 5, value: min(), key: "min",
      oninput: event => show(output, event.target.value + "%"),
      onchange: event => adjust({min: event.target.value}),
    }), output);
};
const legend = () => h("p.legend",
  [["pos", "raises"], ["neg", "− lowers"], ["err", "unexplained"]].map(([kind, text]) =>
    h("span", h("i." + kind), text)));
// A field with a list below that typing narrows down. Hits: [name, kind, what to do]; without typing all, at the one now.
const combo = (field, box, hitsOf, now, name = "") => {
  let hits = [], at = -1;
  const toggle = open => { box.hidden = !open; fill(field, {"aria-expanded": String(open)}); };
  const leave = () => { field.value = name; toggle(false); };
  const open = i => { if (hits[i]) { leave(); hits[i][2](); } };
  const point = () => {
    show(box, hits.map(([name, kind], i) => h("div", {
      role: "option", id: box.id + i, "aria-selected": String(i === at),
      onpointerdown: event => { event.preventDefault(); open(i); },
    }, name, h("span", kind))), !hits.length && h("p", "Nothing found"));
    fill(field, {"aria-activedescendant": at < 0 ? "" : box.id + at});
    if (at > 0) box.scrollTop = box.children[at].offsetTop - box.clientHeight / 2;
  };
  const list = (text, first) => {
    hits = hitsOf(text);
    at = hits.length ? first : -1;
    toggle(Boolean(text.trim() || now));
    point();
  };
  const all = () => { if (now && box.hidden) { field.select(); list("", now()); } };
  fill(box, {role: "listbox", class: "options"});
  fill(field, {
    role: "combobox", autocomplete: "off", "aria-controls": box.id, "aria-autocomplete": "list",
    oninput: () => list(field.value, 0),
    onclick: all,
    onblur: leave,
    onkeydown: event => {
      const {key} = event, way = {ArrowDown: 1, ArrowUp: -1}[key];
      if (way || key === "Escape") event.preventDefault(); // or the browser empties the field
      if (way) {
        if (box.hidden) return all();
        if (hits.length) at = (at + way + hits.length) % hits.length;
        point();
      } else if (key === "Enter") open(at);
      else if (key === "Escape") { event.stopPropagation(); leave(); }
    },
  });
  leave();
};
const pick = (value, name, change, placeholder, all = kept()) => {
  const {shown = "", name: title} = all.find(c => c.label === value) || classOf(value) || {};
  const box = h("div", {id: name, label: name});
  const field = h("input", {type: "search", key: name, label: name, title, placeholder});
  combo(field, box, text => namedLike(text, all).map(c => [bdi(c.shown), c.label === value && "here", () => change(c.label)]),
    () => all.findIndex(c => c.label === value), shown);
  return h("span.pick", field, box);
};
const goTo = (...labels) => go({args: labels.map(slug), params: {sel: null, on: null, pin: null}});
const frame = (head, tools, model, foot) => [
  head,
  h("div.tools", {role: "toolbar", label: "Display"}, norms(), tools, slider(),
    h("fieldset.zoom", press("−", "Zoom out", () => zoom(1 / 1.2)), press("+", "Zoom in", () => zoom(1.2)),
      press("Fit", "Fit to the width", () => zoom(0))),
    press("SVG", "Save as SVG", exportGraph)),
  h("div.facts", coverage(model), legend()),
  !model.edges.length && empty("No edge passes; lower the threshold."),
  h("div", {
    role: "application",
    label: "Concept graph; arrow keys move, Enter opens",
  }, drawGraph(model)),
  note(foot, " ", meta.drawn, !model.picture && meta.marked),
];
const accuracy = c =>
  c.images ? `${percent(c.right / c.images, 1)} of ${plural(c.images, "image")} recognised${
    2 * c.right < c.images ? "; its graph is mostly of mistakes" : ""}` : "no images";
const first = () => (kept()[0] || {}).label;
// What a card will need.
const prefetch = labels => labels.forEach(label => setTimeout(() => load("near/" + label).catch(() => {}), 300));
const rowsOf = data => downwards(layer => ({groups: [["", data.layers[layer].slice(0, top()).map(n => n[0])]]}));
const mostOf = (...data) => larger(1, ...data.flatMap(d => d.layers.map(list => list.length)));
const perLayer = data => stepper("top", "Per layer", smaller(top(), mostOf(data)), 1, mostOf(data));
const scope = (label, letter = "") => ({label, letter, on: String(label)});
const button = (view, labels, ...text) => h("a.button", {href: linkTo(view, labels.map(slug))}, text);

// How much of the decisions about a class's images the concepts of each layer keep.
const keepsOf = keeps => keeps.length > 0 && table(
  [["Keeps"], [meta.kept], ["predictions"], [meta.said], ["at X"], ["at baseline"]],
  keeps.map((kept, i) => line(layers[i].name, ...kept.map(k => percent(k)))).reverse());

// A class run alone: stops [size, words, nodes that are not in], as the chunk has them.
let ring;
const circuit = c => (ring = c) && h("label", "Circuit", h("input", {
  type: "range", max: c.stops.length - 1, id: "ring",
  oninput: event => adjust({circuit: c.stops[event.target.value][0]}),
}), h("output", {style: {width: "9em"}}));

// ---- one class ----
views.class = {
  title: "Class", takes: ["class"], fallback: first,
  carry: ({view, args}) =>
    view === "compare" || view === "image" ? args.slice(0, 1).filter(slug => slug !== "~-1") : [],
  needs: label => classOf(label).kept ? ["class/" + label] : [],
  scopes: ([label]) => [scope(label)],
  draw: ([label], [data]) => {
    const c = classOf(label);
    const head = heading(className(label),
      [accuracy(c), c.attributed > 0 && `; means over ${plural(c.attributed, "image")}`],
      pick(label, "Class", goTo),
      data && [
        pick(null, "Compare with", to => { location.hash = linkTo("compare", [label, to].map(slug)); },
          "Compare with…"),
        c.near && button("compare", [label, c.near[0]], "Nearest: ", className(c.near[0])),
        meta.pictured && button("image", [label], "Its images"),
      ]);
    if (!data) return [
      head, empty("No concept was kept."),
    ];
    prefetch([label]);
    const alone = data.circuit;
    return [frame([head, alone && note(alone.said)], [perLayer(data), circuit(alone)], modelOf([{label, data}], rowsOf(data), min()),
      `What raises its ${meta.output} most, over its images.`),
    alone && [note(alone.how), lines(alone)], keepsOf(data.keeps)];
  },
};

// ---- two classes ----
views.compare = {
  title: "Compare", takes: ["class", "class"],
  fallback: (i, [one]) => {
    if (!i) return (meta.pairs[0] || [first()])[0];
    const near = classOf(one).near;
    return near ? near[0] : (kept().find(c => c.label !== one) || {label: one}).label;
  },
  carry: views.class.carry,
  needs: (...labels) => labels.filter(l => classOf(l).kept).map(l => "class/" + l),
  scopes: labels => labels.map((label, i) => scope(label, "AB"[i])),
  draw: ([a, b], data) => {
    const [one, two] = [a, b].map(classOf);
    const head = heading(
      [h("span.letter", "A"), className(a), h("span.vs", "and"), h("span.letter", "B"), className(b)],
      ["A: ", accuracy(one), ". B: ", accuracy(two), "."],
      pick(a, "Class A", to => goTo(to, b)), press("⇄", "Swap A and B", () => goTo(b, a)),
      pick(b, "Class B", to => goTo(a, to)));
    if (a === b) return [head, empty("Both are one class.")];
    if (data.length < 2) return [
      head, empty("No concept of ", className(one.kept ? b : a), " was kept."),
    ];
    prefetch([a, b]);
    const most = mostOf(...data), own = smaller(most, top()), common = smaller(most, whole("shared", meta.shared, 0, 99));
    const rows = downwards(layer => {
      const [p, q] = data.map(d => new Map(d.layers[layer])), first = data.map(d => d.layers[layer][0]?.[0]);
      const less = c => first.includes(c) ? 1e9 : smaller(p.get(c), q.get(c));
      const only = (x, y) => [...x.keys()].filter(c => !y.has(c)).slice(0, own);
      const both = [...p.keys()].filter(c => q.has(c)).sort((m, n) => less(n) - less(m) || m - n);
      return {
        more: both.length - common,
        groups: [["A only", only(p, q)], ["shared", both.slice(0, common)], ["B only", only(q, p)]],
      };
    });
    return frame(head, [stepper("top", "Per class", own, 1, most), stepper("shared", "Shared", common, 0, most)],
      modelOf([{label: a, letter: "A", data: data[0]}, {label: b, letter: "B", data: data[1]}], rows, min()),
      meta.two);
  },
};

// ---- one image: the data set's concepts in it, where, and how they lead to the prediction ----
let shown = null;
const nearOf = ({data, at, path}, found) => {
  const node = found && data.layers[found[0]].find(n => n[0] === found[1]);
  if (!node) return null;
  const [layer, concept] = found, below = data.pairs[layer - 1];
  const above = data.layers[layer + 1] && data.pairs[layer], map = data.maps[found.join(":")];
  const split = list => [1, -1].map(sign => list.filter(e => e[2] * sign > 0)
    .sort((a, b) => abs(b[2]) - abs(a[2])).slice(0, 8));
  return {
    in: split((below ? below.edges : []).filter(e => e[1] === concept)
      .map(([a, , ...rest]) => [layer - 1, a, ...rest])),
    out: split((above ? above.edges : []).filter(e => e[0] === concept)
      .map(([, b, ...rest]) => [layer + 1, b, ...rest])),
    into: below && below.into[concept] ? {[layer - 1]: below.into[concept]} : {},
    located: map ? [[at, path, null, node[1], map]] : [], members: data.members[found.join(":")],
  };
};
views.image = {
  title: "Image", takes: ["class", "image"], hidden: () => !meta.pictured,
  fallback: () => explained.length ? -1 : (classes.find(c => c.pictured) || {}).label,
  carry: state => views.class.carry(state).filter(slug => (classOf(byName.get(slug)) || {}).pictured),
  needs: label => label === -1 ? [] : classOf(label).pictured ? ["images/" + label] : [],
  scopes: () => shown ? [
    {...scope(shown.label), on: "image", name: "this image", near: nearOf(shown, parseId(params.sel))},
    ...classOf(shown.label).kept ? [scope(shown.label)] : [],
  ] : [],
  draw: async ([label, id], [list = label === -1 ? explained : []]) => {
    const pictured = classes.filter(c => c.pictured), entry = list.find(e => e[0] === id) || list[0];
    const c = classOf(label);
    if (explained.length) pictured.unshift(classOf(-1));
    const picker = pick(label, "Images of", goTo, null, pictured);
    shown = null;
    if (!entry) return [heading(className(label), "", picker), empty("No image was attributed.")];
    if (id && entry[0] !== id) notice(`There is no image “${id}”; this is the first.`);
    const [name, at, path, predicted, probability] = entry, data = await load("image/" + name), {picture, maps} = data;
    shown = {label: predicted, data, at, path};
    const right = taken => taken === label || label === -1;
    const frames = list.map(([one, where, file, taken]) => h("li", h("a" + (right(taken) ? "" : ".wrong"), {
      href: linkTo("image", [slug(label), one]), key: "image-" + one, "aria-current": one === name && "true",
      label: `${file}, taken for ${classOf(taken).shown}`,
    }, photo(where))));
    return frame([
      heading([className(predicted), !right(predicted) && [h("span.vs", "not"), className(label)]],
        [h("bdi", path), " · taken for ", className(predicted), ` with ${meta.said} ${num(probability)}`],
        picker, classOf(predicted).kept && button("class", [predicted], "The class’s graph")),
      h("div.film", photo(at, path), h("ol.strip", {label: "Images"}, frames)),
    ],
    perLayer(data),
    modelOf([{label: predicted, data, note: num(probability, 2)}], rowsOf(data), min(), {at: picture, maps}),
    "What raises the predicted class most here, lit where it is.");
  },
};

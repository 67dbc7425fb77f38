// The graph of a class (Fig. 3 of the paper), of two classes (Figs. 1 and 10), and of one image (Fig. 3, left).
const kept = () => classes.filter(c => c.kept);
const min = () => whole("min", 10, 0, 100); // hide edges below so many percent of the pair's largest
const top = () => whole("top", meta.top, 1, 99), shared = () => whole("shared", meta.shared, 0, 99);
const downwards = row => meta.layers.map((_, layer) => ({layer, ...row(layer)})).reverse();

// ---- controls ----
const press = (key, text, name, onclick, more) => h("button", {"data-key": key, "aria-label": name, title: name, onclick, ...more}, text);
const norms = () => h("fieldset.segmented", h("legend", "Numbers"), Object.entries(NORMS).map(([id, [name, title]]) =>
  h("button", {"data-key": "norm-" + id, title, "aria-pressed": String(norm() === id), onclick: () => go({params: {norm: id}}, true)}, name)));
const stepper = (key, name, value, low, high) => h("fieldset", h("legend", name), ["−", "+"].map((sign, i) => {
  const next = value + 2 * i - 1, word = (i ? "More: " : "Fewer: ") + name;
  return [i > 0 && h("output", value), press(key + sign, sign, word, () => go({params: {[key]: next}}, true), {disabled: next < low || next > high})];
}));
const slider = () => {
  const output = h("output", min() + "%");
  return h("label", {title: "Edges below this share of the largest of their layer pair are hidden"}, h("span", "Hide edges below"), h("input", {
    type: "range", min: 0, max: 100, step: 5, value: min(), "data-key": "min",
    oninput: event => { output.textContent = event.target.value + "%"; }, onchange: event => go({params: {min: event.target.value}}, true),
  }), output);
};
const legend = () => h("p.legend", [["pos", "raises"], ["neg", "− lowers"], ["err", "unexplained"]].map(([kind, text]) => h("span", h("i." + kind), text)), h("span", "width: magnitude"));
const pick = (value, name, change, first, all = kept()) => {
  const select = h("select", {"aria-label": name, "data-key": name, onchange: () => select.value && change(+select.value)}, first && h("option", {value: ""}, first),
    all.map(c => h("option", {value: c.label, selected: c.label === value}, `\u2068${c.name || "(no name)"}\u2069`)));
  return select;
};
const fresh = {sel: null, on: null, pin: null};
const heading = (title, sub, ...actions) => h("div.heading", h("div", h("h1", title), h("p.note", sub)), h("div.actions", actions));
const frame = (head, tools, model, foot) => [
  head,
  h("div.tools", {role: "toolbar", "aria-label": "Display"}, norms(), tools, slider(),
    h("fieldset.zoom", h("legend", "Zoom"), press("z-", "−", "Zoom out", () => zoom(1 / 1.2)), press("z+", "+", "Zoom in", () => zoom(1.2)), press("z0", "Fit", "Fit to the width", () => zoom(0))),
    h("fieldset.zoom", press("svg", "SVG", "Save the graph in view as SVG", () => exportGraph()), press("print", "Print", "Print the graph in view", () => print()))),
  h("div.facts", coverage(model), legend()),
  !model.edges.length && empty("No edge passes; lower the threshold."),
  h("div.graph", {role: "application", "aria-roledescription": "concept graph", "aria-label": "Concept graph; arrow keys move, Enter opens a concept"}, drawGraph(model)),
  h("p.note.reading", foot, " Attribution flows upwards. A bar under a concept is its own relevance to the class. Choose a concept for its pictures and the numbers behind its edges."),
];
const accuracy = c => c.images ? `${percent(c.right / c.images, 1)} of ${plural(c.images, "image")} recognised` : "no images";
const first = () => (kept()[0] || {}).label;
const prefetch = labels => labels.forEach(label => setTimeout(() => load("near/" + label).catch(() => {}), 300));
const rowsOf = data => downwards(layer => ({groups: [["", data.layers[layer].nodes.slice(0, top()).map(n => n[0])]]}));
const mostOf = (...data) => Math.max(1, ...data.flatMap(d => d.layers.map(l => l.nodes.length)));
const scope = label => ({label, letter: "", on: String(label)});

// ---- one class ----
views.class = {
  title: "Class graph", takes: ["class"], fallback: first,
  carry: state => state.args.slice(0, +(state.view === "compare" || state.view === "image")).filter(a => a !== "~-1"),
  needs: label => classOf(label).kept ? ["class/" + label] : [],
  scopes: ([label]) => [scope(label)],
  draw: ([label], [data]) => {
    const c = classOf(label);
    const head = heading(bdi(c.name), [accuracy(c), c.attributed > 0 && `; attributions are means over ${plural(c.attributed, "image")}`],
      pick(label, "Class", to => go({args: [slug(to)], params: fresh})),
      data && [pick(null, "Compare with", to => { location.hash = linkTo("compare", [c, classOf(to)].map(x => slug(x.label))); }, "Compare with…"),
        c.near && h("a.button", {href: linkTo("compare", [slug(label), slug(c.near[0])])}, "Nearest: ", className(c.near[0])),
        meta.pictured && h("a.button", {href: linkTo("image", [slug(label)])}, "Its images")]);
    if (!data) return [head, empty("No concept of this class was kept: none of its images was attributed, or none of its concepts has positive relevance.")];
    prefetch([label]);
    return frame(head, stepper("top", "Concepts per layer", Math.min(top(), mostOf(data)), 1, mostOf(data)), modelOf([{label, letter: "", data}], rowsOf(data), min()),
      "The concepts of each layer that raise the probability of this class most, over the class’s images.");
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
  scopes: labels => labels.map((label, i) => ({...scope(label), letter: "AB"[i]})),
  draw: ([a, b], data) => {
    const [one, two] = [a, b].map(classOf), swap = (x, y) => go({args: [slug(x), slug(y)], params: fresh});
    const head = heading([h("span.letter", "A"), bdi(one.name), h("span.vs", "and"), h("span.letter", "B"), bdi(two.name)], ["A: ", accuracy(one), ". B: ", accuracy(two), "."],
      pick(a, "Class A", to => swap(to, b)), press("swap", "⇄", "Swap A and B", () => swap(b, a)), pick(b, "Class B", to => swap(a, to)));
    if (a === b) return [head, empty("Both are the same class; choose another one.")];
    if (data.length < 2) return [head, empty("No concept of ", bdi((one.kept ? two : one).name), " was kept; there is nothing to compare.")];
    prefetch([a, b]);
    const rows = downwards(layer => {
      const [p, q] = data.map(d => new Map(d.layers[layer].nodes.map(n => [n[0], n[1]]))), less = c => Math.min(p.get(c), q.get(c));
      const only = (x, y) => [...x.keys()].filter(c => !y.has(c)).slice(0, top());
      const both = [...p.keys()].filter(c => q.has(c)).sort((m, n) => less(n) - less(m) || m - n);
      return {more: both.length - shared(), groups: [["A only", only(p, q)], ["shared", both.slice(0, shared())], ["B only", only(q, p)]]};
    });
    const most = mostOf(...data);
    return frame(head, [stepper("top", "Per class", Math.min(top(), most), 1, most), stepper("shared", "Shared", Math.min(shared(), most), 0, most)],
      modelOf([{label: a, letter: "A", data: data[0]}, {label: b, letter: "B", data: data[1]}], rows, min()),
      "Concepts kept for one class only stand on its side; those kept for both are in the middle, ranked by the smaller of their two relevances.");
  },
};

// ---- one image: the data set's concepts in it, where, and how they lead to the prediction ----
let shown = null;
const nearOf = ({data, at, path}, found) => {
  if (!found || !data.layers[found[0]].nodes.some(n => n[0] === found[1])) return null;
  const [layer, concept] = found, below = data.pairs[layer - 1], above = data.pairs[layer], key = found.join(":"), node = data.layers[layer].nodes.find(n => n[0] === concept);
  const split = list => [1, -1].map(sign => list.filter(e => e[2] * sign > 0).sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])).slice(0, 8));
  return {
    in: split(below ? below.edges.filter(e => e[1] === concept).map(([a, , ...rest]) => [layer - 1, a, ...rest]) : []),
    out: split(above ? above.edges.filter(e => e[0] === concept).map(([, b, ...rest]) => [layer + 1, b, ...rest]) : []),
    into: below && below.into[concept] ? [below.into[concept]] : [], located: data.maps[key] ? [[at, path, null, node[1], data.maps[key]]] : [],
  };
};
views.image = {
  title: "Image", takes: ["class", "image"], hidden: () => !meta.pictured,
  fallback: () => explained.length ? -1 : (classes.find(c => c.pictured) || {}).label,
  carry: state => views.class.carry(state).filter(slug => (classOf(byName.get(slug)) || {}).pictured),
  needs: label => label === -1 ? [] : classOf(label).pictured ? ["images/" + label] : [],
  scopes: ([label]) => shown ? [{...scope(shown.label), on: "image", name: "this image", near: nearOf(shown, parseId(state.params.sel))}, ...classOf(shown.label).kept ? [scope(shown.label)] : []] : label < 0 ? [] : [scope(label)],
  draw: async ([label, id], [list = label === -1 ? explained : []]) => {
    const pictured = classes.filter(c => c.pictured), entry = list.find(e => e[0] === id) || list[0], c = classOf(label);
    if (explained.length) pictured.unshift(classOf(-1));
    const picker = pick(label, "Images of", to => go({args: [slug(to)], params: fresh}), null, pictured);
    shown = null;
    if (!entry) return [heading(bdi(c.name), "", picker), empty("No image of this class was attributed.")];
    if (id && entry[0] !== id) notice(`There is no image “${id}” here; this is the first one.`);
    const [name, at, path, predicted, probability] = entry, data = await load("image/" + name), {picture, maps} = data;
    shown = {label: predicted, data, at, path};
    const right = predicted === label || label === -1;
    return frame([heading([className(predicted), !right && [h("span.vs", "not"), bdi(c.name)]], [h("bdi", path), ` · taken for `, className(predicted), ` with probability ${num(probability)}`], picker,
      classOf(predicted).kept && h("a.button", {href: linkTo("class", [slug(predicted)])}, "The class’s graph")),
    h("div.film", photo(at, path), h("ol.strip", {"aria-label": "Images"}, list.map(e => h("li", h("a" + (e[3] === label || label === -1 ? "" : ".wrong"), {href: linkTo("image", [slug(label), e[0]]), "data-key": "image-" + e[0], "aria-current": e === entry ? "true" : null, "aria-label": `${e[2]}, taken for ${classOf(e[3]).name}`}, photo(e[1]))))))],
    stepper("top", "Concepts per layer", Math.min(top(), mostOf(data)), 1, mostOf(data)),
    modelOf([{label: predicted, letter: "", data, note: num(probability, 2)}], rowsOf(data), min(), {at: picture, maps}),
    "The data set’s concepts that raise the probability of the predicted class most in this image; each lit where it is, with its nearest patches below.");
  },
};

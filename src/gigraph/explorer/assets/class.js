// The graph of one class (Fig. 3 of the paper) and of two beside each other (Figs. 1 and 10).
"use strict";
(function (g) {
  const {h} = g;
  const DEFAULT_MIN = 10; // hide edges below so many percent of the pair's largest

  const min = () => g.whole("min", DEFAULT_MIN, 0, 100);
  const settings = () => ({top: g.whole("top", g.meta.top, 1, 99), shared: g.whole("shared", g.meta.shared, 0, 99)});
  const downwards = () => g.meta.layers.map((_, i) => i).reverse();

  // ---- controls ----
  const segmented = () => h("fieldset.segmented", {}, h("legend", {}, "Numbers"),
    Object.entries(g.NORMS).map(([id, [name, meaning]]) => h("button", {
      type: "button", "data-key": "norm-" + id, title: meaning, "aria-pressed": String(g.norm() === id), onclick: () => g.go({params: {norm: id}}, true),
    }, name)));
  const stepper = (key, name, value, low, high) => h("fieldset.stepper", {}, h("legend", {}, name),
    [["\u2212", value - 1, "Fewer"], ["", value], ["+", value + 1, "More"]].map(([sign, next, word]) => sign
      ? h("button", {type: "button", "data-key": key + sign, "aria-label": `${word}: ${name}`, disabled: next < low || next > high, onclick: () => g.go({params: {[key]: next}}, true)}, sign)
      : h("output", {}, String(value))));
  const slider = () => {
    const output = h("output", {}, min() + "%");
    return h("label.slider", {title: "Edges below this share of the largest of their layer pair are hidden"}, h("span", {}, "Hide edges below"),
      h("input", {
        type: "range", min: 0, max: 100, step: 5, value: min(), "data-key": "min",
        oninput: (event) => { output.textContent = event.target.value + "%"; },
        onchange: (event) => g.go({params: {min: event.target.value}}, true),
      }), output);
  };
  const zoom = () => h("fieldset.zoom", {}, h("legend", {}, "Zoom"),
    [["\u2212", 1 / 1.2, "Zoom out"], ["+", 1.2, "Zoom in"], ["Fit", 0, "Fit to the width"]].map(([sign, factor, name]) =>
      h("button", {type: "button", "aria-label": name, onclick: () => g.zoom(factor)}, sign)));
  const legend = () => h("p.legend", {},
    h("span", {}, line("pos"), "raises"), h("span", {}, line("neg"), "\u2212 lowers"), h("span", {}, "width: magnitude"),
    h("span", {}, h("i.hatch"), "unexplained"));
  const line = (kind) => g.s("svg", {viewBox: "0 0 28 8", "aria-hidden": "true"}, g.s("path", {d: "M1 4H27", class: kind, "stroke-width": 3, "stroke-dasharray": kind === "neg" ? "5 4" : null}));
  const pick = (value, name, change, first) => {
    const options = g.classes.filter((c) => c.kept).map((c) => h("option", {value: c.label, selected: c.label === value}, g.plain(c.name)));
    const select = h("select", {"aria-label": name, "data-key": name, onchange: () => select.value !== "" && change(+select.value)}, first && h("option", {value: ""}, first), options);
    if (first) select.value = "";
    return select;
  };
  g.plain = (text) => "\u2068" + (text || "(no name)") + "\u2069";

  const frame = (heading, tools, model, foot) => {
    const none = !model.edges.length;
    return [
      heading,
      h("div.tools", {role: "toolbar", "aria-label": "Display"}, segmented(), tools, slider(), zoom()),
      h("div.facts", {}, g.coverage(model), legend()),
      none && h("p.state", {role: "status"}, "No edge passes; lower the threshold."),
      h("div.graph", {role: "application", "aria-roledescription": "concept graph", "aria-label": "Concept graph; arrow keys move, Enter opens a concept"}, g.draw(model)),
      foot,
    ];
  };
  const reading = (text) => h("p.reading", {}, text, " Attribution flows upwards. A bar under a concept is its own relevance to the class. Choose a concept for its pictures and the numbers behind its edges.");
  const after = () => { g.stage.place(); g.mark(); };
  const accuracy = (c) => (c.images ? `${g.percent(c.right / c.images, 1)} of ${g.plural(c.images, "image")} recognised` : "no images");

  // ---- one class ----
  g.views.class = {
    title: "Class graph",
    classes: 1,
    fallback: () => { const first = g.classes.find((c) => c.kept); return first ? first.label : null; },
    carry: () => (g.state.args.length ? [g.state.args[0]] : []),
    needs: ([label]) => (g.classOf(label).kept ? ["class/" + label] : []),
    draw: ([label], [data]) => {
      const c = g.classOf(label), {top} = settings();
      const near = c.near && g.classOf(c.near[0]);
      const heading = h("div.heading", {},
        h("div", {}, h("h1", {}, g.name(c.name)),
          h("p.sub", {}, accuracy(c), c.attributed ? `; attributions are means over ${g.plural(c.attributed, "image")}` : "")),
        h("div.actions", {}, pick(label, "Class", (to) => g.go({args: [g.slug(to)], params: {sel: null, on: null, pin: null}})),
          data && pick(null, "Compare with", (to) => { location.hash = g.link("compare", [g.slug(label), g.slug(to)]); }, "Compare with\u2026"),
          near && h("a.button", {href: g.link("compare", [g.slug(label), g.slug(near.label)])}, "Nearest: ", g.name(near.name))));
      if (!data) return [heading, h("p.state", {role: "status"}, "No concept of this class was kept: none of its images was attributed, or none of its concepts has positive relevance.")];
      const rows = downwards().map((layer) => ({layer, groups: [["", data.layers[layer].nodes.slice(0, top).map((n) => n[0])]]}));
      const most = Math.max(1, ...data.layers.map((l) => l.nodes.length));
      const model = g.model([{label, letter: "", data}], rows, min());
      return frame(heading, stepper("top", "Concepts per layer", Math.min(top, most), 1, most), model,
        reading(`The ${top} concepts of each layer that raise the probability of this class most, over the class's images.`));
    },
    after: () => g.stage && after(),
    select: () => g.mark(),
    scopes: () => [g.classFrom(g.state.args[0])],
  };

  // ---- two classes ----
  g.views.compare = {
    title: "Compare",
    classes: 2,
    fallback: (i, labels) => {
      const kept = g.classes.filter((c) => c.kept);
      if (!kept.length) return null;
      if (i === 0) return (g.meta.pairs[0] || [kept[0].label])[0];
      const c = g.classOf(labels[0] === undefined || labels[0] === null ? (g.meta.pairs[0] || [kept[0].label])[0] : labels[0]);
      return c.near ? c.near[0] : (kept.find((k) => k !== c) || c).label;
    },
    carry: () => (g.state.view === "class" ? [g.state.args[0]] : []),
    needs: (labels) => labels.filter((l) => g.classOf(l).kept).map((l) => "class/" + l),
    draw: ([a, b], data) => {
      const one = g.classOf(a), two = g.classOf(b), {top, shared} = settings();
      const swap = (x, y) => g.go({args: [g.slug(x), g.slug(y)], params: {sel: null, on: null, pin: null}});
      const heading = h("div.heading", {},
        h("div", {}, h("h1.versus", {}, h("span.letter", {}, "A"), g.name(one.name), h("span.vs", {}, "and"), h("span.letter", {}, "B"), g.name(two.name)),
          h("p.sub", {}, "A: ", accuracy(one), ". B: ", accuracy(two), ".")),
        h("div.actions", {}, pick(a, "Class A", (to) => swap(to, b)), h("button", {type: "button", "aria-label": "Swap A and B", onclick: () => swap(b, a)}, "\u21c4"), pick(b, "Class B", (to) => swap(a, to))));
      if (a === b) return [heading, h("p.state", {role: "status"}, "Both are the same class; choose another one.")];
      if (data.length < 2) return [heading, h("p.state", {role: "status"}, "No concept of ", g.name((one.kept ? two : one).name), " was kept; there is nothing to compare.")];
      const rows = downwards().map((layer) => {
        const [p, q] = data.map((d) => d.layers[layer].nodes), inQ = new Map(q.map((n) => [n[0], n[1]])), inP = new Map(p.map((n) => [n[0], n[1]]));
        const both = p.filter((n) => inQ.has(n[0])).sort((m, n) => Math.min(n[1], inQ.get(n[0])) - Math.min(m[1], inQ.get(m[0])) || m[0] - n[0]).map((n) => n[0]);
        return {
          layer, more: Math.max(0, both.length - shared),
          groups: [["A only", p.map((n) => n[0]).filter((c) => !inQ.has(c)).slice(0, top)], ["shared", both.slice(0, shared)], ["B only", q.map((n) => n[0]).filter((c) => !inP.has(c)).slice(0, top)]],
        };
      });
      const model = g.model([{label: a, letter: "A", data: data[0]}, {label: b, letter: "B", data: data[1]}], rows, min());
      const most = Math.max(1, ...data.flatMap((d) => d.layers.map((l) => l.nodes.length)));
      return frame(heading, [stepper("top", "Per class", Math.min(top, most), 1, most), stepper("shared", "Shared", Math.min(shared, most), 0, most)], model,
        reading(`Concepts kept for one class only stand on its side; those kept for both are in the middle, ranked by the smaller of their two relevances.`));
    },
    after: () => g.stage && after(),
    select: () => g.mark(),
    scopes: () => g.state.args.map(g.classFrom),
  };
})(gigraph);

// The card of a concept: what it looks like, where it is, which classes and which neighbours it has; the labels.
"use strict";
(g => {
  const {h} = g;
  let turn = 0, opener = null;

  // ---- labels: the reader's own, kept in the browser, above those of the build ----
  const store = () => "gigraph labels " + g.meta.graph;
  g.readLabels = () => {
    let own = {};
    try { own = JSON.parse(localStorage.getItem(store())) || {}; } catch { /* storage may be forbidden */ }
    g.labels = {...g.meta.labels, ...own};
  };
  g.setLabels = changes => {
    Object.assign(g.labels, changes);
    try { localStorage.setItem(store(), JSON.stringify(g.labels)); } catch { g.notice("This browser keeps no labels; export them before you leave."); }
    g.redraw();
  };
  // A file that Snakemake takes beside the configuration: snakemake --configfile my.yaml labels.yaml
  g.exportLabels = () => g.download("labels.yaml", "text/yaml", "explorer:\n  labels:\n" + Object.entries(g.labels).filter(([, name]) => name)
    .map(([key, name]) => `    ${JSON.stringify(g.keyId(key))}: ${JSON.stringify(name)}\n`).join(""));
  g.importLabels = async file => {
    const found = {};
    for (const [, id, name] of (await file.text()).matchAll(/^\s*("(?:[^"\\]|\\.)+"|[\w.]+:\d+)\s*:\s*(.+?),?\s*$/gm)) {
      const plain = text => { try { return String(JSON.parse(text)); } catch { return text; } }, key = g.keyOf(plain(id));
      if (key) found[key] = plain(name);
    }
    g.setLabels(found);
    g.notice(`${g.plural(Object.keys(found).length, "label")} of ${file.name} read.`);
  };

  g.card = async () => {
    const card = g.$("card"), found = g.parseId(g.state.params.sel), mine = ++turn;
    document.body.classList.toggle("with-card", found);
    if (!found) {
      const inside = card.contains(document.activeElement);
      card.hidden = true;
      card.key = "";
      g.$("frame").classList.remove("wide");
      if (inside && opener && opener.isConnected) opener.focus();
      return;
    }
    if (g.fromKeyboard) opener = document.activeElement;
    const [layer, concept] = found, scopes = g.views[g.state.view].scopes(g.state.found), group = Math.floor(concept / 32), key = found.join(":");
    card.hidden = false;
    try {
      const cards = g.meta.layers[layer].groups.includes(group) ? await g.load(`concepts/${layer}/${group}`) : {};
      for (const scope of scopes) scope.near ||= (g.classOf(scope.label).kept ? await g.load("near/" + scope.label) : {})[key];
      if (mine === turn) g.show(card, draw(layer, concept, key, cards[concept], scopes));
    } catch (error) {
      if (mine === turn) g.show(card, head(layer, concept, key), g.failed(error));
    }
    if (mine !== turn) return;
    if (card.key !== key) card.scrollTop = 0;
    card.key = key;
    if (g.fromKeyboard) { g.fromKeyboard = false; g.$("card-title").focus(); }
  };
  g.close = () => {
    opener = g.stage && g.stage.nodes.get(g.keyOf(g.state.params.sel)) || opener;
    g.go({params: {sel: null, on: null}});
    if (opener && opener.isConnected) opener.focus();
  };
  g.maximise = () => { if (!g.$("card").hidden) g.$("frame").classList.toggle("wide"); };

  const button = (text, name, title, onclick, more) => h("button.plain", {"aria-label": name, title, onclick, ...more}, text);
  const head = (layer, concept, key) => h("header",
    h("div", h("p.note", g.meta.layers[layer].name), h("h2", {tabindex: -1, id: "card-title"}, "Concept " + concept),
      h("input.label", {type: "text", value: g.labelOf(key) || "", placeholder: g.guessOf(key) ? "≈ " + g.guessOf(key) : "Name it", "aria-label": "Label of this concept", onchange: event => g.setLabels({[key]: event.target.value.trim()})})),
    h("div.actions", button("⚑", "Pin this concept", "Pin (P)", () => g.pin(key), {"aria-pressed": String(g.pins().includes(g.keyId(key)))}),
      button("⤢", "Maximise the card", "Maximise (F)", g.maximise), button("×", "Close the card", "Close (Esc)", g.close)));

  const draw = (layer, concept, key, data, scopes) => {
    if (!data) return [head(layer, concept, key), g.empty("Nothing is stored about this concept: no class keeps it, and it is no neighbour of one that is kept.")];
    const here = g.state.params.on === "all" ? null : scopes.find(s => s.on === g.state.params.on) || scopes.find(s => s.near);
    return [
      head(layer, concept, key), flags(layer, key, data), pictures(layer, data), over(scopes, here), here && located(here),
      relevance(layer, concept, data), lists(layer, here && here.near || data.near, here && here.near && here),
    ];
  };

  const chip = (text, kind, title) => h("span.chip" + kind, {title}, text);
  const flags = (layer, key, {size, cohesion, low, twin, stable}) => h("p.flags",
    size === 1 ? chip("singleton", ".warn", "Only one PFV belongs to this concept") : chip(g.plural(size, "PFV"), "", "Members of the cluster"),
    cohesion !== null && chip(`${low ? "low " : ""}cohesion ${g.num(cohesion)}`, low ? ".warn" : "", "Mean cosine of the members to the concept" + (low ? "; in the lowest tenth of its layer" : "")),
    stable && chip(`stability ${g.num(stable[0])}`, stable[0] > stable[1] ? "" : ".warn", `Mean cosine of its best match when concepts are found again with other seeds; by chance ${g.num(stable[1])}`),
    twin && twin[1] >= 0.95 && h("a.chip.warn", {href: g.select(layer, twin[0]), title: `cosine ${g.num(twin[1])}`}, `near-duplicate of #${twin[0]}`),
    (g.meta.aligned[key] || []).map(([part, ap, prevalence]) => chip(["detects ", h("b", g.name(part)), `, AP ${g.num(ap, 2)}`], ".good", `Average precision ${g.num(ap)}; prevalence ${g.num(prevalence)}`)));

  const pictures = (layer, {exemplars}) => h("section", h("h3", "Nearest patches"),
    exemplars.length ? h("ol.tiles", exemplars.map(([tile, cosine, label, path]) => h("li", {title: path},
      g.tile(layer, tile, `${g.className(label).textContent}, cosine ${cosine.toFixed(3)}`), h("span.value", cosine.toFixed(3)), h("span.note", g.className(label)))))
      : h("p.note", "There are no pictures of this concept: it is kept for no class."));

  const over = (scopes, here) => scopes.length ? h("fieldset.segmented", h("legend", "Over"), [...scopes, null].map(s => h("button", {
    "aria-pressed": String(s === (here || null)), onclick: () => g.go({params: {on: s ? s.on : "all"}}, true),
  }, s ? [s.letter && h("span.letter", s.letter), s.name || g.className(s.label)] : "all classes")))
    : h("p.note", "Numbers are means over all images; open a class to see its own.");

  const located = ({near, name, label}) => h("section", h("h3", "Where it is in ", name || g.className(label)),
    near && near.located.length ? h("ol.tiles.large", near.located.map(([at, path, coefficient, gig, map]) => h("li", {title: `${path}; largest coefficient ${g.num(coefficient)}`}, g.picture(at, `located in ${path}`, map), h("span.value", `GIG ${g.num(gig)}`))))
      : h("p.note", near ? "It was not located on these images." : "It is not among the concepts kept for this class; what follows is over all images."));

  const relevance = (layer, concept, {relevance: list}) => h("section", h("h3", "Relevance to classes"), list.length ? h("table.relevance", h("tbody", list.map(([label, mean, se, support, weight, share]) =>
    h("tr" + (mean < 0 ? ".neg" : ""), {title: `${g.pm(mean, se)}, ${g.plural(support, "image")}`},
      h("th", {scope: "row"}, g.classOf(label).kept ? h("a", {href: g.link("class", [g.slug(label)], {sel: g.idOf(layer, concept)})}, g.className(label)) : g.className(label)),
      h("td", g.meter(Math.abs(mean) / g.most(list.map(r => r[1])))), h("td.value", g.value(mean, weight, share)))))) : h("p.note", "It was not attributed to any class."));

  const lists = (layer, near, here) => {
    if (!near) return h("p.note", "Neighbours are listed for kept concepts only.");
    const sums = Object.values(near.into), total = g.sum(sums, e => e[1]), most = g.most([...near.in, ...near.out].flat().map(e => e[8]));
    const part = k => g.percent(g.sum(sums, e => Math.abs(e[k])) / total);
    return h("section.near", h("h3", "Neighbours, ", here ? ["over ", here.name ? "" : "images of ", here.name || g.className(here.label)] : "over all images"),
      layer < g.meta.layers.length - 1 ? [list("Raises, above", near.out[0], most), list("Lowers, above", near.out[1], most)] : h("p.note", "Above this layer are the classes."),
      layer ? [list("Raised by, below", near.in[0], most), list("Lowered by, below", near.in[1], most), total > 0 && h("p.note", `Of all |GIG| into it, ${part(2)} comes from the error node (unexplained) and ${part(4)} from the remainder (not kept).`)] : h("p.note", "This is the first layer: nothing lies below."));
  };
  const list = (title, entries, most) => h("div.list", h("h4", title), entries.length ? g.table(
    [["Concept"], ["GIG", g.NORMS[g.norm()][1]], ["Ablation", "exact drop of the target when this source is deleted, in the same unit"], ["n", "images with a non-zero attribution"]],
    entries.map(([layer, concept, mean, se, support, ablation, ablationSe, weight, share]) => h("tr" + (mean < 0 ? ".neg" : ""),
      h("th", {scope: "row"}, h("a", {href: g.select(layer, concept), "data-key": `near-${layer}:${concept}`}, "#" + concept), " ", g.captionOf(`${layer}:${concept}`), g.meter(g.size(weight, share, most))),
      h("td.value", {title: g.pm(mean, se)}, g.value(mean, weight, share)),
      h("td.value", {title: ablation === null ? "not checked" : g.pm(ablation, ablationSe)}, ablation === null ? "–" : g.like(mean, weight, share, ablation)),
      h("td.value.note", support)))) : h("p.note", "none"));
})(gigraph);

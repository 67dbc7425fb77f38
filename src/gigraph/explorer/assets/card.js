// The card of a concept: what it looks like, where it is, which classes and which neighbours it has.
"use strict";
(function (g) {
  const {h} = g;
  let turn = 0, opener = null;

  g.card = async () => {
    const card = g.$("card"), id = g.state.params.sel, found = id && g.parseId(id), mine = ++turn;
    document.body.classList.toggle("with-card", Boolean(found));
    if (!found) {
      if (!card.hidden) { const inside = card.contains(document.activeElement); card.hidden = true; g.show(card); g.$("frame").classList.remove("wide"); if (inside && opener && opener.isConnected) opener.focus(); }
      return;
    }
    if (g.fromKeyboard) opener = document.activeElement;
    const [layer, concept] = found, scopes = g.views[g.state.view].scopes();
    card.hidden = false;
    try {
      const group = Math.floor(concept / 32), has = g.meta.layers[layer].groups.includes(group);
      const cards = has ? await g.load(`concepts/${layer}/${group}`) : {};
      const near = await Promise.all(scopes.map((label) => g.classOf(label).kept ? g.load("near/" + label) : {}));
      if (mine !== turn) return;
      g.show(card, draw(layer, concept, cards[concept], scopes.map((label, i) => ({label, letter: scopes.length > 1 ? g.LETTERS[i] : "", near: near[i][`${layer}:${concept}`]}))));
    } catch (error) {
      if (mine !== turn) return;
      g.show(card, head(layer, concept), g.failed(error));
    }
    card.scrollTop = 0;
    if (g.fromKeyboard) { g.fromKeyboard = false; card.querySelector("h2").focus(); }
  };

  g.close = () => {
    const node = g.stage && g.stage.stage.isConnected && g.state.params.sel && g.stage.stage.querySelector(`.node[data-key="${g.parseId(g.state.params.sel).join(":")}"]`);
    opener = node || opener;
    const back = opener;
    g.go({params: {sel: null, on: null}});
    if (back && back.isConnected) back.focus();
  };

  const head = (layer, concept) => {
    const label = g.labelOf(layer, concept);
    const wide = h("button.plain", {type: "button", title: "Maximise (F)", "aria-label": "Maximise the card", onclick: g.maximise}, "\u2922");
    return h("header", {},
      h("div", {}, h("p.kicker", {}, g.meta.layers[layer].name), h("h2", {tabindex: "-1", id: "card-title"}, `Concept ${concept}`, label && [" \u00b7 ", g.name(label)])),
      h("div.actions", {}, h("button.plain", {type: "button", title: "Pin (P)", "aria-label": "Pin this concept", "aria-pressed": String(g.list("pin").includes(g.idOf(layer, concept))), onclick: () => g.pin(`${layer}:${concept}`)}, "\u2691"), wide,
        h("button.plain", {type: "button", title: "Close (Esc)", "aria-label": "Close the card", onclick: g.close}, "\u00d7")));
  };
  g.maximise = () => {
    if (!g.$("card").hidden) g.$("frame").classList.toggle("wide");
  };

  const draw = (layer, concept, data, scopes) => {
    if (!data) return [head(layer, concept), h("p.state", {role: "status"}, "Nothing is stored about this concept: no class keeps it, and it is no neighbour of one that is kept.")];
    const chosen = scopes.findIndex((s) => String(s.label) === g.state.params.on);
    const here = g.state.params.on === "all" ? null : scopes[chosen] || scopes.find((s) => s.near) || null;
    return [
      head(layer, concept), flags(layer, concept, data), pictures(layer, data), where(scopes, here), located(layer, scopes, here),
      classes(layer, concept, data), lists(layer, here && here.near ? here.near : data.near, here),
    ];
  };

  const chip = (text, kind, title) => h("span.chip" + (kind ? "." + kind : ""), {title}, text);
  const flags = (layer, concept, data) => h("p.flags", {},
    data.size === 1 ? chip("singleton", "warn", "Only one PFV belongs to this concept") : chip(g.plural(data.size, "PFV"), "", "Members of the cluster"),
    data.cohesion !== null && chip(`cohesion ${g.num(data.cohesion)}`, data.low ? "warn" : "", data.low ? "In the lowest tenth of its layer: its members differ much" : "Mean cosine of the members to the concept"),
    data.low && chip("low cohesion", "warn"),
    data.twin && data.twin[1] >= 0.95 && h("a.chip.warn", {href: other(layer, data.twin[0]), title: `cosine ${g.num(data.twin[1])}`}, `near-duplicate of #${data.twin[0]}`),
    (g.meta.aligned[`${layer}:${concept}`] || []).map(([part, ap, prevalence]) => chip(["best detector of ", h("b", {}, g.name(part)), `, AP ${g.num(ap, 2)}`], "good", `Average precision ${g.num(ap)}; prevalence ${g.num(prevalence)}`)));
  const other = (layer, concept) => g.format({...g.state, params: {...g.state.params, sel: g.idOf(layer, concept)}});

  const pictures = (layer, data) => h("section", {}, h("h3", {}, "Nearest patches"),
    data.exemplars.length ? h("ol.tiles", {}, data.exemplars.map(([tile, cosine, label, path]) => {
      const name = g.classOf(label) ? g.classOf(label).name : "unlabelled";
      return h("li", {title: path}, g.tile(layer, tile, `${name}, cosine ${cosine.toFixed(3)}`), h("span.value", {}, cosine.toFixed(3)), h("span.under", {}, g.name(name)));
    })) : h("p.note", {}, "There are no pictures of this concept: it is kept for no class."));

  const where = (scopes, here) => {
    if (!scopes.length) return h("p.note", {}, "Numbers are means over all images; open a class to see its own.");
    const to = (on) => () => g.go({params: {on}}, true);
    const option = (text, on, pressed, letter) => h("button", {type: "button", "data-on": on, "aria-pressed": String(pressed), onclick: to(on)}, letter && h("span.letter", {}, letter), text);
    return h("fieldset.segmented.over", {}, h("legend", {}, "Over the images of"), scopes.map((s) => option(g.name(g.classOf(s.label).name), String(s.label), s === here, s.letter)), option("all classes", "all", !here));
  };

  const located = (layer, scopes, here) => {
    if (!here) return null;
    const name = g.name(g.classOf(here.label).name);
    const list = here.near ? here.near.located : [];
    return h("section", {}, h("h3", {}, "Where it is in ", name),
      list.length ? h("ol.tiles.large", {}, list.map(([tile, path, coefficient, relevance]) => h("li", {title: `${path}; largest coefficient ${g.num(coefficient)}`}, g.tile(layer, tile, `located in ${path}`), h("span.value", {}, `GIG ${g.num(relevance)}`))))
        : h("p.note", {}, here.near ? "It was not located on images of this class." : "It is not among the concepts kept for this class; what follows is over all images."));
  };

  const classes = (layer, concept, data) => {
    const most = Math.max(...data.relevance.map((r) => Math.abs(r[1])), 1e-12), norm = g.norm();
    return h("section", {}, h("h3", {}, "Relevance to classes"), data.relevance.length ? h("table.relevance", {}, h("tbody", {}, data.relevance.map(([label, mean, se, support, weight, share]) => h("tr" + (mean < 0 ? ".neg" : ""), {title: `${g.num(mean)} \u00b1 ${g.num(se, 2)}, ${g.plural(support, "image")}`},
      h("th", {scope: "row"}, g.classOf(label).kept ? h("a", {href: g.link("class", [g.slug(label)], {sel: g.idOf(layer, concept)})}, g.name(g.classOf(label).name)) : g.name(g.classOf(label).name)),
      h("td", {}, h("span.meter", {"aria-hidden": "true"}, h("span", {style: {width: 100 * Math.abs(mean) / most + "%"}}))), h("td.value", {}, g.value(norm, mean, weight, share)), norm === "raw" && h("td.value.dim", {}, "\u00b1 " + g.num(se, 2)))))) : h("p.note", {}, "It was not attributed to any class."));
  };

  const lists = (layer, near, here) => {
    if (!near) return h("p.note", {}, "Neighbours are listed for kept concepts only.");
    const who = here && here.near ? ["over images of ", g.name(g.classOf(here.label).name)] : "over all images";
    const sums = Object.values(near.into), most = g.most([...near.in, ...near.out].flat().map((e) => e[8]));
    const total = sums.reduce((n, e) => n + e[1], 0);
    const part = (k) => g.percent(sums.reduce((n, e) => n + Math.abs(e[k]), 0) / (total || 1));
    return h("section.near", {}, h("h3", {}, "Neighbours, ", who),
      layer < g.meta.layers.length - 1 ? [list("Raises, above", near.out[0], most), list("Lowers, above", near.out[1], most)] : h("p.note", {}, "Above this layer are the classes."),
      layer > 0 ? [list("Raised by, below", near.in[0], most), list("Lowered by, below", near.in[1], most), total ? h("p.note", {}, `Of all |GIG| into it, ${part(2)} comes from the error node (unexplained) and ${part(4)} from the remainder (not kept).`) : null] : h("p.note", {}, "This is the first layer: nothing lies below."));
  };
  const list = (title, entries, most) => h("div.list", {}, h("h4", {}, title),
    entries.length ? h("table", {}, h("thead", {}, h("tr", {}, ["Concept", "GIG", "Ablation", "n"].map((t, i) => h("th", {scope: "col", title: ["", g.NORMS[g.norm()][1], "exact drop of the target when this source is deleted, in the same unit", "images with a non-zero attribution"][i] || null}, t)))),
      h("tbody", {}, entries.map(([layer, concept, mean, se, support, ablation, ablationSe, weight, share]) => h("tr" + (mean < 0 ? ".neg" : ""), {},
        h("th", {scope: "row"}, h("a", {href: other(layer, concept), "data-key": `near-${layer}:${concept}`}, `#${concept}`), g.captionOf(layer, concept) ? [" ", g.captionOf(layer, concept)] : null, h("span.meter", {"aria-hidden": "true"}, h("span", {style: {width: 100 * g.size(g.norm(), weight, share, most) + "%"}}))),
        h("td.value", {title: `${g.num(mean)} \u00b1 ${g.num(se, 2)}`}, g.value(g.norm(), mean, weight, share)),
        h("td.value", {title: ablation === null ? "not checked" : `\u00b1 ${g.num(ablationSe, 2)}`}, ablation === null ? "\u2013" : g.like(mean, weight, share, ablation)),
        h("td.value.dim", {}, String(support)))))) : h("p.note", {}, "none"));
})(gigraph);

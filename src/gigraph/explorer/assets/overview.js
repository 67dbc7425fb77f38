// The overview: the run, its verdict, the stack of layers, the classes, and what many classes share.
"use strict";
(g => {
  const {h} = g;
  const section = (title, note, ...content) => h("section", h("h2", title), h("p.note", note), content);
  const face = (layer, [concept, tiles], words, ...under) => h("button.node", {
    "data-key": `${layer}:${concept}`, "aria-label": `${g.say(layer, concept)}; ${words}`,
    onclick: event => { g.fromKeyboard = !event.detail; g.go({params: {sel: g.idOf(layer, concept)}}); },
  }, g.face(layer, tiles), h("span.caption", g.captionOf(`${layer}:${concept}`)), h("span.line", h("span.id", "#" + concept), h("span.value", under)));

  const stack = () => g.table([["Layer"], ["Map", "height × width × channels"], ["Concepts", "kept for some class, of all"], ["Error", "relative l2 error of the reconstruction from concepts"], ["Non-zeros", "concepts used per position, mean"]],
    [...g.meta.layers].reverse().map(l => h("tr", h("th", {scope: "row"}, h("a", {href: g.link("atlas", [l.name])}, l.name)), h("td", `${l.height} × ${l.width} × ${l.channels}`),
      h("td", h("b", g.count(l.kept)), " of " + g.count(l.concepts)), h("td", g.meter(l.error / g.most(g.meta.layers.map(x => x.error))), g.num(l.error)), h("td", g.num(l.nonzeros)))), "table.layers");

  const classes = () => {
    const list = h("ul.classes"), said = h("p.note", {role: "status"}), last = g.meta.layers.length - 1;
    const fill = text => {
      const hits = g.classes.filter(c => c.name.toLowerCase().includes(text.trim().toLowerCase()));
      g.show(list, hits.slice(0, 120).map(c => h("li", h("a", {href: g.link("class", [g.slug(c.label)])}, g.name(c.name)), h("span.faces", c.faces.map(t => g.tile(last, t))),
        c.images ? [g.meter(c.right / c.images), h("span.value", g.percent(c.right / c.images, 1))] : h("span.value", "no images"),
        h("span.aside", c.kept ? c.near && h("a", {href: g.link("compare", [g.slug(c.label), g.slug(c.near[0])]), title: "Compare with the class that shares most"}, "vs ", g.className(c.near[0])) : "no graph"))));
      said.textContent = hits.length > 120 ? `120 of ${g.count(hits.length)} classes; type to narrow down` : hits.length ? "" : "No class has such a name.";
    };
    fill("");
    return [h("input", {type: "search", placeholder: "Filter classes", "aria-label": "Filter classes", oninput: event => fill(event.target.value)}), list, said];
  };

  // The drawn world knows the truth: what was planted, and whether the graph found it.
  const verdict = t => t && h("section.verdict", h("h2", t.found ? "The planted shortcut was found" : "The planted shortcut was not found"),
    h("p", `The ${t.part} was planted in ${g.percent(t.planted)} of the images of `, h("a", {href: g.link("class", [g.slug(t.label)])}, g.className(t.label)), ` and ${g.percent(t.elsewhere)} of the others. `,
      t.found ? "Concepts that detect it are among the three strongest causes of that class in their layer:" : "No concept that detects it is among the three strongest causes of that class:"),
    h("div.strip", t.rows.map(([layer, concept, ap, rank, share, tiles]) => h("div", h("p.note", g.meta.layers[layer].name), face(layer, [concept, tiles], `detects the ${t.part}`, rank === null ? "not kept" : `rank ${rank + 1}`),
      h("p.note", `AP ${g.num(ap)}`, rank !== null && h("br"), rank !== null && `${g.percent(share)} of |GIG|`)))));

  g.views.overview = {
    title: "Overview", takes: [], needs: () => [], scopes: () => [],
    draw: () => {
      const m = g.meta, [right, all] = m.accuracy, total = g.classes.filter(c => c.kept).length;
      const facts = [[all ? g.percent(right / all, 1) : "–", "accuracy"], ...[[m.images, "images"], [g.classes.length, "classes"], [m.layers.length, "layers"], [g.sum(m.layers, l => l.concepts), "concepts"], [m.edges, "attributions"]].map(([n, name]) => [g.count(n), name])];
      const notes = [...m.notes.map(g.name), m.rejected > 0 && `${g.plural(m.rejected, "image")} could not be read and ${m.rejected === 1 ? "was" : "were"} left out.`].filter(Boolean);
      return h("div.overview",
        h("section.lede", h("h1", g.name(m.title)),
          h("p", "What each layer of a classifier has learned to see, and which concepts of one layer build which of the next. Begin with a class: its graph runs from the first layer’s textures up to the decision."),
          h("dl.numbers", facts.map(([value, name]) => h("div", h("dd", value), h("dt", name))))),
        verdict(m.truth),
        h("div.columns",
          section("Classes", "Share of each class’s images that the model recognises, and the class with which it shares most concepts.", classes()),
          h("div", section("Layers", ["From the decision down to the first layer; concepts by ", h("i", m.method), "."], stack()),
            m.pairs.length > 0 && section("Classes that share most", "Relevance that both classes draw from the same concepts, averaged over layers.",
              h("ul.classes.pairs", m.pairs.slice(0, 8).map(([a, b, share]) => h("li", h("a", {href: g.link("compare", [g.slug(a), g.slug(b)])}, g.className(a), h("span.vs", "and"), g.className(b)), g.meter(share), h("span.value", g.percent(share)))))))),
        section("Concepts that many classes share", "By the number of classes among whose most relevant concepts they are. A concept’s face is its nearest patches.",
          m.layers.map((l, i) => [l, i, m.common[i].filter(c => c[1] > 1)]).reverse().map(([l, i, list]) => h("div.common", h("h3", l.name),
            list.length ? h("div.strip", list.map(([concept, n, tiles]) => face(i, [concept, tiles], `kept by ${n} of ${g.plural(total, "class", "classes")}`, `${n}/${total}`))) : h("p.note", "No concept is kept by two classes.")))),
        notes.length > 0 && h("section", h("details.notes", {open: notes.length < 4}, h("summary", "Notes on this run"), h("ul", notes.map(n => h("li", n))))),
        h("footer", h("span", {title: m.lineage}, `gigraph ${m.version} · run ${m.lineage.slice(0, 8)} · ${g.plural(m.attributed, "image")} attributed · labels: `),
          h("button.plain", {onclick: g.exportLabels}, "export"), h("label.button.plain", "import", h("input", {type: "file", accept: ".yaml,.yml,.json", onchange: event => g.importLabels(event.target.files[0])}))));
    },
  };
})(gigraph);

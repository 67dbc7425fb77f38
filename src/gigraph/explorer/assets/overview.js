// The overview: the run, the stack of layers, the classes, and what many classes share.
"use strict";
(function (g) {
  const {h} = g;
  const fact = (value, name) => h("div", {}, h("dd", {}, value), h("dt", {}, name));
  const meter = (value, name) => h("span.meter", {role: "img", "aria-label": name}, h("span", {style: {width: 100 * Math.max(0, Math.min(1, value)) + "%"}}));

  const stack = () => {
    const most = Math.max(...g.meta.layers.map((l) => l.error || 0), 0.01);
    return h("div.table", {}, h("table.layers", {},
      h("thead", {}, h("tr", {}, ["Layer", "Map", "Concepts", "Error", "Non-zeros"].map((t, i) => h("th", {scope: "col", title: ["", "height \u00d7 width \u00d7 channels", "kept for some class, of all", "relative l2 error of the reconstruction from concepts", "concepts used per position, mean"][i] || null}, t)))),
      h("tbody", {}, h("tr.top", {}, h("th", {scope: "row"}, "classes"), h("td", {colspan: 4}, g.plural(g.classes.length, "class", "classes"))),
        [...g.meta.layers].reverse().map((l) => h("tr", {}, h("th", {scope: "row"}, l.name),
          h("td", {}, l.height === null ? "\u2013" : `${l.height} \u00d7 ${l.width} \u00d7 ${l.channels}`),
          h("td", {}, h("b", {}, g.count(l.kept)), " of " + g.count(l.concepts)),
          h("td", {}, l.error === null ? "\u2013" : [meter(l.error / most, ""), h("span", {}, g.num(l.error))]),
          h("td", {}, l.nonzeros === null ? "\u2013" : g.num(l.nonzeros)))))));
  };

  const classes = () => {
    const list = h("ul.classes"), said = h("p.note", {role: "status"});
    const fill = (text) => {
      const wanted = text.trim().toLowerCase();
      const hits = g.classes.filter((c) => c.name.toLowerCase().includes(wanted));
      g.show(list, hits.slice(0, 120).map((c) => h("li", {},
        h("a", {href: g.link("class", [g.slug(c.label)])}, g.name(c.name)),
        h("span.faces", {}, c.faces.map((tile) => g.tile(g.meta.layers.length - 1, tile))),
        c.images ? [meter(c.right / c.images, ""), h("span.value", {}, g.percent(c.right / c.images, 1))] : h("span.value", {}, "no images"),
        c.kept && c.near ? h("a.aside", {href: g.link("compare", [g.slug(c.label), g.slug(c.near[0])]), title: "Compare with the class that shares most"}, "vs ", g.name(g.classOf(c.near[0]).name)) : h("span.aside", {}, c.kept ? "" : "no graph"))));
      said.textContent = hits.length ? (hits.length > 120 ? `120 of ${g.count(hits.length)} classes; type to narrow down` : "") : "No class has such a name.";
    };
    fill("");
    return [h("input.filter", {type: "search", placeholder: "Filter classes", "aria-label": "Filter classes", oninput: (event) => fill(event.target.value)}), list, said];
  };

  const common = () => {
    const total = g.classes.filter((c) => c.kept).length;
    const rows = g.meta.layers.map((l, i) => [l, i, g.meta.common[i].filter(([, n]) => n > 1)]).reverse();
    return rows.map(([l, i, list]) => h("div.common", {}, h("h3", {}, l.name), list.length ? h("div.strip", {}, list.map(([concept, n, tiles]) => h("button.node", {
      type: "button", "data-key": `${i}:${concept}`, "aria-label": `${g.say(i, concept)}; kept by ${n} of ${g.plural(total, "class", "classes")}`,
      onclick: (event) => { g.fromKeyboard = event.detail === 0; g.go({params: {sel: g.idOf(i, concept)}}); },
    }, g.face(i, tiles), h("span.caption", {}, g.captionOf(i, concept) || ""), h("span.line", {}, h("span.id", {}, "#" + concept), h("span.value", {}, `${n}/${total}`))))) : h("p.note", {}, "No concept is kept by two classes.")));
  };

  g.views.overview = {
    title: "Overview",
    classes: 0,
    needs: () => [],
    draw: () => {
      const m = g.meta, [right, all] = m.accuracy, kept = m.layers.reduce((n, l) => n + l.concepts, 0);
      return h("div.overview", {},
        h("section.lede", {}, h("h1", {}, g.name(m.title)),
          h("p", {}, `What each layer of a classifier has learned to see, and which concepts of one layer build which of the next. Begin with a class: its graph runs from the first layer\u2019s textures up to the decision.`),
          h("dl.numbers", {}, fact(all ? g.percent(right / all, 1) : "\u2013", "accuracy"), fact(g.count(m.images), "images"), fact(g.count(g.classes.length), "classes"),
            fact(g.count(m.layers.length), "layers"), fact(g.count(kept), "concepts"), fact(g.count(m.edges), "attributions"))),
        m.notes.length || m.rejected ? h("section.notes", {}, h("h2", {}, "Notes on this run"), h("ul", {}, m.notes.map((n) => h("li", {}, h("bdi", {}, n))), m.rejected ? h("li", {}, `${g.plural(m.rejected, "image")} could not be read and ${m.rejected === 1 ? "was" : "were"} left out.`) : null)) : null,
        h("div.columns", {},
          h("section", {}, h("h2", {}, "Classes"), h("p.note", {}, "Share of each class\u2019s images that the model recognises, and the class with which it shares most concepts."), classes()),
          h("div", {},
            h("section", {}, h("h2", {}, "Layers"), h("p.note", {}, "From the decision down to the first layer; concepts by ", h("i", {}, m.method), "."), stack()),
            m.pairs.length ? h("section", {}, h("h2", {}, "Classes that share most"), h("p.note", {}, "Relevance that both classes draw from the same concepts, averaged over layers."),
              h("ul.pairs", {}, m.pairs.slice(0, 8).map(([a, b, share]) => h("li", {}, h("a", {href: g.link("compare", [g.slug(a), g.slug(b)])}, g.name(g.classOf(a).name), h("span.vs", {}, "and"), g.name(g.classOf(b).name)), meter(share, ""), h("span.value", {}, g.percent(share)))))) : null)),
        h("section", {}, h("h2", {}, "Concepts that many classes share"), h("p.note", {}, "By the number of classes among whose most relevant concepts they are. A concept\u2019s face is its nearest patches."), common()),
        h("footer", {}, "gigraph ", m.version, m.lineage ? h("span", {title: m.lineage}, ` \u00b7 run ${m.lineage.slice(0, 8)}`) : "", ` \u00b7 ${g.plural(m.attributed, "image")} attributed`));
    },
    select: () => {
      for (const node of document.querySelectorAll(".common .node")) node.setAttribute("aria-pressed", String(g.state.params.sel === g.idOf(...node.dataset.key.split(":").map(Number))));
    },
    scopes: () => [],
  };
})(gigraph);

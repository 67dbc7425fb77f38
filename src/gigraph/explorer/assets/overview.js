// The overview: the run, its verdict, the stack of layers, the classes, and what many classes share.
const section = (title, note, ...content) => h("section", h("h2", title), h("p.note", note), content);
const faceButton = (layer, [concept, tiles], words, ...under) => h("button.node", {
  "data-key": `${layer}:${concept}`, "aria-label": `${say(layer, concept)}; ${words}`,
  onclick: event => { fromKeyboard = !event.detail; go({params: {sel: idOf(layer, concept)}}); },
}, face(layer, tiles), h("span.caption", captionOf(`${layer}:${concept}`)), h("span.line", h("span.id", "#" + concept), h("span.value", under)));

const stack = () => table([["Layer"], ["Map", "height × width × channels"], ["Concepts", "kept for some class, of all"], ["Error", "relative l2 error of the reconstruction from concepts"], ["Non-zeros", "concepts used per position, mean"]],
  [...meta.layers].reverse().map(l => h("tr", h("th", {scope: "row"}, h("a", {href: linkTo("atlas", [l.name])}, l.name)), h("td", `${l.height} × ${l.width} × ${l.channels}`),
    h("td", h("b", tally(l.kept)), " of " + tally(l.concepts)), h("td", meter(l.error / largest(meta.layers.map(x => x.error))), num(l.error)), h("td", num(l.nonzeros)))), "table.layers");

const classList = () => {
  const list = h("ul.classes"), said = h("p.note", {role: "status"}), last = meta.layers.length - 1;
  const fill = text => {
    const hits = classes.filter(c => c.name.toLowerCase().includes(text.trim().toLowerCase()));
    show(list, hits.slice(0, 120).map(c => h("li", h("a", {href: linkTo("class", [slug(c.label)])}, bdi(c.name)), h("span.faces", c.faces.map(t => tile(last, t))),
      c.images ? [meter(c.right / c.images), h("span.value", percent(c.right / c.images, 1))] : h("span.value", "no images"),
      h("span.aside", c.kept ? c.near && h("a", {href: linkTo("compare", [slug(c.label), slug(c.near[0])]), title: "Compare with the class that shares most"}, "vs ", className(c.near[0])) : "no graph"))));
    said.textContent = hits.length > 120 ? `120 of ${tally(hits.length)} classes; type to narrow down` : hits.length ? "" : "No class has such a name.";
  };
  fill("");
  return [h("input", {type: "search", placeholder: "Filter classes", "aria-label": "Filter classes", oninput: event => fill(event.target.value)}), list, said];
};

// The drawn world knows the truth: what was planted, and whether the graph found it.
const verdict = t => t && h("section.verdict", h("h2", t.found ? "The planted shortcut was found" : "The planted shortcut was not found"),
  h("p", `The ${t.part} was planted in ${percent(t.planted)} of the images of `, h("a", {href: linkTo("class", [slug(t.label)])}, className(t.label)), ` and ${percent(t.elsewhere)} of the others. `,
    t.found ? "Concepts that detect it are among the three strongest causes of that class in their layer:" : "No concept that detects it is among the three strongest causes of that class:"),
  h("div.strip", t.rows.map(([layer, concept, ap, rank, share, tiles]) => h("div", h("p.note", meta.layers[layer].name), faceButton(layer, [concept, tiles], `detects the ${t.part}`, rank === null ? "not kept" : `rank ${rank + 1}`),
    h("p.note", `AP ${num(ap)}`, rank !== null && h("br"), rank !== null && `${percent(share)} of |GIG|`)))));

views.overview = {
  title: "Overview", takes: [], needs: () => [], scopes: () => [],
  draw: () => {
    const m = meta, [right, all] = m.accuracy, total = classes.filter(c => c.kept).length;
    const facts = [[all ? percent(right / all, 1) : "–", "accuracy"], ...[[m.images, "images"], [classes.length, "classes"], [m.layers.length, "layers"], [sum(m.layers, l => l.concepts), "concepts"], [m.edges, "attributions"]].map(([n, name]) => [tally(n), name])];
    const notes = [...m.notes.map(bdi), m.rejected > 0 && `${plural(m.rejected, "image")} could not be read and ${m.rejected === 1 ? "was" : "were"} left out.`].filter(Boolean);
    return h("div.overview",
      h("section.lede", h("h1", bdi(m.title)),
        h("p", "What each layer of a classifier has learned to see, and which concepts of one layer build which of the next. Begin with a class: its graph runs from the first layer’s textures up to the decision."),
        h("dl.numbers", facts.map(([value, name]) => h("div", h("dd", value), h("dt", name))))),
      verdict(m.truth),
      h("div.columns",
        section("Classes", "Share of each class’s images that the model recognises, and the class with which it shares most concepts.", classList()),
        h("div", section("Layers", ["From the decision down to the first layer; concepts by ", h("i", m.method), "."], stack()),
          m.pairs.length > 0 && section("Classes that share most", "Relevance that both classes draw from the same concepts, averaged over layers.",
            h("ul.classes.pairs", m.pairs.slice(0, 8).map(([a, b, share]) => h("li", h("a", {href: linkTo("compare", [slug(a), slug(b)])}, className(a), h("span.vs", "and"), className(b)), meter(share), h("span.value", percent(share)))))))),
      section("Concepts that many classes share", "By the number of classes among whose most relevant concepts they are. A concept’s face is its nearest patches.",
        m.layers.map((l, i) => [l, i, m.common[i].filter(c => c[1] > 1)]).reverse().map(([l, i, list]) => h("div.common", h("h3", l.name),
          list.length ? h("div.strip", list.map(([concept, n, tiles]) => faceButton(i, [concept, tiles], `kept by ${n} of ${plural(total, "class", "classes")}`, `${n}/${total}`))) : h("p.note", "No concept is kept by two classes.")))),
      notes.length > 0 && h("section", h("details.notes", {open: notes.length < 4}, h("summary", "Notes on this run"), h("ul", notes.map(n => h("li", n))))),
      h("footer", h("span", {title: m.lineage}, `gigraph ${m.version} · run ${m.lineage.slice(0, 8)} · ${plural(m.attributed, "image")} attributed · labels: `),
        h("button.plain", {onclick: exportLabels}, "export"), h("label.button.plain", "import", h("input", {type: "file", accept: ".yaml,.yml,.json", onchange: event => importLabels(event.target.files[0])}))));
  },
};

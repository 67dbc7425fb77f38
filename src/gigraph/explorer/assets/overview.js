// The overview: the run, its verdict, the stack of layers, the classes, and what many classes share.
const section = (title, words, ...content) => h("section", h("h2", title), note(words), content);
const faceButton = (layer, [concept, tiles], words, under) => h("button.node", {
  key: `${layer}:${concept}`, label: `${say(layer, concept)}; ${words}`,
  onclick: event => { fromKeyboard = !event.detail; visit({sel: idOf(layer, concept)}); },
}, face(layer, tiles), h("span.caption", captionOf(`${layer}:${concept}`)),
h("span.line", h("span.id", "#" + concept), number(under)));
const classLink = (label, sel) => link(linkTo("class", [slug(label)], {sel}), className(label));
const pairLink = (a, b, text, title) => link(linkTo("compare", [slug(a), slug(b)]), text, {title});

const stack = () => table([
  ["Layer", "height × width × channels"], ["Concepts", "kept, of all"],
  ["Keeps"],
  ["Error", "relative l2"], ["Non-zeros", "concepts per position"],
], layers.map(l => line([link(linkTo("atlas", [l.name]), l.name), note(`${l.height} × ${l.width} × ${l.channels}`)],
  [h("b", tally(l.kept)), " of " + plural(l.families, ...meta.unit), l.families < l.concepts && note(`of ${tally(l.concepts)}`)],
  [percent(l.logit), note(percent(l.agreement), " agree")],
  [meter(l.error / largest(layers.map(one => one.error))), num(l.error)], num(l.nonzeros))).reverse());

const classList = () => {
  const list = h("ul.classes"), said = h("p.note", {role: "status"}), last = layers.length - 1;
  const search = text => {
    const hits = namedLike(text);
    show(list, hits.slice(0, 120).map(({label, images, right, kept, near, faces}) => h("li",
      classLink(label), h("span.faces", faces.map(t => tile(last, t))),
      images > 0 && meter(right / images), number(images ? percent(right / images, 1) : "no images"),
      h("span.aside", kept ? near && pairLink(label, near[0], ["vs ", className(near[0])], "Compare") : "no graph"))));
    show(said, hits.length > 120 ? `120 of ${tally(hits.length)} classes; type to narrow down`
      : !hits.length && "No class is so named.");
  };
  search("");
  const without = everyone.filter(c => !c.images).length;
  return [h("input", {
    type: "search", placeholder: "Filter classes", label: "Filter classes",
    oninput: event => search(event.target.value),
  }), list, said, without > 0 && h("label.note", h("input", {
    type: "checkbox", checked: params.all, key: "all",
    onchange: event => adjust({all: event.target.checked && 1}),
  }), ` also the ${tally(without)} without images`)];
};

// What was found (`gigraph.explorer.findings`): texts, and classes [label] or [label, concept].
const finding = ({title, said, nodes, classes, how, truth}) => h("section" + (truth ? ".verdict" : ""),
  h("h2", title), h("p", said.map(part => part.trim ? part : classLink(...part))),
  nodes[0] && h("div.strip", nodes.map(([layer, concept, tiles, under, ...more]) =>
    h("div", faceButton(layer, [concept, tiles], under, under), more.map(words => note(words))))),
  classes[0] && h("ul.classes", classes.map(([label, share, text]) => h("li", classLink(label), meter(share), number(text)))),
  note(how));

const shared = (layer, total) => {
  const list = meta.common[layer].filter(c => c[1] > 1);
  return list.length
    ? h("div.strip", list.map(([concept, n, tiles]) =>
      faceButton(layer, [concept, tiles], `kept by ${n} of ${plural(total, "class", "classes")}`, `${n}/${total}`)))
    : note("None.");
};

views.overview = {
  title: "Overview",
  draw: () => {
    const m = meta, [right, all] = m.accuracy, total = kept().length;
    const numbers = [
      [m.images, "images"], [classes.length, "classes"], [layers.length, "layers"],
      [sum(layers, l => l.concepts), "concepts"], [m.edges, "attributions"],
    ].map(([n, name]) => [name, tally(n)]);
    return h("div.overview",
      h("section.lede", h("h1", bdi(m.title)),
        h("p", "Begin with a class."),
        assign(facts([["accuracy", all ? percent(right / all, 1) : "–"], ["decision kept", m.keeps], ...numbers]), {className: "numbers"})),
      h("div.findings", m.findings.map(finding)),
      h("div.columns",
        section("Classes", "Share recognised; nearest class.", classList()),
        h("div",
          section("Layers",
            ["Concepts by ", h("i", m.method), "."], stack()),
          m.pairs.length > 0 && section(
            "Classes that share most", "By relevance.",
            h("ul.classes.pairs", m.pairs.slice(0, 8).map(([a, b, share]) => h("li",
              pairLink(a, b, [className(a), h("span.vs", "and"), className(b)]),
              meter(share), number(percent(share)))))))),
      section("Concepts that many classes share",
        "By how many classes keep them.",
        layers.map((l, i) => h("div.common", h("h3", l.name), shared(i, total))).reverse()),
      m.notes[0] && h("details.notes", {open: !m.notes[3]},
        h("summary", "Notes on this run"), h("ul", m.notes.map(n => h("li", bdi(n))))),
      h("footer",
        h("span", {title: m.lineage}, m.made, " · labels: "),
        h("button.plain", {onclick: exportLabels}, "export"),
        h("label.button.plain", "import", h("input", {
          type: "file", accept: ".yaml,.yml,.json", onchange: event => importLabels(event.target.files[0]),
        }))));
  },
};

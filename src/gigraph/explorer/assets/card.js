// The card of a concept: what it looks like, where it is, which classes and which neighbours it has; the labels.
let cardTurn = 0, opener = null;

// ---- labels: the reader's own, kept in the browser, above those of the build ----
const store = () => "gigraph labels " + meta.graph;
const readLabels = () => {
  let own = {};
  try { own = JSON.parse(localStorage.getItem(store())) || {}; } catch { /* storage may be forbidden */ }
  labels = {...meta.labels, ...own};
};
const setLabels = changes => {
  assign(labels, changes);
  try { localStorage.setItem(store(), JSON.stringify(labels)); }
  catch { notice("Not kept by this browser; export them."); }
  redraw();
};
// A file that Snakemake takes beside the configuration: snakemake --configfile my.yaml labels.yaml
const exportLabels = () => download("labels.yaml", "text/yaml", "explorer:\n  labels:\n"
  + entries(labels).filter(([, name]) => name)
    .map(([key, name]) => `    ${JSON.stringify(keyId(key))}: ${JSON.stringify(name)}\n`).join(""));
const importLabels = async file => {
  const found = {};
  for (const [, id, name] of (await file.text()).matchAll(/^\s*("(?:[^"\\]|\\.)+"|[\w.]+:\d+)\s*:\s*(.+?),?\s*$/gm)) {
    const plain = text => { try { return String(JSON.parse(text)); } catch { return text; } }, key = keyOf(plain(id));
    if (key) found[key] = plain(name);
  }
  setLabels(found);
  notice(`${plural(Object.keys(found).length, "label")} of ${file.name} read.`);
};

const goBack = () => { if (opener && opener.isConnected) opener.focus(); };
const drawCard = async () => {
  const card = $("card"), found = parseId(params.sel), mine = ++cardTurn;
  page.body.classList.toggle("with-card", found);
  card.ariaBusy = !!found;
  if (!found) {
    const inside = card.contains(active());
    card.hidden = true;
    card.key = "";
    $("frame").classList.remove("wide");
    if (inside) goBack();
    return;
  }
  if (fromKeyboard) opener = active();
  const [layer, concept] = found, {scopes: own} = views[state.view], scopes = own ? own(state.found) : [];
  const group = Math.floor(concept / 32), key = found.join(":");
  card.hidden = false;
  try {
    const cards = layers[layer].groups.includes(group) ? await load(`concepts/${layer}/${group}`) : {};
    for (const scope of scopes)
      scope.near ||= (classOf(scope.label).kept ? await load("near/" + scope.label) : {})[key];
    if (mine === cardTurn) show(card, content(layer, concept, key, cards[concept], scopes));
  } catch (error) {
    if (mine === cardTurn) show(card, head(layer, concept, key), failed(error));
  }
  if (mine !== cardTurn) return;
  card.ariaBusy = null;
  if (card.key !== key) card.scrollTop = 0;
  card.key = key;
  if (fromKeyboard) { fromKeyboard = false; $("card-title").focus(); }
};
const closeCard = () => {
  opener = graph && graph.nodes.get(keyOf(params.sel)) || opener;
  visit({sel: null, on: null});
  goBack();
};
const maximise = () => { if (!$("card").hidden) $("frame").classList.toggle("wide"); };

const head = (layer, concept, key) => h("header",
  h("div", note(layers[layer].name), h("h2", {tabindex: -1, id: "card-title"}, "Concept " + concept),
    h("input.label", {
      value: labelOf(key) || "", placeholder: guessOf(key) ? "≈ " + guessOf(key) : "Name it",
      label: "Label of this concept", onchange: event => setLabels({[key]: event.target.value.trim()}),
    })),
  h("div.actions", plain("⚑", "Pin this concept (P)", () => toggle("pin", key), {pressed: listed("pin").includes(keyId(key))}),
    plain("⤢", "Maximise the card (F)", maximise), plain("×", "Close the card (Esc)", closeCard)));

const content = (layer, concept, key, data, scopes) => {
  if (!data) return [
    head(layer, concept, key),
    empty("Nothing stored."),
  ];
  const here = params.on === "all" ? null
    : scopes.find(s => s.on === params.on) || scopes.find(s => s.near);
  return [
    head(layer, concept, key), flags(layer, key, data), pictures(layer, data),
    over(scopes, here), members(layer, data, here && here.near), here && located(here),
    relevance(layer, concept, data), lists(layer, here && here.near || data.near, here && here.near && here),
  ];
};

const chip = (text, kind, title) => h("span.chip" + kind, {title}, text);
const flags = (layer, key, {size, images, cohesion, low, twin, stable, family}) => h("p.flags",
  family && chip(`${family[2].length} concepts, cosine ${num(family[0])}`, "",
    `Mean cosine of two members; least ${num(family[1])}`),
  chip((size === 1 ? "singleton" : plural(size, "PFV")) + (images ? `, seen in ${plural(images, "image")}` : ""),
    images === 1 ? ".warn" : ""),
  cohesion !== null && chip(`${low ? "low " : ""}cohesion ${num(cohesion)}`, low ? ".warn" : "",
    "Mean cosine to the concept" + (low ? "; lowest tenth of the layer" : "")),
  stable && chip(`stability ${num(stable[0])}`, stable[0] > stable[1] ? "" : ".warn",
    `Best match with other seeds; by chance ${num(stable[1])}`),
  twin && twin[1] >= 0.95 && h("a.chip.warn", {href: select(layer, twin[0]), title: `cosine ${num(twin[1])}`},
    `near-duplicate of #${twin[0]}`),
  (meta.aligned[key] || []).map(([part, ap, prevalence]) =>
    chip(["detects ", h("b", bdi(part)), `, AP ${num(ap, 2)}`], ".good",
      `Average precision ${num(ap)}; prevalence ${num(prevalence)}`)));

const pictures = (layer, {exemplars, relevant}) => {
  const most = relevant[0] && params.by;
  return h("section", h("h3", most ? "Most relevant" : "Nearest", " patches of all images"),
    relevant[0] && choice("By", [["", meta.reading], ["relevance", "relevance"]], most || "",
      by => adjust({by})),
    exemplars[0] ? h("ol.tiles", (most ? relevant : exemplars).map(([at, one, label, path]) => h("li", {title: path},
      tile(layer, at, className(label).textContent), number(num(one)), h("span.note", className(label)))))
      : note("No pictures."));
};

const over = (scopes, here) => scopes.length
  ? choice("Means over", [
    ...scopes.map(({on, letter, name, label}) =>
      [on, [letter && h("span.letter", letter), name || className(label)]]),
    ["all", "all classes"],
  ], here ? here.on : "all", on => adjust({on}))
  : note("Means over all images.");

// What a family is made of, and what each member does for the class at hand.
const members = (layer, {family, of}, near) => of >= 0
  ? note("In the graph it is within ", conceptLink(layer, of), ".")
  : family && h("section", h("h3", "Members"), table(
    [["Concept"], ["Cosine", "to the family’s direction"], ["PFVs"], [meta.gig, NORMS[norm()][1]]],
    family[2].map(([id, cosine, size, tiles]) => {
      const [, mean, se, , weight, share] = (near && near.members || []).find(m => m[0] === id) || [];
      return line([h("span.faces", tiles.map(t => tile(layer, t))), conceptLink(layer, id)], num(cosine), tally(size),
        isNumber(mean) ? h("span", {title: pm(mean, se)}, value(mean, weight, share)) : "–");
    })));

const located = ({near, name, label}) => h("section", h("h3", "Where it is in ", name || className(label)),
  near && near.located.length
    ? h("ol.tiles.large", near.located.map(([at, path, coefficient, gig, map]) =>
      h("li", {title: `${path}; largest coefficient ${num(coefficient)}`},
        photo(at, `located in ${path}`, map), number(`${meta.gig} ${num(gig)}`))))
    : note("Not located here."));

const relevance = (layer, concept, {relevance: list}) => h("section.relevance", h("h3", "Relevance to classes"),
  effects("Class", list, largest(list.map(e => e[7])), label => classOf(label).kept
    ? link(linkTo("class", [slug(label)], {sel: idOf(layer, concept)}), className(label)) : className(label)));

const lists = (layer, near, here) => {
  if (!near) return note("No neighbours.");
  const most = largest([...near.in, ...near.out].flat().map(e => e[8]));
  return h("section.near",
    h("h3", "Neighbours, over ", here ? here.name || [plural(classOf(here.label).attributed, "image"), " of ", className(here.label)]
      : "all images"),
    layer < layers.length - 1 && [list("Raises, above", near.out[0], most), list("Lowers, above", near.out[1], most)],
    layer > 0 && [
      list("Raised by, below", near.in[0], most), list("Lowered by, below", near.in[1], most),
      entries(near.into).map(([from, [, total, error, , rest]]) => total > 0 && note(`${layers[from].name} → this: of ${sized()} ${
        percent(abs(error) / total)} unexplained (error node), ${percent(abs(rest) / total)} not kept (remainder).`)),
    ]);
};
const list = (title, entries, most) => h("div.list", h("h4", title), effects("Concept", entries, most, conceptLink));
// What ends in, or begins with, the numbers of an edge.
const effects = (what, entries, most, name) => entries.length ? table([
  [what], [meta.gig, NORMS[norm()][1]],
  ["Ablation", "drop without this source"],
  ["n", "images where it is not 0"],
], entries.map(entry => {
  const [mean, se, support, ablation, ablationSe, weight, share] = entry.slice(-7);
  return h("tr" + (mean < 0 ? ".neg" : ""),
    h("th", {scope: "row"}, name(...entry), meter(sizeOf(weight, share, most))),
    h("td.value", {title: pm(mean, se)}, value(mean, weight, share)),
    h("td.value", {title: ablation === null ? "not checked" : pm(ablation, ablationSe)},
      ablation === null ? "–" : like(mean, weight, share, ablation)),
    h("td.value", support));
})) : note("none");

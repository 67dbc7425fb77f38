// The search field, the keys that work everywhere, and the start.

// Classes by name, concepts by label, part, or layer:number.
const hitsOf = text => {
  const wanted = text.trim().toLowerCase();
  const found = namedLike(wanted).slice(0, 8)
    .map(c => [c.shown, "class", linkTo("class", [slug(c.label)])]);
  const add = (key, name) => found.push([name, keyId(key), select(...key.split(":").map(Number))]);
  for (const [key, name] of entries(labels)) if (name.toLowerCase().includes(wanted)) add(key, name);
  for (const [key, parts] of entries(meta.aligned))
    for (const [part] of parts) if (part.toLowerCase().includes(wanted)) add(key, "aligns with " + part);
  const exact = parseId(text.trim()), number = /^#?(\d{1,9})$/.exec(wanted);
  if (exact) add(exact.join(":"), "concept " + exact[1]);
  if (number) layers.forEach((l, i) => {
    if (+number[1] <= l.last) add(`${i}:${+number[1]}`, "concept " + number[1]);
  });
  return wanted ? found.slice(0, 12) : [];
};
const find = () => combo($("search"), $("hits"), text => hitsOf(text).map(([name, kind, href]) =>
  [bdi(name), kind, () => { fromKeyboard = true; $("search").blur(); location.hash = href; }]));

const help = () => {
  const box = $("keys");
  if (box.open) { box.close(); return; }
  show(box, h("h2", {id: "keys-title"}, "Keyboard"),
    facts(meta.keys.map(([key, what]) => [key.split(" ").map(k => h("kbd", k)), what])),
    h("h2", "Words"), facts(meta.words),
    h("form", {method: "dialog"}, h("button", "Close")));
  box.showModal();
};
const keys = event => {
  if (chorded(event) || $("keys").open && event.key !== "?") return;
  const node = event.target.closest(".node"), wide = $("frame").classList, key = event.key.toLowerCase();
  if (key === "escape") {
    if (wide.contains("wide")) wide.remove("wide"); else if (params.sel) closeCard();
  } else if (event.target.matches("input:not([type=range], [type=checkbox])")) return;
  else if (key === "/") { event.preventDefault(); $("search").focus(); }
  else if (key === "?") help();
  else if (key === "f") maximise();
  else if (key === "p" || key === "m")
    toggle(key === "p" ? "pin" : "open", node && keyIn(node) || keyOf(params.sel));
};

const start = async () => {
  try {
    meta = await load("meta");
    if (meta.schema !== LAYOUT) throw new Error(`Data of layout ${meta.schema}, page of ${
      LAYOUT}: build the explorer again.`);
    explained = await load("explained");
  } catch (error) {
    show($("main"), failed(error));
    return;
  }
  layers = meta.layers;
  everyone = meta.classes.map(row => Object.fromEntries(meta.fields.map((name, i) => [name, row[i]])));
  everyone.forEach(c => { c.shown ??= c.name; });
  if (explained.length) meta.pictured = 1;
  byLabel = new Map([...everyone, {label: -1, name: "new images", shown: "new images"}].map(c => [c.label, c]));
  // A class answers to what it is called, too.
  byName = new Map(["shown", "name"].flatMap(key => [...everyone].reverse().map(c => [c[key], c.label])));
  readLabels();
  addEventListener("hashchange", route);
  addEventListener("keydown", keys);
  fill($("help"), {onclick: help});
  fill(page.querySelector(".skip"), {onclick: event => { event.preventDefault(); $("main").focus(); }});
  find();
  route();
};
start();

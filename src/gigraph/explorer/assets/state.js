// The whole state is the hash: #/class/cheetah?sel=layer3.1:12&norm=share&top=5. Views register themselves.
const encode = text => encodeURIComponent(text).replace(/%3A/g, ":").replace(/%2C/g, ",");
const decode = text => { try { return decodeURIComponent(text); } catch { return text; } };
const parse = hash => {
  const [path, query] = hash.replace(/^#\/?/, "").split("?"), [view, ...args] = path.split("/").map(decode);
  return {view, args, params: Object.fromEntries(new URLSearchParams(query))};
};
const format = ({view, args = [], params = {}}) => {
  const query = entries(params).filter(([, v]) => v || v === 0).map(([k, v]) => `${encode(k)}=${encode(v)}`);
  return "#/" + [view, ...args].map(encode).join("/") + (query.length ? "?" + query.join("&") : "");
};

// A class is addressed by its name; by ~label where the name is empty, taken twice, or looks like that itself.
const slug = label => {
  const {name} = classOf(label);
  return !name || name[0] === "~" || byName.get(name) !== label ? "~" + label : name;
};
const classFrom = slug => slug[0] === "~" ? (classOf(+slug.slice(1)) || {}).label : byName.get(slug);
// By the pairs of letters that both names have.
const nearestClass = slug => {
  const pairs = text => [...text.toLowerCase()].map((_, i, all) => all[i] + all[i + 1]), wanted = pairs(slug);
  const score = c => larger(...[c.shown, c.name].map(name => {
    const mine = pairs(name);
    return wanted.filter(p => mine.includes(p)).length / (wanted.length + mine.length);
  }));
  const best = strongest(kept(), score);
  return best && score(best) > 0.15 ? best.label : undefined;
};

// Steps the reader may want to come back to make history (visit); settings do not (adjust).
const go = (change, replace) => {
  const hash = format({...state, ...change, params: {...params, ...change.params}});
  if (hash === location.hash) return;
  if (replace) location.replace(hash); else location.hash = hash;
};
const visit = params => go({params}), adjust = params => go({params}, true);
const linkTo = (view, args, more) => {
  const {norm, top, shared, min, all} = params;
  return format({view, args, params: {norm, top, shared, min, all, ...more}});
};
const select = (layer, concept) => format({...state, params: {...params, sel: idOf(layer, concept)}});
// The concepts of a list in the address: those pinned, and those whose members are shown (open).
const listed = list => (params[list] || "").split(",").filter(Boolean);
const whole = (key, otherwise, low, high) => {
  const text = params[key];
  return /^\d{1,4}$/.test(text || "") ? smaller(high, larger(low, +text)) : otherwise;
};

// Returns the nearest valid state and says what was wrong. A view's `takes` are the kinds of its arguments.
const mend = ({view, args, params}) => {
  const notes = [], found = [];
  const missing = (what, given, instead) =>
    notes.push(`There is no ${what} “${given}”${instead || "; this is the overview"}.`);
  const home = () => [{view: "overview", args: [], params: {}, found: []}, notes];
  if (!views[view]) { if (view) missing("view", view); return home(); }
  const {takes = [], fallback} = views[view];
  for (const [i, kind] of takes.entries()) {
    const given = args[i];
    let here = given || "";
    if (kind === "class") {
      here = given && classFrom(given);
      if (given && here === undefined) {
        here = nearestClass(given);
        missing("class", given, here !== undefined && "; this is the nearest name");
        if (here === undefined) return home();
      }
      if (!given) here = fallback(i, found);
      if (here === undefined) { notes.push("There is no class with a graph."); return home(); }
    } else if (kind === "layer") {
      here = layers.findIndex(l => l.name === given);
      if (here < 0) here += layers.length;
      if (given && layers[here].name !== given) missing("layer", given, "; this is the last one");
    }
    found.push(here);
  }
  const known = id => parseId(id) || !missing("concept", id, " in this run");
  const next = {...params};
  if (params.sel && !known(params.sel)) delete next.sel;
  for (const list of ["pin", "open"]) if (params[list]) next[list] = params[list].split(",").filter(known).join(",");
  if (params.norm && !(params.norm in NORMS)) { missing("normalisation", params.norm, " "); delete next.norm; }
  const slugs = found.map((value, i) => takes[i] === "class" ? slug(value) : takes[i] === "layer" ? layers[value].name : value);
  while (slugs.at(-1) === "") slugs.pop();
  return [{view, args: slugs, params: next, found}, notes];
};

let drawn = "", turn = 0;
const place = ({view, args}) => format({view, args});
const route = async () => {
  const asked = parse(location.hash);
  classes = everyone.filter(c => asked.params.all || c.images || c.kept || c.pictured);
  const [next, notes] = mend(asked), fresh = !drawn || place(next) !== place(state);
  state = next;
  ({params} = state);
  if (format(state) !== location.hash) history.replaceState(null, "", format(state));
  if (fresh || notes.length) show($("notice"));
  notes.forEach(notice);
  const {sel, pin, on, circuit, ...rest} = params, key = format({...state, params: rest});
  if (key !== drawn) {
    drawn = key;
    show($("views"), entries(views).filter(([, v]) => !v.hidden || !v.hidden()).map(([id, v]) => h("a", {
      href: linkTo(id, id === state.view ? state.args : v.carry ? v.carry(state) : []),
      "aria-current": id === state.view ? "page" : null,
    }, v.title)));
    await drawView(fresh);
  }
  mark();
  drawCard();
};
const redraw = () => { drawn = " "; route(); };

const drawView = async fresh => {
  const view = views[state.view], main = $("main"), mine = ++turn, focus = keyIn(active());
  main.ariaBusy = true;
  // Chunks take milliseconds from disk: only say so where they do not.
  const patience = setTimeout(() => mine === turn && show(main, empty("Loading…")), 150);
  graph = ring = null;
  try {
    const data = await Promise.all(view.needs ? view.needs(...state.found).map(load) : []);
    const page = await view.draw(state.found, data);
    if (mine !== turn) return;
    show(main, page);
    if (graph) graph.place();
  } catch (error) {
    if (mine !== turn) return;
    show(main, failed(error));
    drawn = " ";
  } finally {
    clearTimeout(patience);
    if (mine === turn) main.ariaBusy = null;
  }
  page.title = [...$$("h1 bdi").map(n => n.textContent), view.title, meta.title].join(" · ");
  const again = focus && $$("[data-key]", main).find(node => keyIn(node) === focus);
  // The reader may have tabbed on while chunks were loading.
  if (again) { if (active() === page.body) again.focus({preventScroll: true}); }
  else if (fresh) { scrollTo(0, 0); if (turn > 1) main.focus({preventScroll: true}); }
};

const failed = error => {
  const {file, message} = error;
  if (!file) console.error(error);
  return h("div.state.bad", {role: "alert"}, h("h1", file ? "A file is missing" : "This cannot be shown"),
    h("p", file
      ? ["The file ", h("code", file), " is missing or damaged. Copy the whole folder, or build again."]
      : message),
    h("button", {onclick: redraw}, "Try again"));
};

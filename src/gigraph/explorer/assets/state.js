// The whole state is the hash: #/class/cheetah?sel=layer3.1:12&norm=share&top=5. Views register themselves.
"use strict";
(g => {
  const {h} = g;
  const encode = text => encodeURIComponent(text).replace(/%3A/g, ":").replace(/%2C/g, ",");
  const decode = text => { try { return decodeURIComponent(text); } catch { return text; } };
  g.parse = hash => {
    const [path, query = ""] = hash.replace(/^#\/?/, "").split("?"), [view, ...args] = path.split("/").map(decode);
    const params = {};
    for (const item of query.split("&")) if (item.indexOf("=") > 0) params[decode(item.split("=")[0])] = decode(item.slice(item.indexOf("=") + 1));
    return {view, args, params};
  };
  g.format = ({view, args = [], params = {}}) => {
    const query = Object.entries(params).filter(([, v]) => v || v === 0).map(([k, v]) => `${encode(k)}=${encode(v)}`);
    return "#/" + [view, ...args].map(encode).join("/") + (query.length ? "?" + query.join("&") : "");
  };

  // A class is addressed by its name; by ~label where the name is empty, taken twice, or looks like that itself.
  g.slug = label => {
    const {name} = g.classOf(label);
    return !name || name[0] === "~" || g.byName.get(name) !== label ? "~" + label : name;
  };
  const classFrom = slug => slug[0] === "~" ? (g.classOf(+slug.slice(1)) ? +slug.slice(1) : undefined) : g.byName.get(slug);
  const pairsOf = text => new Set([...text.toLowerCase()].map((_, i, all) => all[i] + all[i + 1]));
  const nearestClass = slug => {
    const wanted = pairsOf(slug);
    const score = c => { const mine = pairsOf(c.name); return 2 * [...wanted].filter(p => mine.has(p)).length / (wanted.size + mine.size); };
    const best = g.strongest(g.classes.filter(c => c.kept), score);
    return best && score(best) > 0.3 ? best.label : undefined;
  };

  // Steps the reader may want to come back to make history; settings do not.
  g.go = (change, replace) => {
    const hash = g.format({...g.state, ...change, params: {...g.state.params, ...change.params}});
    if (hash === location.hash) return;
    if (replace) location.replace(hash); else location.hash = hash;
  };
  g.link = (view, args, params) => {
    const {norm, top, shared, min} = g.state.params;
    return g.format({view, args, params: {norm, top, shared, min, ...params}});
  };
  g.select = (layer, concept) => g.format({...g.state, params: {...g.state.params, sel: g.idOf(layer, concept)}});
  g.pins = () => (g.state.params.pin || "").split(",").filter(Boolean);
  g.whole = (key, otherwise, low, high) => {
    const text = g.state.params[key];
    return /^\d{1,4}$/.test(text || "") ? Math.min(high, Math.max(low, +text)) : otherwise;
  };

  // Returns the nearest valid state and says what was wrong. A view's `takes` are the kinds of its arguments.
  const mend = ({view, args, params}) => {
    const notes = [], home = note => [{view: "overview", args: [], params: {}, found: []}, note ? [note] : []];
    if (!g.views[view]) return home(view && `There is no view “${view}”; this is the overview.`);
    const takes = g.views[view].takes, found = [];
    for (let i = 0; i < takes.length; i++) {
      const given = args[i];
      if (takes[i] === "class") {
        let label = given && classFrom(given);
        if (given && label === undefined) {
          label = nearestClass(given);
          if (label === undefined) return home(`There is no class “${given}”; this is the overview.`);
          notes.push(`There is no class “${given}”; this is the nearest name.`);
        }
        if (label === undefined) label = g.views[view].fallback(i, found);
        if (label === undefined) return home("There is no class with a graph.");
        found.push(label);
      } else if (takes[i] === "layer") {
        const layer = g.meta.layers.findIndex(l => l.name === given);
        if (given && layer < 0) notes.push(`There is no layer “${given}”; this is the last one.`);
        found.push(layer < 0 ? g.meta.layers.length - 1 : layer);
      } else found.push(given || "");
    }
    const known = id => g.parseId(id) || !notes.push(`There is no concept “${id}” here; the link may be of another run.`);
    const next = {...params};
    if (params.sel && !known(params.sel)) delete next.sel;
    if (params.pin) next.pin = params.pin.split(",").filter(known).join(",");
    if (params.norm && !(params.norm in g.NORMS)) { notes.push(`There is no normalisation “${params.norm}”.`); delete next.norm; }
    const slugs = found.map((value, i) => takes[i] === "class" ? g.slug(value) : takes[i] === "layer" ? g.meta.layers[value].name : value);
    while (slugs.at(-1) === "") slugs.pop();
    return [{view, args: slugs, params: next, found}, notes];
  };

  let drawn = "", turn = 0;
  const place = ({view, args}) => g.format({view, args});
  g.route = async () => {
    const [state, notes] = mend(g.parse(location.hash)), fresh = !drawn || place(state) !== place(g.state);
    g.state = state;
    if (g.format(state) !== location.hash) history.replaceState(null, "", g.format(state));
    if (fresh || notes.length) g.show(g.$("notice"));
    notes.forEach(g.notice);
    const {sel, pin, on, ...rest} = state.params, key = g.format({...state, params: rest});
    if (key !== drawn) {
      drawn = key;
      g.show(g.$("views"), Object.entries(g.views).filter(([, v]) => !v.hidden || !v.hidden()).map(([id, v]) => h("a", {
        href: g.link(id, id === state.view ? state.args : v.carry ? v.carry(state) : []), "aria-current": id === state.view ? "page" : null,
      }, v.title)));
      await draw(state, fresh);
    }
    g.mark();
    g.card();
  };
  g.redraw = () => { drawn = " "; g.route(); };

  const draw = async (state, fresh) => {
    const view = g.views[state.view], main = g.$("main"), mine = ++turn, focus = document.activeElement.dataset.key;
    main.setAttribute("aria-busy", "true");
    // Chunks take milliseconds from disk: only say so where they do not.
    const patience = setTimeout(() => mine === turn && g.show(main, g.empty("Loading…")), 150);
    g.stage = null;
    try {
      const data = await Promise.all(view.needs(...state.found).map(g.load));
      const page = await view.draw(state.found, data);
      if (mine !== turn) return;
      g.show(main, page);
      if (g.stage) g.stage.place();
    } catch (error) {
      if (mine !== turn) return;
      g.show(main, g.failed(error));
      drawn = " ";
    } finally {
      clearTimeout(patience);
      if (mine === turn) main.removeAttribute("aria-busy");
    }
    document.title = [...g.all("h1 bdi").map(n => n.textContent), view.title, g.meta.title].join(" · ");
    const again = focus && g.all("[data-key]", main).find(node => node.dataset.key === focus);
    // The reader may have tabbed on while chunks were loading.
    if (again) { if (document.activeElement === document.body) again.focus({preventScroll: true}); }
    else if (fresh) { scrollTo(0, 0); if (turn > 1) main.focus({preventScroll: true}); }
  };

  g.failed = error => {
    const missing = error instanceof g.Missing;
    if (!missing) console.error(error);
    return h("div.state.bad", {role: "alert"}, h("h1", missing ? "A file is missing" : "This cannot be shown"),
      missing ? h("p", "The file ", h("code", error.message), " is missing or damaged. It belongs beside index.html; copy the whole folder, or build the explorer again.")
        : h("p", error.message),
      h("button", {onclick: g.redraw}, "Try again"));
  };
})(gigraph);

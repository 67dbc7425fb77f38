// The whole state is the hash: #/class/cheetah?sel=layer3.1:12&norm=share&top=5. Views register themselves.
"use strict";
(function (g) {
  const {h} = g;
  const LISTS = new Set(["pin"]);

  g.parse = (hash) => {
    const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
    const decode = (text) => { try { return decodeURIComponent(text); } catch { return text; } };
    const [view = "", ...args] = path.split("/").map(decode);
    const params = {};
    for (const item of query.split("&").filter(Boolean)) {
      const at = item.indexOf("=");
      if (at > 0) params[decode(item.slice(0, at))] = decode(item.slice(at + 1));
    }
    return {view, args, params};
  };
  const safe = (text) => encodeURIComponent(text).replace(/%3A/g, ":").replace(/%2C/g, ",");
  g.format = ({view, args = [], params = {}}) => {
    const query = Object.entries(params).filter(([, v]) => v !== null && v !== undefined && v !== "");
    return "#/" + [view, ...args].map(safe).join("/") + (query.length ? "?" + query.map(([k, v]) => `${safe(k)}=${safe(String(v))}`).join("&") : "");
  };

  // A class is addressed by its name; by ~label where the name is empty, taken twice, or looks like that itself.
  g.slug = (label) => {
    const name = g.classOf(label).name;
    return !name || name[0] === "~" || g.byName.get(name) !== label ? "~" + label : name;
  };
  g.classFrom = (slug) => {
    if (slug && slug[0] === "~") return g.classOf(+slug.slice(1)) ? +slug.slice(1) : null;
    return g.byName.has(slug) ? g.byName.get(slug) : null;
  };
  g.nearestClass = (slug) => {
    const pairs = (text) => { const t = text.toLowerCase(); return new Set([...t].map((_, i) => t.slice(i, i + 2))); };
    const wanted = pairs(slug || "");
    let best = null, most = 0.3;
    for (const {label, name, kept} of g.classes) {
      const mine = pairs(name);
      const score = 2 * [...wanted].filter((p) => mine.has(p)).length / (wanted.size + mine.size || 1);
      if (kept && score > most) [best, most] = [label, score];
    }
    return best;
  };

  // Steps the reader may want to come back to make history; sliders do not.
  g.go = (change, keep) => {
    const next = {...g.state, ...change, params: {...g.state.params, ...(change.params || {})}};
    const hash = g.format(next);
    if (hash === location.hash) return;
    if (keep) location.replace(hash); else location.hash = hash;
  };
  g.link = (view, args, params) => {
    const carried = {};
    for (const key of ["norm", "top", "shared", "min"]) if (g.state && g.state.params[key]) carried[key] = g.state.params[key];
    return g.format({view, args, params: {...carried, ...params}});
  };
  g.list = (key) => (g.state.params[key] || "").split(",").filter(Boolean);
  g.norm = () => (g.state.params.norm in g.NORMS ? g.state.params.norm : "share");
  g.whole = (key, otherwise, low, high) => {
    const text = g.state.params[key];
    return /^\d{1,4}$/.test(text || "") ? Math.min(high, Math.max(low, +text)) : otherwise;
  };

  // Returns the nearest valid state and says what was wrong.
  const mend = (state) => {
    const notes = [], params = {...state.params};
    if (!(state.view in g.views)) {
      if (state.view) notes.push(`There is no view \u201c${state.view}\u201d; this is the overview.`);
      return [{view: "overview", args: [], params: state.view ? {} : params}, notes];
    }
    const view = g.views[state.view], args = state.args.slice(0, view.classes);
    for (let i = 0; i < view.classes; i++) {
      let label = g.classFrom(args[i]);
      if (label === null && args[i] !== undefined) {
        label = g.nearestClass(args[i]);
        if (label === null) {
          notes.push(`There is no class \u201c${args[i]}\u201d; this is the overview.`);
          return [{view: "overview", args: [], params: {}}, notes];
        }
        notes.push(`There is no class \u201c${args[i]}\u201d; this is the nearest name.`);
      }
      if (label === null) label = view.fallback(i, args.map(g.classFrom));
      if (label === null) return [{view: "overview", args: [], params: {}}, ["There is no class with a graph."]];
      args[i] = g.slug(label);
    }
    const known = (id) => {
      const found = g.parseId(id);
      if (!found) notes.push(`There is no concept \u201c${id}\u201d here; the link may be of another run.`);
      return found;
    };
    if (params.sel && !known(params.sel)) delete params.sel;
    for (const key of LISTS) {
      if (!params[key]) continue;
      const all = params[key].split(",").filter(Boolean), kept = all.filter(known);
      if (kept.length === all.length) continue;
      if (kept.length) params[key] = kept.join(","); else delete params[key];
    }
    if (params.norm && !(params.norm in g.NORMS)) { notes.push(`There is no normalisation \u201c${params.norm}\u201d.`); delete params.norm; }
    return [{view: state.view, args, params}, notes];
  };

  let drawn = "", turn = 0;
  g.route = async () => {
    const [state, notes] = mend(g.parse(location.hash));
    const hash = g.format(state);
    const before = g.state;
    g.state = state;
    if (hash !== location.hash) history.replaceState(null, "", hash);
    const place = g.format({...state, params: {}});
    if (!before || place !== g.format({...before, params: {}}) || notes.length) g.show(g.$("notice"));
    notes.forEach(g.notice);
    marks();
    const {sel, pin, on, ...rest} = state.params;
    const key = g.format({...state, params: rest});
    if (key !== drawn) {
      drawn = key;
      await draw(state, !before || place !== g.format({...before, params: {}}));
    }
    g.views[g.state.view].select && g.views[g.state.view].select();
    g.card();
  };

  const draw = async (state, fresh) => {
    const view = g.views[state.view], main = g.$("main"), mine = ++turn;
    const focus = document.activeElement && document.activeElement.dataset.key;
    const labels = state.args.map(g.classFrom);
    document.title = [...labels.map((l) => g.classOf(l).name), view.title, g.meta.title].join(" \u00b7 ");
    main.setAttribute("aria-busy", "true");
    // Chunks take milliseconds from disk: only say so where they do not.
    const patience = setTimeout(() => mine === turn && g.show(main, h("p.state", {role: "status"}, "Loading\u2026")), 150);
    try {
      const data = await Promise.all(view.needs(labels).map(g.load));
      if (mine !== turn) return;
      g.show(main, view.draw(labels, data));
      view.after && view.after();
    } catch (error) {
      if (mine !== turn) return;
      g.show(main, g.failed(error));
      drawn = "";
    } finally {
      clearTimeout(patience);
      if (mine === turn) main.removeAttribute("aria-busy");
    }
    const again = focus && [...main.querySelectorAll("[data-key]")].find((node) => node.dataset.key === focus);
    // The reader may have tabbed on while chunks were loading.
    if (again) { if (document.activeElement === document.body) again.focus({preventScroll: true}); }
    else if (fresh) { scrollTo(0, 0); if (turn > 1) main.focus({preventScroll: true}); }
  };

  g.failed = (error) => {
    if (!(error instanceof g.Missing)) console.error(error);
    return h("div.state.bad", {role: "alert"},
      h("h1", {}, error instanceof g.Missing ? "A file is missing" : "This cannot be shown"),
      error instanceof g.Missing
        ? h("p", {}, "The file ", h("code", {}, error.file), " is missing or damaged. It belongs beside index.html; copy the whole folder, or build the explorer again.")
        : h("p", {}, String(error.message || error)),
      h("p", {}, h("button", {type: "button", onclick: () => { drawn = ""; g.route(); }}, "Try again")));
  };

  const marks = () => {
    g.show(g.$("views"), Object.entries(g.views).map(([id, view]) => h("a", {
      href: g.link(id, id === g.state.view ? g.state.args : view.carry ? view.carry() : []),
      "aria-current": id === g.state.view ? "page" : null,
    }, view.title)));
  };
})(gigraph);

// The search field: classes by name, concepts by label, part or layer:number.
"use strict";
(function (g) {
  const {h} = g;
  g.hits = (text) => {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return [];
    const found = g.classes.filter((c) => c.name.toLowerCase().includes(wanted)).slice(0, 8).map((c) => ({kind: "class", name: c.name, href: g.link("class", [g.slug(c.label)])}));
    const add = (layer, concept, name) => found.push({kind: g.idOf(layer, concept), name, href: g.format({...g.state, params: {...g.state.params, sel: g.idOf(layer, concept)}})});
    for (const [key, name] of Object.entries(g.meta.labels)) if (name.toLowerCase().includes(wanted)) add(...key.split(":").map(Number), name);
    for (const [key, parts] of Object.entries(g.meta.aligned)) for (const [part] of parts) if (part.toLowerCase().includes(wanted)) add(...key.split(":").map(Number), "aligns with " + part);
    const exact = g.parseId(text.trim());
    if (exact) add(...exact, `concept ${exact[1]}`);
    const number = /^#?(\d+)$/.exec(wanted);
    if (number) g.meta.layers.forEach((l, i) => { if (+number[1] <= l.last) add(i, +number[1], `concept ${number[1]}`); });
    return found.slice(0, 12);
  };

  g.search = () => {
    const field = g.$("search"), box = g.$("hits");
    let hits = [], at = -1;
    const show = () => {
      hits = g.hits(field.value);
      at = hits.length ? 0 : -1;
      g.show(box, hits.map((hit, i) => h("div", {role: "option", id: "hit-" + i, "aria-selected": "false", onpointerdown: (event) => { event.preventDefault(); open(i); }}, g.name(hit.name), h("span", {}, hit.kind))), !hits.length && field.value.trim() ? h("p", {}, "Nothing found") : null);
      box.hidden = !field.value.trim();
      field.setAttribute("aria-expanded", String(!box.hidden));
      point();
    };
    const point = () => {
      [...box.children].forEach((node, i) => node.setAttribute("aria-selected", String(i === at)));
      if (at >= 0) field.setAttribute("aria-activedescendant", "hit-" + at); else field.removeAttribute("aria-activedescendant");
    };
    const close = () => { box.hidden = true; field.setAttribute("aria-expanded", "false"); };
    const open = (i) => { if (hits[i]) { g.fromKeyboard = true; location.hash = hits[i].href; field.value = ""; close(); field.blur(); } };
    field.addEventListener("input", show);
    field.addEventListener("blur", close);
    field.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); if (hits.length) at = (at + (event.key === "ArrowDown" ? 1 : -1) + hits.length) % hits.length; point(); }
      else if (event.key === "Enter") open(at);
      else if (event.key === "Escape") { event.stopPropagation(); field.value = ""; close(); field.blur(); }
    });
  };
})(gigraph);

// The state is the hash: #class=cheetah&layer=layer4.0&at=r1. All rows are in the page; this hides and marks them.
"use strict";
(() => {
  const $ = id => document.getElementById(id), all = (query, of = document) => [...of.querySelectorAll(query)];
  const rows = all("[data-row]"), choices = {class: $("class"), layer: $("layer")};
  const read = () => new URLSearchParams(location.hash.slice(1));
  const write = change => {
    const next = read();
    for (const [key, value] of Object.entries(change)) if (value) next.set(key, value); else next.delete(key);
    history.replaceState(null, "", next.size ? "#" + next : location.pathname + location.search);
    draw();
  };
  const shown = () => rows.filter(row => !row.hidden);
  const chosen = () => rows.find(row => row.ariaCurrent);
  const draw = () => {
    const state = read();
    for (const [key, box] of Object.entries(choices)) {
      if (!box) continue;
      const wanted = state.get(key) || "";
      box.value = [...box.options].some(option => option.value === wanted) ? wanted : "";
    }
    const is = (row, key) => !choices[key] || !choices[key].value || row.dataset[key].split("\n").includes(choices[key].value);
    for (const row of rows) {
      row.hidden = !is(row, "class") || !is(row, "layer");
      row.ariaCurrent = row.id === state.get("at") && !row.hidden ? "true" : null;
    }
    for (const table of all(".changes")) {
      const some = all("[data-row]", table).some(row => !row.hidden);
      table.hidden = !some;
      const none = table.closest("section").querySelector(".nothing");
      if (none) none.hidden = some;
    }
  };
  const choose = row => {
    if (!row) return;
    write({at: row.id});
    row.focus({preventScroll: true});
    row.scrollIntoView({block: "nearest"});
  };
  const step = by => {
    const there = shown(), at = there.indexOf(chosen());
    choose(there[Math.min(there.length - 1, Math.max(0, at + by))]);
  };
  const follow = end => {
    const link = (chosen() || shown()[0] || document.body).querySelector(`a[data-end=${end}]`);
    if (link) link.click();
  };
  const help = () => $("keys").open ? $("keys").close() : $("keys").showModal();
  addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open && event.key !== "?") return;
    const typing = event.target.matches("input, select");
    if (event.key === "Escape") { write({at: ""}); document.activeElement.blur(); return; }
    if (typing) return;
    const act = {j: () => step(1), k: () => step(-1), a: () => follow("a"), b: () => follow("b"), "?": help,
      "/": () => choices.class && choices.class.focus()}[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  for (const [key, box] of Object.entries(choices)) if (box) box.onchange = () => write({[key]: box.value});
  for (const row of rows) row.onclick = event => { if (!event.target.closest("a")) choose(row); };
  $("help").onclick = help;
  addEventListener("hashchange", draw);
  draw();
  const first = chosen();
  if (first) first.scrollIntoView({block: "center"});
})();

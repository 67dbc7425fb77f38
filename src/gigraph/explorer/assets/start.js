// Keys that work everywhere, and the start.
"use strict";
(function (g) {
  const {h} = g;
  const KEYS = [
    ["\u2190 \u2192", "previous, next concept of a layer"], ["\u2191 \u2193", "along the strongest edge"], ["Home End", "first, last of a layer"], ["Enter", "open the concept"],
    ["P", "pin the concept's paths"], ["F", "maximise the card"], ["Esc", "back"], ["/", "search"], ["?", "this help"],
  ];
  const help = () => {
    const box = g.$("keys");
    if (box.open) { box.close(); return; }
    g.show(box, h("h2", {id: "keys-title"}, "Keyboard"), h("dl", {}, KEYS.map(([key, what]) => h("div", {}, h("dt", {}, key.split(" ").map((k) => h("kbd", {}, k))), h("dd", {}, what)))), h("form", {method: "dialog"}, h("button", {}, "Close")));
    box.showModal();
  };

  const keys = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const typing = event.target.matches && event.target.matches("input:not([type=range]), select, textarea");
    if (event.key === "Escape") {
      const frame = g.$("frame");
      if (g.$("keys").open) return;
      if (frame.classList.contains("wide")) frame.classList.remove("wide");
      else if (g.state && g.state.params.sel) g.close();
    } else if (typing) return;
    else if (event.key === "/") { event.preventDefault(); g.$("search").focus(); }
    else if (event.key === "?") help();
    else if (event.key === "f" || event.key === "F") g.maximise();
    else if ((event.key === "p" || event.key === "P") && g.$("card").contains(event.target)) g.pin(g.parseId(g.state.params.sel).join(":"));
  };

  const start = async () => {
    try {
      g.meta = await g.load("meta");
      if (g.meta.schema !== g.SCHEMA) throw new Error(`The data is of layout ${g.meta.schema}, this page reads layout ${g.SCHEMA}: files of two builds are mixed. Build the explorer again.`);
    } catch (error) {
      g.show(g.$("main"), g.failed(error));
      return;
    }
    g.classes = g.meta.classes.map(([label, name, images, right, kept, attributed, near, faces]) => ({label, name, images, right, kept: kept === 1, attributed, near: near.length ? near : null, faces}));
    g.byLabel = new Map(g.classes.map((c) => [c.label, c]));
    g.byName = new Map([...g.classes].reverse().map((c) => [c.name, c.label]));
    addEventListener("hashchange", g.route);
    addEventListener("keydown", keys);
    g.$("help").addEventListener("click", help);
    document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); g.$("main").focus(); });
    g.search();
    g.route();
  };
  start();
})(gigraph);

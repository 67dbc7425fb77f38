"""The site in a real browser: over file://, with the network off."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
import yaml

from explorer.fixture import HOSTILE, LAYERS, NAMES, RIGHT_TO_LEFT, write_results
from gigraph.explorer import Inputs, build
from gigraph.explorer.build import write_app
from gigraph.explorer.chunks import LAYOUT, read_chunk, write_chunk
from gigraph.records import tables
from gigraph.reserved import CLASSES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=120000
        )
        yield browser
        browser.close()


# The address that the page has been told of, or has corrected itself.
TOLD = """
window.told = location.href;
addEventListener("hashchange", () => { told = location.href; }, true);
const replace = history.replaceState.bind(history);
history.replaceState = (...change) => { replace(...change); told = location.href; };
"""


class Reader:
    """A reader with one page open, who notes everything that goes wrong."""

    def __init__(self, browser, site: Path, **context):
        self.site = site
        self.context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}, **context)
        self.context.add_init_script(TOLD)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60000)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.errors.append("dialog"), dialog.dismiss()))

    def open(self, hash: str = "") -> Reader:
        self.page.goto("about:blank")
        self.page.goto(f"file://{self.site}/index.html{hash}")
        self.settle()
        return self

    def settle(self) -> None:
        """Wait until the page and its card show what the address says, and are laid out for the room that they have.

        The browser tells a page of a new address later, and of its room with the next frame.
        """
        self.page.wait_for_function(
            "told === location.href && document.querySelector('#main h1')"
            " && !document.querySelector('[aria-busy=true]')"
        )
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def arrive(self, address: str) -> None:
        """Wait until the address is such a one (a condition on `hash`), and until it is shown."""
        self.page.wait_for_function(f"(hash => {address})(location.hash)")
        self.settle()

    def text(self, selector: str) -> str:
        self.settle()
        return self.page.locator(selector).first.inner_text()

    def hash(self) -> str:
        self.settle()
        return self.page.evaluate("location.hash")


@pytest.fixture
def reader(browser, site: Path) -> Iterator[Reader]:
    """Open a page; in the end no request has left for the network and nothing was logged."""
    reader = Reader(browser, site)
    yield reader
    reader.context.close()
    assert {url.split(":")[0] for url in reader.requests} <= {"file", "about", "data"}
    assert reader.errors == []


def slug(name: str) -> str:
    return quote(name, safe="")


def kept_of(inputs: Inputs, label: int, layer: str) -> list[dict]:
    rows = [r for r in tables.read(inputs.kept).to_pylist() if r["scope"] == label and r["layer"] == layer]
    return sorted(rows, key=lambda row: row["rank"])


def test_overview(reader: Reader):
    reader.open()
    assert reader.hash() == "#/overview"
    assert "97.5%" in reader.text(".numbers") and "decision kept\n93%" in reader.text(".numbers")
    listed = reader.page.locator(".columns .classes:not(.pairs) li")
    assert listed.count() == len(NAMES) - 1  # one has no images
    assert "K capped" in reader.text(".notes") and "1 image could not be read" in reader.text(".notes")
    assert "0.420" in reader.text("table")
    reader.page.get_by_label("Filter classes").fill("LEOP")
    assert listed.count() == 1
    reader.page.get_by_label("Filter classes").fill("zzz")
    assert "No class is so named" in reader.text(".columns")


@pytest.mark.parametrize("name", [HOSTILE, RIGHT_TO_LEFT, NAMES[4]])
def test_hostile_names_are_text(reader: Reader, name: str):
    reader.open("#/class/" + slug(name))
    assert reader.page.locator("h1 bdi").evaluate("node => node.textContent") == name
    assert reader.page.locator("#main img, #main b > *, #main script").count() == 0
    reader.open(f"#/compare/{slug(name)}/cheetah")
    assert reader.page.locator("h1 bdi").first.evaluate("node => node.textContent") == name
    assert reader.page.title().startswith(name)


def test_class_graph_shows_the_tables_numbers(reader: Reader, inputs: Inputs):
    reader.open("#/class/leopard?norm=raw&min=0")
    for layer in LAYERS:
        nodes = reader.page.locator(f".row[data-layer='{list(LAYERS).index(layer)}'] .node:not(.error)")
        wanted = kept_of(inputs, 1, layer)[:5]
        assert nodes.locator(".id").all_inner_texts() == [f"#{row['concept']}" for row in wanted]
        shown = [float(text) for text in nodes.locator(".value").all_inner_texts()]
        assert shown == [pytest.approx(row["relevance"], rel=6e-3) for row in wanted]
    edges = [e for e in tables.read(inputs.edges).to_pylist() if e["scope"] == 1]
    top = {layer: {row["concept"] for row in kept_of(inputs, 1, layer)[:5]} for layer in LAYERS}
    top["classes"] = {1}
    names = [*LAYERS, "classes"]
    pairs = list(pairwise(names))
    into = [
        e for e in edges if (e["source_layer"], e["target_layer"]) in pairs and e["target"] in top[e["target_layer"]]
    ]
    drawn = [e for e in into if e["source"] in top[e["source_layer"]]]
    assert reader.page.locator("svg.edges .base path").count() == len(drawn)
    assert reader.page.locator("svg.edges .base .neg").count() == sum(e["mean"] < 0 for e in drawn)
    share = 0.0
    for pair in pairs:
        part, whole = (
            sum(abs(e["mean"]) for e in rows if (e["source_layer"], e["target_layer"]) == pair)
            for rows in (drawn, into)
        )
        share += part / whole / len(pairs)
    hidden = sum(e["source"] >= 0 for e in into) - len(drawn)
    assert (
        reader.text("#coverage")
        == f"20 of {sum(LAYERS.values()) - 6} families, {share:.0%} of |GIG|; {hidden} edges hidden"
    )


@pytest.mark.parametrize("ablation", [None, 2.0, -0.5])
def test_a_mark_on_a_bar_is_where_the_exact_ablation_says_that_it_ends(
    browser, site: Path, tmp_path: Path, inputs: Inputs, ablation: float | None
):
    """Also beyond the longest bar, and below 0. `ablation`: of the strongest concept, in units of its relevance."""
    edges = {
        (e["source_layer"], e["source"]): e
        for e in tables.read(inputs.edges).to_pylist()
        if e["scope"] == 1 and e["target_layer"] == CLASSES and e["target"] == 1 and e["ablation"] is not None
    }
    own = {key: e["ablation"] / e["mean"] for key, e in edges.items()}
    sure = {key: abs(e["ablation"]) >= 2 * e["ablation_se"] for key, e in edges.items()}
    if ablation is not None:
        site = copy_of(site, tmp_path)
        data = read_chunk(site / "data", "class/1")
        strongest = max((node for nodes in data["layers"] for node in nodes), key=lambda node: abs(node[5]))
        layer = next(name for name, nodes in zip(LAYERS, data["layers"], strict=True) if strongest in nodes)
        own[layer, strongest[0]], sure[layer, strongest[0]] = ablation, ablation > 0
        strongest[7] = ablation * strongest[1]
        strongest[8] = abs(strongest[7]) / (1.9 if ablation < 0 else 2.1)
        write_chunk(site / "data", "class/1", data)
    reader = Reader(browser, site).open("#/class/leopard?min=0")
    bars = []
    for index, layer in enumerate(LAYERS):
        found = reader.page.locator(f".row[data-layer='{index}'] .node:not(.error) > .meter")
        for i, row in enumerate(kept_of(inputs, 1, layer)[:5]):
            sizes = found.nth(i).evaluate(
                "node => [...node.children].map(one => parseFloat(one.style.width || one.style.left))"
            )
            bars.append((*sizes, own[layer, row["concept"]], found.nth(i)))
            assert found.nth(i).locator("i.out").count() == (not sure[layer, row["concept"]])
    assert max(max(bar, mark) for bar, mark, *_ in bars) == pytest.approx(100) and len(bars) == 20
    for bar, mark, factor, node in bars:
        assert mark == pytest.approx(max(0, bar * factor), abs=0.2) and "; ablation " in node.get_attribute("title")
        assert node.locator("i.less").count() == (factor < 0)
    if ablation == 2:
        assert max(bar for bar, *_ in bars) == pytest.approx(50)
    reader.open("#/image/leopard")
    assert reader.page.locator(".node .meter").count() > 3 and reader.page.locator(".meter i").count() == 0
    assert "exact ablation" not in reader.text("main > .note")
    reader.context.close()


def test_a_family_opens_into_its_members(reader: Reader, inputs: Inputs):
    reader.open("#/class/cheetah?norm=raw")
    node = reader.page.locator("[data-key='2:0']")
    assert node.locator(".more").inner_text() == "×3" and node.locator(".id").all_inner_texts() == ["#0"]
    assert reader.page.locator("[data-key='2:1'] .more").count() == 0
    node.locator(".more").click()
    reader.arrive("hash.includes('open=layer3.1:0')")
    assert "sel=" not in reader.hash()
    assert node.locator(".id").all_inner_texts() == ["#0", "#0", "#30", "#31"]
    whole, *parts = (float(text) for text in node.locator(".value").all_inner_texts())
    assert parts == [pytest.approx(part * whole, rel=1e-2) for part in (0.5, 0.25, 0.25)]
    node.focus()
    reader.page.keyboard.press("m")
    reader.arrive("!hash.includes('open=')")
    assert node.locator(".id").count() == 1
    node.click()
    reader.page.locator("#card-title").wait_for()
    assert "3 concepts, cosine 0.810" in reader.text("#card .flags")
    members = reader.page.locator("#card section", has_text="Members").locator("tbody tr")
    assert members.count() == 3 and "0.900" in members.nth(2).inner_text()
    assert float(members.nth(0).locator("td").last.inner_text()) == pytest.approx(parts[0], rel=1e-2)
    members.nth(1).locator("a").click()
    reader.page.get_by_text("In the graph it is within").wait_for()


def test_the_error_node_is_shown(reader: Reader, inputs: Inputs):
    reader.open("#/class/leopard")
    edges = [e for e in tables.read(inputs.edges).to_pylist() if e["scope"] == 1 and e["source_layer"] == "layer4.0"]
    edges = [e for e in edges if e["target"] == 1 and e["target_layer"] == "classes"]
    share = next(abs(e["mean"]) for e in edges if e["source"] == -1) / sum(abs(e["mean"]) for e in edges)
    assert reader.text(".row[data-layer='3'] .error .value") == f"{share:.0%}"
    reader.page.locator(".row[data-layer='3'] .node.error").focus()
    reader.page.keyboard.press("Home")
    reader.page.keyboard.press("End")
    assert reader.page.locator("svg .lit .err").count() == 1


def test_normalisations(reader: Reader, inputs: Inputs):
    first = kept_of(inputs, 1, "layer3.1")[0]
    edges = [e for e in tables.read(inputs.edges).to_pylist() if e["scope"] == 1 and e["source_layer"] == "layer3.1"]
    edges = [e for e in edges if e["target"] == 1 and e["target_layer"] == "classes"]
    mine = next(e for e in edges if e["source"] == first["concept"])
    value = ".row[data-layer='2'] .node:first-child .value"
    reader.open("#/class/leopard")
    assert reader.text(value) == f"{mine['mean'] / sum(abs(e['mean']) for e in edges):.0%}"
    reader.page.get_by_role("button", name="[0, 1]").click()
    reader.arrive("hash.includes('norm=paper')")
    assert float(reader.text(value)) == pytest.approx(mine["weight"], rel=6e-3)


def test_compare_has_three_columns(reader: Reader, inputs: Inputs):
    reader.open("#/compare/cheetah/leopard?top=8")
    for index, layer in enumerate(LAYERS):
        one, two = ({r["concept"]: r["relevance"] for r in kept_of(inputs, label, layer)} for label in (0, 1))
        firsts = {next(iter(one)), next(iter(two))}  # never left out, however little they are to the other class
        both = sorted(one.keys() & two.keys(), key=lambda c: (c not in firsts, -min(one[c], two[c]), c))
        row = reader.page.locator(f".row[data-layer='{index}'] .group")
        wanted = [[c for c in one if c not in two], both[:3], [c for c in two if c not in one]]
        assert [g.locator(".id").all_inner_texts() for g in row.all()] == [[f"#{c}" for c in w] for w in wanted]
        assert row.nth(1).locator(".shared").count() == 3
    reader.page.get_by_role("button", name="Swap A and B").click()
    reader.arrive("hash.startsWith('#/compare/leopard/cheetah')")


def test_the_strongest_of_either_class_is_drawn_however_little_it_is_to_the_other(browser, inputs: Inputs, tmp_path):
    layer, rows = list(LAYERS)[-1], tables.read(inputs.kept).to_pylist()
    first = kept_of(inputs, 0, layer)[0]["concept"]
    other = [row for row in kept_of(inputs, 1, layer) if row["concept"] != first]
    assert sum(row["concept"] in {r["concept"] for r in kept_of(inputs, 0, layer)} for row in other) > 2
    rows = [row for row in rows if (row["scope"], row["layer"]) != (1, layer)]
    rows += [*other, {**other[-1], "concept": first, "rank": other[-1]["rank"] + 1, "relevance": 1e-6}]
    tables.write(tmp_path / "kept.parquet", "kept", {name: [row[name] for row in rows] for name in rows[0]})
    build(dataclasses.replace(inputs, kept=tmp_path / "kept.parquet"), tmp_path / "site")
    reader = Reader(browser, tmp_path / "site").open("#/compare/cheetah/leopard?shared=2")
    shown = reader.page.locator(f".row[data-layer='{len(LAYERS) - 1}'] .group").nth(1).locator(".id").all_inner_texts()
    reader.context.close()
    assert f"#{first}" in shown and len(shown) == 2


def test_card_switches_to_the_most_relevant_patches_and_the_address_says_so(reader: Reader, inputs: Inputs):
    rows = tables.read(inputs.exemplars["layer3.1"] / "exemplars.parquet").to_pylist()
    relevant = [row for row in rows if row["by"] == "relevance"]
    concept = relevant[0]["concept"]
    reader.open(f"#/class/leopard?sel=layer3.1:{concept}")
    card = reader.page.locator("#card")
    by = card.locator("fieldset", has_text="By")
    by.get_by_role("button", name="relevance").click()
    reader.arrive("hash.includes('by=relevance')")
    assert card.locator("h3").first.inner_text() == "Most relevant patches of all images"
    shown = card.locator(".tiles:not(.large) .value").all_inner_texts()
    assert [float(text) for text in shown] == [pytest.approx(row["value"], abs=6e-4) for row in relevant]
    by.get_by_role("button", name="cosine").click()
    reader.arrive("!hash.includes('by=')")
    assert card.locator("h3").first.inner_text() == "Nearest patches of all images"
    other = next(row["concept"] for row in rows if row["concept"] != concept and row["by"] == "response")
    reader.open(f"#/class/leopard?sel=layer3.1:{other}&by=relevance")
    card.locator("h3", has_text="Nearest patches").wait_for()  # it has none
    assert card.locator("fieldset", has_text="By").count() == 0


def test_card_shows_the_tables_numbers(reader: Reader, inputs: Inputs):
    concept = kept_of(inputs, 1, "layer3.1")[0]["concept"]
    reader.open(f"#/class/leopard?sel=layer3.1:{concept}&norm=raw")
    card = reader.page.locator("#card")
    card.locator("h3").first.wait_for()
    assert card.locator("h2").inner_text().startswith(f"Concept {concept}")
    rows = tables.read(inputs.exemplars["layer3.1"] / "exemplars.parquet").to_pylist()
    cosines = [r["cosine"] for r in rows if r["concept"] == concept and r["by"] == "response"]
    shown = card.locator(".tiles:not(.large) .value").all_inner_texts()
    assert [float(t) for t in shown] == [pytest.approx(c, abs=6e-3) for c in cosines]
    assert card.locator(".tiles.large li").count() == 4
    edges = [e for e in tables.read(inputs.edges).to_pylist() if e["scope"] == 1 and e["source"] >= 0]
    below = [e for e in edges if e["target_layer"] == "layer3.1" and e["target"] == concept and e["mean"] > 0]
    below.sort(key=lambda e: -e["mean"])
    lines = card.locator(".list", has_text="Raised by").locator("tbody tr")
    assert lines.count() == min(8, len(below))
    for line, e in zip(lines.all(), below, strict=False):
        gig, ablation, support = line.locator("td").all_inner_texts()
        assert line.locator("a").inner_text() == f"#{e['source']}"
        assert float(gig) == pytest.approx(e["mean"], rel=6e-3) and int(support) == e["support"]
        if e["ablation"] == e["ablation"]:
            assert float(ablation) == pytest.approx(e["ablation"], rel=6e-3)
        else:
            assert ablation == "–"
    own = next(
        e
        for e in edges
        if e["source_layer"] == "layer3.1"
        and e["source"] == concept
        and e["target_layer"] == "classes"
        and e["target"] == 1
    )
    relevance, ablation, support = card.locator(".relevance tr", has_text="leopard").locator("td").all_inner_texts()
    assert float(relevance) == pytest.approx(own["mean"], rel=6e-3) and int(support) == own["support"]
    checked = own["ablation"] == own["ablation"]
    assert float(ablation) == pytest.approx(own["ablation"], rel=6e-3) if checked else ablation == "–"
    before = [e["mean"] for e in below]
    reader.page.get_by_role("button", name="all classes").click()
    reader.arrive("hash.includes('on=all')")
    card.get_by_text("Neighbours, over all images").wait_for()
    assert before and "Where it is" not in card.inner_text()


def test_a_concept_no_steadier_than_chance_is_marked(reader: Reader):
    reader.open("#/class/cheetah?sel=layer4.0:4")
    chip = reader.page.locator("#card .chip", has_text="stability 0.750")
    assert "warn" in chip.get_attribute("class") and "by chance 0.800" in chip.get_attribute("title")


def test_a_journey_by_keyboard_alone(reader: Reader, inputs: Inputs):
    reader.open("#/overview")
    press = reader.page.keyboard.press
    press("/")
    reader.page.keyboard.type("leop")
    press("Enter")
    reader.arrive("hash.startsWith('#/class/leopard')")
    for _ in range(40):  # Tab enters the graph once, at its first concept
        press("Tab")
        if reader.page.evaluate("document.activeElement.matches('.stage .node')"):
            break
    key = "document.activeElement.dataset.key"
    first = reader.page.evaluate(key)
    assert first.startswith("3:")
    press("ArrowRight")
    second = reader.page.evaluate(key)
    assert second.startswith("3:") and second != first
    press("ArrowUp")
    assert reader.page.evaluate(key) == "class:1"
    press("ArrowDown")
    below = reader.page.evaluate(key)
    assert below == f"3:{kept_of(inputs, 1, 'layer4.0')[0]['concept']}"  # the strongest edge into the class
    press("p")
    reader.arrive("hash.includes('pin=layer4.0:')")
    reader.page.locator(".node.pinned").wait_for()
    press("Enter")
    reader.page.wait_for_function("document.activeElement.id === 'card-title'")
    assert "sel=layer4.0:" in reader.hash()
    press("f")
    assert not reader.page.locator("#main").is_visible()
    press("Escape")
    assert reader.page.locator("#main").is_visible()
    press("Escape")
    reader.arrive("!hash.includes('sel=')")
    assert reader.page.evaluate(key) == below
    reader.settle()
    press("Tab")
    reader.page.wait_for_function("!document.activeElement.matches('.stage .node')")
    press("?")
    assert reader.page.locator("dialog").is_visible()
    assert "ablation" in reader.text("dialog")


def focus_by_tab(reader: Reader, selector: str, back: bool = False, most: int = 80) -> None:
    """Press Tab until the element that has the focus matches."""
    for _ in range(most):
        reader.page.keyboard.press("Shift+Tab" if back else "Tab")
        if reader.page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab never reached {selector}")


def test_a_first_visit_by_keyboard_alone(browser, reader: Reader, site: Path):
    """Open, pick a class, see why, find the shortcut, compare two classes, mail the link: without a pointer."""
    press, focused = reader.page.keyboard.press, "document.activeElement"
    reader.open()
    # the shortcut is on the first page; its concept opens from there, and the card names the class that it raises
    focus_by_tab(reader, ".verdict .node")
    press("Enter")
    reader.page.wait_for_function("document.activeElement.id === 'card-title'")
    assert "detects tag" in reader.text("#card .flags")
    focus_by_tab(reader, "#card .relevance a")
    assert reader.page.evaluate(f"{focused}.textContent") == "cheetah"
    press("Enter")
    reader.arrive("hash.startsWith('#/class/cheetah')")
    assert "sel=layer4.0:3" in reader.hash()  # the same concept, now in the class's graph
    press("Escape")
    reader.page.locator("#card").wait_for(state="hidden")
    # why this class: down the strongest edges
    focus_by_tab(reader, ".stage .node")
    press("ArrowUp")
    assert reader.page.evaluate(f"{focused}.dataset.key") == "class:0"
    press("ArrowDown")
    press("Enter")
    reader.page.wait_for_function("document.activeElement.id === 'card-title'")
    press("Escape")
    # compare with another class, by its first letters
    focus_by_tab(reader, "[data-key='Compare with']", back=True)
    reader.page.keyboard.type("leop")
    press("Enter")
    reader.arrive("hash.startsWith('#/compare/cheetah/leopard')")
    focus_by_tab(reader, ".stage .node")
    press("p")
    reader.page.locator(".node.pinned").wait_for()
    press("Enter")
    reader.page.wait_for_function("document.activeElement.id === 'card-title'")
    # whoever gets the link sees the same
    link, shown = reader.hash(), (reader.text("#main"), reader.text("#card"))
    other = Reader(browser, site).open(link)
    other.page.locator("#card h3").first.wait_for()
    assert (other.text("#main"), other.text("#card")) == shown
    assert [other.page.locator(f".node{kind}").count() for kind in (".pinned", "[aria-pressed=true]")] == [1, 1]
    other.context.close()
    assert other.errors == []


def test_the_printed_page_is_the_graph(reader: Reader, tmp_path: Path):
    reader.open("#/class/leopard?sel=layer3.1:5")
    reader.page.locator("#card h3").first.wait_for()
    reader.page.emulate_media(media="print")
    hidden = (".bar", ".tools", ".heading .actions", "#card")
    assert [reader.page.locator(part).is_visible() for part in hidden] == [False] * len(hidden)
    assert reader.page.locator("h1").is_visible() and reader.page.locator("#coverage").is_visible()
    node = reader.page.locator(".stage .node").last
    assert node.is_visible() and node.evaluate("node => getComputedStyle(node).printColorAdjust") == "exact"
    stage, page = reader.page.locator(".stage").bounding_box(), reader.page.viewport_size
    assert stage["x"] >= 0 and stage["x"] + stage["width"] <= page["width"]


def test_back_and_forward(reader: Reader):
    reader.open("#/overview")
    reader.page.locator(".classes li > a", has_text="leopard").first.click()
    reader.page.locator(".stage").wait_for()
    reader.page.locator(".row[data-layer='2'] .node").first.click()
    reader.page.locator("#card h3").first.wait_for()
    reader.page.go_back()
    reader.page.locator("#card").wait_for(state="hidden")
    assert reader.hash().startswith("#/class/leopard")
    reader.page.go_back()
    reader.page.locator(".lede").wait_for()
    reader.page.go_forward()
    reader.page.locator(".stage").wait_for()
    reader.page.go_forward()
    reader.page.locator("#card h3").first.wait_for()


@pytest.mark.parametrize(
    ("hash", "lands", "says"),
    [
        ("#/nonsense/x", "#/overview", "no view"),
        ("#/constructor", "#/overview", "no view"),
        ("#/class/leoparrd", "#/class/leopard", "nearest name"),
        ("#/class/q", "#/overview", "no class"),
        ("#/class/leopard?sel=layer3.1:99999", "#/class/leopard", "no concept"),
        ("#/class/leopard?pin=layer9:1&norm=odd", "#/class/leopard", "no concept"),
        ("#/class/%E0%A4%A", "#/overview", "no class"),
    ],
)
def test_stale_links_lead_to_the_nearest_view(reader: Reader, hash: str, lands: str, says: str):
    reader.open(hash)
    assert reader.hash() == lands
    assert says in reader.text("#notice")


def test_empty_states(reader: Reader):
    reader.open("#/class/ghost")
    assert "No concept was kept" in reader.text(".state")
    reader.open("#/compare/cheetah/ghost")
    assert "was kept" in reader.text(".state")
    reader.open("#/compare/cheetah/cheetah")
    assert "one class" in reader.text(".state")
    reader.open("#/class/cheetah?sel=layer4.0:47")
    reader.page.get_by_text("No pictures.").wait_for()
    assert "no picture" in reader.text(".row[data-layer='3'] .face.none")
    reader.open("#/class/cheetah?sel=layer4.0:46")
    reader.page.get_by_text("Nothing stored").wait_for()


def copy_of(site: Path, folder: Path) -> Path:
    shutil.copytree(site, folder / "site")
    return folder / "site"


@pytest.mark.parametrize(
    ("file", "hash"),
    [
        ("meta.js", ""),
        ("class-1.js", "#/class/leopard"),
        ("concepts-2-0.js", "#/class/leopard?sel=layer3.1:5"),
    ],
)
def test_a_missing_chunk_is_named(browser, site: Path, tmp_path: Path, file: str, hash: str):
    broken = copy_of(site, tmp_path)
    (broken / "data" / file).unlink()
    reader = Reader(browser, broken)
    reader.page.goto(f"file://{broken}/index.html{hash}")
    reader.page.get_by_text("A file is missing").wait_for()
    assert f"data/{file}" in reader.text(".state.bad")
    shutil.copy(site / "data" / file, broken / "data")
    if hash.endswith("leopard"):
        reader.page.get_by_role("button", name="Try again").click()
        reader.page.locator(".stage").wait_for()
    reader.context.close()


def test_a_missing_sheet_is_named(browser, site: Path, tmp_path: Path):
    broken = copy_of(site, tmp_path)
    for path in (broken / "sheets" / "3").iterdir():
        path.unlink()
    reader = Reader(browser, broken).open("#/class/leopard")
    reader.page.get_by_text("sheets/3/").first.wait_for()
    reader.page.locator(".row[data-layer='2'] .tile.painted").first.wait_for()
    reader.context.close()


def test_data_of_another_layout_is_refused(browser, site: Path, tmp_path: Path):
    other = copy_of(site, tmp_path)
    meta = other / "data" / "meta.js"
    meta.write_text(meta.read_text().replace(f'"schema":{LAYOUT}', '"schema":999'))
    reader = Reader(browser, other)
    reader.page.goto(f"file://{other}/index.html")
    reader.page.get_by_text("layout 999").wait_for()
    reader.context.close()


def test_one_layer_without_localisation(browser, tmp_path: Path):
    inputs = write_results(tmp_path / "results", {"layer1.0": 16}, localised=False)
    build(inputs, tmp_path / "site")
    reader = Reader(browser, tmp_path / "site").open("#/class/cheetah?sel=layer1.0:0")
    assert reader.page.locator(".row").count() == 2
    assert "5 of 16 concepts" in reader.text("#coverage")
    reader.page.get_by_text("Not located here").wait_for()
    reader.open("#/compare/cheetah/leopard")
    assert reader.page.locator(".stage").is_visible()
    reader.context.close()
    assert reader.errors == []


def test_accessible_names_and_contrast(browser, site: Path):
    """Each control has a name, and body text keeps a contrast of 4.5 in both colour schemes."""
    for scheme in ("light", "dark"):
        reader = Reader(browser, site, color_scheme=scheme).open("#/class/leopard?sel=layer3.1:5")
        reader.page.locator("#card h3").first.wait_for()
        unnamed = reader.page.evaluate(
            "[...document.querySelectorAll('button, input, select, a[href]')].filter(n => n.offsetParent && "
            "!(n.ariaLabel || n.textContent.trim() || n.labels?.length)).map(n => n.outerHTML)"
        )
        assert unnamed == []
        colours = reader.page.evaluate(
            "Object.fromEntries(['paper','panel','sunk','ink','soft','pos','neg','good'].map(k => { "
            "const n = document.createElement('i'); n.style.color = `var(--${k})`; document.body.append(n); "
            "return [k, getComputedStyle(n).color.match(/[\\d.]+/g).map(Number)]; }))"
        )
        for text in ("ink", "soft", "pos", "neg", "good"):
            for ground in ("paper", "panel") + (("sunk",) if text in ("ink", "soft") else ()):
                assert contrast(colours[text], colours[ground]) >= 4.5, (scheme, text, ground)
        reader.context.close()


def contrast(a: list[float], b: list[float]) -> float:
    def luminance(colour: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour[:3])]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_an_image_is_shown_through_the_data_sets_concepts(reader: Reader, inputs: Inputs):
    reader.open("#/image/leopard?norm=raw")
    assert reader.page.locator(".film li").count() == inputs.images_per_class
    image = int(reader.page.locator(".film [aria-current]").get_attribute("data-key").removeprefix("image-"))
    rows = tables.read(inputs.attributions["layer4.0", "classes"][0]).to_pylist()
    row = next(r for r in rows if r["image_id"] == image and r["target"] == 1)
    gig = dict(zip(row["sources"], row["values"], strict=True))
    evaluated = {r["target"] for r in tables.read(inputs.attributions["layer3.1", "layer4.0"][0]).to_pylist()}
    wanted = sorted((c for c in gig if gig[c] > 0 and c in evaluated), key=lambda c: -gig[c])[:5]
    nodes = reader.page.locator(".row[data-layer='3'] .node:not(.error)")
    assert nodes.locator(".id").all_inner_texts() == [f"#{c}" for c in wanted]
    shown = [float(text) for text in nodes.locator(".value").all_inner_texts()]
    assert shown == [pytest.approx(gig[c], rel=6e-3) for c in wanted]
    assert nodes.first.locator("canvas").count() == 1
    nodes.first.click()
    reader.page.get_by_text("Where it is in this image").wait_for()
    reader.open("#/image/leopard/77")
    assert "no image" in reader.text("#notice")


def test_a_mistaken_image_shows_its_prediction(reader: Reader):
    reader.open("#/image/cheetah/1001")  # a cheetah that is taken for a leopard
    assert reader.text("h1") == "leopardnotcheetah"
    assert reader.text(".tops .pill").startswith("leopard")


def test_the_atlas_lists_every_concept(reader: Reader, inputs: Inputs):
    reader.open("#/atlas/layer2.1?sort=members")
    rows = sorted(tables.read(inputs.concepts["layer2.1"]).to_pylist(), key=lambda r: (-r["size"], r["concept"]))
    assert reader.page.locator("tbody th a").all_inner_texts() == [f"#{r['concept']}" for r in rows]
    assert reader.page.locator("tbody tr td:nth-child(4)").all_inner_texts() == [str(r["size"]) for r in rows]
    reader.page.get_by_role("button", name="split tree").click()
    reader.page.get_by_text("24 concepts of").wait_for()
    box = reader.page.locator("canvas.atlas").bounding_box()
    click = lambda: reader.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] - 4)  # noqa: E731
    click()  # more levels lie below than are drawn: this enters a branch
    reader.page.get_by_role("button", name="Whole tree").wait_for()
    for _ in range(len(rows)):
        click()
        if "sel=" in reader.hash():
            break
    reader.arrive("hash.includes('sel=layer2.1:')")
    reader.open("#/atlas/layer9")
    assert "no layer" in reader.text("#notice")


def test_the_evidence_draws_tables_it_has_never_seen(reader: Reader, inputs: Inputs):
    reader.open("#/evidence")
    section = reader.page.locator("section", has_text="Do they carry the decision?")
    assert section.locator("figure").count() == 2 * len(LAYERS) == section.locator(".curve").count()
    errors = tables.read(inputs.evaluation["reconstruction"]).to_pylist()
    rows = reader.page.locator("section", has_text="reconstruct a layer?").locator("table").first.locator("tbody tr")
    for method, row in zip(("bisecting", "random"), rows.all(), strict=True):
        shown = [float(text.split(" ")[0]) for text in row.locator("td").all_inner_texts()]
        assert shown == [pytest.approx(r["value"], rel=6e-3) for r in errors if r["method"] == method]
    assert reader.page.locator("section", has_text="Weather").locator("td").all_inner_texts() == ["0.250", "0.500"]
    edges = [e for e in tables.read(inputs.edges).to_pylist() if e["shown"] and e["target_layer"] == "layer2.1"]
    same = sum((e["mean"] > 0) == (e["ablation"] > 0) for e in edges) / len(edges)
    causal = reader.page.locator("section", has_text="Are edges causal?")
    row = causal.locator("tr", has_text="layer1.0 → layer2.1").first.locator("td")
    assert int(row.first.inner_text()) == len(edges) and float(row.nth(1).inner_text()) == pytest.approx(same, rel=6e-3)


def test_without_evaluation_the_evidence_says_so(browser, inputs: Inputs, tmp_path: Path):
    build(dataclasses.replace(inputs, evaluation={}, picture=None, attributions={}), tmp_path / "site")
    reader = Reader(browser, tmp_path / "site").open("#/evidence")
    assert "snakemake evaluation" in reader.text(".state")
    assert reader.page.locator("nav", has_text="Image").count() == 0
    reader.context.close()
    assert reader.errors == []


def test_labels_are_kept_exported_and_imported(reader: Reader, tmp_path: Path):
    reader.open("#/class/leopard?sel=layer3.1:5")
    field = reader.page.get_by_label("Label of this concept")
    field.fill('a "tail": </b>')
    field.press("Enter")
    reader.page.locator(".node .caption", has_text="tail").wait_for()
    reader.open("#/overview")
    with reader.page.expect_download() as download:
        reader.page.get_by_role("button", name="export").click()
    download.value.save_as(tmp_path / "labels.yaml")
    exported = yaml.safe_load((tmp_path / "labels.yaml").read_text())["explorer"]["labels"]
    assert exported["layer3.1:5"] == 'a "tail": </b>' and "spots </b>" in exported.values()
    (tmp_path / "own.yaml").write_text('explorer:\n  labels:\n    "layer3.1:5": "paw"\n    layer3.1:6: claw\n')
    reader.page.locator("input[type=file]").set_input_files(tmp_path / "own.yaml")
    reader.page.get_by_text("2 labels of own.yaml read").wait_for()
    reader.page.keyboard.press("/")
    reader.page.keyboard.type("claw")
    assert "layer3.1:6" in reader.text("#hits")


def test_the_graph_in_view_is_exported_as_svg(reader: Reader, tmp_path: Path):
    reader.open("#/class/leopard")
    edges = reader.page.locator("svg.edges .base path").count()
    with reader.page.expect_download() as download:
        reader.page.get_by_role("button", name="Save as SVG").click()
    download.value.save_as(tmp_path / "graph.svg")
    root = ElementTree.parse(tmp_path / "graph.svg").getroot()
    names = [node.tag.split("}")[1] for node in root.iter()]
    assert names.count("path") == edges and names.count("image") > 0
    assert "leopard" in "".join(root.itertext())


def test_the_planted_shortcut_has_a_verdict(reader: Reader):
    reader.open()
    assert "The planted shortcut was" in reader.text(".verdict h2")
    assert "95%" in reader.text(".verdict p") and "cheetah" in reader.text(".verdict p")


def test_the_program_runs_as_it_is_written_where_there_is_no_minifier(browser, site: Path, tmp_path: Path, monkeypatch):
    plain = copy_of(site, tmp_path)
    shutil.rmtree(plain / "app")
    monkeypatch.setitem(sys.modules, "minify", None)
    write_app(plain, "Plain")
    assert "// Draws rows of concepts" in (plain / "app" / "app.js").read_text()
    reader = Reader(browser, plain).open("#/class/leopard")
    assert reader.page.locator(".stage .node").count() > 20
    reader.context.close()
    assert reader.errors == []


WORDS = ["tench", "great_white_shark", "crane", "tree_frog", "common_newt", "crane"]
CLASSES_OF_1000 = [f"n{2 * i:08d}_{WORDS[i] if i < len(WORDS) else f'class_{i}'}" for i in range(1000)]
"""Of which the first five have images; two are called the same but for their codes."""


@pytest.fixture(scope="module")
def thousand(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of 1,000 classes with codes before their names: five have images, one image each."""
    folder = tmp_path_factory.mktemp("thousand")
    columns = {"label": list(range(1000)), "class": CLASSES_OF_1000, "task": ["classes"] * 1000}
    tables.write(folder / "classes.parquet", "classes", columns)
    for name, path in (("kept", inputs.kept), ("edges", inputs.edges)):
        table = tables.read(path).to_pydict()
        one = {"se": [None] * len(table["se"])}
        if name == "edges":
            one |= {"ablation_se": [None] * len(table["se"]), "images": [1] * len(table["se"])}
        tables.write(folder / f"{name}.parquet", name, {**table, **one})
    run = dataclasses.replace(
        inputs, classes=folder / "classes.parquet", kept=folder / "kept.parquet", edges=folder / "edges.parquet",
        shortcut=None, names={CLASSES_OF_1000[1]: "Jaws"},
    )  # fmt: skip
    build(run, folder / "site")
    return folder / "site"


@pytest.fixture
def visitor(browser, thousand: Path) -> Iterator[Reader]:
    """Open a page of the site of a thousand classes; nothing was logged in the end."""
    reader = Reader(browser, thousand)
    yield reader
    reader.context.close()
    assert reader.errors == []


def test_classes_without_images_are_out_of_sight(visitor: Reader, thousand: Path):
    assert (thousand / "data/meta.js").stat().st_size < 200_000
    visitor.open()
    page, listed = visitor.page, visitor.page.locator(".columns .classes:not(.pairs) li")
    count = page.locator(".numbers div", has_text="classes").locator("dd")
    assert (listed.count(), count.inner_text()) == (5, "5")
    assert "class 777" not in visitor.text("#main")
    page.get_by_label("Search classes").fill("class 777")
    assert "Nothing found" in visitor.text("#hits")
    page.get_by_label("also the 995 without images").check()
    visitor.arrive("hash.includes('all=1')")
    assert "120 of 1,000 classes" in visitor.text("#main") and count.inner_text() == "1,000"
    page.get_by_label("Filter classes").fill("777")
    assert listed.all_inner_texts() == ["class 777\nno images\nno graph"]
    page.get_by_label("also the 995 without images").uncheck()
    visitor.arrive("!hash.includes('all=')")
    visitor.open("#/class/" + CLASSES_OF_1000[777])  # a link to one still leads there
    assert visitor.text("h1") == "class 777" and "no images" in visitor.text(".heading")


def test_names_are_shown_for_people_and_addressed_as_they_are(visitor: Reader):
    visitor.open("#/class/" + CLASSES_OF_1000[0])
    name = visitor.page.locator("h1 bdi")
    assert (name.inner_text(), name.get_attribute("title")) == ("tench", CLASSES_OF_1000[0])
    visitor.open("#/class/tree frog")
    assert visitor.hash() == "#/class/" + CLASSES_OF_1000[3] and not visitor.text("#notice")
    visitor.open("#/class/Jaws")  # from explorer.names
    assert visitor.hash() == "#/class/" + CLASSES_OF_1000[1]
    visitor.open("#/overview")
    names = visitor.page.locator(".columns .classes:not(.pairs) li > a").all_inner_texts()
    assert names == ["tench", "Jaws", "n00000004 crane", "tree frog", "common newt"]


def test_a_list_of_classes_says_where_one_is_and_is_narrowed_by_typing(visitor: Reader):
    visitor.open("#/class/tree frog?all=1")
    page, field, box = (
        visitor.page,
        visitor.page.get_by_role("combobox", name="Class", exact=True),
        visitor.page.locator("#Class"),
    )
    assert field.input_value() == "tree frog" and not box.is_visible()
    field.click()
    here = box.locator("[aria-selected=true]")
    assert here.inner_text() == "tree frog\nhere" and box.locator("[role=option]").count() == 5
    page.keyboard.type("JAW")
    assert box.locator("[role=option]").all_inner_texts() == ["Jaws"]
    page.keyboard.press("Escape")
    assert field.input_value() == "tree frog" and not box.is_visible()
    field.click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    visitor.arrive("hash.startsWith('#/class/n00000008_common_newt')")
    assert page.evaluate("document.activeElement.dataset.key") == "Class"
    visitor.open("#/class/" + CLASSES_OF_1000[777])  # that is in no list
    assert field.input_value() == "class 777"


def test_the_class_that_one_is_at_is_in_view_of_a_long_list(reader: Reader):
    """The field of the atlas' classes, in a box of little height, so that five are a long list."""
    reader.open("#/class/" + slug(NAMES[4]))
    reader.page.add_style_tag(content=".options { max-height: 120px !important }")
    reader.page.get_by_role("combobox", name="Class", exact=True).click()
    box, here = (reader.page.locator(part).bounding_box() for part in ("#Class", "#Class [aria-selected=true]"))
    assert box["y"] <= here["y"] and here["y"] + here["height"] <= box["y"] + box["height"] + 1
    assert reader.page.locator("#Class").evaluate("box => box.scrollTop") > 0


def test_a_missing_error_is_shown_as_missing(visitor: Reader, inputs: Inputs):
    concept = kept_of(inputs, 3, "layer3.1")[0]["concept"]
    visitor.open(f"#/class/tree frog?sel=layer3.1:{concept}")
    card = visitor.page.locator("#card")
    card.locator("h3").first.wait_for()
    titles = [node.get_attribute("title") for node in card.locator("td.value[title]").all()]
    told = [title for title in titles if "±" in title]
    assert told and all("± – (one image)" in title for title in told)
    assert "Neighbours, over 1 image of tree frog" in card.inner_text()


def test_a_card_says_in_how_many_images_a_concept_was_seen(reader: Reader):
    reader.open("#/class/cheetah?sel=layer3.1:2")
    assert reader.text("#card .flags .warn") == "singleton, seen in 1 image"
    reader.open("#/class/cheetah?sel=layer3.1:3")
    assert "PFVs, seen in " in reader.text("#card .flags")


def test_the_first_screen_leads_to_what_was_found(visitor: Reader, thousand: Path):
    found = read_chunk(thousand / "data", "meta")["findings"]
    assert [one["title"] for one in found][-2:] == ["Most shared", "Least explained"]
    visitor.open()
    sections = visitor.page.locator(".findings section")
    assert sections.locator("h2").all_inner_texts() == [one["title"] for one in found]
    assert all(one["how"] in section.inner_text() for one, section in zip(found, sections.all(), strict=True))
    box = sections.last.bounding_box()
    assert box["y"] + box["height"] < 900
    label, share, text = found[-1]["classes"][0]
    row = sections.last.locator("li").first
    assert text in row.inner_text()
    row.locator("a").click()
    visitor.arrive("hash.startsWith('#/class/')")
    assert visitor.hash() == "#/class/" + CLASSES_OF_1000[label] and 0 < share < 1
    visitor.open()
    sections.locator(".node").first.click()
    visitor.arrive("hash.includes('sel=')")
    visitor.page.locator("#card h3").first.wait_for()


def test_two_classes_are_not_shrunk_beside_an_open_card(reader: Reader):
    reader.open(f"#/compare/cheetah/{slug(NAMES[4])}?top=8&sel=layer3.1:5")  # which share nothing: 16 in a row
    reader.page.locator("#card h3").first.wait_for()
    reader.page.wait_for_function("document.querySelector('.stage.narrow')")
    stage, scroller = reader.page.locator(".stage"), reader.page.locator(".scroller")
    assert stage.evaluate("node => node.getBoundingClientRect().width / node.offsetWidth") == pytest.approx(1)
    assert scroller.evaluate("node => node.scrollWidth - node.clientWidth") <= 0
    sizes = reader.page.locator(".stage .node .id").evaluate_all(
        "list => list.map(n => n.getBoundingClientRect().height)"
    )
    assert min(sizes) > 12
    card, last = reader.page.locator("#card").bounding_box(), reader.page.locator(".stage .node").all()
    assert max(box["x"] + box["width"] for box in (node.bounding_box() for node in last)) < card["x"]


def test_the_unexplained_share_is_that_of_the_pair_that_it_stands_beside(reader: Reader, inputs: Inputs):
    """Of each class by itself, and between the rows that its edges join."""
    reader.open("#/compare/cheetah/leopard")
    names = [*LAYERS, "classes"]
    edges = tables.read(inputs.edges).to_pylist()
    for index, (source, target) in enumerate(pairwise(names)):
        row = reader.page.locator(f".row[data-layer='{index}']")
        drawn = {
            int(key.split(":")[1])
            for key in reader.page.locator(f".row[data-layer='{index + 1}'] .node").evaluate_all(
                "nodes => nodes.map(node => node.dataset.key)"
            )
            if key[0].isdigit()
        }
        shares = []
        for label in (0, 1):
            own = {r["concept"] for r in kept_of(inputs, label, target)} & drawn if target in LAYERS else {label}
            mine = [
                e for e in edges if e["scope"] == label and (e["source_layer"], e["target_layer"]) == (source, target)
            ]
            mine = [e for e in mine if e["target"] in own]
            error = sum(abs(e["mean"]) for e in mine if e["source"] == -1)
            shares.append(error / sum(abs(e["mean"]) for e in mine))
        shown = row.locator(".error .value").all_inner_texts()
        assert [float(text.strip("%")) for text in shown] == [pytest.approx(100 * s, abs=0.51) for s in shares]
        assert f"{source} → {target if target in LAYERS else 'class'}" in row.locator(".node.error").get_attribute(
            "title"
        )
        chip, nodes = row.locator(".node.error").bounding_box(), row.locator(".nodes .node").first.bounding_box()
        assert chip["y"] + chip["height"] <= nodes["y"] + 8


def test_a_circuit_of_any_size_is_marked(reader: Reader, site: Path):
    """By the slider, by its keys, and by the address; and nothing is where a run has no circuits."""
    found = read_chunk(site / "data", "class/0")["circuit"]
    reader.open("#/class/cheetah?min=0&circuit=smallest")
    page, slider = reader.page, reader.page.locator("#ring")
    dimmed = ".row .node.out"

    def marked() -> set[str]:
        return set(page.locator(dimmed).evaluate_all("nodes => nodes.map(node => node.dataset.key)"))

    drawn = set(page.locator(".row .node[data-key]").evaluate_all("nodes => nodes.map(node => node.dataset.key)"))
    assert found["said"] in page.locator("#main").inner_text() and slider.input_value() == "1"
    assert (
        marked() == drawn & set(found["stops"][1][2])
        and page.locator("#ring + output").inner_text() == "smallest, 9: 0.77"
    )
    slider.focus()
    page.keyboard.press("ArrowRight")
    reader.settle()
    assert reader.hash().endswith("circuit=0") and len(marked()) == len(drawn & set(found["stops"][2][2])) > 0
    assert page.evaluate("document.activeElement.id") == "ring"  # the graph is not drawn again
    page.keyboard.press("Home")
    reader.settle()
    assert "circuit" not in reader.hash() and not marked()
    reader.open("#/class/cheetah?circuit=17")  # of another run
    assert slider.input_value() == "0" and not marked()
    reader.open("#/class/" + slug(NAMES[2]))
    assert slider.count() == 0


def test_what_moves_below_a_resting_pointer_is_not_lit(reader: Reader):
    """The card that a click opens moves the graph; the neighbour then below the pointer was lit as if meant."""
    lit = "[...document.querySelectorAll('.stage .node.on')].map(node => node.dataset.key || node.innerText)"
    moved = 0
    for place in range(4):
        reader.open("#/class/cheetah")
        reader.settle()
        box = reader.page.locator(".stage .row:not(.tops) .node").nth(place).bounding_box()
        middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
        below = f"document.elementFromPoint({middle[0]}, {middle[1]}).closest('.node')?.innerText"
        reader.page.mouse.move(*middle, steps=3)
        before, node = reader.page.evaluate(lit), reader.page.evaluate(below)
        reader.page.mouse.click(*middle)
        reader.arrive("hash.includes('sel=')")
        reader.page.wait_for_timeout(150)
        moved += reader.page.evaluate(below) != node
        assert before and reader.page.evaluate(lit) == before, place
        reader.page.mouse.move(5, 400)
    assert moved

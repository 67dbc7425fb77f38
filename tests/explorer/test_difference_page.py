"""The page of a difference: in a browser, over file://, with hostile names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pytest

from explorer.fixture import HOSTILE, LAYERS, NAMES
from gigraph.explorer.difference import PAGES, Shown, Side, tag, write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
browsed = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]
FACTS = {
    "fdr": 0.05, "layers": [*LAYERS], "classes": NAMES, "images": 40, "shared": True, "looked_at": 20,
    "task": "classes", "output": "probability", "families": ["layer3.1", "layer4.0"],
    "compared": {"relevances": 90, "edges": 400}, "noise": {"a": [], "b": []}, "freedom": 0, "deviations": {},
}  # fmt: skip


def measured(rank, mean_a, mean_b, kept=True, kind="both", **more):
    se, change = 0.02, mean_b - mean_a
    return {
        "rank": rank, "kept": kept, "kind": kind, "q": 1e-6 * rank if kept else 0.4 if rank else None,
        "at_least": change / 2 if kept else 0.0, "mean_a": mean_a,
        "mean_b": mean_b, "difference": change, "se": se, "df": 7.0, "p": 0.001, "images_a": 8, "images_b": 8,
        "paired": True, "with_a": [], "with_b": [], **more,
    }  # fmt: skip


def shown(**changes) -> Shown:
    relevances = [
        measured(1, 0.5, 0.0, kind="only", **{"class": HOSTILE, "layer": "layer4.0", "a": 10, "b": None}),
        measured(2, 0.1, 0.3, **{"class": "cheetah", "layer": "layer3.1", "a": 2, "b": 3, "with_a": [9]}),
        measured(3, 0.2, 0.1, **{"class": "leopard", "layer": "layer4.0", "a": 5, "b": 6}),
        measured(4, 0.2, 0.21, kept=False, **{"class": "cheetah", "layer": "layer4.0", "a": 6, "b": 7}),
    ]
    ends = {
        "source_layer": "layer3.1",
        "source_a": 2,
        "source_b": 3,
        "source_with_a": [9],
        "source_with_b": [],
        "target_layer": "layer4.0",
    }
    edges = [measured(1, 0.4, -0.1, **{"class": "cheetah", **ends, "target_a": 5, "target_b": 6})]
    level = {"layer": "layer4.0", "chance": 0.25}
    concepts = [{**level, "level": "family", "a": 5, "b": 6, "similarity": 0.8, "members_a": 3, "members_b": 1}]
    only = [
        {**level, "level": "family", "concept": 10, "members": 1, "best": 0.1, "split_from": None},
        {**level, "level": "family", "layer": "layer3.1", "concept": 9, "members": 1, "best": 0.7, "split_from": 3},
        {**level, "level": "concept", "concept": 41, "members": 1, "best": None, "split_from": None},
    ]
    classes = [
        {"class": name, "images": 8, "accuracy_a": 1.0, "accuracy_b": None, "accuracy_q": 0.5, "same_prediction": 0.75,
         "score_a": 0.9, "score_b": None, "difference": change, "se": None, "q": None}
        for name, change in ((NAMES[0], None), (NAMES[1], -0.25))
    ]  # fmt: skip
    values = {
        "said": "", "equal": False, "facts": FACTS, "notes": [f"a note of {HOSTILE}"],
        "concepts": pl.DataFrame(concepts), "only_a": pl.DataFrame(only), "only_b": pl.DataFrame(only).head(0),
        "relevances": pl.DataFrame(relevances), "edges": pl.DataFrame(edges), "classes": pl.DataFrame(classes),
    }  # fmt: skip
    return Shown(**{**values, **changes})


@pytest.fixture(scope="module")
def page(inputs, site, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("difference") / "a b"
    folder.mkdir()
    one = Side(Path("runs/one"), "bisecting", inputs.exemplars, {"layer3.1:2": HOSTILE}, NAMES, site / "index.html")
    two = Side(Path("runs/two"), "kmeans", inputs.exemplars, {}, NAMES, None)
    return write_page(folder, (one, two), shown())


def test_nothing_of_a_name_becomes_markup(page):
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text and "<script>" not in text and text.count("<script") == 1
    assert tag("a", "&lt;", href='"><b>', data_end=None, hidden=True) == '<a href="&quot;&gt;&lt;b&gt;" hidden>&lt;</a>'


def test_only_sheets_that_are_shown_are_copied(page):
    text = page.read_text(encoding="utf-8")
    copied = {f"pictures/{path.name}" for path in (page.parent / "pictures").iterdir()}
    assert copied and all(f"url({name})" in text for name in copied)


def test_single_concepts_of_families_are_not_listed(page):
    text = page.read_text(encoding="utf-8")
    assert "Only in A: 1" in text and "Only in B: 0" in text and "#41" not in text


def test_what_is_only_in_one_is_shown_with_its_relevance_and_error(page):
    text = page.read_text(encoding="utf-8")
    lone = text[text.index('id="a-layer4.0-10"') :].split("</li>")[0]
    assert "+0.500 ± 0.020" in lone and "the nearest correlates by 0.10" in lone
    split = text[text.index("Split otherwise in A: 1") :].split("</details>")[0]
    assert "cut from #3" in split and "Split otherwise in B" not in text
    assert text.count("with #9") == 2, "it counts with its partner, for a class and for a concept"


def test_the_page_says_what_is_noise(page, inputs, tmp_path):
    assert "two trainings of one network differ by more" in page.read_text(encoding="utf-8")
    facts = {**FACTS, "noise": {"a": ["x", "y"], "b": ["z"]}, "freedom": 3, "deviations": {"both": 0.1, "only": 0.04}}
    side = Side(Path("one"), "bisecting", inputs.exemplars, {}, NAMES, None)
    text = write_page(tmp_path, (side, side), shown(facts=facts)).read_text(encoding="utf-8")
    assert "2 further trainings of A and 1 further training of B" in text and "3 degrees of freedom" in text
    assert "0.100 in what both have and 0.040 in what only one has" in text


def test_equal_runs_have_a_page_that_says_so(page, inputs, tmp_path):
    side = Side(Path("one"), "bisecting", inputs.exemplars, {}, NAMES, None)
    none = {name: getattr(shown(), name).head(0) for name in ("relevances", "edges", "only_a")}
    text = write_page(tmp_path, (side, side), shown(equal=True, **none)).read_text(encoding="utf-8")
    assert "Nothing differs" in text and "What decides the classes" not in text


def test_a_page_is_replaced_whole(page, inputs, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "old.webp").touch()
    side = Side(Path("one"), "bisecting", {}, {}, NAMES, None)
    text = write_page(tmp_path, (side, side), shown()).read_text(encoding="utf-8")
    assert not [*(tmp_path / "pictures").iterdir()] and "no picture" in text


def test_the_style_is_the_explorers(page, site):
    assert (page.parent / "app/app.css").read_bytes() == (site / "app/app.css").read_bytes()
    assert {path.name for path in PAGES.glob("difference.*")} == {"difference.html", "difference.css", "difference.js"}


# ---- in a browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=120000
        )
        yield browser
        browser.close()


@pytest.fixture
def reader(browser, page):
    """Open the page; in the end nothing has gone wrong, and nothing has left for the network."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    view, errors, asked = context.new_page(), [], []
    view.set_default_timeout(60000)
    view.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
    view.on("pageerror", lambda error: errors.append(str(error)))
    # what is still on its way when the page is left is no failure
    view.on("requestfailed", lambda r: errors.append(r.url) if r.failure != "net::ERR_ABORTED" else None)
    view.on("request", lambda request: asked.append(request.url))

    def opened(hash: str = ""):
        view.goto("about:blank")
        view.goto(page.as_uri() + hash)
        return view

    yield opened
    context.close()
    assert errors == [] and {url.split(":")[0] for url in asked} <= {"file", "about", "data"}


def address(view) -> str:
    return view.evaluate("location.href")  # `view.url` is told of a new one later


def rows(view) -> list[str]:
    return view.evaluate(
        "[...document.querySelectorAll('tr[data-row]')].filter(r => r.checkVisibility()).map(r => r.id)"
    )


class TestReader:
    pytestmark = browsed

    def test_it_reads_what_differs(self, reader):
        view = reader()
        assert rows(view) == ["r1", "r2", "r3", "r4", "e1"]
        assert view.locator("#r1 th").inner_text() == HOSTILE
        assert view.locator("tr.doubt + tr").get_attribute("id") == "r4"
        first = view.locator("#r1").inner_text()
        assert "none" in first and "−0.500" in first and "± 0.020" in first
        assert view.locator("#r2 .strip-4").count() == 2
        width = view.evaluate("getComputedStyle(document.querySelector('#r2 .strip-4')).backgroundImage")
        assert "pictures/" in width

    def test_a_link_keeps_what_is_chosen(self, reader):
        view = reader("#class=cheetah&at=r2")
        assert rows(view) == ["r2", "r4", "e1"] and view.locator("#r2").get_attribute("aria-current") == "true"
        assert view.locator("#class").input_value() == "cheetah"
        view.select_option("#layer", "layer3.1")
        assert "layer=layer3.1" in address(view) and rows(view) == ["r2", "e1"]
        view.select_option("#class", HOSTILE)
        assert rows(view) == [] and view.locator(".nothing:visible").count() == 2
        view.select_option("#layer", "")
        assert rows(view) == ["r1"]
        assert rows(reader("#" + address(view).split("#")[1])) == ["r1"], "hostile names too"

    def test_a_link_to_nothing_shows_all(self, reader):
        assert rows(reader("#class=gone&at=r77")) == ["r1", "r2", "r3", "r4", "e1"]

    def test_the_keyboard_suffices(self, reader):
        view = reader()
        for key, at in (("j", "r1"), ("j", "r2"), ("j", "r3"), ("k", "r2")):
            view.keyboard.press(key)
            assert view.evaluate("document.activeElement.id") == at and f"at={at}" in address(view)
        view.keyboard.press("Escape")
        assert "at=" not in address(view)
        view.keyboard.press("/")
        assert view.evaluate("document.activeElement.id") == "class"
        view.keyboard.press("Escape")
        view.keyboard.press("?")
        assert view.locator("#keys").is_visible()

    def test_a_concept_leads_into_its_explorer(self, reader):
        view = reader("#at=r2")
        link = view.locator("#r2 a[data-end=a]").get_attribute("href")
        assert unquote(link).endswith("#/class/cheetah?sel=layer3.1:2")
        assert view.locator("#r2 a[data-end=b]").count() == 0, "B has no explorer"
        view.keyboard.press("a")
        view.wait_for_selector("#card:not([hidden]) h2")
        assert address(view).endswith("#/class/cheetah?sel=layer3.1:2")

    def test_hostile_class_names_arrive(self, reader):
        view = reader("#at=r1")
        view.keyboard.press("a")
        view.wait_for_selector("#card:not([hidden]) h2")
        assert json.loads(
            view.evaluate("JSON.stringify([...document.querySelectorAll('h1 bdi')].map(n => n.textContent))")
        ) == [HOSTILE]

    def test_nothing_is_wider_than_a_small_screen(self, reader):
        view = reader()
        view.set_viewport_size({"width": 390, "height": 800})
        assert view.evaluate("document.documentElement.scrollWidth") <= 390

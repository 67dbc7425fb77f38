"""Sizes and times of large sites: a smaller one by default, the whole with -m slow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer.large import WIDTHS, write_large
from explorer.test_browser import CHROMIUM
from gigraph.explorer import build
from gigraph.explorer.chunks import read_chunk

CLOCK = """async (hash) => {
  const ready = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const t = performance.now();
  location.hash = hash;
  await ready();
  while (document.querySelector('[aria-busy=true]')) await new Promise((r) => setTimeout(r, 2));
  while (hash.includes('sel=') && !document.querySelector('#card h3')) await new Promise((r) => setTimeout(r, 2));
  await ready();
  return performance.now() - t;
}"""


def test_a_part_of_a_large_site_is_within_its_sizes(tmp_path: Path):
    build(write_large(tmp_path / "results", [512, 1024, 2048], 60, pictured=30), tmp_path / "site")
    data = tmp_path / "site" / "data"
    assert (data / "meta.js").stat().st_size < 60_000
    assert max(path.stat().st_size for path in data.glob("class-*.js")) < 60_000
    assert (data / "atlas-2.js").stat().st_size < 50 * 2048
    assert max(path.stat().st_size for path in data.glob("concepts-*.js")) < 400_000
    # a list of classes needs one sheet, however many sheets their concepts lie on
    meta = read_chunk(data, "meta")
    faces = [tile for row in meta["classes"][:30] for tile in row[7]]
    assert len(faces) == 120 and len({sheet for sheet, *_ in faces}) == 1
    sheets = meta["layers"][-1]["sheets"]
    assert len(sheets) > 8 and (tmp_path / "site" / sheets[faces[0][0]][0]).stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_site_of_121000_concepts_is_within_its_budgets(tmp_path: Path):
    from playwright.sync_api import sync_playwright

    assert sum(WIDTHS) == 120_832
    build(write_large(tmp_path / "results", pictured=48), tmp_path / "site")
    found: dict[str, float] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        files: set[str] = set()
        page.on("request", lambda request: files.add(request.url.removeprefix("file://")))
        page.goto(f"file://{tmp_path}/site/index.html")
        page.wait_for_selector(".classes li")
        timing = "performance.getEntriesByType('navigation')[0].startTime"
        found["first_ms"] = page.evaluate(f"performance.now() - {timing}")
        page.wait_for_function("document.querySelectorAll('.faces .painted').length > 40")
        found["first_bytes"] = sum(Path(file).stat().st_size for file in files if Path(file).is_file())
        found["class_ms"] = min(page.evaluate(CLOCK, f"#/class/class 00{i}") for i in (10, 20, 30))
        first = page.evaluate(
            "[...document.querySelectorAll('.row:not(.tops) .node:not(.error)')].map(n => n.dataset.key)"
        )
        page.wait_for_timeout(1500)
        found["select_ms"] = min(
            page.evaluate(CLOCK, f"#/class/class 0030?sel=layer{int(k.split(':')[0]) + 1:02d}:{k.split(':')[1]}")
            for k in first[:3]
        )
        found["atlas_ms"] = page.evaluate(CLOCK, "#/atlas/layer16")
        browser.close()
    print(json.dumps(found))
    assert found["first_bytes"] <= 1_000_000
    assert found["first_ms"] <= 1000 and found["class_ms"] <= 300 and found["select_ms"] <= 100

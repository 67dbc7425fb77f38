"""Take the README's pictures of a finished run.

`uv run python tests/explorer/screenshots.py results docs` takes those of the demonstration, and
`uv run python tests/explorer/screenshots.py results-imagenet-lite0 docs imagenet` that of the ImageNet network, whose
photographs are veiled: they are not ours to publish.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

VIEWS = {
    "demo": {
        "explorer": "#/class/cheetah?sel=layer4.0:51",
        "explorer-image": "#/image/cheetah",
        "explorer-compare": "#/compare/cheetah/leopard",
    },
    "imagenet": {"explorer-imagenet": "#/class/n03424325_gasmask"},
}
VEIL = ".tile, .photo, img { filter: blur(5px) }"


def main(results: Path, out: Path, views: str = "demo") -> None:
    """Write one picture a view, in 256 colours."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for name, hash in VIEWS[views].items():
            page.goto("about:blank")
            page.goto(f"{(results / 'explorer' / 'index.html').resolve().as_uri()}{hash}")
            page.locator("#card h3" if "sel=" in hash else ".stage").first.wait_for()
            if views != "demo":
                page.add_style_tag(content=VEIL)
            page.wait_for_timeout(1000)  # pictures are drawn when they come into view
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(out / f"{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])

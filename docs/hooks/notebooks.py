"""Pages of the notebooks, as they were stored: with what they say, and their pictures beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "notebooks"
LINK = re.compile(r"(\]\()([\w-]+)\.ipynb(\))")
"""From one notebook to another."""


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and the files that this refers to by their names."""
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(
        path, {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    )
    said = f"\n\n[The notebook itself]({path.name}) runs on your machine, too.\n"
    title, _, rest = LINK.sub(r"\1\2.md\3", text).lstrip().partition("\n")
    return f"{title}{said}{rest}", resources["outputs"]


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add the pages."""
    from mkdocs.structure.files import File

    for path in sorted(FOLDER.glob("*.ipynb")):
        text, pictures = page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files

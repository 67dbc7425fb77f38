"""Runs the documentation's notebooks and stores them with what they say, without times, paths and machines.

    uv run --group notebooks python -m tests.workflow.notebooks RESULTS [NAME ...]

writes ``docs/notebooks`` anew; RESULTS is the folder of a finished demo.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
LARGEST = 400_000
"""Bytes of a stored notebook."""
TIMES = re.compile(r"\b(?:\d+(?:\.\d+)? to )?\d+(?:\.\d+)? (?:ms|s|min|h)\b(?: \d+ (?:s|min)\b)*")
PRIVATE = re.compile(r"/(?:work|tmp|home|root|Users|var|usr)/|\b20\d\d-\d\d-\d\d")
"""What a stored notebook must not hold: paths of a machine, and days."""


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Return a notebook run in a folder, with all that it says."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def stored(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a run notebook as it is kept: progress without its times, no times of execution, streams as one."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type != "code":
            continue
        kept: list[nbformat.NotebookNode] = []
        for output in cell.outputs:
            output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
            if output.output_type == "stream":
                output.text = TIMES.sub(lambda found: "...".rjust(len(found[0])), output.text)
                if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                    kept[-1].text += output.text
                    continue
            if "data" in output:
                output.data = smaller(output.data)
            kept.append(output)
        cell.outputs = [one for one in kept if one.output_type != "stream" or one.text.strip()]
        for output in cell.outputs:
            if output.output_type == "stream":
                # What is left of lines that only tell how far the run is.
                lines = [line for line in output.text.splitlines() if " jobs done in " not in line]
                output.text = "\n".join(line for line in lines if not line.startswith("log: ")) + "\n"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def smaller(data: dict) -> dict:
    """Return an output's pictures as JPEG, where that is smaller: they show photographs and noise."""
    if "image/png" not in data:
        return data
    content = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB").save(content, "JPEG", quality=80)
    coded = base64.b64encode(content.getvalue()).decode()
    if len(coded) >= len(data["image/png"]):
        return data
    return {**{key: one for key, one in data.items() if key != "image/png"}, "image/jpeg": coded}


def place(folder: Path, results: Path) -> Path:
    """Lay the notebooks out as in a clone, below a finished demo; return the folder that they run in."""
    own = folder / "docs" / "notebooks"
    own.mkdir(parents=True)
    if not (folder / "results").exists():
        shutil.copytree(results, folder / "results")
    return own


def main(results: str, *names: str) -> None:
    """Write the notebooks anew."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = place(Path(temporary), Path(results))
        for path in sorted(FOLDER.glob("*.ipynb")):
            if not names or path.stem in names:
                nbformat.write(stored(executed(path, folder)), path)
                print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])

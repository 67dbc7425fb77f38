"""The documentation's notebooks run, and say what is stored of them."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

from workflow.notebooks import FOLDER, LARGEST, PRIVATE, TIMES, executed, place, stored  # noqa: E402
from workflow.toy import ROOT  # noqa: E402

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def outputs(notebook, kind: str) -> list:
    return [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == kind
    ]


def words(notebook) -> list[str]:
    """What a notebook prints, without the numbers, which differ a little between machines."""
    lines = "".join(output.text for output in outputs(notebook, "stream")).splitlines()
    return [NUMBER.sub("#", line) for line in lines]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_of_a_notebook(path: Path):
    assert path.stat().st_size <= LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)], "run from its first cell to its last"
    assert not outputs(notebook, "error")
    shown = [output.data for kind in ("display_data", "execute_result") for output in outputs(notebook, kind)]
    pictures = [data[kind] for data in shown for kind in ("image/png", "image/jpeg") if kind in data]
    assert len(pictures) >= 2 and all(len(base64.b64decode(one)) > 5000 for one in pictures)
    for data in shown:
        for kind in ("image/png", "image/jpeg"):
            data.pop(kind, None)
    text = json.dumps(notebook, ensure_ascii=False)
    assert not PRIVATE.search(text), PRIVATE.search(text)
    said = "".join(output.text for output in outputs(notebook, "stream"))
    assert not TIMES.search(said), TIMES.search(said)


def test_the_notebooks_are_linked_and_have_their_pages():
    assert {path.stem for path in NOTEBOOKS} == {"finished-run", "own-model", "shortcut"}
    navigation = (ROOT / "mkdocs.yml").read_text()
    recipes = (ROOT / "docs/recipes.md").read_text()
    for path in NOTEBOOKS:
        assert f"notebooks/{path.stem}.md" in navigation and f"(notebooks/{path.stem}.ipynb)" in recipes


def test_progress_is_stored_without_its_times():
    lines = "  concepts    4 jobs, 1 min 41 s  32 concepts", "log: /tmp/x", "gigraph: 3 of 9 jobs done in 4 s"
    text = "\n".join(lines)
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", name="stdout", text=text)])
    (kept,) = stored(nbformat.v4.new_notebook(cells=[cell])).cells[0].outputs
    assert kept.text == "  concepts    4 jobs,        ...  32 concepts\n"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished demo, below which the notebooks lie as in a clone."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3000)
    assert run.returncode == 0, run.stderr[-4000:]
    return place(folder, folder / "results")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_says_what_is_stored(path: Path, demo: Path):
    pytest.importorskip("nbclient", reason="needs the group notebooks")
    pytest.importorskip("ipykernel", reason="needs the group notebooks")
    now, then = stored(executed(path, demo)), nbformat.read(path, as_version=4)
    assert [cell.source for cell in now.cells] == [cell.source for cell in then.cells]
    for kind in ("display_data", "execute_result", "stream"):
        assert len(outputs(now, kind)) == len(outputs(then, kind))
    if path.stem != "own-model":  # what a network says that is trained anew on another machine is not known
        assert words(now) == words(then)

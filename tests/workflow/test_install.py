"""The wheel holds the workflow: in a fresh environment and an empty folder it does what a clone does."""

import json
import os
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from gigraph.planning.config import load, read
from gigraph.planning.plan import Plan
from gigraph.planning.stages import STAGES
from workflow.toy import ROOT, configure, draw

WORKFLOW = ("Snakefile", "config.yaml", "rules", "workflow", "profiles", "envs")
LINEAGES = """
import json, sys
from pathlib import Path
from gigraph.planning.config import PROJECT, load, read
from gigraph.planning.plan import Plan
plan = Plan(load(read([Path(sys.argv[1])])), PROJECT / "workflow" / "scripts")
print(json.dumps([plan.lineage(stage, **of) for stage, of in json.loads(sys.argv[2]).items()]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the programs of a fresh environment that holds the wheel and what it asks for, in the pinned versions."""
    folder = tmp_path_factory.mktemp("environment")
    pins = folder / "pins.txt"
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    pins.write_text("\n".join(tool["constraint-dependencies"]))
    subprocess.run(["uv", "venv", "--quiet", folder / "venv"], check=True, timeout=100)
    command = ["uv", "pip", "install", "--quiet", "--python", folder / "venv/bin/python", "--constraint", pins, wheel]
    subprocess.run(command, check=True, timeout=900)
    return folder / "venv" / "bin"


def call(folder, program, *arguments):
    """Run a program as somebody would who has no clone and has activated no environment."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run([program, *arguments], cwd=folder, env=kept, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_workflow_once(wheel):
    inside = [name for name in zipfile.ZipFile(wheel).namelist() if "/_workflow/" in name]
    tracked = subprocess.run(["git", "ls-files", *WORKFLOW], cwd=ROOT, capture_output=True, text=True, check=True)
    assert sorted(inside) == sorted(f"gigraph/_workflow/{name}" for name in tracked.stdout.splitlines())


@pytest.mark.slow
def test_an_empty_folder_and_an_installed_gigraph(installed, tmp_path):
    """The command makes the graph; what it makes lies in the folder, and is what a clone plans."""
    draw(tmp_path, 40)
    configure(tmp_path, "gigraph")
    package = installed.parent / "lib"
    before = sorted(path for path in package.rglob("*") if "_workflow" in path.parts)
    run = call(tmp_path, installed / "gigraph", "run", "--cores", "2")
    assert run.returncode == 0, run.stderr[-4000:]
    assert (tmp_path / "results/explorer/index.html").stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {"images", "gigraph.yaml", "results", ".snakemake"}
    assert sorted(path for path in package.rglob("*") if "_workflow" in path.parts) == before
    assert json.loads((tmp_path / "results/run.json").read_text())["commit"] is None
    # Whatever it is called from: nothing runs again.
    again = call(tmp_path, installed / "gigraph", "run", "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    command = [installed / "snakemake", "--snakefile", ROOT / "Snakefile", "--configfile", "gigraph.yaml", "-n"]
    clone = call(tmp_path, *command)
    assert "Nothing to be done" in clone.stdout + clone.stderr, clone.stdout + clone.stderr


@pytest.mark.slow
def test_lineages_are_the_same_however_it_is_installed(installed, tmp_path, monkeypatch):
    draw(tmp_path, 10)
    config = configure(tmp_path)
    of = {"method": "bisecting", "layer": "layer3.1", "source": "layer3.1", "target": "classes", "shard": 0}
    stages = {stage: {key: of[key] for key in declared.of} for stage, declared in STAGES.items()}
    there = call(tmp_path, installed / "python", "-c", LINEAGES, str(config), json.dumps(stages))
    assert there.returncode == 0, there.stderr
    monkeypatch.chdir(tmp_path)
    plan = Plan(load(read([Path(config)])), ROOT / "workflow" / "scripts")
    assert json.loads(there.stdout) == [plan.lineage(stage, **given) for stage, given in stages.items()]

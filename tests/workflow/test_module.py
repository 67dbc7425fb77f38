"""The workflow in another one: imported as a module, and as the catalogue of workflows wants it."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from gigraph.planning.config import load, read
from gigraph.planning.plan import Plan
from gigraph.records import tables
from workflow.toy import ROOT, configure, draw, jobs, snakemake

OUTER = """
configfile: "config.yaml"


wildcard_constraints:
    shard="x+",


rule all:
    input:
        "own/any layer-xx.txt",


module gigraph:
    snakefile:
        "{root}/Snakefile"
    config:
        config
{more}

use rule * from gigraph{names}


onstart:
    print("the outer one starts")


rule own:
    input:
        {wanted}
    output:
        "own/{{layer}}-{{shard}}.txt".format(layer="any layer", shard="xx"),
    shell:
        "env > {{output:q}}; type python >> {{output:q}}"
"""


@pytest.fixture
def outer(tmp_path):
    """A folder with images, a configuration, and a function that writes a workflow which imports ours and runs it."""
    draw(tmp_path, 20)
    configure(tmp_path)

    def run(*arguments, wanted='"results/layers.parquet"', names=" as gigraph_*", more=""):
        text = OUTER.format(root=ROOT, wanted=wanted, names=names, more=more)
        (tmp_path / "Snakefile").write_text(text)
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=3000)

    run.folder = tmp_path
    return run


def test_rules_run_under_other_names_and_the_outer_workflows_are_not_touched(outer, monkeypatch):
    """What ran in `onstart`, which Snakemake does not call of a module, ran: the plan, and at the end the record."""
    run = outer()
    assert run.returncode == 0, run.stderr[-3000:]
    assert "the outer one starts" in run.stdout + run.stderr and "Network" not in run.stdout
    results = outer.folder / "results"
    monkeypatch.chdir(outer.folder)
    plan = Plan(load(read([Path("config.yaml")])), ROOT / "workflow" / "scripts")
    assert tables.lineage_of(results / "layers.parquet") == plan.lineage("network")
    assert json.loads((results / "plan.json").read_text())["results/layers.parquet"] == plan.lineage("network")
    assert set(json.loads((results / "run.json").read_text())["stages"]) == {"network"}
    # Ours is exported to our jobs only, and so are the constraints of our wildcards.
    (own,) = (outer.folder / "own").iterdir()
    assert (
        own.name == "any layer-xx.txt" and "GIGRAPH_ROOT" not in own.read_text() and "function" not in own.read_text()
    )
    assert "Nothing to be done" in (again := outer("-n")).stdout + again.stderr
    next((outer.folder / "own").iterdir()).unlink()
    both = '"results/layers.parquet", "results/manifest/0.parquet"'
    asked = (dry := outer("-n", "--logger", "gigraph", wanted=both)).stdout + dry.stderr
    assert ": 3 jobs would run; 1 other is done\n" in asked and "(jobs of the workflow around it)       2" in asked, (
        asked
    )
    # The same by its own Snakefile: it is the same run.
    alone = snakemake(outer.folder, "results/layers.parquet", "--configfile", "config.yaml", "-n")
    assert "Nothing to be done" in alone.stdout + alone.stderr, alone.stdout


def test_every_job_can_be_asked_for_under_its_own_name_too(outer):
    run = outer("-np", wanted='"results/explorer/index.html"', names=" exclude all")
    assert run.returncode == 0, run.stderr[-3000:]
    found = jobs(run.stdout + run.stderr)
    assert found.pop("own") == 1 and found["sample"] == 2 and found["explorer"] == 1
    # The evaluation's control is the same workflow once more, imported by the one that is imported.
    run = outer("-np", wanted='"results/evaluation/summary.md"')
    assert run.returncode == 0, run.stderr[-3000:]
    found = jobs(run.stdout + run.stderr)
    assert found["gigraph_sample"] == found["gigraph_control_sample"] == 2 and "control_sample" not in found


def test_a_rule_that_is_changed_by_the_outer_workflow_is_still_of_the_run(outer):
    changed = " as gigraph_*\n\nuse rule network from gigraph as gigraph_network with:\n    threads: 2\n"
    run = outer(names=changed)
    assert run.returncode == 0, run.stderr[-3000:]
    assert set(json.loads((outer.folder / "results/run.json").read_text())["stages"]) == {"network"}


def test_a_rule_whose_inputs_the_outer_workflow_replaces_is_left_to_snakemake(outer):
    """Which sees that its settings have changed; what we add to a rule's own inputs would have said so."""
    (outer.folder / "ready").touch()
    changed = ' as gigraph_*\n\nuse rule network from gigraph as gigraph_network with:\n    input: "ready"\n'
    given = {"names": changed, "wanted": '"results/layers.parquet", "results/manifest/0.parquet"'}
    run = outer(**given)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Nothing to be done" in (again := outer("-np", **given)).stdout + again.stderr
    configure(outer.folder, layers=["layer4.0"])
    assert "gigraph_network" in jobs((again := outer("-np", **given)).stdout + again.stderr)


@pytest.mark.parametrize("file", ["Snakefile", "workflow/Snakefile"])
def test_what_is_imported_first_is_made_unless_the_outer_workflow_has_a_first_rule(outer, file):
    text = f'configfile: "config.yaml"\nmodule gigraph:\n    snakefile: "{ROOT}/{file}"\n    config: config\n'
    text += "use rule * from gigraph as gigraph_*\n"
    for first, wanted in (("", "gigraph_"), ('rule mine:\n    output: "x"\n    shell: "touch x"\n', "mine")):
        (outer.folder / "Snakefile").write_text(first + text)
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n"]
        run = subprocess.run(command, cwd=outer.folder, capture_output=True, text=True, timeout=3000)
        found = jobs(run.stdout + run.stderr)
        assert run.returncode == 0 and not any(name.startswith("gigraph_control") for name in found), run.stderr
        assert ("mine" in found) == (wanted == "mine") and ("gigraph_explorer" in found) == (wanted != "mine")


@pytest.mark.parametrize(
    ("more", "words"),
    [('    prefix: "elsewhere"\n', "gigraph: error: module: prefix and replace_prefix would move files"),
     ("", "gigraph: error: unknown key mine")],
)  # fmt: skip
def test_a_mistake_in_the_module_statement_is_one_line(outer, more, words):
    if not more:
        configure(outer.folder, mine=1)
    run = outer("-n", more=more)
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("gigraph: error")]
    assert run.returncode != 0 and line.startswith(words) and "Traceback" not in run.stderr


@pytest.mark.slow
def test_the_whole_run_in_another_workflow(outer):
    run = outer("--logger", "gigraph", wanted='"results/explorer/index.html"')
    assert run.returncode == 0, run.stderr[-3000:]
    assert len((run.stdout + run.stderr).splitlines()) <= 40
    assert (outer.folder / "results/explorer/index.html").stat().st_size > 0
    assert "gigraph: done in" in run.stderr and "\n  sample " in run.stderr


def test_jobs_in_an_environment_of_their_own_find_the_package(tmp_path):
    """They ended in "No module named gigraph": `envs/gigraph.yaml` names what it needs, and not itself."""
    draw(tmp_path, 10)
    config = configure(tmp_path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"])  # its own .pth, of this package, is not read
    # Snakemake's own process finds it in a way that no job inherits.
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from snakemake.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, ROOT / "src", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
    run = subprocess.run(
        [*command, "results/layers.parquet", "--configfile", str(config), "--sdm", "env-modules"],
        cwd=tmp_path, capture_output=True, text=True, timeout=3000,
        env={"PATH": f"{tmp_path}/venv/bin:/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert (tmp_path / "results/layers.parquet").is_file()


# ---- the catalogue ---------------------------------------------------------------------------------------------


def test_the_catalogue_finds_what_it_looks_for():
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme and "workflow" in readme and list((ROOT / "rules").glob("*.smk"))
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"] == {"conda": True, "report": True}
    assert {*usage["mandatory-flags"]} == {"desc", "flags"}


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_the_catalogues_test_makes_everything(tmp_path, snakefile):
    config = ROOT / ".test/config/config.yaml"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / snakefile), "--cores", "1", "-np"]
    run = subprocess.run(
        [*command, "--directory", str(tmp_path), "--configfile", str(config)],
        cwd=ROOT, capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert {"draw", "sample", "explorer", "alignment"} <= set(jobs(run.stdout + run.stderr))


def test_the_container_holds_all_that_the_wheel_is_made_of():
    recipe = (ROOT / "envs/Dockerfile").read_text()
    copied = {word for line in recipe.splitlines() if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert {"pyproject.toml", "README.md", "LICENSE", "Snakefile", "config.yaml"} <= copied
    assert {"src", "envs", "profiles", "rules", "workflow"} <= copied
    assert all((ROOT / name).exists() for name in copied if not name.startswith(("-", "/"))), Path(ROOT)

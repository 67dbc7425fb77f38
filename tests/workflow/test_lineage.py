"""Lineages tell the truth: they hold the files that a job reads and the code that it loads, and nothing else."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pytest

from gigraph.planning.config import load, read
from gigraph.planning.lineage import APART
from gigraph.planning.plan import Plan
from gigraph.planning.stages import STAGES, Stage
from gigraph.records.schemas import SCHEMAS
from workflow.shadow import Shadow
from workflow.toy import ROOT, configure, draw, snakemake

SOMETIMES = {
    "device": "a model is loaded, or a layer is clustered or coded on a GPU",
    "method/bisecting/cuda": "a layer is clustered on a GPU",
    "method/cuda": "a layer is clustered or coded on a GPU",
    "method/lasso/cuda": "a layer is coded on a GPU",
    "method/lasso/batched": "a vocabulary codes on a GPU, or without numba",
    "method/lasso/compiled": "a vocabulary codes; where coefficients are read from a table it does not",
    "method/pursuit/batched": "a vocabulary codes on a GPU, or without numba",
    "method/pursuit/compiled": "a vocabulary codes by refitting or pursuit",
    "model/__init__": "the explorer loads it for a preset that crops",
    "model/checkpoints": "the same",
    "model/models": "the same",
    "model/shuffled": "the same",
    "model/sources": "the same",
    "vision": "torchvision: for presets and its own models, and not for a user's",
}
"""Modules that a stage's code names, and that its process loads with some settings or images only: when."""
PLUMBING = {
    "attributors/__init__",
    "extractors/__init__",
    "hashing",
    "reserved",
    "records/__init__",
    "records/files",
    "records/notes",
    "worlds/__init__",
}
"""Modules that how a job is started needs, so that every process loads them, and that some stages use as well."""


def owner(plan, rule):
    """Return the plan of a rule's jobs, the run's or its control's, and their stage."""
    return (plan.control, rule.removeprefix("control_")) if rule.startswith("control_") else (plan, rule)


def declared(plan, rule, of):
    """Return the jobs whose lineages enter that of a job, as (rule, wildcards)."""
    found = set()

    def collecting(begins):
        def lineage(stage, **of):
            known = frozenset((key, str(value)) for key, value in of.items() if key in STAGES[stage].of)
            found.add((begins + stage, known))
            return ""

        return lineage

    plan.lineage, plan.control.lineage = collecting(""), collecting("control_")
    try:
        mine, stage = owner(plan, rule)
        mine.inputs(stage, **of)
    finally:
        del plan.lineage, plan.control.lineage
    return found


@pytest.mark.parametrize(
    "world",
    [
        "own images",
        "the drawn world",
        pytest.param("the drawn world, its model trained anew", marks=pytest.mark.slow),
        pytest.param("flat", marks=pytest.mark.slow),
    ],
)
def test_a_lineage_holds_what_snakemake_hands_the_job_and_nothing_else(tmp_path, monkeypatch, world):
    """Both ways, for every job of both targets: files read, files written, and the jobs whose lineages enter."""
    images = {"source": "images" if world in ("own images", "flat") else "menagerie", "shards": 2}
    evaluation = {"methods": ["bisecting", "filters", "random"]}
    pairs = {"pairs": [["layer1.0", "layer3.1"]]}
    tried = {"name": "layer2.1", "coefficients": {"penalty": "decision", "value": 0.8}}
    shadow = Shadow(
        tmp_path,
        images=images,
        evaluation=evaluation,
        attribution=pairs,
        drawn={"train": "anew" in world},
        layers=["layer1.0", tried, "layer3.1"],
    )
    if world == "flat":
        for file in sorted((tmp_path / "images").glob("*/*.png")):
            file.rename(tmp_path / "images" / f"{file.parent.name}-{file.name}")
            file.parent.rmdir() if not any(file.parent.iterdir()) else None
    monkeypatch.chdir(tmp_path)
    plan = Plan(load(read([shadow.config])), shadow.site / "workflow/scripts")
    (jobs,) = shadow.files(shadow.config)
    seen = {job["job"][0] for job in jobs}
    drawn, trained = {"draw", "alignment", "effects", "truth"}, {"train"}
    control = {rule for rule in seen if rule.startswith("control_")}
    expected = set(STAGES) - (drawn if not plan.drawn else set()) - (trained if not plan.trained else set())
    assert seen - control == expected
    shown = {"comparison", "probes", "explorer", "exemplars", "circuits", "evaluation_tables", "evidence"}
    assert control and not {f"control_{stage}" for stage in shown} & control
    for job in jobs:
        rule, of = job["job"]
        mine, stage = owner(plan, rule)
        reads = [one for many in mine.reads(stage, **of).values() for one in many]

        def paths(one, mine=mine):
            other = mine.of(one)
            return {str(other.results(one.name, **found)) for found in other.expand(one)}

        files = set().union(*map(paths, reads))
        assert files == set(job["inputs"]), job["job"]
        assert set(mine.outputs(stage, **of)) == set(job["outputs"]), job["job"]
        waits = set().union(*(paths(one) for one in reads if one.waits))
        makers = {(maker, frozenset(wildcards.items())) for maker, wildcards in job["makers"]}
        outputs = {}
        for maker, wildcards in job["makers"]:
            its, made = owner(plan, maker)
            outputs[maker, frozenset(wildcards.items())] = set(its.outputs(made, **wildcards))
        rests_on = {maker for maker in makers if outputs[maker] & (files - waits)}
        assert declared(plan, rule, of) == rests_on, job["job"]


EDIT = """
import json, sys
from pathlib import Path
from gigraph.planning import lineage
from gigraph.planning.config import load
from gigraph.planning.plan import Plan

plan = Plan(load(json.loads(sys.argv[1])), Path(sys.argv[2]))
jobs = json.loads(sys.argv[3])
package = lineage.PACKAGE

def codes():
    lineage.code_digest.cache_clear()
    return [plan.code(stage, **of) for stage, of in jobs]

before, moved = codes(), {}
for path in sorted(package.rglob("*.py")):
    text = path.read_text()
    path.write_text(text + "\\n\\nA_CONSTANT_MORE = 1\\n")
    moved[path.relative_to(package).as_posix()] = sorted({
        stage for (stage, _), one, two in zip(jobs, before, codes(), strict=True) if one != two
    })
    path.write_text(text)
print(json.dumps(moved))
"""


def edited(folder, config, jobs):
    """Return, for each module of the package, the stages whose code digest moves with a constant added to it."""
    shutil.copytree(ROOT / "src/gigraph", folder / "src/gigraph", ignore=shutil.ignore_patterns("__pycache__", "*.js"))
    (folder / "edit.py").write_text(EDIT)
    run = subprocess.run(
        [sys.executable, str(folder / "edit.py"), json.dumps(config), str(ROOT / "workflow/scripts"), json.dumps(jobs)],
        capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder / "src")},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    return {module: set(stages) for module, stages in json.loads(run.stdout).items()}


def traced(folder):
    """Return, for each module of the package, the stages whose process loaded it, and all stages that were traced."""
    loaded, stages = defaultdict(set), set()
    for file in folder.iterdir():
        stage = file.name.partition(".")[0]
        stages.add(stage)
        for name in json.loads(file.read_text())["modules"]:
            stem = "/".join(name.split(".")[1:])
            package = (ROOT / "src/gigraph" / stem).is_dir()
            loaded["/".join(filter(None, (stem, "__init__"))) + ".py" if package else f"{stem}.py"].add(stage)
    return loaded, stages


def compare(moved, loaded, stages):
    """Assert that a stage's lineage moves with exactly the modules that its process loads."""
    differ = {}
    for module in sorted(moved):
        name = module.removesuffix(".py")
        parts = name.removesuffix("/__init__").split("/")
        apart = name == "__init__" or any("/".join(parts[:end]) in APART for end in range(1, len(parts) + 1))
        expected = set() if apart else loaded[module]
        missing = set() if name in PLUMBING else expected - moved[module]
        more = (moved[module] & stages) - expected
        if missing or (more and name not in SOMETIMES):
            differ[name] = {"loaded, and its edit reruns nothing": missing, "rerun, and not loaded": more}
    assert not differ, "\n".join(f"{name}: {found}" for name, found in differ.items())


UNREAD = {("evidence", "explorer")}
"""What is declared and may stay closed: the page that is built again."""


PICTURES = {"draw"}
"""Opened by the names that a manifest holds, as the user's own pictures are; it rests on them."""


def jobs_by_lineage(plan):
    """Return all jobs of a plan and its control, [(plan, stage, wildcards)] by lineage; equal work has the same one."""
    jobs = defaultdict(list)
    for mine in filter(None, (plan, plan.control)):
        for stage, declared in STAGES.items():
            pairs = mine.pairs if "target" in declared.of else [(None, None)]
            fields = [name for name in declared.of if name not in ("source", "target")]
            for (source, target), values in itertools.product(pairs, itertools.product(*map(mine.values, fields))):
                of = dict(zip(fields, values, strict=True))
                of |= {"source": source, "target": target} if target else {}
                jobs[mine.lineage(stage, **of)].append((mine, stage, of))
    return jobs


def read_of(plan, folder):
    """Assert that each traced job opened the files of the run that it says it reads, and no other; return how many."""
    jobs = jobs_by_lineage(plan)
    every = [job for same in jobs.values() for job in same]
    made = {str(Path(path).absolute()): stage for mine, stage, of in every for path in mine.outputs(stage, **of)}
    folders = [path for path in made if Path(path).is_dir()]

    def wrong(mine, stage, of, files):
        own = {str(Path(path).absolute()) for path in mine.outputs(stage, **of)}
        opened = {path for path in files if path in made}
        opened |= {one for one in folders for path in files if path.startswith(f"{one}/")}
        reads = {
            str(mine.of(one).results(one.name, **given).absolute()): one
            for many in mine.reads(stage, **of).values()
            for one in many
            for given in mine.of(one).expand(one)
        }
        looks = {made[path] for path in opened - set(reads) - own} - PICTURES
        more = looks - set(getattr(STAGES[stage], "shows", ()))
        closed = {path for path in set(reads) - opened if not reads[path].waits}
        return more, {(stage, made[path]) for path in closed} - UNREAD

    for file in folder.iterdir():
        found = json.loads(file.read_text())
        same = jobs[found["lineage"]]
        assert {stage for _, stage, _ in same} == {file.name.partition(".")[0]}
        apart = [wrong(*job, found["files"]) for job in same]
        assert any(not more and not closed for more, closed in apart), (same[0][1:], apart)
    return len(list(folder.iterdir()))


def jobs_of(plan, stages, methods):
    """Return a job of each stage and method, as (stage, wildcards)."""
    source, target = plan.pairs[0]
    some = {"layer": source, "source": source, "target": target, "shard": 0}
    return [
        [stage, {name: {**some, "method": method}[name] for name in STAGES[stage].of}]
        for stage in sorted(stages)
        # Concepts are found again of the graphs' extractors only.
        for method in (
            (plan.config.methods if stage == "stability" else methods) if "method" in STAGES[stage].of else [None]
        )
    ]


def check(folder, scratch, configfile, methods):
    loaded, stages = traced(folder)
    config = read([configfile])
    plan = Plan(load(config), ROOT / "workflow/scripts")
    moved = edited(scratch, config, jobs_of(plan, stages, methods))
    assert len(moved) > 80 and len(stages) > 14
    compare(moved, loaded, stages)
    assert read_of(plan, folder) > 20


def test_a_lineage_holds_the_code_that_the_job_loads_and_nothing_else(toy_run, tmp_path, monkeypatch):
    """Every module is edited in turn. Images of one's own, the drawn world's model."""
    monkeypatch.chdir(toy_run)
    check(toy_run / "trace", tmp_path, toy_run / "config.yaml", ["bisecting"])


@pytest.mark.slow
@pytest.mark.parametrize("world", ["the drawn world", "a model of one's own"])
def test_so_does_that_of_the_evaluation(tmp_path, monkeypatch, world):
    """The same for all stages but the training, in the drawn world; and for a model that has nothing to do with it."""
    methods = ["bisecting", "sae", "random"]
    evaluation = {"methods": methods, "holdout": 0.3, "images": 10, "interlayer_images": 4, "targets": 2, "points": 6,
                  "subsets": 8, "seeds": 1, "edges": 10, "scenes": 60}  # fmt: skip
    tried = {"coefficients": {"penalty": "decision", "value": 0.5, "most": 2}}
    changes = {
        "images": {"source": "menagerie", "shards": 1}, "drawn": {"count": 100},
        "layers": ["layer3.1", {"name": "layer4.0", **tried}],
    }  # fmt: skip
    if world != "the drawn world":
        draw(tmp_path)
        (tmp_path / "mine.py").write_text(
            "import torchvision\n\n\ndef net():\n    return torchvision.models.resnet18(num_classes=10)\n"
        )
        # From zero, since around the mean an untrained network decides nothing.
        layers = ["layer2.1", {"name": "layer3.1", **tried, "concepts": {"center": "zero"}}]
        changes = {"images": {"shards": 1}, "model": {"source": "mine.py:net", "weights": "random"}, "layers": layers}
    configfile = configure(tmp_path, evaluation=evaluation, autoencoder={"steps": 60}, **changes)
    (tmp_path / "trace").mkdir()
    run = snakemake(tmp_path, "all", "evaluation", "--configfile", str(configfile), trace=tmp_path / "trace")
    assert run.returncode == 0, run.stderr[-4000:]
    monkeypatch.chdir(tmp_path)
    assert traced(tmp_path / "trace")[1] == set(STAGES) - {"train", "uniform"} - (  # no detectors are asked for
        set() if world == "the drawn world" else {"draw", "alignment", "effects", "truth"}
    )
    check(tmp_path / "trace", tmp_path / "edited", configfile, methods)


def test_a_lineage_holds_the_schemas_of_what_its_job_writes(toy_run, monkeypatch):
    """One column more in one kind of table moves the stages that write it, and those that rest on them."""
    monkeypatch.chdir(toy_run)

    def lineages():
        plan = Plan(load(read([toy_run / "config.yaml"])), ROOT / "workflow/scripts")
        main = [name for name, stage in STAGES.items() if stage.cost is not Stage.cost]
        return {(stage, *of.values()): plan.lineage(stage, **of) for stage, of in jobs_of(plan, main, ["bisecting"])}

    before = lineages()
    monkeypatch.setitem(SCHEMAS, "localisation", SCHEMAS["localisation"].append(pa.field("more", pa.int32())))
    after = lineages()
    assert {job[0] for job in before if before[job] != after[job]} == {"exemplars", "explorer", "evidence"}
    monkeypatch.undo()
    monkeypatch.chdir(toy_run)
    monkeypatch.setitem(SCHEMAS, "predictions", SCHEMAS["predictions"].append(pa.field("more", pa.int32())))
    after = lineages()
    evaluated = {"evaluation_tables", "evaluation_figures"}  # what either network says of the images
    moved = {"sample", "images", "explorer", "evidence", *evaluated}
    assert {job[0] for job in before if before[job] != after[job]} == moved

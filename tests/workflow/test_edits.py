"""Only what changed reruns: a table of edits, each with the exact jobs that Snakemake plans after it.

The toy has the layers layer1.0, layer2.1 and layer3.1 and two shards; its finished results are names and lineages
only (`workflow.shadow`), since planning looks at nothing else.
"""

import itertools
import os
import re
import shutil

import pytest

from gigraph.hashing import image_id
from gigraph.planning.config import load, read
from gigraph.planning.plan import Plan
from gigraph.planning.stages import STAGES
from workflow.shadow import Shadow
from workflow.toy import ROOT

LAYERS = ["layer1.0", "layer2.1", "layer3.1"]
SHARDS = ["0", "1"]
LAST = {"graph bisecting", "figures bisecting", "explorer"}
CIRCUITS = {f"circuits bisecting {shard}" for shard in SHARDS}


def coded(layer):
    """The coefficients of a layer and what rests on them alone."""
    return {f"calibration bisecting {layer}", *(f"coefficients bisecting {layer} {s}" for s in SHARDS)} | described(
        layer
    )


def described(layer):
    """A layer's attribution to the classes and what rests on it alone."""
    return pair(layer, "classes") | {f"kept bisecting {layer}", f"exemplars bisecting {layer}"} | CIRCUITS


def pair(source, target):
    return {f"ablation bisecting {source} {target}", *(f"attribution bisecting {source} {target} {s}" for s in SHARDS)}


def attributed():
    """All attributions and what rests on them."""
    found = set(LAST)
    for layer in LAYERS:
        found |= described(layer)
    for source, target in itertools.pairwise(LAYERS):
        found |= pair(source, target)
    return found


def sampled(shards=SHARDS):
    return {f"sample {shard}" for shard in shards}


def whole_sample(layers=LAYERS):
    """All that depends on the PFVs of all shards."""
    found = {"images", "reconstruction bisecting"} | LAST
    for layer in layers:
        found |= {f"centre {layer}", f"concepts bisecting {layer}", f"families bisecting {layer}"} | coded(layer)
    for source, target in itertools.pairwise(layers):
        found |= pair(source, target)
    return found


def with_layer(name, **sections):
    return [{"name": layer, **sections} if layer == name else layer for layer in LAYERS]


SETTINGS = {
    "nothing": ({}, set()),
    "one layer's K": (
        {"layers": with_layer("layer2.1", concepts={"expansion": 2})},
        {"concepts bisecting layer2.1", "families bisecting layer2.1", "reconstruction bisecting"}
        | coded("layer2.1") | pair("layer1.0", "layer2.1") | pair("layer2.1", "layer3.1") | LAST,
    ),
    "one layer's families": (
        {"layers": with_layer("layer2.1", families={"cosine": 0.9})},
        {"families bisecting layer2.1"}
        | described("layer2.1") | pair("layer1.0", "layer2.1") | pair("layer2.1", "layer3.1") | LAST,
    ),
    "one layer's linkage": (
        {"layers": with_layer("layer2.1", families={"linkage": "tree"})},
        {"families bisecting layer2.1"}
        | described("layer2.1") | pair("layer1.0", "layer2.1") | pair("layer2.1", "layer3.1") | LAST,
    ),
    "one layer's lambda": (
        {"layers": with_layer("layer3.1", coefficients={"value": 5})},
        {"reconstruction bisecting"} | coded("layer3.1") | pair("layer2.1", "layer3.1") | LAST,
    ),
    "one layer's sampling": (
        {"layers": with_layer("layer1.0", sampling={"pfvs_per_image": 2})},
        sampled() | {f"{what} bisecting layer1.0" for what in ("concepts", "families")}
        | {"centre layer1.0", "reconstruction bisecting"}
        | coded("layer1.0") | pair("layer1.0", "layer2.1") | LAST,
    ),
    "a layer added": (
        {"layers": ["layer1.0", "layer2.1", "layer3.0", "layer3.1"]},
        {"network", "centre layer3.0", "concepts bisecting layer3.0", "families bisecting layer3.0",
         "reconstruction bisecting"}
        | sampled() | coded("layer3.0") | pair("layer2.1", "layer3.0") | pair("layer3.0", "layer3.1") | LAST,
    ),
    "a layer removed": (
        {"layers": ["layer1.0", "layer3.1"]},
        {"network", "reconstruction bisecting"} | pair("layer1.0", "layer3.1") | CIRCUITS | LAST,
    ),
    "a pair added": (
        {"attribution": {"pairs": [["layer1.0", "layer3.1"]]}},
        pair("layer1.0", "layer3.1") | LAST,
    ),
    "the attribution method": ({"attribution": {"method": "gradient_x_input"}}, attributed()),
    "the path's start": (
        {"attribution": {"baseline": "zero"}},
        attributed() | {"reconstruction bisecting"}
        | {f"coefficients bisecting {layer} {shard}" for layer in LAYERS for shard in SHARDS},
    ),
    "the model's weights": (
        {"model": {"weights": "other.safetensors"}},
        {"network"} | sampled() | whole_sample(),
    ),
    "batch size, memory, threads, GPUs": (
        {"compute": {"batch_size": 7, "memory_mb": 99, "workers": 3, "jobs_per_gpu": 2}},
        set(),
    ),
    "device": ({"compute": {"device": "cpu"}}, set()),
    "a number written otherwise": ({"seed": 0.0}, set()),
    "what is deleted": ({"circuit": {"deleted": "zero"}}, CIRCUITS | {"explorer"}),
    "the title": ({"explorer": {"title": "Another"}}, {"explorer"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def shadow(tmp_path_factory):
    made = Shadow(tmp_path_factory.mktemp("edits"))
    made.finish()
    return made


def show(jobs):
    return "\n".join(sorted(jobs))


def test_settings(shadow):
    """One layer's K or lambda, a layer more or less, a pair, the model, and what is no result; and back again."""
    shutil.copy(
        shadow.site / "src/gigraph/worlds/menagerie/checkpoint.safetensors", shadow.folder / "other.safetensors"
    )
    configs = [shadow.write(f"edit{index}", **changes) for index, (changes, _) in enumerate(SETTINGS.values())]
    planned = shadow.planned(*configs, shadow.config)
    for (name, (_, expected)), found in zip(SETTINGS.items(), planned, strict=False):
        assert show(found) == show(expected), name
    assert planned[-1] == set(), "the config reverted"


WILDCARDS = {
    "sample": ["shard"], "manifest": ["shard"], "centre": ["layer"], "reconstruction": ["method"], "graph": ["method"],
    "figures": ["method"], "coefficients": ["method", "layer", "shard"], "ablation": ["method", "source", "target"],
    "attribution": ["method", "source", "target", "shard"], "circuits": ["method", "shard"],
} | {stage: ["method", "layer"] for stage in ("concepts", "families", "calibration", "kept", "exemplars")}  # fmt: skip


def test_a_lineage_changes_with_what_its_job_rests_on(shadow, monkeypatch):
    """The lineages alone tell the same jobs, whatever Snakemake thinks: tables may be copied without their times."""
    monkeypatch.chdir(shadow.folder)
    shutil.copy(shadow.site / "src/gigraph/worlds/menagerie/checkpoint.safetensors", "other.safetensors")
    every = {"network", "manifest 0", "manifest 1", "selection"} | sampled() | whole_sample()

    def lineages(config):
        plan = Plan(load(read([config])), shadow.site / "workflow/scripts")
        found = {}
        for job in every:
            stage, *values = job.split()
            if set(values) & set(LAYERS) <= set(plan.layers):
                wildcards = dict(zip(WILDCARDS.get(stage, []), values, strict=True))
                each = [{"layer": layer} for layer in plan.layers] if stage == "sample" else [{}]
                found[job] = {plan.lineage(stage, **wildcards, **one) for one in each}
        return found

    before = lineages(shadow.config)
    for index, (name, (changes, expected)) in enumerate(SETTINGS.items()):
        after = lineages(shadow.write(f"lineage{index}", **changes))
        differ = {job for job in after if not after[job] <= before[job]}
        assert show(differ) == show(expected & set(after)), name


def test_a_default_reruns_only_layers_without_an_override(tmp_path):
    own = with_layer("layer2.1", coefficients={"value": 12})
    shadow = Shadow(tmp_path, layers=own)
    shadow.finish()
    changed = shadow.write("default", layers=own, coefficients={"value": 9})
    (found,) = shadow.planned(changed)
    expected = coded("layer1.0") | coded("layer3.1") | pair("layer1.0", "layer2.1") | pair("layer2.1", "layer3.1")
    assert show(found) == show(expected | {"reconstruction bisecting"} | LAST)


def beside(shadow, path):
    """Return the shard of a path, after making sure that the other shard holds images too."""
    assert {
        image_id(str(p.relative_to(shadow.folder / "images"))) % 2 for p in shadow.folder.glob("images/*/*.png")
    } == {0, 1}
    return str(image_id(path) % 2)


def test_images(shadow):
    """An image more, an image changed: its shard is listed and sampled anew, and what rests on the whole sample."""
    everything = {"selection"} | whole_sample()
    more = shadow.image("bee/more.png")
    shard = beside(shadow, "bee/more.png")
    (found,) = shadow.planned(shadow.config)
    more.unlink()
    assert show(found) == show({f"manifest {shard}"} | sampled([shard]) | everything)

    one = shadow.folder / "images/ant/0.png"
    before, times = one.read_text(), one.stat()
    shard = beside(shadow, "ant/0.png")
    one.write_text("another picture")
    (found,) = shadow.planned(shadow.config)
    assert show(found) == show({f"manifest {shard}"} | sampled([shard]) | everything)

    one.write_text(before)
    os.utime(one, ns=(times.st_atime_ns, times.st_mtime_ns))
    # A class folder more moves the labels of the classes after it, in every shard.
    extra = shadow.image("bat/0.png")
    (found,) = shadow.planned(shadow.config)
    shutil.rmtree(extra.parent)
    assert show(found) == show({"network", "manifest 0", "manifest 1"} | sampled() | everything)
    (reverted,) = shadow.planned(shadow.config)
    assert reverted == set()


def test_code(shadow):
    """A script touched or commented reruns nothing; a module reruns the stages that import it; weights rerun all."""
    scripts, modules = shadow.site / "workflow/scripts", shadow.site / "src/gigraph"
    for script in scripts.glob("*.py"):
        script.touch()
    (scripts / "graph.py").write_text(
        '"""Another docstring."""\n' + (scripts / "graph.py").read_text() + "\n# a remark\n"
    )
    with (modules / "running/runtime.py").open("a") as stream:
        stream.write("\n\nMORE = 1\n")
    assert shadow.planned(shadow.config) == [set()]
    ranked = {f"{what} bisecting {layer}" for layer in LAYERS for what in ("kept", "exemplars", "ablation")} | LAST
    ranked = {f"{job} classes" if job.startswith("ablation") else job for job in ranked}
    between = pair("layer1.0", "layer2.1") | pair("layer2.1", "layer3.1")
    for module, expected in (
        ("method/graph", ranked | between | CIRCUITS),
        ("method/targets", attributed()),
        ("attributors/gig", attributed()),
        ("attributors/gradient_x_input", CIRCUITS | {"explorer"}),
        ("replacement", CIRCUITS | {"explorer"}),
        ("worlds/model", {"network"} | sampled() | whole_sample()),
        ("worlds/menagerie/draw", set()),
        ("worlds/registry", set()),
        ("model/centre", {"network"} | whole_sample() - {"images"}),
        ("images/tiles", {f"exemplars bisecting {layer}" for layer in LAYERS} | {"explorer"}),
    ):
        path = modules / f"{module}.py"
        before = path.read_text()
        path.write_text(before + "\n\nMORE = 1\n")
        (found,) = shadow.planned(shadow.config)
        path.write_text(before)
        assert show(found) == show(expected), module
    # The weights count by their content.
    weights = modules / "worlds/menagerie/checkpoint.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content + b"more")
    (found,) = shadow.planned(shadow.config)
    weights.write_bytes(content)
    assert show(found) == show({"network"} | sampled() | whole_sample())


def test_what_is_gone_or_cut_short_is_made_again(shadow):
    """Also where everything that rests on it is there; and where Snakemake's own records are lost, too."""
    shadow.finish()
    results = shadow.folder / "results"
    kept = results / "bisecting/kept/layer2.1.parquet"
    whole = kept.read_bytes()
    times = kept.stat()
    for change in (kept.unlink, lambda: kept.write_bytes(whole[:-20]), lambda: kept.write_bytes(b"")):
        change()
        os.utime(kept, ns=(times.st_atime_ns, times.st_mtime_ns)) if kept.exists() else None
        (found,) = shadow.planned(shadow.config)
        assert "kept bisecting layer2.1" in found and "kept bisecting layer1.0" not in found
    kept.write_bytes(whole)
    os.utime(kept, ns=(times.st_atime_ns, times.st_mtime_ns))
    figure = results / "bisecting/figures/reconstruction.svg"
    figure.write_text("<svg>")
    shutil.rmtree(shadow.folder / ".snakemake")
    changed = shadow.write("lost", explorer={"title": "Another"})
    assert shadow.planned(shadow.config, changed) == [{"figures bisecting"}, {"figures bisecting", "explorer"}]


@pytest.mark.slow
def test_a_trained_model_that_is_lost_is_trained_again_and_nothing_that_is_current_made_anew(tmp_path):
    """The training repeats itself; what was made from the model still says so."""
    shadow = Shadow(tmp_path, images={"source": "menagerie"}, drawn={"train": True})
    shadow.finish()
    assert shadow.planned(shadow.config) == [set()]
    model = shadow.folder / "results/drawn/model.safetensors"
    model.unlink()
    (found,) = shadow.planned(shadow.config)
    assert show(found) == show({"train", "network"})
    other = shadow.write("seed", images={"source": "menagerie"}, drawn={"train": True, "seed": 1})
    (found,) = shadow.planned(other)
    assert {"train", "draw", "network", *sampled(), "coefficients bisecting layer1.0 0"} <= found


def test_every_rule_is_planned_recorded_and_claimed_as_itself():
    """A rule that forgets one of these would miss a change or a loss, have no log, or ask for too little."""
    for text in (path.read_text() for path in (ROOT / "rules").glob("*.smk")):
        _, *parts = re.split(r"^rule (\w+):$", text, flags=re.MULTILINE)
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if "shell:" not in body:
                continue
            for section, word in {
                "input": f'needs("{name}")',
                "params": f'lineage("{name}")',
                "resources": f'**claims("{name}")',
                "shell": f"$GIGRAPH_SCRIPTS/{name}.py",
                "log": 'results("logs/',
            }.items():
                (found,) = re.findall(rf"^    {section}:\n((?:        .*\n|\n)+)", body, flags=re.MULTILINE)
                assert word in found, f"rule {name}: {section} lacks {word}"
            if STAGES[name].gpu or "args.compute" in (ROOT / f"workflow/scripts/{name}.py").read_text():
                assert '--compute "$GIGRAPH_COMPUTE"' in body, f"rule {name}"

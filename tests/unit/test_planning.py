"""What jobs ask of a cluster, and what a user's model is made of."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigraph.errors import UserError
from gigraph.hashing import file_digest
from gigraph.planning.config import load
from gigraph.planning.costs import Sizes
from gigraph.planning.lineage import imported_beside, module_file
from gigraph.planning.plan import MAKERS, Plan
from gigraph.planning.resources import claim, need
from gigraph.planning.stages import STAGES
from gigraph.planning.standing import planned
from gigraph.running.ending import rehearsal
from gigraph.running.record import write_run


@pytest.mark.parametrize("stage", ["concepts", "coefficients", "attribution"])
def test_claims_grow_with_the_sizes(stage):
    small = Sizes(images=100, attributed=20, channels=256, positions=49, rows=1000, concepts=2048)
    base = need(stage, small, 256)
    larger = replace(small, channels=2048, concepts=16384, rows=50000, attributed=2000)
    assert all(a < b for a, b in zip(base, need(stage, larger, 256), strict=True))
    assert need(stage, small, 1256)[0] > base[0]


def test_each_attempt_asks_for_twice_as_much(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a/1.png")
    one, two, three = (claim(a_plan(tmp_path), "concepts", attempt, layer="layer1") for attempt in (1, 2, 3))
    assert two == {key: 2 * value for key, value in one.items()} and three["runtime"] == 4 * one["runtime"] > 0


def a_plan(folder, **model):
    raw = {"images": {"source": str(folder)}, "model": model, "layers": ["layer1"]}
    return Plan(load(raw), Path(__file__).parents[2] / "workflow" / "scripts")


def test_a_presets_crop_fixes_the_input_whatever_the_first_image_is(tmp_path):
    """The paper's configuration takes resize and crop from the weights' preset; its photographs differ in size."""
    for weights, cropped in (("IMAGENET1K_V1", True), ("folder/my.pth", False), (None, False)):
        plan = a_plan(tmp_path, source="torchvision:resnet50", weights=weights)
        assert plan.crops is cropped
    plan = a_plan(tmp_path, source="torchvision:resnet50", weights="IMAGENET1K_V1")
    assert plan.image_size is None and plan.settings("selection")["uniform"] is False


def test_what_a_users_module_imports_from_beside_it_is_part_of_the_model(tmp_path):
    (tmp_path / "mine.py").write_text("from parts import block\nimport torch\n\ndef make():\n    return block.Net()\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "block.py").write_text("Net = 1\n")
    (tmp_path / "other.py").write_text("")
    found = {path.relative_to(tmp_path).as_posix() for path in imported_beside(tmp_path / "mine.py")}
    assert found == {"mine.py", "parts/__init__.py", "parts/block.py"}


def test_the_file_of_a_module_is_found_and_other_sources_have_none():
    assert [path.name for path in module_file("gigraph.errors:nearest")] == ["errors.py"]
    for source in ("menagerie", "torchvision:resnet50", "timm:vit", "a/file.py:make", "no.such.module:make"):
        assert module_file(source) == []


def test_layers_reach_a_sweep_in_the_networks_order_whatever_their_names(tmp_path):
    """Settings travel as JSON, whose keys were once sorted: layer 11 came before layer 2."""
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a/1.png")
    names = ["blocks.2", "blocks.11", "add_3", "add"]
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    plan = Plan(load({"images": {"source": str(tmp_path)}, "layers": names}), scripts)
    settings = json.loads(plan.settings_json("sample", shard=0))
    assert [*settings["layers"]] == names
    assert {one["lineage"] for one in settings["layers"].values()} == {
        plan.lineage("sample", shard=0, layer=name) for name in names
    }


def test_a_layers_comparison_rests_on_no_other_layer(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a/1.png")
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"

    def lineages(*layers):
        plan = Plan(load({"images": {"source": str(tmp_path)}, "layers": [*layers]}), scripts)
        stages = {"probes": {}, "comparison": {"method": "bisecting"}, "sample": {"shard": 0}}
        return [plan.lineage(stage, layer="x", **of) for stage, of in stages.items()]

    other = {"name": "y", "sampling": {"pfvs_per_image": 3}, "concepts": {"center": "mean"}}
    assert lineages("x", "y") == lineages("x", other) == lineages("x", "y", "z")
    for changed in (other, {"name": "y", "concepts": {"center": "mean"}}):
        apart = zip(lineages("x", "y"), lineages({**changed, "name": "x"}, "y"), strict=True)
        assert [one != two for one, two in apart] == [True, True, "sampling" in changed]


@pytest.mark.parametrize(
    ("mean", "std", "key"),
    [([123.7, 116.3, 103.5], [58, 57, 57], "mean"), ([0, 0, 0], [255, 255, 255], "std"), (None, [58, 57, 57], "std")],
)  # fmt: skip
def test_mean_and_std_of_pixels_up_to_255_are_refused(tmp_path, mean, std, key):
    """They were accepted without a word, and everything was grey to the model."""
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a/1.png")
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    raw = {"images": {"source": str(tmp_path)}, "layers": ["x"], "preprocessing": {"mean": mean, "std": std}}
    with pytest.raises(UserError, match=rf"preprocessing\.{key}: .* divide mean and std by 255"):
        Plan(load(raw), scripts).check()
    for good in ({"mean": [0.5] * 3, "std": [0.5] * 3}, {"mean": [1, 1, 1]}, {"std": [1 / 255] * 3}):
        Plan(load({**raw, "preprocessing": good}), scripts).check()
    # Arrays of real numbers are taken as they are.
    (tmp_path / "a/1.png").unlink()
    np.save(tmp_path / "a/1.npy", np.full((9, 9, 3), 300, np.float32))
    Plan(load(raw), scripts).check()


@pytest.mark.parametrize(
    ("model", "preprocessing", "plain"),
    [({"source": "torchvision:resnet18", "weights": "my.pth"}, {}, True),
     ({"source": "torchvision:resnet18", "weights": "IMAGENET1K_V1"}, {}, False),
     ({"source": "net.py:make"}, {}, True), ({"source": "net.py:make"}, {"mean": [0, 0, 0], "std": [1, 1, 1]}, False),
     ({"source": "timm:resnet18", "weights": "my.pth"}, {}, False), ({"source": "menagerie"}, {}, False)],
)  # fmt: skip
def test_pictures_that_reach_a_model_without_its_normalisation_are_warned_of(tmp_path, model, preprocessing, plain):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a/1.png")
    raw = {"images": {"source": str(tmp_path)}, "model": model, "layers": ["x"], "preprocessing": preprocessing}
    plan = Plan(load(raw), Path(__file__).parents[2] / "workflow" / "scripts")
    assert plan.takes_plain_pixels is plain
    said = rehearsal(plan, {}, 0, 0).splitlines()
    assert any("pixels go in as 0 to 1" in line for line in said) is plain
    assert not any("weights" in line and "are random" in line for line in said)
    grey = Plan(load({**raw, "model": {"source": "net.py:make"}, "preprocessing": {"channels": 1}}), plan.scripts)
    assert "or mean: [0] and std: [1] if that" in rehearsal(grey, {}, 0, 0)
    drawn = Plan(load({**raw, "model": {"source": "net.py:make", "weights": "random"}}), plan.scripts)
    assert "warning: the weights of net.py:make are random" in rehearsal(drawn, {}, 0, 0)


@pytest.mark.parametrize(("side", "warned"), [(40, False), (60, False), (61, True), (224, True), (None, False)])
def test_small_pictures_that_are_much_enlarged_are_warned_of(tmp_path, side, warned):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (50, 40)).save(tmp_path / "a/1.png")
    raw = {"images": {"source": str(tmp_path)}, "model": {"source": "net.py:make"}, "layers": ["x"]}
    raw["preprocessing"] = {"resize": side, "crop": side, "mean": [0, 0, 0], "std": [1, 1, 1]}
    plan = Plan(load(raw), Path(__file__).parents[2] / "workflow" / "scripts")
    said = [line for line in rehearsal(plan, {}, 0, 0).splitlines() if line.startswith("warning: pictures are small")]
    assert bool(said) is warned and all(f"(the first 50 x 40) and enlarged to {side}" in line for line in said)
    (tmp_path / "a/1.png").write_text("no picture")
    assert "warning: pictures are small" not in rehearsal(Plan(plan.config, plan.scripts), {}, 0, 0)


def test_a_graph_of_another_model_or_of_other_images_is_not_written_over_without_a_word(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a/1.png")
    raw = {"images": {"source": str(tmp_path)}, "model": {"source": "net.py:make"}, "layers": ["x"]}
    raw["output"] = str(tmp_path / "results")
    plan = Plan(load(raw), Path(__file__).parents[2] / "workflow" / "scripts")

    def warned():
        return [line for line in rehearsal(plan, {}, 0, 0).splitlines() if " holds a graph of " in line]

    assert warned() == []  # nothing is there
    (tmp_path / "results").mkdir()
    same = {"model": {"source": "net.py:make", "weights": None}, "images": {"source": str(tmp_path)}}
    for before, line in (
        (same, []),
        ({"model": {**same["model"], "source": "./net.py:make"}, "images": {"source": f"{tmp_path}/a/.."}}, []),
        (None, []),
        ({"model": "net.py:make"}, []),
        ({**same, "model": {"source": "net.py:other", "weights": None}}, [f"net.py:other on {tmp_path}"]),
        ({**same, "model": {**same["model"], "weights": "a.pth"}}, [f"net.py:make with a.pth on {tmp_path}"]),
        ({**same, "images": {"source": "photos"}}, ["net.py:make on photos"]),
        ({"model": {"source": "traffic", "weights": None}, "images": {"source": "traffic"}}, ["traffic"]),
    ):
        write_run(tmp_path / "results", before, {})
        said = warned()
        assert len(said) == len(line) and all(f"holds a graph of {one}: what differs" in said[0] for one in line)


def test_the_title_tells_model_and_images_and_no_lineage_rests_on_their_folder(tmp_path):
    plans = []
    for name in ("photos", "pictures"):
        (tmp_path / name / "a").mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name / "a/1.png")
        os.utime(tmp_path / name / "a/1.png", (0, 0))
        raw = {"images": {"source": str(tmp_path / "x/.." / name)}, "model": {"source": "net.py:make"}, "layers": ["x"]}
        plans.append(Plan(load(raw), Path(__file__).parents[2] / "workflow" / "scripts"))
    assert [plan.title for plan in plans] == ["net on photos", "net on pictures"]
    named = [plan._named(plan.settings("explorer")) for plan in plans]
    assert named[0] == named[1] and named[0]["title"] == "the title"
    own = Plan(load({**raw, "explorer": {"title": "Mine"}}), Path("workflow/scripts"))
    assert own.title == own._named(own.settings("explorer"))["title"] == "Mine"


def test_a_folder_is_no_weights_file(tmp_path):
    with pytest.raises(UserError, match=r"model\.weights: .* is a folder; give the file in it"):
        _ = a_plan(tmp_path, source="torchvision:resnet50", weights=str(tmp_path)).model_files


def test_no_lineage_rests_on_where_the_results_lie():
    """Also of the drawn world, whose images and model lie among them."""
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    made = [
        Plan(load({"output": output, "layers": ["layer3.1"], "drawn": {"train": True}}), scripts)
        for output in ("results", "/elsewhere/other")
    ]
    of = {"method": "bisecting", "layer": "layer3.1", "source": "layer3.1", "target": "classes", "shard": 0}
    for stage in STAGES:
        one, two = (plan.lineage(stage, **{key: of[key] for key in STAGES[stage].of}) for plan in made)
        assert one == two, stage


def test_another_share_of_the_shortcut_trains_another_model_on_which_the_same_images_are_looked_at():
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    one, two = (
        Plan(load({"layers": ["layer3.1"], "drawn": {"train": True, "shortcut": share}}), scripts)
        for share in (None, 0.02)
    )
    assert one.lineage("train") != two.lineage("train") and one.lineage("draw") == two.lineage("draw")
    settings = STAGES["train"].settings(two)
    assert settings["shortcut"] == 0.02


@pytest.mark.parametrize(
    ("given", "words"),
    [({"methods": ["overcomplete-SemiNMF"]}, "methods: overcomplete-SemiNMF needs the package overcomplete"),
     ({"model": {"source": "timm:resnet18"}}, "model.source: timm is not installed")],
)  # fmt: skip
def test_an_extra_that_is_missing_is_said_before_the_run(monkeypatch, given, words):
    monkeypatch.setattr("gigraph.planning.plan.installed", lambda package: False)
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    with pytest.raises(UserError, match=words):
        Plan(load({"layers": ["x"], **given}), scripts).check()


def test_an_extra_that_only_the_evaluation_needs_stops_no_other_run(monkeypatch):
    """The default run stopped for a method that it does not make."""
    monkeypatch.setattr("gigraph.planning.plan.installed", lambda package: False)
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    plan = Plan(load({"layers": ["x"], "evaluation": {"methods": ["overcomplete-NMF"]}}), scripts)
    plan.check()
    plan.check_method("bisecting")
    with pytest.raises(UserError, match=r"evaluation\.methods: overcomplete-NMF needs the package overcomplete"):
        plan.check_method("overcomplete-NMF")


def test_no_lineage_rests_on_where_the_users_files_lie(tmp_path, monkeypatch):
    """The same folder by its absolute path made every job run again."""
    (tmp_path / "one" / "images" / "a").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "one/images/a/1.png")
    (tmp_path / "one/net.py").write_text("def make():\n    pass\n")
    (tmp_path / "one/w.pth").write_bytes(b"weights")
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"

    def lineages(images, weights, source):
        model = {"source": f"{source}:make", "weights": weights}
        plan = Plan(load({"images": {"source": images}, "model": model, "layers": ["x"]}), scripts)
        return [plan.lineage("sample", shard=0, layer="x"), plan.lineage("manifest", shard=0), plan.lineage("network")]

    monkeypatch.chdir(tmp_path / "one")
    here = lineages("images", "w.pth", "net.py")
    assert lineages("./images/", "./w.pth", "./net.py") == here
    assert lineages(str(tmp_path / "one/images"), str(tmp_path / "one/w.pth"), str(tmp_path / "one/net.py")) == here
    monkeypatch.chdir(tmp_path)
    assert lineages("one/images", "one/w.pth", "one/net.py") == here
    (tmp_path / "one").rename(tmp_path / "two")
    assert lineages("two/images", "two/w.pth", "two/net.py") == here
    (tmp_path / "two/w.pth").write_bytes(b"others")
    file_digest.cache_clear()
    assert lineages("two/images", "two/w.pth", "two/net.py") != here


def test_what_is_passed_over_is_listed_anew_and_nothing_else(tmp_path):
    """A file that was added stood in no `rejected.parquet`."""
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a/1.png")
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    stages = {"manifest": {"shard": 0}, "sample": {"shard": 0, "layer": "x"}, "selection": {}, "images": {}}

    def lineages():
        plan = Plan(load({"images": {"source": str(tmp_path)}, "layers": ["x"]}), scripts)
        return {stage: plan.lineage(stage, **of) for stage, of in stages.items()}

    before = lineages()
    (tmp_path / "a" / "film.mp4").touch()
    assert {stage for stage, lineage in lineages().items() if lineage != before[stage]} == {"images"}


@pytest.mark.parametrize("layer", ["vit.encoder", "a.tree", "b.families", "c.trials", "d.measures", "e.stability"])
def test_layers_are_known_whatever_they_end_in(tmp_path, layer):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a/1.png")
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    raw = {"images": {"source": str(tmp_path)}, "output": str(tmp_path / "results"), "layers": [layer]}
    plan = Plan(load(raw), scripts)
    for name in ("concepts", "tree", "encoder", "families", "calibration", "trials", "measures", "stability", "centre"):
        path = plan.results(name, method="bisecting", layer=layer)
        assert planned(plan, path) == plan.lineage(MAKERS[name], method="bisecting", layer=layer), name


@pytest.mark.parametrize("ending", ["encoder", "tree", "families", "trials", "stability"])
def test_two_layers_that_would_write_the_same_file_are_refused(ending):
    with pytest.raises(UserError, match=r"layers: vit.* and vit.* would both write a file vit\..*; name one of them"):
        load({"layers": ["vit", f"vit.{ending}"]})
    load({"layers": ["vit.blocks", f"vit.{ending}"]})


def test_why_no_image_can_be_decoded(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    with pytest.raises(UserError, match=r"no image of .* can be decoded \(the first is a/1.png: .*run git lfs pull\)"):
        Plan(load({"images": {"source": str(tmp_path)}, "layers": ["x"]}), scripts).check()

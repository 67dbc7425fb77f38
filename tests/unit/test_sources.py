"""What a model's source says by itself, and the drawn worlds behind their one door."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gigraph
from gigraph.errors import UserError
from gigraph.model.sources import check_weights, code_of, is_weights_file, preset_crops, short_name
from gigraph.worlds import registry
from gigraph.worlds.dataset import write

PACKAGE = Path(gigraph.__file__).parent


@pytest.mark.parametrize(
    ("source", "weights", "arguments", "words"),
    [("torchvision:resnet18", None, {}, "a name such as DEFAULT, or random"),
     ("timm:resnet18", None, {"num_classes": 3}, "give a checkpoint's file, or random"),
     ("timm:resnet18", None, {"pretrained": True}, "pretrained says which weights"),
     ("torchvision:resnet18", "DEFAULT", {"weights": "DEFAULT"}, "weights says which weights"),
     ("timm:resnet18", "IMAGENET1K_V1", {}, "'IMAGENET1K_V1' is no checkpoint's file"),
     ("mine.py:make", "best", {}, "'best' is no checkpoint's file"), ("menagerie", "random", {}, "'random' is no"),
     *((source, weights, {}, None) for source, weights in [
         ("torchvision:resnet18", "DEFAULT"), ("torchvision:resnet18", "random"), ("timm:resnet18", "random"),
         ("timm:resnet18", "best.pth"), ("mine.py:make", None), ("mine.py:make", "random"), ("menagerie", None),
     ])],
)  # fmt: skip
def test_which_weights_a_source_has(source, weights, arguments, words):
    if words is None:
        check_weights(source, weights, arguments)
        return
    with pytest.raises(UserError, match=re.escape(words)):
        check_weights(source, weights, arguments)


def test_random_is_no_file_whatever_lies_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random").mkdir()
    assert not is_weights_file("random") and not preset_crops("torchvision:resnet18", "random")


@pytest.mark.parametrize(
    ("source", "name"),
    [("torchvision:resnet18", "resnet18"), ("timm:vit.tag", "vit.tag"), ("a/nets.py:make", "nets"),
     ("package.nets:make", "make"), ("run/given/factory.py:make_net", "make_net"), ("menagerie", "menagerie")],
)  # fmt: skip
def test_what_people_call_a_source(source, name):
    assert short_name(source) == name


@pytest.mark.parametrize("source", registry.NAMES)
def test_a_world_offers_what_its_contract_says(source, tmp_path):
    world, model = registry.get(source), registry.model()
    assert world.name == source and len(model.MEAN) == len(model.STD) == 3
    assert world.checkpoint == registry.checkpoint_of(source) and world.checkpoint.is_file()
    assert model.outputs(world.checkpoint) == len(world.classes)
    assert model.build(len(world.classes)).state_dict().keys() == model.load(world.checkpoint).state_dict().keys()
    write(world, tmp_path, "train", len(world.classes), seed=0, size=32)
    assert tuple(sorted(path.name for path in tmp_path.iterdir() if path.is_dir())) == world.classes
    assert code_of(source) == [model.__name__]
    assert registry.code_of(source) == [f"gigraph.worlds.{source}.world"]


def test_a_world_is_its_package_and_a_line():
    packages = {path.parent.name for path in (PACKAGE / "worlds").glob("*/world.py")}
    assert packages == {*registry.NAMES}
    with pytest.raises(UserError, match="'menagrie'; did you mean menagerie"):
        registry.get("menagrie")


def test_other_sources_bring_no_code_of_this_package():
    assert [code_of(source) for source in ("torchvision:resnet50", "a.py:make", "images", "")] == [[]] * 4


def test_no_module_imports_a_world_but_those_that_know_the_truth_of_it():
    """An import, also inside a function, would put a world's code under the results of every run."""
    worlds = [f"gigraph.worlds.{name}" for name in registry.NAMES]
    folders = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            if any(name.startswith(world) for name in names for world in worlds):
                folders.add(path.relative_to(PACKAGE).parts[:2])
    assert folders == {("worlds", name) for name in registry.NAMES}


def test_models_know_of_the_worlds_their_door_only():
    for path in (PACKAGE / "model").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gigraph.worlds"):
                assert {f"{node.module}.{alias.name}" for alias in node.names} <= {
                    "gigraph.worlds.registry", "gigraph.worlds.registry.MODEL", "gigraph.worlds.registry.NAMES",
                }, path  # fmt: skip


def test_no_word_of_a_world_is_said_outside_of_it():
    """What is not the worlds' own takes classes, parts and shortcut from the world, whichever it is."""
    words = set()
    for name in registry.NAMES:
        world = registry.get(name)
        words |= {*world.classes, *world.values, *world.kind_of, *world.fixtures, world.cue, world.shortcut.part}
    files = [*(PACKAGE.parents[1] / "workflow/scripts").glob("*.py"), *PACKAGE.rglob("*.py")]
    own = [PACKAGE / "worlds" / name for name in registry.NAMES]
    for path in files:
        if not any(folder in path.parents for folder in own):
            texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
            assert not words & {text for text in texts if isinstance(text, str)}, path


def test_planning_reads_sources_without_torch():
    code = "import sys, gigraph.worlds.registry as r; [*map(r.get, r.NAMES)]; print({'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_weights_are_a_file_by_their_suffix_or_a_slash():
    assert all(map(is_weights_file, ["a.pth", "a.pt", "b/a.safetensors", "folder/checkpoint"]))
    assert not any(map(is_weights_file, ["DEFAULT", "ResNet50_Weights.IMAGENET1K_V2"]))


def test_a_preset_crops_where_the_weights_have_a_name():
    assert preset_crops("torchvision:resnet50", "DEFAULT") and preset_crops("timm:vit_tiny_patch16_224", None)
    for source, weights in (("torchvision:resnet50", None), ("torchvision:resnet50", "a.pth"), ("menagerie", None)):
        assert not preset_crops(source, weights)

"""What a model's source says by itself, and the drawn worlds behind their one door."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gigraph
from gigraph.model.sources import WORLDS, checkpoint_of, code_of, is_weights_file, preset_crops, world_module

PACKAGE = Path(gigraph.__file__).parent


@pytest.mark.parametrize("source", WORLDS)
def test_a_world_offers_what_its_contract_says(source, tmp_path):
    model, dataset = world_module(source, "model"), world_module(source, "dataset")
    assert len(model.MEAN) == len(model.STD) == 3
    assert checkpoint_of(source) == model.CHECKPOINT and model.CHECKPOINT.is_file()
    assert model.build().state_dict().keys() == model.load().state_dict().keys()
    dataset.write(tmp_path, "train", len(model.CLASSES), seed=0, size=32)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == sorted(model.CLASSES)
    assert code_of(source) == [model.__name__]


def test_other_sources_bring_no_code_of_this_package():
    assert [code_of(source) for source in ("torchvision:resnet50", "a.py:make", "images", "")] == [[]] * 4


def test_no_module_imports_a_world_but_those_that_know_the_truth_of_it():
    """An import, also inside a function, would put the world's code under the results of every run."""
    folders = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            if any(name.startswith(world) for name in names for world in WORLDS.values()):
                folders.add(path.relative_to(PACKAGE).parts[0])
    assert folders <= {"menagerie", "planning", "evaluation"}


def test_planning_reads_sources_without_torch():
    code = "import sys, gigraph.model.sources as s; s.checkpoint_of('menagerie'); print({'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_weights_are_a_file_by_their_suffix_or_a_slash():
    assert all(map(is_weights_file, ["a.pth", "a.pt", "b/a.safetensors", "folder/checkpoint"]))
    assert not any(map(is_weights_file, ["DEFAULT", "ResNet50_Weights.IMAGENET1K_V2"]))


def test_a_preset_crops_where_the_weights_have_a_name():
    assert preset_crops("torchvision:resnet50", "DEFAULT") and preset_crops("timm:vit_tiny_patch16_224", None)
    for source, weights in (("torchvision:resnet50", None), ("torchvision:resnet50", "a.pth"), ("menagerie", None)):
        assert not preset_crops(source, weights)

"""A user's mistake: one clear line and a non-zero exit, before the work begins."""

import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml

from gigraph.errors import UserError
from gigraph.planning.config import Compute, load
from gigraph.planning.plan import Plan
from gigraph.worlds import registry
from workflow.toy import ROOT, configure, snakemake


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two classes of three pictures, and the config's folder as the current one."""
    from PIL import Image

    drawn = registry.get("menagerie")
    monkeypatch.chdir(tmp_path)
    for index in range(6):
        path = tmp_path / "images" / ("a" if index % 2 else "b") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.paint(drawn.scene(0, "toy", index), 96)[0]).save(path)
    return tmp_path


def plan(folder: Path, **changes) -> Plan:
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    given = yaml.safe_load(configure(folder, **changes).read_text())
    for key, value in given.items():
        default[key] = {**default[key], **value} if isinstance(value, dict) else value
    made = Plan(load(default), ROOT / "workflow" / "scripts")
    made.check()
    return made


def check_network(folder: Path, **changes) -> None:
    """Run the workflow's first job, which looks at everything that needs the model."""
    spec = importlib.util.spec_from_file_location("network_script", ROOT / "workflow/scripts/network.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    # Two of the ten outputs have folders.
    made = plan(folder, **{"images": {"classes": ["a", "b"]}, **changes})
    outputs = {"layers": folder / "layers.parquet", "class_table": folder / "classes.parquet"}
    script.main(Namespace(settings=made.settings("network"), compute=Compute(), lineage="", **outputs))


def line_of(call, *arguments, **changes) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **changes)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400
    return line


def test_a_good_world_passes(world):
    check_network(world, concepts={"expansion": 0.05})


def test_random_weights_are_remarked(world, caplog):
    model = {"source": "torchvision:resnet18", "weights": "random", "arguments": {"num_classes": 2}}
    with caplog.at_level("INFO", logger="gigraph"):
        check_network(world, model=model, layers=["layer3.1"])
    assert "note: the weights of torchvision:resnet18 are random" in caplog.text


def test_random_weights_that_nobody_asked_for_are_refused(world):
    said = line_of(plan, world, model={"source": "torchvision:resnet18"}, layers=["layer3.1"])
    assert said.startswith("model.weights: none are given") and "a name such as DEFAULT, or random" in said
    said = line_of(check_network, world, model={"source": "menagerie", "weights": "IMAGENET1K_V1"})
    assert "'IMAGENET1K_V1' is no checkpoint's file" in said


def test_a_missing_folder(world):
    assert "there is no folder nowhere" in line_of(plan, world, images={"source": "nowhere"})


def test_an_empty_folder(world):
    (world / "empty").mkdir()
    assert "empty holds no images" in line_of(plan, world, images={"source": "empty"})


def test_a_class_folder_without_images(world):
    (world / "images" / "c").mkdir()
    assert "class folder c" in line_of(plan, world)


@pytest.mark.parametrize(
    ("source", "output"), [("images", "images/results"), (".", "results"), ("..", "results"), ("images", "images")]
)
def test_results_among_the_images(world, source, output):
    """The second run would have taken them for a class."""
    line = line_of(plan, world, images={"source": source}, output=output)
    assert f"images.source: {source} also holds the folder of the results" in line and "set output outside" in line


def test_results_in_a_folder_that_is_passed_over_are_no_class(world):
    plan(world, output="images/.results")


def test_a_missing_weights_file(world):
    assert "model.weights: there is no file gone.pth" in line_of(plan, world, model={"weights": "gone.pth"})


def test_a_layer_that_does_not_exist(world):
    line = line_of(check_network, world, layers=["layer9.1"])
    assert "layer9.1" in line and "did you mean" in line


def test_a_layer_that_is_no_cut_point(world):
    line = line_of(check_network, world, layers=["layer3.1.conv2"])
    assert "layer3.1.conv2" in line and "is no cut point" in line


def test_layers_in_the_wrong_order(world):
    assert "layer3.1, layer4.0" in line_of(check_network, world, layers=["layer4.0", "layer3.1"])


def test_a_checkpoint_of_another_architecture(world):
    import torchvision

    torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), world / "other.pth")
    line = line_of(check_network, world, model={"weights": "other.pth"})
    assert "other.pth" in line


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


def test_a_checkpoint_that_is_not_a_state_dict_is_never_unpickled(world):
    with (world / "trap.pth").open("wb") as stream:
        pickle.dump(Trap(), stream)
    assert "trap.pth" in line_of(check_network, world, model={"weights": "trap.pth"})
    assert not (world / "unpickled").exists()


def test_nan_weights(world):
    from gigraph.model.models import load_model

    state = load_model("menagerie").state_dict()
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, world / "nan.pth")
    assert "layer2.0.conv1.weight" in line_of(check_network, world, model={"weights": "nan.pth"})


def test_more_classes_than_outputs(world):
    for index in range(10):
        (world / "images" / f"more{index}").mkdir()
        (world / "images" / f"more{index}" / "1.png").write_bytes((world / "images" / "a" / "1.png").read_bytes())
    line = line_of(check_network, world, images={"classes": None})
    assert "12 class folders" in line and "10 outputs" in line


def test_fewer_classes_than_outputs(world):
    line = line_of(check_network, world, images={"classes": None})
    assert "2 class folders for the model's 10 outputs" in line and "images.classes" in line and "{a: 0}" in line


def test_more_concepts_than_pfvs_are_no_mistake(world):
    """They are capped, with a note, once the PFVs are counted (`tests/unit/test_scripts.py`)."""
    check_network(world, concepts={"expansion": 8})


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"images": {"shard": 1}}, "unknown key images.shard"), ({"images": {"shards": "two"}}, "images.shards")],
)
def test_snakemake_ends_with_one_line_for_a_config_mistake(world, changes, words):
    run = snakemake(world, "--configfile", str(configure(world, **changes)), "-n")
    assert run.returncode != 0
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("gigraph: error:")]
    assert words in line and "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"layers": ["layer3.1", "layer9.1"]}, "layer 'layer9.1' does not exist"),
     ({"model": {"source": "torchvision:resnet18", "weights": "menagerie.pth"}}, "of another architecture")],
)  # fmt: skip
def test_a_mistake_costs_a_finished_run_nothing(toy_run, tmp_path, changes, words):
    """Snakemake deletes a job's outputs before it runs: those of the model's first look were lost."""
    folder = shutil.copytree(toy_run, tmp_path / "copy", symlinks=True)
    torch.save(registry.model().load(registry.checkpoint_of("menagerie")).state_dict(), folder / "menagerie.pth")
    given = yaml.safe_load((folder / "config.yaml").read_text())
    changed = {
        key: {**given.get(key, {}), **value} if isinstance(value, dict) else value for key, value in changes.items()
    }
    (folder / "wrong.yaml").write_text(yaml.safe_dump({**given, **changed}))
    before = {path: path.read_bytes() for path in (folder / "results").rglob("*.parquet")}
    run = snakemake(folder, "--configfile", "wrong.yaml")
    assert run.returncode != 0 and words in run.stderr and "Traceback" not in run.stderr, run.stderr
    assert {path: path.read_bytes() for path in (folder / "results").rglob("*.parquet")} == before


def test_a_dry_run_says_what_would_run_and_looks_at_the_model(world):
    given = {"images": {"classes": ["a", "b"]}, "output": "other"}
    run = snakemake(world, "-n", "--configfile", str(configure(world, concepts={"expansion": 0.05}, **given)))
    said = (run.stdout + run.stderr).splitlines()
    (head,) = [i for i, line in enumerate(said) if line.startswith("gigraph ") and line.endswith(" jobs would run")]
    counts = dict(line.split() for line in said[head + 1 :] if len(line.split()) == 2)
    assert run.returncode == 0 and counts["network"] == "1" and counts["graph"] == "1" and "rule" not in counts
    assert sum(map(int, counts.values())) == int(said[head].split()[-4].replace(",", ""))
    model, layers, end, *_ = said[head + 1 + len(counts) :]
    assert model == "  model: 3 x 96 x 96 in, 10 outputs (classes): a, b, class 2, ..." and "layer3.1 (128 ch" in layers
    assert end == "nothing was run; gigraph plan says how long it takes, --verbose shows every job"
    assert len(said) < 40 and not (world / "other").exists()


def test_a_dry_run_says_what_is_wrong_with_the_model(world):
    model = {"source": "torchvision:resnet18", "weights": "random", "arguments": {"num_classes": 2}}
    path = configure(world, model=model, layers=["layer9.1"], output="other")
    run = snakemake(world, "-n", "--configfile", str(path))
    assert run.returncode != 0 and "Traceback" not in run.stderr
    assert "gigraph: error: layer 'layer9.1' does not exist" in run.stderr
    assert "would run" not in run.stdout + run.stderr


def test_a_job_ends_with_one_line_for_a_layer_mistake(world):
    path = configure(world, layers=["layer9.1"], concepts={"expansion": 0.05})
    run = snakemake(world, "--configfile", str(path))
    assert run.returncode != 0 and "Traceback" not in run.stderr
    assert any("gigraph: error: layer 'layer9.1'" in line for line in run.stderr.splitlines())
    assert not (world / "results/pfvs").exists()


def test_a_key_that_is_written_twice_ends_snakemake_with_one_line(world):
    path = configure(world)
    path.write_text(f"{path.read_text()}\nseed: 1\nseed: 2\n")
    run = snakemake(world, "-n", "--configfile", str(path))
    assert run.returncode != 0 and "Traceback" not in run.stderr
    assert "seed is written twice; remove one" in run.stderr, (run.returncode, run.stderr, run.stdout)


def test_jobs_run_by_snakemakes_own_python_whatever_lies_on_the_path(world):
    """`.venv/bin/snakemake` called by its path ended in "No module named gigraph" from every job."""
    other = world / "bin" / "python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho another python >&2\nexit 1\n")
    other.chmod(0o755)
    path = configure(world, images={"classes": ["a", "b"]}, layers=["layer3.1"])
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
    environment = {**os.environ, "PATH": f"{other.parent}:/usr/bin:/bin"}
    run = subprocess.run(
        [*command, "results/layers.parquet", "--configfile", str(path)],
        cwd=world, capture_output=True, text=True, env=environment, timeout=200,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert (world / "results/layers.parquet").is_file()

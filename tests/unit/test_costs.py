"""The planner: costs grow as the sizes say, and the command answers in one table or one line."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from gigraph import cli
from gigraph.commands import plan as command
from gigraph.planning.config import load, read
from gigraph.planning.costs import EDGE, GRAPHED, LOADING, SHOWN, LayerSize, Run, Throughput
from gigraph.planning.plan import Plan
from gigraph.planning.resources import costs
from gigraph.planning.stages import STAGES

LAYERS = [LayerSize("a", 64, 3136, 512, 10, 1), LayerSize("b", 2048, 49, 16_384, 80, 1)]
PAIRS = [("a", "b"), ("a", "classes"), ("b", "classes")]
RUN = Run(
    images=50_000, attributed=5000, classes=1000, shards=64, image_bytes=0, scenes=0, layers=LAYERS, pairs=PAIRS,
    methods=1, steps=16, max_steps=144, concept_targets=12, class_targets=4, kept=8, top_sources=64,
    nearest=10, relevant=0, localised=4, batch=16, memory=4 * 10**9,
)  # fmt: skip
RATE = Throughput(
    start=4, light_start=0.5, kernels_start=1, draw=0, decode=0.01, forward=0.1, sweep=0.3,
    segment=dict.fromkeys(PAIRS, 0.05), reached={"a": 0.1, "b": 0.15}, field={"a": 0.05, "b": 0.15},
    clustering=2e-10, product=1e-11, lasso=3, activations=200 * 10**6,
    base=6 * 10**8,
)  # fmt: skip


def test_work_is_proportional_to_what_it_is_done_on():
    one, two = costs(RUN, RATE), costs(replace(RUN, images=100_000), RATE)

    def work(costs, name):
        start = RATE.start if STAGES[name].torch else RATE.light_start
        return costs[name].seconds - costs[name].jobs * (start + RATE.kernels_start * STAGES[name].kernels)

    for name in ("manifest", "sample", "concepts"):
        assert work(two, name) == pytest.approx(2 * work(one, name))
    assert two["attribution"].seconds == one["attribution"].seconds
    assert two["sample"].disk == 2 * one["sample"].disk
    more = costs(replace(RUN, attributed=10_000), RATE)
    for name in ("attribution", "ablation", "coefficients"):
        assert work(more, name) == pytest.approx(2 * work(one, name))
        assert more[name].disk == 2 * one[name].disk
    twice = costs(replace(RUN, methods=2), RATE)
    assert twice["concepts"].jobs == 2 * one["concepts"].jobs and twice["sample"] == one["sample"]


def test_what_a_pursuit_and_its_trials_cost():
    """By hand: 48 images at each number of non-zeros tried, once with X and once with the baseline."""
    pursued = replace(LAYERS[1], coding="pursuit", nonzeros=6, tried=(1, 2, 4))
    run, rate = replace(RUN, layers=[LAYERS[0], pursued]), replace(RATE, pursuit=1.5)
    assert costs(RUN, rate).get("trials") is None
    found, lasso = costs(run, rate), costs(RUN, rate)
    one = lambda n: 2 * 16_384 * (2048 + n * n) * 1e-11 * 1.5  # noqa: E731
    coded = 49 * sum(map(one, (1, 2, 4)))
    start = RATE.start + RATE.kernels_start
    assert found["trials"].jobs == 1
    assert found["trials"].seconds == pytest.approx(48 * (0.11 + 5 * 0.05 + coded) + start)
    of_lasso = 4 * 2048 * 16_384 * 1e-11 * 3
    less = lasso["calibration"].seconds - found["calibration"].seconds
    assert less == pytest.approx(7 * 2000 * of_lasso - 2000 * one(6))
    less = lasso["coefficients"].seconds - found["coefficients"].seconds
    assert less == pytest.approx(5000 * 49 * (of_lasso - one(6)))
    tried = replace(LAYERS[0], tried=(1, 2))
    again = costs(replace(run, layers=[tried, pursued]), rate)["trials"]
    settled = 2 * 6 * 2000 * 4 * 64 * 512 * 1e-11 * 3
    assert again.jobs == 2 and again.seconds - found["trials"].seconds > settled


def test_an_image_is_run_once_for_all_its_tiles():
    few, many = costs(RUN, RATE)["exemplars"], costs(replace(RUN, nearest=1000), RATE)["exemplars"]
    start = RUN.methods * 2 * RATE.start

    def work(layer, images, tiles):
        return images * (0.02 + RATE.reached[layer]) + tiles * (RATE.field[layer] + 0.0025)

    assert many.seconds == pytest.approx(work("a", 49_998, 49_998) + work("b", 50_000, 50_000) + start)
    # Of layer b as many as there are PFVs at most, though 80,000 are shown: so many differ if they are any ones.
    tiles = [round(50_000 * (1 - math.exp(-shown / 50_000))) for shown in (5120, 80_000)]
    assert tiles == [4867, 39_905]
    assert few.seconds == pytest.approx(work("a", 4867, 4867) + work("b", 39_905, 39_905) + start)
    # And the maps of relevance, 16 points of each of 5,000 images, with the PFVs that 2 a concept lead to.
    more = costs(replace(RUN, relevant=2), RATE)["exemplars"].seconds - few.seconds
    maps = 2 * 5000 * (32 * 0.05 + 0.01 + 0.1)
    assert more == pytest.approx(maps + work("a", 1024, 1024) + work("b", 50_000 - 39_905, 16_000))
    # Families are a third of their concepts, and members have four tiles.
    merged = replace(RUN, layers=[replace(layer, merged=True) for layer in LAYERS])
    shown = 512 / 3 * 10 + 512 * 2 / 3 * 4
    assert merged.fields(merged.layers[0]) == round(50_000 * (1 - math.exp(-shown / 50_000)))


def test_uniform_positions_cost_only_where_something_looks_at_them(tmp_path):
    drawn = costs(replace(RUN, spread=True), RATE)["uniform"]
    assert drawn.jobs == len(RUN.layers) and drawn.seconds > 0 and "uniform" not in costs(RUN, RATE)
    made = [{}, {"methods": ["filters"]}, {"exemplars": {"reading": "filter"}}]
    assert [Plan(load({"layers": ["a"], **raw}), tmp_path).spread for raw in made] == [False, True, True]


def test_the_pursuits_kernels_are_compiled_only_where_a_layer_needs_them(tmp_path):
    """As in the settings of the job that compiles, so in what it is said to cost."""
    raw = {"layers": ["a", "b"]}

    def kernels(**more):
        return list(Plan(load({**raw, **more}), tmp_path).settings("kernels")["kernels"])

    assert kernels() == ["clustering", "lasso"] == list(RUN.kernels)
    assert kernels(coefficients={"method": "refitted"}) == ["clustering", "lasso", "pursuit"]
    one = {"layers": ["a", {"name": "b", "coefficients": {"method": "pursuit"}}]}
    assert kernels(**one) == ["clustering", "lasso", "pursuit"]
    back = {"name": "a", "coefficients": {"method": "lasso"}}
    assert kernels(layers=[back], coefficients={"method": "pursuit"}) == ["clustering", "lasso"]
    more = costs(replace(RUN, kernels=("clustering", "lasso", "pursuit")), RATE)["kernels"].seconds
    assert more - costs(RUN, RATE)["kernels"].seconds == pytest.approx(LOADING)


LOADS = """
import importlib.machinery, os, sys

class Torch:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "torch" else None  # polars asks, and loads nothing

    def create_module(self, spec):
        os._exit(1)

sys.meta_path.insert(0, Torch())
import numba, numpy, polars, pyarrow.parquet  # once for all forks
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    if not (child := os.fork()):
        importlib.import_module(name)
        os._exit(0)
    print(name, {0: "no", 1: "torch"}.get(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "failed"), flush=True)
"""


def test_only_jobs_that_load_torch_take_its_start():
    """By the imports of the scripts themselves, and those of their modules, up to the first of torch."""
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    assert {path.stem for path in scripts.glob("*.py")} == set(STAGES)
    run = subprocess.run([sys.executable, "-c", LOADS, str(scripts), *STAGES], capture_output=True, text=True)
    found = dict(line.split() for line in run.stdout.splitlines())
    assert found == {name: "torch" if stage.torch else "no" for name, stage in STAGES.items()}, run.stderr


def test_the_papers_layer_by_hand():
    found = costs(RUN, RATE)
    assert found["sample"].disk == 50_000 * (4 * 64 + 24 + 4 * 2048 + 24)
    assert found["concepts"].disk == 4 * (512 * 64 + 16_384 * 2048)
    assert found["attribution"].jobs == 3 * 64
    passes = 16 * 3.4 * 0.05 * (13 + 5 + 5) + 0.001 * (12 + 4 + 4)
    assert found["attribution"].seconds == pytest.approx(5000 * (3 * 0.11 + passes) + 192 * 4)
    # x as read, centred, of unit length and on its way: four times 50,000 x 2,048 floats.
    assert found["concepts"].memory == RATE.base + 4 * 4 * 50_000 * 2048
    assert "draw" not in found


def test_the_command_prints_a_table(monkeypatch, capsys):
    monkeypatch.setattr(command, "measured", lambda config: (RUN, RATE))
    assert cli.main(["plan", "--cores", "8"]) == 0
    shown = capsys.readouterr().out
    assert "50,000 images (5,000 attributed), 1000 classes, 2 layers, 16,896 concepts" in shown
    for name in costs(RUN, RATE):
        assert name in shown
    assert "on 8 cores" in shown and "total" in shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "there is no file"),
        ("a: [", "is no YAML"),
        ("- 1", "holds no settings"),
        ("attribution: {step: 3}", "unknown key attribution.step"),
    ],
)
def test_a_bad_file_is_answered_with_one_line(tmp_path, capsys, text, line):
    path = tmp_path / "my.yaml"
    if text is not None:
        path.write_text(text)
    assert cli.main(["plan", "--configfile", str(path)]) == 1
    shown = capsys.readouterr().err
    assert line in shown and shown.startswith("gigraph: error: ") and shown.count("\n") == 1


def test_a_file_is_laid_over_the_defaults(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("attribution: {steps: 5}\nlayers: [layer4.0]\n")
    config = load(read([path]))
    assert config.attribution.steps == 5 and config.attribution.max_steps == 72 and config.names == ["layer4.0"]


MODEL = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(1, 4, 3, stride=2), nn.Conv2d(4, 8, 3, stride=2), nn.Linear(8, 2)

    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3))
        return self.head(x.view(x.size(0), -1))  # a size is no tensor, though it has a numel
"""


def test_the_command_measures_a_users_model(tmp_path):
    """In a process of its own: it takes one thread. Of grey images."""
    (tmp_path / "mine.py").write_text(MODEL)
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), "red").save(tmp_path / "photos" / name / "1.png")
    (tmp_path / "my.yaml").write_text(
        "images: {source: photos}\nmodel: {source: 'mine.py:Model'}\nlayers: [a, b]\npreprocessing: {channels: 1}\n"
        "coefficients: {method: pursuit, penalty: decision, value: 0.9, most: 2}\n"
    )
    command = [sys.executable, "-m", "gigraph", "plan", "--configfile", "my.yaml", "--cores", "3"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0].startswith("2 images (2 attributed), 2 classes, 2 layers, ")
    assert {line.split()[0]: line.split()[1] for line in lines[3:] if line}["trials"] == "2"
    assert run.stderr.splitlines()[:2] == ["measuring this machine ...", "the network: loading and tracing"]
    assert "on 3 cores" in run.stdout


def test_circuits_run_on_as_many_images_as_a_class_has():
    """Of 10 classes: 48 + 48 circuits of each, on three images where there are as many."""
    some = {"circuit": {"classes": 10}}
    runs = load({"layers": ["a"], **some}).circuit.runs
    assert [runs(200, 200), runs(200, 600), runs(4, 200), runs(4, 6)] == [10 * 96, 30 * 96, 12 * 96, 6 * 96]


def test_what_gathers_grows_with_its_edges_classes_and_images():
    """By hand, of an image a class: 12, 4 and 4 targets with 64 sources each and two nodes more.

    Over the dataset 12,000 concepts have one image each, and 1,000 classes four and so twice the sources.
    """
    alone = replace(RUN, attributed=1000)
    assert alone.edges == 1000 * 20 * 66 + 12_000 * 66 + 2 * 1000 * 130
    assert 1 < replace(RUN, attributed=4000).edges / alone.edges < 4
    # No more than there are: a layer's nodes as sources, and as targets.
    few = replace(RUN, layers=[replace(layer, concepts=10) for layer in LAYERS], classes=2, attributed=5000)
    assert few.edges == 3 * (10 * 12) + 3 * (2 * 12) * 2
    found = costs(RUN, RATE)
    assert found["graph"].seconds == pytest.approx(RUN.edges * EDGE + RATE.light_start)
    assert found["explorer"].seconds == pytest.approx(RUN.edges * SHOWN + 5000 * GRAPHED + RATE.light_start)


def test_the_edges_are_about_those_that_a_run_had():
    """EfficientNet-Lite0 on 200 photographs, one of each class: 541,740 (its families, and the shipped settings)."""
    nodes = {"blocks.2.1": 128, "blocks.3.2": 315, "blocks.5.3": 331, "bn2": 456}
    run = replace(
        RUN, attributed=200, classes=200, layers=[LayerSize(name, 1, 1, k, 1, 1) for name, k in nodes.items()],
        pairs=[*pairwise(nodes), *((name, "classes") for name in nodes)], concept_targets=7, class_targets=1.13, kept=6,
    )  # fmt: skip
    assert 1 / 1.3 < run.edges / 541_740 < 1.3


def test_circuits_take_what_their_images_do_in_each_layer():
    some, none = costs(replace(RUN, circuits=96), RATE), costs(RUN, RATE)
    assert some["circuits"].seconds - none["circuits"].seconds == pytest.approx(
        96 * (0.05 + 0.05 + 49 * 4 * 2048 * 16_384 * 1e-11 * 3 + 2 * 0.0003)
    )

"""gigraph.build: a run from a model in memory is that of its own configuration; another model is explained by none."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn
from torchvision.models import resnet18

import gigraph
from gigraph.building.build import BUILDING
from gigraph.errors import UserError
from workflow.toy import draw, jobs, same_tables, snakemake

pytestmark = pytest.mark.slow
MINE = """
import torch
from torch import nn


class Net(nn.Module):
    slope = 0.5

    def __init__(self, width=8):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, width, 3, stride=4), nn.Conv2d(width, 16, 3, stride=2)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.one(x), self.slope)
        return self.head(self.two(x).relu().mean((2, 3)))

"""
SCRIPT = """
import gigraph
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))

gigraph.build(make, "images", ["1"], "results", weights="random")
"""
SETTINGS = {
    "images": {"source": "images", "shards": 2},
    "sampling": {"pfvs_per_image": 6}, "concepts": {"expansion": 1},
    "coefficients": {"value": 4, "calibration": 200},
    "attribution": {"images_per_class": 1, "steps": 4, "max_steps": 12, "tolerance": 0.2},
    "exemplars": {"nearest": 4, "tile": 48, "localised": 2}, "compute": {"workers": 1},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with pictures, and a user's module in it."""
    draw(tmp_path, 40)
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mine", None)


def test_a_run_from_memory_is_that_of_its_configuration(folder, capsys):
    import mine

    torch.manual_seed(5)
    net = mine.Net(12).train()
    make = functools.partial(mine.Net, width=12)
    run = gigraph.build(make, layers=["one", "two"], out="results", weights=net, arguments=["--cores", "2"], **SETTINGS)
    said = capsys.readouterr().out
    assert run.layers == ["one", "two"] and len(run.relevance(0))
    assert "gigraph 0." in said and "concepts" in said and len(said.splitlines()) < 40
    assert net.training, "the user's model is as it was"
    config = yaml.safe_load((folder / "results/given/config.yaml").read_text())
    assert config["model"]["source"] == "mine.py:Net" and config["model"]["arguments"] == {"width": 12}
    assert {path.name for path in (folder / "results/given").iterdir()} == {"config.yaml", "weights.safetensors"}
    state = load_file(folder / "results/given/weights.safetensors")
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())
    # The commands take it as any other run.
    again = snakemake(folder, "--configfile", "results/given/config.yaml", "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    # The same call runs nothing; the same model from a notebook's source, other weights, all that rests on them.
    gigraph.build(make, layers=["one", "two"], out="results", weights=net, **SETTINGS)
    assert "Nothing to be done" in capsys.readouterr().out
    plain = snakemake(folder, "--configfile", "results/given/config.yaml", "--config", "output=plain")
    assert plain.returncode == 0, plain.stderr[-3000:]
    same_tables(folder / "results", folder / "plain")
    net.head.bias.data += 1
    with pytest.raises(UserError, match="classes"):
        # Refused before the run's configuration is touched.
        gigraph.build(make, layers=["one", "classes"], out="results", weights=net, **SETTINGS)
    assert torch.equal(load_file("results/given/weights.safetensors")["head.bias"], state["head.bias"])
    gigraph.build(make, layers=["one", "two"], out="results", weights=net, arguments=["-np"], **SETTINGS)
    due = jobs(capsys.readouterr().out)
    assert due["network"] == 1 and due["graph"] == 1


def refused(model, words, **more):
    with pytest.raises(UserError, match=words) as error:
        gigraph.build(model, layers=["one", "two"], out="results", **SETTINGS, **more)
    assert "\n" not in str(error.value)
    assert not Path("results").exists()


def test_another_model_is_explained_by_none(folder):
    """Whatever changes what the given one says: no run is started, and nothing written."""
    import mine

    net = mine.Net()
    hook = net.two.register_forward_hook(lambda module, given, out: out * 1.001)
    refused(net, "a Net does not say by itself how it is made .*the output differs by up to")
    refused(mine.Net, "mine.py:Net makes in a fresh process is another model than the one given", weights=net)
    hook.remove()
    net.slope = 0.4  # no tensor, and yet it changes what it says
    refused(mine.Net, "is another model than the one given: the output differs", weights=net)


def test_a_module_alone_says_what_is_missing(folder):
    import mine

    refused(resnet18(num_classes=10), "ResNet does not say .*missing 2 required positional .*weights=model")
    refused(mine.Net(12), r"Net does not say by itself how it is made .*of another architecture than mine\.py:Net")


def test_what_is_wrong_besides_is_said_before_a_run(folder):
    import mine

    with pytest.raises(UserError, match=r"no layer 'too'|too.*did you mean"):
        gigraph.build(mine.Net, layers=["one", "too"], out="results", weights="random", **SETTINGS)
    with pytest.raises(UserError, match="Net draws its model's weights at random"):
        gigraph.build(mine.Net, layers=["one", "two"], out="results", **SETTINGS)
    with pytest.raises(UserError, match="nowhere"):
        gigraph.build(mine.Net, "nowhere", ["one"], "results", weights="random")
    with pytest.raises(UserError, match=r"unknown key concepts\.expantion; did you mean expansion"):
        gigraph.build(mine.Net, "images", ["one"], "results", weights="random", concepts={"expantion": 1})
    assert not Path("results").exists()


def test_a_script_that_builds_where_it_is_imported_is_stopped(folder):
    (folder / "script.py").write_text(SCRIPT)
    run = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=300)
    assert run.returncode == 1 and 'put the call below if __name__ == "__main__":' in run.stderr
    assert not (folder / "results").exists()


def test_a_run_that_fails_says_what_failed(folder):
    import mine

    for path in sorted((folder / "images").rglob("*.png"))[4:]:
        path.write_text("no picture")
    with pytest.raises(UserError, match=r"unreadable|rejected"):
        gigraph.build(mine.Net, layers=["one", "two"], out="results", weights="random", **SETTINGS)


def test_no_build_within_a_build(monkeypatch):
    monkeypatch.setenv(BUILDING, "1")
    with pytest.raises(UserError, match="__main__"):
        gigraph.build(nn.Identity(), "images", ["a"], "results")

"""Which network in a file is the model's: as people's training programs write their files."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from gigraph.errors import UserError
from gigraph.model.models import load_model

NET = """
import torch
from torch import nn


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def half():
    return net().half()


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def state(seed=0):
    """Weights, other ones for each seed."""
    generator = torch.Generator().manual_seed(seed)
    own = load_model("net.py:net").state_dict()
    return {
        key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in own.items()
    }


def behind(lead, weights):
    return {f"{lead}{key}": value for key, value in weights.items()}


def loaded(content, name="w.pth", source="net.py:net", **more):
    torch.save(content, name)
    return load_model(source, weights=name, **more).state_dict()


def refused(content, *words, **more):
    with pytest.raises(UserError) as caught:
        loaded(content, **more) if content is not None else load_model("net.py:net", **more)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400, line
    for word in words:
        assert word in line, line


def same(one, two):
    return all(torch.equal(one[key], value) for key, value in two.items())


@pytest.mark.parametrize("lead", ["net", "network", "module", "params", "weights", "best", "a.b.c"])
def test_whatever_wraps_the_only_network(home, lead):
    training = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(4, 3, 3, 3)}}}}
    assert same(loaded({**training, lead: behind("module.", state())}), state())


@pytest.mark.parametrize(
    ("one", "two"),
    [("state_dict.teacher.", "state_dict.student."), ("encoder_q.", "encoder_k."), ("best.", "last."),
     ("state_dict.", "model.")],
)  # fmt: skip
def test_of_two_networks_that_fit_none_is_taken(home, one, two):
    """The first one was taken, in the order of a set: another one in each process."""
    refused(behind(one, state(0)) | behind(two, state(1)), "holds 2 networks that fit", one[:-1], two[:-1])
    assert same(loaded(behind(one, state()) | behind(two, state())), state())


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [("model", "ema"), ("params", "params_ema"), ("state_dict", "model_ema"), ("model", "swa_model"),
     ("online_model", "ema_model"), ("model", "averaged_model.module")],
)  # fmt: skip
def test_averaged_weights_are_taken_by_any_of_their_names(home, caplog, plain, averaged):
    with caplog.at_level("INFO", logger="gigraph"):
        flat = behind(f"{plain}.", state(0)) | behind(f"{averaged}.", state(1)) | {"step": torch.tensor(4)}
        assert same(loaded(flat), state(1))
        assert same(loaded({plain: state(0), averaged: state(1)}), state(1))
    assert f"{averaged} is taken" in caplog.text


@pytest.mark.parametrize("lead", ["", "model.", "module."])
def test_a_deeper_network_is_another_one_behind_any_lead(home, lead):
    """ResNet-34 has all that ResNet-18 has: behind a prefix the rest was passed over."""
    torch.save({"state_dict": behind(lead, torchvision.models.resnet34().state_dict())}, "deep.pth")
    with pytest.raises(UserError, match=r"another architecture.*80 unexpected \(first: layer1\.2\.conv1\.weight"):
        load_model("torchvision:resnet18", weights="deep.pth")


def test_objects_beside_the_weights_do_not_matter_and_are_not_made(home):
    """What timm's, DeiT's and Lightning's training programs save with them."""
    beside = {"args": argparse.Namespace(out=Path("x")), "metric": np.float64(3), "random": np.random.get_state()}
    assert same(loaded({"state_dict": state(), **beside}), state())


def test_numbers_that_cannot_stand_for_the_models(home):
    key = "4.weight"
    whole = state()
    kinds = {
        "sparse": whole[key].to_sparse(), "int8": (100 * whole[key]).to(torch.int8), "bool": whole[key] > 0.5,
        "complex64": whole[key].to(torch.complex64), "meta device": whole[key].to("meta"),
    }  # fmt: skip
    for word, value in kinds.items():
        refused({**whole, key: value}, f"{key} is", word)


def test_weights_are_not_rounded_to_a_factorys_half_precision(home):
    found = loaded(state(), source="net.py:half")
    assert same(found, state()) and found["4.weight"].dtype == torch.float32
    refused(state(), "lazy parameters", source="net.py:lazy")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
     (b"<!DOCTYPE html><html>", "web page"), (b'{"weight_map": {}}', "JSON"), (b"\x1f\x8b\x08\x00", "gzip")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_is_no_checkpoint_says_what_it_is(home, content, words, name):
    Path(name).write_bytes(content)
    refused(None, name, words, weights=name)


def test_the_content_says_which_of_both_formats_it_is(home):
    save_file(state(), "tensors.bin")
    torch.save(state(), "pickle.safetensors")
    for name in ("tensors.bin", "pickle.safetensors"):
        assert same(load_model("net.py:net", weights=name).state_dict(), state())
    torch.jit.script(nn.Sequential(nn.Linear(1, 1))).save("script.pt")
    refused(None, "TorchScript", weights="script.pt")

"""What makes a model again in another process, and which models, settings and differences are refused."""

from __future__ import annotations

import functools
import linecache
import re
import sys
import types

import pytest
import torch
from torch import nn

from gigraph.building import factory
from gigraph.building.build import _model, difference, settings_of
from gigraph.building.factory import factory_of
from gigraph.errors import UserError


class Session:
    """Cells as a notebook runs them: each compiled under a name of its own, whose source Python keeps."""

    count = 0

    def __init__(self, *cells: str):
        self.names: dict[str, object] = {"__name__": "__main__"}
        for cell in cells:
            self.run(cell)

    def run(self, cell: str) -> None:
        Session.count += 1
        name = f"<cell {Session.count}>"
        linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
        exec(compile(cell, name, "exec"), self.names)

    def __getitem__(self, name: str):
        return self.names[name]


PREAMBLE = """
import functools
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
WIDTH, KINDS = 4, ["a", "b", "c"]
"""
NETWORK = """
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.act = activation()

    def forward(self, x) -> Unknown:
        return self.act(self.conv(x))

def activation():
    return nn.ReLU6()

def make_model(scale=2.0):
    x = [F.relu for _ in range(3)]
    return nn.Sequential(Block(WIDTH), nn.Flatten(), nn.LazyLinear(len(KINDS)))
"""
DECORATED = """
import typing
KIND, NUMBER = torch.float16, 3

def more(f):
    @functools.wraps(f)
    def g(*args, **kwargs):
        return f(*args, **kwargs) + 1
    return g

@more
def make(n: typing.Nothing = NUMBER):
    return torch.ones((), dtype=KIND) + n
"""


def read(made: factory.Factory):
    """What the written file makes, read on its own."""
    names: dict[str, object] = {"__name__": "elsewhere"}
    exec(compile(made.text, "factory.py", "exec"), names)
    return names[made.name]


def seeded(make):
    torch.manual_seed(0)
    model = make()
    return model, model(torch.ones(1, 3, 5, 5))


def test_what_is_installed_goes_by_its_name():
    from torchvision.models import resnet18

    made = factory_of(functools.partial(resnet18, num_classes=3))
    assert (made.source, made.arguments) == ("torchvision.models.resnet:resnet18", {"num_classes": 3})
    assert factory_of(nn.Identity).source == "torch.nn.modules.linear:Identity"


def test_what_lies_in_a_file_goes_by_it(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def make(): pass")
    monkeypatch.syspath_prepend(tmp_path)
    import mine

    assert factory_of(mine.make, tmp_path).source == "mine.py:make"
    assert factory_of(mine.make, tmp_path / "other").source == f"{tmp_path / 'mine.py'}:make"
    # Another function has its name there now: by its name that one would come.
    former = mine.make
    monkeypatch.setattr(mine, "make", lambda: None)
    with pytest.raises(UserError, match="a function that lies in this session only"):
        factory_of(former)
    sys.modules.pop("mine")


def test_a_sessions_function_is_written_with_what_it_uses():
    session = Session(PREAMBLE, NETWORK)
    made = factory_of(session["make_model"])
    assert made.source is None and "numpy" not in made.text and "functools\n" not in made.text
    (one, says), (two, says_too) = seeded(session["make_model"]), seeded(read(made))
    assert list(one.state_dict()) == list(two.state_dict()) and torch.equal(says, says_too)
    # Another layout, other comments: the same text, and so the same lineage.
    again = Session(PREAMBLE, NETWORK.replace("    return nn.ReLU6()", "    # bounded\n\n    return nn.ReLU6()"))
    assert factory_of(again["make_model"]).text == made.text
    again.run("WIDTH = 5")
    assert factory_of(again["make_model"]).text != made.text


def test_the_source_is_that_of_the_function_given_whatever_its_name_means_now():
    session = Session("def make():\n    return 1", "old = make", "def make():\n    return 2")
    assert read(factory_of(session["old"]))() == 1
    assert read(factory_of(session["make"]))() == 2


def test_decorators_and_defaults_and_types_come_along():
    session = Session(PREAMBLE, DECORATED)
    value = read(factory_of(session["make"]))()
    assert value == 5 and value.dtype == torch.float16


def test_a_users_module_is_in_the_text_by_what_it_holds(tmp_path, monkeypatch):
    package = tmp_path / "users_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("from users_package.deep import part")
    (package / "deep.py").write_text("def part(): return 1")
    monkeypatch.syspath_prepend(tmp_path)
    import users_package.parts

    texts = []
    for content in ("def part(): return 1", "def part(): return 2"):
        (package / "deep.py").write_text(content)
        session = Session("from users_package.parts import part\ndef make():\n    return part()")
        made = factory_of(session["make"])
        assert made.source is None and read(made)() == 1  # as long as the module that is there is not read again
        texts.append(made.text)
    assert texts[0] != texts[1] and str(tmp_path) not in texts[0]
    # A function of a package of the user's own: its name alone would not say which.
    made = factory_of(users_package.parts.part)
    assert made.source is None and read(made) is users_package.parts.part
    for name in [name for name in sys.modules if name.startswith("users_package")]:
        del sys.modules[name]


REFUSED = {
    "lambda": ("make = lambda: nn.Linear(3, 2)", "make_model|is a lambda"),
    "closure": ("def outer():\n    def make():\n        return 1\n    return make\nmake = outer()", "lies within"),
    "method": ("class A:\n    def make(self):\n        return 1\nmake = A().make", "a method is neither"),
    "instance": ("class A:\n    def __call__(self):\n        return 1\nmake = A()", "a A is neither"),
    "position": ("def f(n):\n    return n\nmake = functools.partial(f, 3)", "f has some by position"),
    "module": ("net = nn.Linear(3, 2)\ndef make():\n    return net", "make uses net, a Linear .* weights=net"),
    "array": ("table = np.eye(3)\ndef make():\n    return table", "make uses table, a ndarray"),
    "nan": ("n = float('nan')\ndef make():\n    return n", "make uses n, a float"),
    "undefined": ("def make():\n    return nothing", "make uses nothing, which is not defined"),
    "deep": ("t = np.eye(3)\ndef f():\n    return t\ndef make():\n    return f()", "make uses t, a ndarray"),
    "renamed": ("def f():\n    return 1\ng = f\ndef make():\n    return g()", "g is another name of f"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_this_session_has_is_refused_by_name(name: str):
    cell, words = REFUSED[name]
    with pytest.raises(UserError, match=words) as refused:
        factory_of(Session(PREAMBLE, cell)["make"])
    assert str(refused.value).startswith("model_factory: ") and "\n" not in str(refused.value)


def test_without_a_source_there_is_a_remedy():
    names: dict[str, object] = {"__name__": "__main__"}
    exec("def make():\n    return 1", names)
    with pytest.raises(UserError, match="source of make is not to be found; write it to a file"):
        factory_of(names["make"])


# ---- what is given --------------------------------------------------------------------------------------------------


def test_settings_are_laid_out_as_in_a_configuration(tmp_path):
    raw = settings_of(
        tmp_path, ("a", {"name": "b", "concepts": {"expansion": 2}}), tmp_path / "out", {"concepts": {"expansion": 1}}
    )
    assert raw == {
        "output": str(tmp_path / "out"), "images": {"source": str(tmp_path)}, "model": {},
        "layers": ["a", {"name": "b", "concepts": {"expansion": 2}}], "concepts": {"expansion": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"output": "there"}, "output is given as out"),
        ({"model": {"source": "torchvision:resnet18"}}, "model.source is given as model_factory"),
        ({"model": "resnet18"}, "model: it is a section"),
        ({"concepts": {"expansion": torch.tensor(2)}}, "concepts.expansion: a Tensor is no plain value"),
    ],
)
def test_settings_that_cannot_be_written_are_refused(settings, words, tmp_path):
    with pytest.raises(UserError, match=words):
        settings_of(tmp_path, ["a"], tmp_path, settings)


@pytest.mark.parametrize(
    ("given", "weights", "section", "words"),
    [
        (3, None, {}, "a int is no model"),
        (nn.Linear(3, 2), {}, {}, "a module has its own weights"),
        (nn.Linear(3, 2), None, {"weights": "w.pth"}, "a module has its own weights"),
        (nn.Linear(3, 2), None, {"arguments": {"bias": False}}, "model.arguments are for a function"),
        ("torchvision:resnet18", "w.pth", {"weights": "v.pth"}, "both say which weights"),
        (functools.partial(nn.Linear, torch=1), None, {}, "Linear fails: TypeError"),
        (types.SimpleNamespace, None, {}, "SimpleNamespace returns a SimpleNamespace, not a torch.nn.Module"),
        (functools.partial(nn.Linear, 3), None, {}, "Linear has some by position"),
        (functools.partial(nn.Linear, in_features=torch.ones(())), None, {}, "model.arguments.in_features: a Tensor"),
        (functools.partial(nn.Linear, in_features=3, out_features=2), {"bias": torch.ones(2)}, {}, "weights: .*Miss"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_made_again_is_refused(given, weights, section, words):
    with pytest.raises(UserError, match=words):
        _model(given, weights, section)


def test_random_weights_are_those_that_the_jobs_draw():
    state = torch.random.get_rng_state()
    linear = functools.partial(nn.Linear, in_features=3, out_features=2)
    with pytest.raises(UserError, match="Linear draws its model's weights at random"):
        _model(linear, None, {})
    one, _, section = _model(linear, "random", {})
    assert torch.equal(state, torch.random.get_rng_state()) and section.pop("weights") == "random"
    torch.manual_seed(0)
    assert torch.equal(one.weight, nn.Linear(3, 2).weight)
    assert section == {"arguments": {"in_features": 3, "out_features": 2}, "source": "torch.nn.modules.linear:Linear"}


# ---- the same model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"said:": torch.tensor([[1.0, -100.0]])}, None),
        ({"said:": torch.tensor([[1.0, -100.0009]])}, None),
        ({"said:": torch.tensor([[1.00001, -100.0]])}, None),
        ({"said:": torch.tensor([[1.0, -100.002]])}, "the output differs by up to 0.002, where the largest is 1e"),
        # Small beside the other output, and yet another number.
        ({"said:": torch.tensor([[1.0009, -100.0]])}, "the output differs by up to 0.0009, where the largest is 1e"),
        ({"said:": torch.tensor([[float("nan"), -100.0]])}, "the output differs by up to nan"),
        ({"said:": torch.tensor([1.0, -100.0])}, r"the output is \[2\] instead of \[1, 2\]"),
        ({"said:logits": torch.tensor([[1.0, -100.0]])}, "only one returns"),
    ],
)
def test_models_are_the_same_up_to_rounding(other, words):
    found = difference({"said:": torch.tensor([[1.0, -100.0]])}, other)
    assert found is None if words is None else re.match(words, found)

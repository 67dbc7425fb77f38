"""Peak memory stays within the configured budget, as the operating system counts it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gigraph.model.network import Network
from gigraph.subject import CACHE_MB, Subject

PROGRAM = """
import ctypes, gc, sys
import numpy as np
rng = np.random.default_rng(0)

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

def reset():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or what was freed before is taken again unnoticed
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")

{prepare}
reset()
before = peak()
{work}
print(peak() - before)
"""
LASSO = """
from gigraph.method.lasso import lasso, lambda_max
v = rng.standard_normal((4096, 64), dtype=np.float32)
x = (v[rng.integers(0, 4096, 3000)] + 0.2 * rng.standard_normal((3000, 64))).astype(np.float32)
lam = 0.5 * lambda_max(x[:64], v).mean()
lasso(x[:2], v, lam, backend="numba")
"""
ROWS = """
from gigraph.method.bisecting import bisect
x = rng.standard_normal((60000, 128), dtype=np.float32)
bisect(x[:100], 4, backend="numba")
"""
NETWORK = """
import torch
from gigraph.planning.config import Compute
from gigraph.model.contribution import contributions
from gigraph.method.gig import Decomposition, attribute, concept_score
from gigraph.subject import Subject
torch.set_num_threads(1)
settings = {{
    "model": {{"source": "torchvision:resnet18", "weights": None, "arguments": {{}}, "task": "auto", "output": None,
               "reference": 0}},
    "preprocessing": {{"mean": [0, 0, 0], "std": [1, 1, 1]}},
    "image_size": (128, 128),
}}
subject = Subject(settings, Compute(device="cpu", memory_mb={budget}), ["layer1.1", "layer2.1"])
source, target = subject.layers.values()
vectors, to = torch.randn(64, source.channels), torch.randn(64, target.channels)
u = torch.rand(source.positions, 64) * (torch.rand(source.positions, 64) < 0.05)
image = Decomposition(torch.arange(64), u)
segment, score = subject.segment(source.name, target.name), concept_score(to)

def gig(steps, batch):
    start, targets = torch.zeros(source.channels), torch.arange(8)[None]
    attribute(segment, score, vectors, start, [image], targets, steps=steps, max_steps=steps, batch=batch)

def sweep(images):
    contributions(subject.network, [source, target], torch.randn(images, *subject.network.image_shape))

gig(1, 1)
sweep(1)
"""


def growth(prepare, work):
    program = PROGRAM.format(prepare=prepare, work=work)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if "clear_refs" in done.stderr:
        pytest.skip("the kernel does not reset a process's peak memory")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("budget", [40, 160])
def test_the_lasso_keeps_to_its_budget(budget):
    # With 160 MB the 67 MB of products are kept, with 40 MB they are not.
    found = growth(LASSO, f"lasso(x, v, lam, backend='numba', memory={budget} * 10**6)")
    assert found < 1.25 * budget * 10**6
    assert budget == 40 or found > 67e6


def test_the_clustering_holds_its_rows_once_more():
    # Unit rows, and a few numbers for each.
    assert growth(ROWS, "bisect(x, 200, backend='numba', max_iter=2)") < 1.25 * 60_000 * 128 * 4 + 60_000 * 64


@pytest.mark.parametrize(
    ("work", "least"),
    [("gig(128, subject.path_points(source.name))", 0.3), ("sweep(subject.images_at_once)", 0.5)],
    ids=["attribution", "sampling"],
)
def test_passes_through_the_network_keep_to_their_budget(work, least):
    budget = 96
    found = growth(NETWORK.format(budget=budget), work)
    assert least * budget * 10**6 < found < 1.25 * budget * 10**6


class Inverted(nn.Module):
    """A block whose inner map is six times as large as what it is made from."""

    def __init__(self):
        super().__init__()
        self.stem, self.wide, self.narrow = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 48, 1), nn.Conv2d(48, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head(torch.relu(self.narrow(torch.relu(self.wide(x)))).mean((2, 3)))


def test_path_points_are_counted_by_the_largest_map_behind_the_layer():
    network = Network(Inverted().eval(), (3, 10, 10), "inverted")
    layers = {layer.name: layer for layer in network.check_order(["stem", "narrow"])}
    assert [network.largest(layer) for layer in layers.values()] == [4800, 800]

    def points(name, memory, device="cpu"):
        subject = SimpleNamespace(layers=layers, network=network, memory=memory, device=torch.device(device))
        return Subject.path_points(subject, name)

    one = 4 * 24 * 800
    assert points("narrow", 50 * one) == 50 and points("stem", 600 * one) == 100
    # On a CPU a few in any case, as long as maps of the layer's own size would fit; no more than caches hold.
    assert points("stem", 50 * one) == 16 and points("stem", 50 * one, "cuda") == 8
    assert points("stem", 7 * one) == 7 and points("stem", 1) == 1
    assert points("narrow", 10**12) == CACHE_MB * 10**6 // one


CURVES = """
import torch
from gigraph.attributors import attribute
from gigraph.attributors.path import ConceptPath
from gigraph.method.fidelity import curve, drops_without
from gigraph.method.gig import Batch, Decomposition, class_score
torch.set_num_threads(1)
ctypes.CDLL("libc.so.6").mallopt(-3, 2**16)  # maps are given back at once: a scattered heap would count as held
vectors, start = torch.randn(300, 64), torch.zeros(64)
images = [Decomposition(torch.arange(300), torch.rand(400, 300)) for _ in range(64)]  # 0.1 MB a map
segment, score, to = lambda x: x.mean(1), class_score("logit"), torch.zeros(64, 1, dtype=torch.int64)

def curves(count, batch=8):
    return curve(segment, lambda y: y, start, images[0], vectors, torch.arange(300), np.arange(count), batch)

def drops(count, batch=8):
    return drops_without(segment, score, vectors, start, images[0], rng.random((count, 300)) < 0.2, to[0], batch)

def gradients(count, batch=8):
    path = ConceptPath(segment, score, vectors, start, Batch(batch), False, 1, 1, 1.0, "float32")
    return attribute("gradient_x_input", path, images[:count], to[:count])

curves(10), drops(10), gradients(8)
"""


@pytest.mark.parametrize("work", ["curves(301)", "drops(300)", "gradients(64)"])
def test_curves_hold_no_more_variants_than_their_batch(work):
    # All at once they take 200 MB, 63 and 40.
    assert growth(CURVES, work) < 20e6

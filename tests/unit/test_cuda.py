"""What runs on a CUDA device, beside the same on the CPU."""

import copy
from itertools import chain

import numpy as np
import pytest
import torch
from torch import nn

from gigraph.device import torch_device
from gigraph.method.bisecting import bisect
from gigraph.method.compiler import compiles_cuda
from gigraph.method.gig import Batch, Decomposition, ablate, attribute, concept_score, forward_slopes
from gigraph.method.lasso import calibrate, cuda, lambda_max, lasso
from gigraph.method.pursuit import Pursuit
from gigraph.method.quadrature import midpoint
from gigraph.method.vectors import concept_vectors
from gigraph.model.contribution import contributions
from gigraph.model.network import Network
from gigraph.planning.config import Compute
from reference.synthetic import pfv_like

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (compiles_cuda() and torch.cuda.is_available()), reason="no CUDA device"),
]


def rows(kind, n=3000, channels=40):
    rng = np.random.default_rng(n)
    x = pfv_like(n, channels, noise=0.4, spread=1.0, seed=1)
    if kind == "lattice":
        x = rng.integers(-1, 2, (n, channels)).astype(np.float32)
    elif kind == "duplicates":
        x = x[rng.integers(0, n // 8, n)]
    elif kind == "opposite":
        x[1::2] = -x[::2]
    x[::97] = 0
    return x


@pytest.mark.parametrize("kind", ["plain", "lattice", "duplicates", "opposite"])
@pytest.mark.parametrize(("k", "max_iter"), [(2, 1), (40, 3), (700, 20)])
def test_the_clusters_are_the_same_bit_for_bit(kind, k, max_iter):
    x = rows(kind)
    one, other = (bisect(x, k, seed=3, max_iter=max_iter, backend=backend) for backend in ("cupy", "numba"))
    for field in ("node", "parent", "size", "concept", "labels", "requested", "dropped"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)


@pytest.fixture(scope="module")
def layer():
    x = rows("plain", 2000, 64)
    x = x[x.any(1)]
    tree = bisect(x, 300, backend="numba")
    return x[:600], concept_vectors(x, tree.labels, tree.k)


@pytest.mark.parametrize("worth", [0, 12], ids=["without the products of atoms", "with them"])
@pytest.mark.parametrize(("fraction", "tol"), [(0.3, 1e-6), (0.1, 1e-5), (0.02, 1e-4)])
@pytest.mark.parametrize("sign", ["any", "nonnegative"])
def test_the_lasso_has_its_certificate_and_the_same_objective(layer, fraction, tol, worth, sign, monkeypatch):
    x, v = layer
    lam = fraction * lambda_max(x, v, sign)
    other = lasso(x, v, lam, sign=sign, tol=tol, backend="numba")
    monkeypatch.setattr(cuda, "WORTH", worth)
    one = lasso(x, v, lam, sign=sign, tol=tol, backend="torch", device="cuda")
    assert one.gap.max() <= tol and (one.values < 0).any() == (sign == "any")

    def objective(codes):
        u = codes.dense(len(v)).astype(np.float64)
        return 0.5 * ((x - u @ v) ** 2).sum(1) + lam * np.abs(u).sum(1)

    np.testing.assert_allclose(objective(one), objective(other), rtol=2 * tol)
    np.testing.assert_allclose(one.rel_l2, other.rel_l2, atol=3e-3)


@pytest.mark.parametrize("sign", ["any", "nonnegative"])
def test_pursuit_and_its_refit_are_the_compiled_ones(layer, sign):
    x, v = layer
    one, other = (Pursuit(v, backend=backend) for backend in ("torch", "numba"))
    ours, exact = (solver.solve(x, 8, sign=sign) for solver in (one, other))
    np.testing.assert_array_equal(ours.indices, exact.indices)
    np.testing.assert_allclose(ours.values, exact.values, atol=1e-4 * np.abs(exact.values).max())
    np.testing.assert_allclose(ours.rel_l2, exact.rel_l2, atol=1e-5)
    refitted = [solver.refit(x, exact, sign=sign) for solver in (one, other)]
    np.testing.assert_allclose(*(codes.dense(len(v)) for codes in refitted), atol=1e-4 * np.abs(exact.values).max())


def test_calibration_finds_a_lambda_as_good(layer):
    one, other = (calibrate(*layer, 6.0, backend=backend) for backend in ("torch", "numba"))
    assert one.nonzeros == pytest.approx(6.0, rel=0.02) and one.lam == pytest.approx(other.lam, rel=0.02)


@pytest.mark.parametrize("case", ["duplicates", "opposites", "zero atom", "rank one", "dependent", "one atom", "ties"])
def test_degenerate_dictionaries(layer, case):
    x, v = layer[0][:50, :24].copy(), layer[1][:120, :24].copy()
    if case == "duplicates":
        v[60:] = v[:60]
    elif case == "opposites":
        v[60:] = -v[:60]
    elif case == "zero atom":
        v[::7] = 0
    elif case == "rank one":
        v = np.outer(np.linspace(-1, 1, 120), v[0]).astype(np.float32)
    elif case == "dependent":  # all atoms in a plane
        v = (np.random.default_rng(0).standard_normal((120, 2)) @ v[:2]).astype(np.float32)
    elif case == "one atom":
        v = v[:1]
    else:
        v, x = np.repeat(np.eye(3, 24, dtype=np.float32), 90, axis=0), np.ones_like(x)
    codes = lasso(x, v, 0.05 * lambda_max(x, v), tol=1e-5, backend="torch", device="cuda")
    assert codes.gap.max() <= 1e-5 and (np.diff(codes.indptr) > 0).all()


@pytest.fixture(scope="module")
def networks():
    """One network of convolutions on both devices."""
    device = torch_device(Compute(device="cuda"))
    torch.manual_seed(0)
    blocks = [(nn.Conv2d(c, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()) for c in (3, 32, 32, 32)]
    model = nn.Sequential(*chain(*blocks), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)).eval()
    twin = copy.deepcopy(model).to(device)
    return {"cpu": Network(model, (3, 24, 24)), "cuda": Network(twin, (3, 24, 24))}


def near(one, other, relative=1e-3):
    one, other = one.detach().cpu().double(), other.detach().cpu().double()
    assert (one - other).abs().max() <= relative * other.abs().max()


def test_contributions_are_near(networks):
    x = torch.randn(4, 3, 24, 24)
    found = {}
    for device, network in networks.items():
        layers = [network.layer(name) for name in ("3", "6")]
        found[device] = contributions(network, layers, x.to(device))
    for part in range(2):
        for name in found["cpu"][part]:
            near(found["cuda"][part][name], found["cpu"][part][name])
    near(found["cuda"][2], found["cpu"][2])


@pytest.mark.parametrize("path", ["attribute", "slopes", "ablate"])
def test_attributions_are_near(networks, path):
    torch.manual_seed(1)
    u = torch.rand(24 * 24, 5) * (torch.rand(24 * 24, 5) < 0.3)
    vectors, towards, start = torch.randn(9, 32), torch.randn(6, 32), torch.randn(32)
    found = {}
    for device, network in networks.items():
        a, b = network.layer("3"), network.layer("9")
        segment = network.pfv_segment(a, b)
        score, basis, origin = concept_score(towards.to(device)), vectors.to(device), start.to(device)
        image = Decomposition(torch.tensor([0, 2, 3, 5, 8], device=device), u.to(device))
        targets = torch.arange(4, device=device)
        if path == "attribute":
            (one,) = attribute(segment, score, basis, origin, [image], targets[None], steps=8, max_steps=8)
            found[device] = one.values
        elif path == "slopes":
            found[device] = forward_slopes(segment, score, basis, origin, image, targets, midpoint(8)[0], 16)
        else:
            found[device] = ablate(segment, score, basis, origin, image, [0, 3, 7], targets)
    near(found["cuda"], found["cpu"])


def test_a_full_device_halves_the_batch(networks):
    network = networks["cuda"]
    segment = network.pfv_segment(network.layer("3"), network.layer("9"))
    image = Decomposition(torch.arange(3, device="cuda"), torch.rand(24 * 24, 3, device="cuda"))
    arguments = (segment, concept_score(torch.randn(6, 32, device="cuda")), torch.randn(3, 32, device="cuda"))
    arguments += (torch.zeros(32, device="cuda"), [image], torch.tensor([[1]], device="cuda"))
    (expected,) = attribute(*arguments, steps=4096, max_steps=4096, batch=64)
    batch = Batch(4096)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(4e8 / torch.cuda.get_device_properties(0).total_memory)
    try:
        (found,) = attribute(*arguments, steps=4096, max_steps=4096, batch=batch)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert batch.points < 4096
    near(found.values, expected.values)

"""Lasso with a certificate (Eqs. 1-2): optimality, the gap as a bound, awkward dictionaries, calibration."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gigraph.method import compiler
from gigraph.method.bisecting import bisect
from gigraph.method.lasso import Solver, batched, calibrate, compiled, cuda, lambda_max, lasso, solver
from gigraph.method.vectors import concept_vectors
from reference import lasso as reference
from reference.synthetic import dictionary, pfv_like

BACKENDS = ["numba", "torch"]
SIGNS = ["any", "nonnegative"]


def solve(x, v, lam, backend, **options):
    """Solve, taking a missed tolerance for an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return lasso(x, v, lam, backend=backend, device="cpu", **options)


def problem(n=12, channels=16, k=60, cosine=0.9, seed=0):
    """Coherent atoms, and samples that a few of them make with either sign."""
    rng = np.random.default_rng(seed)
    v = dictionary(k, channels, cosine=cosine, seed=seed)
    mixture = rng.standard_normal((n, k)) * (rng.random((n, k)) < 0.08)
    x = mixture @ v + 0.1 * rng.standard_normal((n, channels))
    return x.astype(np.float32), v


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cosine", [0.0, 0.9, 0.99])
@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("sign", SIGNS)
def test_optimality_conditions(backend, cosine, fraction, sign):
    x, v = problem(cosine=cosine)
    lam = fraction * lambda_max(x, v, sign)
    # Large coefficients that cancel, in float32, allow no smaller gap.
    tol = 1e-4 if fraction < 0.1 else 1e-6
    codes = solve(x, v, lam, backend, tol=tol, sign=sign)
    u = codes.dense(len(v)).astype(np.float64)
    c = (x - u @ v) @ v.T.astype(np.float64)
    slack = (0.02 if fraction < 0.1 else 2e-3) * lam[:, None]
    assert (reference.pull(c, sign) <= lam[:, None] + slack).all()
    assert (u < 0).any() == (sign == "any")
    assert (np.abs(c - lam[:, None] * np.sign(u))[u != 0] <= np.broadcast_to(slack, u.shape)[u != 0]).all()
    assert (codes.nonzeros() > 0).all()
    np.testing.assert_allclose(codes.rel_l2, np.linalg.norm(x - u @ v, axis=1) / np.linalg.norm(x, axis=1), rtol=1e-5)


@settings(max_examples=20, deadline=None)
@example(seed=3, channels=3, k=3, cosine=0.95, fraction=0.03, tol=1e-4, scale=1e-4, sign="any")
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 20),
    k=st.integers(1, 50),
    cosine=st.sampled_from([0.0, 0.7, 0.95]),
    fraction=st.sampled_from([0.8, 0.3, 0.03]),
    tol=st.sampled_from([1e-2, 1e-4]),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
    sign=st.sampled_from(SIGNS),
)
def test_gap_bounds_the_distance_to_the_optimum(seed, channels, k, cosine, fraction, tol, scale, sign):
    x, v = problem(3, channels, k, cosine, seed)
    x *= np.float32(scale)
    lam = fraction * lambda_max(x, v, sign)
    lam[lam == 0] = 1.0
    for backend in BACKENDS:
        with warnings.catch_warnings(record=True) as missed:
            warnings.simplefilter("always")
            codes = lasso(x, v, lam, backend=backend, device="cpu", tol=tol, sign=sign)
        u = codes.dense(k)
        # Where atoms are much alike, rounding to float32 leaves a little more of a narrow gap, and that is said.
        narrow = (cosine, fraction, tol) == (0.95, 0.03, 1e-4)
        assert (codes.gap >= 0).all() and (codes.gap <= (1e-3 if narrow else tol)).all()
        assert bool(missed) == bool((codes.gap > tol).any())
        for i in range(len(x)):
            primal = reference.objective(x[i], v, u[i], lam[i])
            best = reference.objective(x[i], v, reference.lasso(x[i], v, lam[i], tol=1e-9, sign=sign), lam[i])
            assert primal - best <= codes.gap[i] * primal + 2e-9 * best


@pytest.mark.parametrize("sign", SIGNS)
def test_gap_bounds_the_distance_of_any_coefficients(sign):
    """Stopped after a few rounds, coefficients are poor; their gap must say at least so."""
    x, v = problem(8, 24, 90, 0.5)
    lam = 0.05 * lambda_max(x, v, sign)
    exact = [reference.lasso(x[i], v, lam[i], tol=1e-8, sign=sign) for i in range(8)]
    best = [reference.objective(x[i], v, exact[i], lam[i]) for i in range(8)]
    poor = 0
    for backend in BACKENDS:
        for rounds in (0, 1, 2):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                codes = lasso(x, v, lam, max_rounds=rounds, backend=backend, device="cpu", sign=sign)
            u = codes.dense(90)
            excess = np.array([1 - best[i] / reference.objective(x[i], v, u[i], lam[i]) for i in range(8)])
            assert (codes.gap >= excess - 1e-7).all()
            for i in range(8):
                primal = reference.objective(x[i], v, u[i], lam[i])
                literal = reference.gap(x[i], v, u[i], lam[i], sign) / primal
                np.testing.assert_allclose(codes.gap[i], literal, rtol=1e-3, atol=1e-6)
            assert bool(caught) == bool((codes.gap > 1e-4).any())
            poor += (codes.gap > 1e-4).sum()
    assert poor > (24 if sign == "any" else 16)


@pytest.mark.parametrize("backend", BACKENDS)
def test_missed_tolerance_is_said(backend):
    x, v = problem(5, 24, 150, 0.8)
    with pytest.warns(UserWarning, match="samples miss the relative duality gap 0.0001 after 1 rounds"):
        lasso(x, v, 0.02 * lambda_max(x, v), max_rounds=1, backend=backend, device="cpu")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sign", SIGNS)
def test_orthonormal_atoms_give_soft_thresholding(backend, sign):
    rng = np.random.default_rng(1)
    v = np.linalg.qr(rng.standard_normal((12, 12)))[0].astype(np.float32)
    x = rng.standard_normal((30, 12)).astype(np.float32)
    c = x @ v.T
    expected = np.sign(c) * np.maximum(reference.pull(c, sign) - 0.4, 0)
    got = solve(x, v, 0.4, backend, tol=1e-6, sign=sign).dense(12)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    np.testing.assert_array_equal(got != 0, expected != 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sign", SIGNS)
def test_lambda_max_is_where_coefficients_start(backend, sign):
    x, v = problem(40)
    largest = lambda_max(x, v, sign)
    np.testing.assert_allclose(largest, reference.pull(x.astype(np.float64) @ v.T, sign).max(axis=1), rtol=1e-12)
    at = solve(x, v, largest, backend, sign=sign)
    assert at.indices.size == 0 and (at.gap < 1e-12).all()
    np.testing.assert_allclose(at.rel_l2, 1, rtol=1e-6)
    below = solve(x, v, 0.99 * largest, backend, tol=1e-6, sign=sign)
    assert (below.nonzeros() >= 1).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["duplicates", "opposites", "zero atom", "rank one", "dependent", "one atom"])
@pytest.mark.parametrize("sign", SIGNS)
def test_degenerate_dictionaries(backend, case, sign):
    x, v = problem(10, 8, 24, 0.5)
    if case == "duplicates":
        v[12:] = v[:12]
    elif case == "opposites":
        v[12:] = -v[:12]
    elif case == "zero atom":
        v[3] = v[0] = 0
    elif case == "rank one":
        v = np.outer(np.linspace(-1, 1, 24), v[0]).astype(np.float32)
    elif case == "dependent":  # 24 atoms in a plane
        v = (np.random.default_rng(0).standard_normal((24, 2)) @ v[:2]).astype(np.float32)
    else:
        v = v[:1]
    lam = 0.05 * lambda_max(x, v, sign)
    codes = solve(x, v, lam, backend, sign=sign)
    u = codes.dense(len(v))
    assert (codes.gap <= 1e-4).all()
    for i in range(len(x)):
        exact = reference.lasso(x[i], v, lam[i], tol=1e-7, sign=sign) if lam[i] > 0 else np.zeros(len(v))
        best = reference.objective(x[i], v, exact, lam[i])
        assert reference.objective(x[i], v, u[i], lam[i]) <= best * (1 + 1.1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sign", SIGNS)
def test_zero_rows_empty_input_and_batches(backend, sign):
    x, v = problem(25)
    x[[0, 7, 24]] = 0
    lam = 0.2 * lambda_max(x, v, sign)  # zero where x is
    codes = solve(x, v, lam, backend, batch=4, sign=sign)
    np.testing.assert_array_equal(codes.nonzeros()[[0, 7, 24]], 0)
    np.testing.assert_array_equal(codes.gap[[0, 7, 24]], 0)
    np.testing.assert_array_equal(codes.rel_l2[[0, 7, 24]], 0)
    assert codes.indptr.dtype == np.int64 and codes.indices.dtype == np.int32
    assert {codes.values.dtype, codes.gap.dtype, codes.rel_l2.dtype} == {np.dtype(np.float32)}
    assert (codes.values != 0).all()
    for i in range(25):
        assert (np.diff(codes.indices[codes.indptr[i] : codes.indptr[i + 1]]) > 0).all()
    np.testing.assert_allclose(codes.dense(60), solve(x, v, lam, backend, sign=sign).dense(60), atol=1e-5)
    empty = solve(x[:0], v, 0.1, backend, sign=sign)
    assert empty.indptr.tolist() == [0] and empty.dense(60).shape == (0, 60)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_only_negative_coefficients_could_improve_stays_zero(backend):
    """Also where lambda is then zero, as `penalty: relative` makes it."""
    x, v = problem(6, 8, 10, 0.0)
    v = np.abs(v)
    x = -np.abs(x)
    np.testing.assert_array_equal(lambda_max(x, v, "nonnegative"), 0)
    codes = solve(x, v, 0.0, backend, sign="nonnegative")
    assert codes.indices.size == 0 and (codes.gap == 0).all()
    with pytest.raises(ValueError, match="lambda is zero for sample 0, which some concept vector improves"):
        lasso(x, v, 0.0, backend=backend, device="cpu")


@pytest.mark.parametrize("sign", SIGNS)
def test_backends_agree_on_concepts_of_a_layer(sign):
    x = pfv_like(600, 32, noise=0.4, spread=0.8, seed=3)
    tree = bisect(x, 128)
    v = concept_vectors(x, tree.labels, tree.k)
    lam = 0.1 * float(np.median(lambda_max(x, v, sign)))
    one, other = (solve(x[:200], v, lam, backend, tol=1e-6, sign=sign) for backend in BACKENDS)
    np.testing.assert_allclose(one.dense(128), other.dense(128), atol=2e-3)
    np.testing.assert_allclose(one.rel_l2, other.rel_l2, atol=1e-4)
    assert np.ptp(one.nonzeros()) > (5 if sign == "any" else 3)


@pytest.mark.parametrize("sign", SIGNS)
def test_without_room_for_the_gram_matrix(monkeypatch, sign):
    x, v = problem(30, 16, 200)
    lam = 0.05 * lambda_max(x, v, sign)
    expected = solve(x, v, lam, "numba", tol=1e-5, sign=sign).dense(200)
    monkeypatch.setattr(compiled, "GRAM_BYTES", 0)
    np.testing.assert_allclose(solve(x, v, lam, "numba", tol=1e-5, sign=sign).dense(200), expected, atol=1e-3)


@pytest.mark.parametrize("nonzeros", [2.0, 6.0, 15.0])
def test_calibration_hits_its_target(nonzeros):
    x = pfv_like(400, 32, noise=0.4, spread=0.8, seed=3)
    tree = bisect(x, 128)
    v = concept_vectors(x, tree.labels, tree.k)
    found = calibrate(x, v, nonzeros)
    assert abs(found.nonzeros - nonzeros) <= 0.02 * nonzeros
    codes = solve(x, v, found.lam, "numba", tol=1e-3)
    assert codes.nonzeros().mean() == found.nonzeros
    np.testing.assert_allclose(codes.rel_l2.mean(), found.rel_l2)


@pytest.mark.parametrize("sign", SIGNS)
def test_calibration_reports_what_a_dictionary_cannot_yield(sign):
    x, v = problem(40, 8, 5, 0.0)
    found = calibrate(x, v, 7.0, sign=sign)
    assert (4 if sign == "any" else 1) < found.nonzeros <= (5 if sign == "any" else 4) and found.lam > 0


def test_calibration_looks_past_samples_that_nothing_positive_improves():
    """The lambda of the others decides; most samples' is zero."""
    x, v = problem(40, 8, 5, 0.0)
    v = np.abs(v)
    x[:30] = -np.abs(x[:30])
    x[30:] = np.abs(x[30:])
    found = calibrate(x, v, 0.5, sign="nonnegative")
    assert abs(found.nonzeros - 0.5) <= 0.05
    with pytest.raises(ValueError, match="nothing to calibrate"):
        calibrate(x[:30], v, 0.5, sign="nonnegative")


@pytest.mark.parametrize("x", [np.zeros((3, 4)), np.zeros((0, 4)), np.eye(4)[3:]])
def test_calibration_without_anything_to_explain(x):
    with pytest.raises(ValueError, match="nothing to calibrate"):
        calibrate(x.astype(np.float32), np.eye(4, dtype=np.float32)[:2], 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.full((2, 3), np.nan)}, "x holds a value that is not finite"),
        ({"v": np.full((4, 3), np.inf)}, "v holds a value that is not finite"),
        ({"v": np.ones((4, 2))}, "x must be"),
        ({"lam": -1.0}, "not negative"),
        ({"lam": np.array([0.1, np.nan])}, "finite"),
        ({"lam": np.array([0.1, 0.0])}, "lambda is zero for sample 1"),
        ({"tol": 1e-9}, "tol must be at least"),
        ({"backend": "cupy"}, "backend must be"),
        ({"sign": "positive"}, "sign must be any or nonnegative, not 'positive'"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = {"x": np.ones((2, 3)), "v": np.ones((4, 3)), "lam": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        lasso(**arguments)


def test_calibration_target_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        calibrate(np.ones((2, 3)), np.ones((4, 3)), 0)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), room=st.integers(1, 40), floor=st.sampled_from([0.0, 0.3, 1.5]))
def test_candidates_are_the_strongest(seed, room, floor):
    """Whatever is left out is no stronger than what is taken, and there is little room left."""
    rng = np.random.default_rng(seed)
    magnitude = np.abs(rng.standard_normal(200) * 10.0 ** rng.uniform(-2, 1, 200)).astype(np.float32)
    found, values = np.empty(201, dtype=np.int64), np.empty(201, dtype=np.float32)
    n = compiled._strongest(magnitude, floor, room, found, values)
    taken = found[:n]
    able = np.flatnonzero(magnitude > np.float32(floor))
    assert len(set(taken)) == n and set(taken) <= set(able)
    assert n == len(able) if len(able) <= room else room < 2 * n <= 2 * room
    left = np.setdiff1d(able, taken)
    assert not len(left) or magnitude[left].max() <= magnitude[taken].min()


def test_of_equal_candidates_as_many_as_fit_are_taken():
    found, values = np.empty(51, dtype=np.int64), np.empty(51, dtype=np.float32)
    assert compiled._strongest(np.full(50, 2, dtype=np.float32), 1.0, 7, found, values) == 7


def test_a_solver_makes_the_gram_matrix_when_it_pays():
    x, v = problem(40, 24, 200)
    lam = 0.1 * lambda_max(x, v)
    made_once = Solver(v, backend="numba")
    expected = solve(x, v, lam, "numba", tol=1e-5).dense(200)
    for part, made in ((slice(0, 12), False), (slice(12, 40), True)):
        found = made_once.solve(x[part], lam[part], tol=1e-5)
        assert bool(made_once._kernel.gram.size) == made
        np.testing.assert_allclose(found.dense(200), expected[part], atol=2e-3)


def test_memory_bounds_the_batch_and_changes_no_more_than_rounding():
    x, v = problem(300, 24, 200)
    lam = 0.1 * lambda_max(x, v)
    small, large = (compiled.Compiled(v, memory) for memory in (100_000, 2**30))
    for kernel in (small, large):
        kernel.expect(300)
    assert small.gram.size == 0 and large.gram.size == 200**2 and small.batch < large.batch == 512
    expected = solve(x, v, lam, "numba", tol=1e-5)
    for memory in (10_000, 100_000, 10**6):
        codes = solve(x, v, lam, "numba", tol=1e-5, memory=memory)
        np.testing.assert_allclose(codes.dense(200), expected.dense(200), atol=2e-3)


def test_a_gpu_is_looked_for_only_where_it_is_worth_its_start(monkeypatch):
    asked = []
    monkeypatch.setattr(compiler, "_cuda_driver", lambda: asked.append(1) or True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert compiler.choose("auto", None, small=True) == ("numba", "cpu") and not asked
    assert compiler.choose("auto", None) == ("torch", "cuda") and asked
    assert compiler.choose("auto", "cpu") == ("numba", "cpu")


@pytest.mark.parametrize("kernels", [True, False])
def test_a_gpu_without_a_compiler_solves_in_torch(monkeypatch, kernels):
    monkeypatch.setattr(solver, "compiles_cuda", lambda: kernels)
    monkeypatch.setattr(batched, "Batched", lambda *_: "torch")
    monkeypatch.setattr(cuda, "Cuda", lambda *_: "kernels")
    v = np.ones((2, 3), dtype=np.float32)
    assert solver._load("torch", "cuda", v, 1, True) == ("kernels" if kernels else "torch")
    assert solver._load("torch", "cpu", v, 1, True) == "torch"

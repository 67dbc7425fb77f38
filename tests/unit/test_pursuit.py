"""Orthogonal matching pursuit and refitting: against the literal reference, and what must hold of any result."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from gigraph.method.lasso import lambda_max, lasso
from gigraph.method.pursuit import Pursuit, batched, compiled, refit
from reference import pursuit as reference
from reference.synthetic import dictionary

BACKENDS = ["numba", "torch"]
SIGNS = ["any", "nonnegative"]


def pursuit(v, backend="numba", **options):
    return Pursuit(v, backend=backend, device="cpu", **options)


def problem(n=12, channels=16, k=60, cosine=0.9, seed=0, atoms=5):
    """Coherent atoms, and samples that a few of them make with either sign."""
    rng = np.random.default_rng(seed)
    v = dictionary(k, channels, cosine=cosine, seed=seed)
    mixture = rng.standard_normal((n, k)) * (rng.random((n, k)) < atoms / k)
    x = mixture @ v + 0.1 * rng.standard_normal((n, channels))
    return x.astype(np.float32), v


def measured(x, v, codes):
    """Return U, the correlations with the residual over |v_j| |x|, and |r| / |x|, in float64."""
    u = codes.dense(len(v)).astype(np.float64)
    r = x - u @ v.astype(np.float64)
    lengths, norms = np.linalg.norm(v.astype(np.float64), axis=1), np.linalg.norm(x.astype(np.float64), axis=1)
    scale = np.maximum(np.outer(norms, lengths), 1e-300)
    return u, r @ v.T.astype(np.float64) / scale, np.linalg.norm(r, axis=1) / np.maximum(norms, 1e-300)


def same(one, other):
    for name in ("indptr", "indices", "values", "rel_l2", "stationarity"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(("backend", "memory"), [("numba", 2**31), ("numba", 1000), ("torch", 2**31)])
@pytest.mark.parametrize("case", [(30, 16, 60, 0.9, 8), (12, 256, 2048, 0.7, 32), (20, 64, 500, 0.95, 32)])
def test_supports_are_those_of_the_literal_pursuit(sign, backend, memory, case):
    """32 atoms far, a third of them to rounding errors of float32 and on: what it decided would show."""
    n, channels, k, cosine, nonzeros = case
    x, v = problem(n, channels, k, cosine, atoms=40)
    codes = pursuit(v, backend, memory=memory).solve(x, nonzeros, sign=sign)
    u, _, rel_l2 = measured(x, v, codes)
    for i in range(n):
        support, expected, path = reference.omp(x[i], v, nonzeros, sign=sign)
        assert sorted(support) == codes.indices[codes.indptr[i] : codes.indptr[i + 1]].tolist()
        np.testing.assert_allclose(u[i], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
        np.testing.assert_allclose(rel_l2[i], path[-1], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 20),
    k=st.integers(1, 50),
    cosine=st.sampled_from([0.0, 0.7, 0.999]),
    nonzeros=st.integers(1, 20),
    scale=st.sampled_from([1e-20, 1.0, 1e20]),
    sign=st.sampled_from(SIGNS),
)
def test_least_squares_on_the_support_and_a_true_certificate(seed, channels, k, cosine, nonzeros, scale, sign):
    x, v = problem(4, channels, k, cosine, seed)
    x *= np.float32(scale)
    for backend in BACKENDS:
        codes = pursuit(v, backend).solve(x, nonzeros, sign=sign)
        u, correlations, rel_l2 = measured(x, v, codes)
        on_support = np.where(u != 0, np.abs(correlations), 0).max(axis=1)
        assert np.isnan(codes.gap).all() and (codes.nonzeros() <= nonzeros).all()
        np.testing.assert_allclose(codes.stationarity, on_support, rtol=1e-5, atol=1e-13)
        np.testing.assert_allclose(codes.rel_l2, rel_l2, rtol=1e-5, atol=1e-13)
        # Least squares, up to the rounding of coefficients to float32.
        norms = np.linalg.norm(x.astype(np.float64), axis=1)
        rounding = 2.0**-24 * (np.abs(u) * np.linalg.norm(v, axis=1)).sum(axis=1) / norms
        assert (on_support <= rounding + 1e-12).all()
        if sign == "nonnegative":
            assert (codes.values > 0).all()


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_atom_lowers_the_residual(backend, sign):
    x, v = problem(20, 32, 100)
    solver = pursuit(v, backend)
    steps = [solver.solve(x, nonzeros, sign=sign) for nonzeros in range(1, 13)]
    for fewer, more in itertools.pairwise(steps):
        grown = more.nonzeros() > fewer.nonzeros()
        assert grown.mean() > 0.5
        assert (more.rel_l2[grown] < fewer.rel_l2[grown]).all()
        np.testing.assert_array_equal(more.rel_l2[~grown], fewer.rel_l2[~grown])
        if sign == "any":
            assert grown.all() and ((fewer.dense(100) != 0) <= (more.dense(100) != 0)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_orthonormal_atoms_are_recovered_and_else_the_largest_are_taken(backend):
    rng = np.random.default_rng(1)
    v = np.linalg.qr(rng.standard_normal((24, 24)))[0].astype(np.float32)
    u = rng.standard_normal((30, 24)) * (np.argsort(rng.random((30, 24)), axis=1) < 5)
    exact = pursuit(v, backend).solve((u @ v).astype(np.float32), 24)
    np.testing.assert_allclose(exact.dense(24), u, atol=1e-6)
    assert (exact.nonzeros() == 5).all()  # what is left is rounding
    x = rng.standard_normal((30, 24)).astype(np.float32)
    for sign in SIGNS:
        c = x @ v.T
        c = c if sign == "any" else np.maximum(c, 0)
        expected = np.where(np.argsort(np.argsort(-np.abs(c), axis=1), axis=1) < 6, c, 0)
        np.testing.assert_allclose(pursuit(v, backend).solve(x, 6, sign=sign).dense(24), expected, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_lengths_of_atoms_and_samples_do_not_matter(backend):
    x, v = problem(10, 16, 60)
    lengths = 2.0 ** np.random.default_rng(0).integers(-30, 30, 60)
    one = pursuit(v, backend).solve(x, 6)
    other = pursuit(v * lengths[:, None].astype(np.float32), backend).solve(x * np.float32(2.0**-40), 6)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.values, other.values * (lengths[other.indices] * 2.0**40))


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_stops_at_the_residual_asked_for_and_not_later(backend, sign):
    x, v = problem(20, 32, 200, 0.7)
    solver = pursuit(v, backend)
    codes = solver.solve(x, residual=0.5, sign=sign)
    assert (codes.rel_l2 <= 0.5 * (1 + 1e-6)).all() and np.ptp(codes.nonzeros()) > 2
    for i in range(20):
        support, _, path = reference.omp(x[i], v, 32, 0.5, sign)
        assert sorted(support) == codes.indices[codes.indptr[i] : codes.indptr[i + 1]].tolist() and path[-2] > 0.5
    both = solver.solve(x, 3, 0.5, sign)
    assert (both.nonzeros() == np.minimum(codes.nonzeros(), 3)).all()
    assert solver.solve(x, residual=1.0).indices.size == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_unstopped_the_nonnegative_pursuit_solves_nonnegative_least_squares(backend):
    x, v = problem(30, 24, 80, 0.5, atoms=10)
    codes = pursuit(v, backend).solve(x, 24, sign="nonnegative")
    u, correlations, rel_l2 = measured(x, v, codes)
    assert (u >= 0).all() and (correlations <= 2e-6).all()
    best = [nnls(v.T.astype(np.float64), row.astype(np.float64))[1] / np.linalg.norm(row) for row in x]
    np.testing.assert_allclose(rel_l2, best, atol=1e-6)


def supports(x, v, fraction=0.1):
    return lasso(x, v, fraction * lambda_max(x, v), backend="numba", tol=1e-5)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_refit_is_least_squares_on_the_support(backend, sign):
    x, v = problem(60, 40, 300, 0.8)
    x[5] = 0
    codes = supports(x, v)
    if sign == "nonnegative":  # some of them from nothing, and from what is not feasible
        codes.values[::3] *= -1
    fitted = refit(x, v, codes, sign, backend=backend, device="cpu")
    u, correlations, rel_l2 = measured(x, v, fitted)
    given = codes.dense(300)
    assert not ((u != 0) & (given == 0)).any() and (fitted.stationarity <= 1e-6).all()
    np.testing.assert_allclose(fitted.rel_l2, rel_l2, atol=1e-7)
    for i in np.flatnonzero(codes.nonzeros()):
        support = np.flatnonzero(given[i])
        atoms, sample = v[support].T.astype(np.float64), x[i].astype(np.float64)
        best = np.linalg.lstsq(atoms, sample, rcond=None)[0] if sign == "any" else nnls(atoms, sample)[0]
        np.testing.assert_allclose(u[i, support], best, rtol=1e-5, atol=1e-6 * np.abs(best).max())
        if sign == "nonnegative":
            assert (correlations[i, support] <= 2e-6).all()
    assert fitted.nonzeros()[5] == fitted.rel_l2[5] == fitted.stationarity[5] == 0
    # What is the least squares already stays.
    again = refit(x, v, fitted, sign, backend=backend, device="cpu")
    np.testing.assert_allclose(again.dense(300), fitted.dense(300), rtol=1e-6, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cosine=st.sampled_from([0.0, 0.9, 0.999999]),
    fraction=st.sampled_from([0.5, 0.05]),
    twins=st.booleans(),
)
def test_refit_never_raises_the_residual(seed, cosine, fraction, twins):
    x, v = problem(5, 8, 30, cosine, seed)
    if twins:
        v[15:] = v[:15] * np.float32(1 + 1e-4) + 1e-5
    codes = supports(x, v, fraction)
    for backend in BACKENDS:
        fitted = refit(x, v, codes, backend=backend, device="cpu")
        assert (measured(x, v, fitted)[2] <= measured(x, v, codes)[2] * (1 + 1e-12)).all()
        assert np.isfinite(fitted.values).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_refit_keeps_what_it_cannot_improve(backend):
    """Two atoms a ten-thousandth apart, of which one is dropped, were given with what the other cannot do."""
    v = np.array([[1, 0, 0], [1, 1e-4, 0]], dtype=np.float32)
    x = np.array([[1, 1e-4, 1e-4]], dtype=np.float32)
    codes = pursuit(np.eye(3)[:2]).solve(x, 2)
    for values, stays in (([0.3, 0.6], 1), ([-0.6, 0.3], 0)):  # the one that gives more
        codes.values[:] = values
        dropped = refit(x, v, codes, backend=backend, device="cpu")
        assert dropped.indices.tolist() == [stays] and dropped.rel_l2 < measured(x, v, codes)[2]
    codes.values[:] = [-1, 2]
    x = (codes.values @ v)[None]
    kept = refit(x, v, codes, backend=backend, device="cpu")
    assert kept.rel_l2 == 0 and kept.values.tolist() == [-1, 2]


def degenerate(case):
    x, v = problem(10, 8, 24, 0.5)
    if case == "duplicates":
        v[12:] = v[:12]
    elif case == "opposites":
        v[12:] = -v[:12]
    elif case == "zero atoms":
        v[3] = v[0] = 0
    elif case == "nothing but zeros":
        v[:] = 0
    elif case == "rank one":
        v = np.outer(np.linspace(-1, 1, 24), v[0]).astype(np.float32)
    elif case == "plane":
        v = (np.random.default_rng(0).standard_normal((24, 2)) @ v[:2]).astype(np.float32)
    elif case == "near":  # a float32's rounding apart
        v = np.nextafter(v[:1], np.sort(v, axis=0)).astype(np.float32)
    elif case == "one atom":
        v = v[:1]
    else:
        v = v[:0]
    x[[0, 7]] = 0
    return x, v


CASES = ["duplicates", "opposites", "zero atoms", "nothing but zeros", "rank one", "plane", "near", "one atom", "none"]


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(("backend", "memory"), [("numba", 2**31), ("numba", 1), ("torch", 2**31)])
@pytest.mark.parametrize("case", CASES)
def test_degenerate_dictionaries_and_zero_rows(case, backend, memory, sign):
    x, v = degenerate(case)
    codes = pursuit(v, backend, memory=memory).solve(x, 8, sign=sign)
    rel_l2 = measured(x, v, codes)[2]
    for i in range(10):
        entries = codes.indices[codes.indptr[i] : codes.indptr[i + 1]]
        assert (np.diff(entries) > 0).all()
        if i in (0, 7):
            assert not entries.size and codes.rel_l2[i] == codes.stationarity[i] == 0
        elif len(v):
            support, _, path = reference.omp(x[i], v, 8, sign=sign)
            assert np.linalg.matrix_rank(v[entries]) == entries.size == len(support)
            np.testing.assert_allclose(rel_l2[i], path[-1], atol=1e-6)
            if case in ("duplicates", "opposites"):
                assert entries.tolist() == sorted(support)
    assert np.isfinite(codes.values).all() and (codes.values != 0).all() and np.isfinite(codes.rel_l2).all()
    assert np.isfinite(codes.stationarity).all() and (codes.stationarity <= 1e-6).all()
    np.testing.assert_allclose(codes.rel_l2, rel_l2, atol=1e-6)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_refit_of_degenerate_supports(case, backend, sign):
    x, v = degenerate(case)
    codes = pursuit(np.eye(max(1, len(v)), 8), "numba").solve(np.ones((10, 8)), min(8, max(1, len(v))))
    if not len(v):
        codes = pursuit(v, "numba").solve(x, 1)
    codes.values[:] = np.random.default_rng(0).standard_normal(codes.values.size)
    fitted = refit(x, v, codes, sign, backend=backend, device="cpu")
    u, _, rel_l2 = measured(x, v, fitted)
    assert np.isfinite(u).all() and (fitted.stationarity <= 1e-6).all()
    for i in range(10):
        atoms = v[codes.indices[codes.indptr[i] : codes.indptr[i + 1]]].T.astype(np.float64)
        if atoms.size and x[i].any():
            # In their span, so that their own rounding is no direction to exploit.
            left, singular, _ = np.linalg.svd(atoms, full_matrices=False)
            left = left[:, singular > 1e-5 * singular[0]]
            inside = left.T @ atoms, left.T @ x[i]
            best = np.zeros(atoms.shape[1])
            if left.size:
                best = np.linalg.lstsq(*inside, rcond=None)[0] if sign == "any" else nnls(*inside)[0]
            np.testing.assert_allclose(rel_l2[i], np.linalg.norm(x[i] - atoms @ best) / np.linalg.norm(x[i]), atol=1e-5)
    np.testing.assert_array_equal(fitted.nonzeros()[[0, 7]], 0)


def with_twins(v, copies, off, seed=0):
    """Repeat the atoms, each time off by about so many times their entries."""
    noise = np.random.default_rng(seed).standard_normal((copies, *v.shape))
    return np.concatenate([v, *(v * (1 + off * noise)).astype(np.float32)])


@pytest.mark.parametrize("off", [0, 2e-7])
@pytest.mark.parametrize("backend", BACKENDS)
def test_of_equal_atoms_the_first_and_of_those_equal_in_float32_the_best(backend, off):
    x = np.random.default_rng(2).standard_normal((200, 32)).astype(np.float32)
    v = with_twins(dictionary(300, 32, seed=2), 4, off)
    wide = v.astype(np.float64)
    exact = np.abs(x @ wide.T) / np.linalg.norm(wide, axis=1)
    codes = pursuit(v, backend).solve(x, 1)
    np.testing.assert_array_equal(codes.indices, exact.argmax(axis=1))
    assert (codes.indices < 300).all() if off == 0 else len(set(codes.indices // 300)) == 5


def test_the_compiled_result_is_the_same_whatever_the_batch_the_memory_and_the_threads(monkeypatch):
    x, v = problem(150, 64, 100, 0.95, atoms=40)
    v = with_twins(v, 3, 1e-7)
    codes = supports(x, v)
    for sign in SIGNS:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        expected = pursuit(v).solve(x, 24, sign=sign)
        fitted = refit(x, v, codes, sign, backend="numba")
        for threads, batch, memory in ((1, 1, 2**31), (2, 7, 2**31), (2, 16, 1000), (1, 150, 1000), (2, None, 10**6)):
            monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
            solver = pursuit(v, memory=memory)
            same(solver.solve(x, 24, sign=sign, batch=batch), expected)
            assert bool(solver._kernel.gram.size) == (memory > 2 * 400**2 * 4)
            same(solver.refit(x, codes, sign, batch=batch), fitted)
        # A solver makes the Gram matrix when it pays.
        few = pursuit(v)
        for part, made in ((slice(0, 9), False), (slice(9, 150), True)):
            found = few.solve(x[part], 24, sign=sign)
            ends = expected.indptr[[part.start, part.stop]]
            np.testing.assert_array_equal(found.values, expected.values[slice(*ends)])
            assert bool(few._kernel.gram.size) == made


@pytest.mark.parametrize("sign", SIGNS)
def test_backends_and_torch_batches_agree(sign):
    x, v = problem(60, 64, 400, 0.9, atoms=30)
    codes = supports(x, v)
    expected, fitted = pursuit(v).solve(x, 12, sign=sign), refit(x, v, codes, sign, backend="numba")
    for batch in (25, 60):
        solver = pursuit(v, "torch")
        solver._kernel.block = 64 * 12 * 2 * batch  # cut into some parts
        for one, other in (
            (solver.solve(x, 12, sign=sign, batch=batch), expected),
            (solver.refit(x, codes, sign, batch=batch), fitted),
        ):
            np.testing.assert_array_equal(one.indptr, other.indptr)
            np.testing.assert_array_equal(one.indices, other.indices)
            np.testing.assert_allclose(one.values, other.values, rtol=1e-6)
            np.testing.assert_allclose(one.rel_l2, other.rel_l2, rtol=1e-6)
            np.testing.assert_allclose(one.stationarity, other.stationarity, atol=1e-7)


def test_both_kernels_go_the_same_way_past_many_zeros():
    """From anywhere, not only from the last support's solution: atoms leave one after the other."""
    x, v = problem(20, 24, 60, 0.5, atoms=10)
    rng = np.random.default_rng(0)
    atoms, start = np.argsort(rng.random((20, 60)), axis=1)[:, :12], rng.random((20, 12))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float64)
    one, other = pursuit(v)._kernel, pursuit(v, "torch")._kernel
    everyone = torch.arange(20)
    state = batched.State(
        *(torch.from_numpy(x) for _ in "xr"),
        work=torch.full((20, 12), 60),
        gamma=torch.from_numpy(start.copy()),
        y=torch.zeros((20, 12), dtype=torch.float64),
        basis=torch.zeros((20, 12, 12), dtype=torch.float64),
        size=torch.zeros(20, dtype=torch.long),
    )
    for p in range(12):
        assert bool(other._append(state, everyone, torch.from_numpy(atoms[:, p])).all())
    other._feasible(state, everyone)
    removals = []
    for i in range(20):
        basis, y, gamma, work = np.zeros((12, 12)), np.zeros(12), start[i].copy(), np.zeros(12, np.int32)
        wide, parts = np.empty(24), np.empty(24)
        for p, j in enumerate(atoms[i]):
            found = compiled._project(x[i], one.v, one.inverse, work[:p], j, basis, y, wide, parts)
            compiled._append(basis, y, parts, *found, p)
            work[p] = j
        k = compiled._feasible(basis, y, gamma, work, 12)
        removals.append(12 - k)
        assert state.work[i].tolist() == [*work[:k], *[60] * (12 - k)]
        np.testing.assert_allclose(state.gamma[i], [*gamma[:k], *[0] * (12 - k)], atol=1e-10)
        unit = v[work[:k]] / np.linalg.norm(v[work[:k]].astype(np.float64), axis=1)[:, None]
        np.testing.assert_allclose(gamma[:k], np.linalg.lstsq(unit.T, x[i], rcond=None)[0], atol=1e-10)
        np.testing.assert_allclose(
            np.tril(basis[:k, :k]) @ unit @ unit.T @ np.tril(basis[:k, :k]).T, np.eye(k), atol=1e-10
        )
    assert min(removals) > 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_samples(backend):
    _, v = problem()
    solver = pursuit(v, backend)
    codes = solver.solve(np.zeros((0, 16)), 3)
    assert codes.indptr.tolist() == [0] and codes.stationarity.shape == (0,)
    assert solver.refit(np.zeros((0, 16)), codes).indptr.tolist() == [0]


def test_what_is_no_least_squares_has_no_stationarity():
    x, v = problem()
    assert np.isnan(supports(x, v).stationarity).all()
    assert np.isnan(supports(x[:0], v).stationarity).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.full((2, 3), np.nan)}, "x holds a value that is not finite"),
        ({"vectors": np.full((4, 3), np.inf)}, "vectors hold a value that is not finite"),
        ({"vectors": np.ones((4, 2))}, "x must be"),
        ({"vectors": np.ones(3)}, "vectors must be"),
        ({"nonzeros": None}, "where to stop"),
        ({"nonzeros": 0}, "at least 1"),
        ({"residual": 1.5}, "between 0 and 1"),
        ({"residual": np.nan}, "between 0 and 1"),
        ({"sign": "positive"}, "sign must be"),
        ({"backend": "cupy"}, "backend must be"),
        ({"x": np.full((1, 3), 1e30), "vectors": np.full((1, 3), 1e-30)}, "beyond float32"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_bad_arguments_are_refused(change, message):
    arguments = {"x": np.ones((2, 3)), "vectors": np.ones((4, 3)), "nonzeros": 1, "backend": "numba", **change}
    with pytest.raises(ValueError, match=message):
        Pursuit(arguments.pop("vectors"), backend=arguments.pop("backend")).solve(**arguments)


def test_codes_of_others_are_refused():
    x, v = problem()
    codes = supports(x, v)
    with pytest.raises(ValueError, match="12 samples for 3"):
        refit(x[:3], v, codes, backend="numba")
    with pytest.raises(ValueError, match="of other vectors than these 2"):
        refit(x, v[:2], codes, backend="numba")

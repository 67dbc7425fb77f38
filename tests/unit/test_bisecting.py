"""Bisecting spherical k-means: every back end against integers, and what App. B promises."""

import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigraph.hashing import mix
from gigraph.method.bisecting import bisect, bisecting, capped_concepts, compiled, waves
from gigraph.method.vectors import cohesion, concept_vectors
from reference import bisecting as reference
from reference.synthetic import pfv_like

BACKENDS = ["numba", "numpy"]


def leaves(tree):
    return [np.flatnonzero(tree.labels == concept).tolist() for concept in range(tree.k)]


def assert_same(tree, other):
    for field in ("node", "parent", "size", "concept", "labels", "requested", "dropped"):
        np.testing.assert_array_equal(getattr(tree, field), getattr(other, field), err_msg=field)


def awkward_rows(rng, n, channels, kind):
    """Rows with the ties that real dead channels, padding and duplicates bring."""
    if kind == "plain":
        return rng.standard_normal((n, channels)).astype(np.float32)
    if kind == "lattice":  # few distinct directions, exact ties x . d = 0, zero rows
        return rng.integers(-1, 2, (n, channels)).astype(np.float32)
    if kind == "duplicates":
        return rng.standard_normal((max(2, n // 8), channels)).astype(np.float32)[rng.integers(0, max(2, n // 8), n)]
    if kind == "opposite":
        x = rng.standard_normal((n, channels)).astype(np.float32)
        x[1::2] = -x[: n // 2 * 2 : 2][: len(x[1::2])]
        return x
    tight = rng.standard_normal(channels) + 10.0 ** rng.uniform(-7, -2, (n, 1)) * rng.standard_normal((n, channels))
    return (tight * 10.0 ** rng.uniform(-15, 15, (n, 1))).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 50),
    channels=st.integers(1, 9),
    k=st.integers(1, 30),
    max_iter=st.sampled_from([1, 2, 20]),
    kind=st.sampled_from(["plain", "lattice", "duplicates", "opposite", "tight"]),
)
def test_every_backend_is_the_sequential_algorithm(seed, n, channels, k, max_iter, kind):
    rng = np.random.default_rng(seed)
    x = awkward_rows(rng, n, channels, kind)
    ids = rng.choice(10**6, n, replace=False)
    expected, splits = reference.bisect(x, k, seed, ids, max_iter)
    for backend in BACKENDS:
        tree = bisect(x, k, seed=seed, row_ids=ids, max_iter=max_iter, backend=backend)
        assert leaves(tree) == expected, backend
        assert sorted(tree.size[tree.concept < 0].tolist()) == sorted(splits), backend
        assert tree.dropped == np.sum(~x.any(axis=1))


@pytest.mark.parametrize("shape", [(1500, 48, 384), (900, 200, 300), (2000, 16, 30), (800, 5, 800)])
def test_waves_equal_one_split_after_the_other(shape):
    n, channels, k = shape
    x = pfv_like(n, channels, noise=0.4, spread=1.0, atoms_per_topic=60, seed=n)
    assert_same(bisect(x, k, seed=3, backend="numba"), bisect(x, k, seed=3, backend="numpy"))


def test_rows_between_the_seeds_are_decided_exactly():
    """Rows on the bisector of the two seeds: x . d is of the order 1e-8, far below float32's rounding of it."""
    rng = np.random.default_rng(0)
    n, channels = 120, 48
    order = np.argsort(mix(np.arange(n), int(mix(7))))
    x = rng.standard_normal((n, channels))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    d = x[order[1]] - x[order[0]]
    x[order[2:]] -= np.outer(x[order[2:]] @ d, d) / (d @ d)
    x = x.astype(np.float32)
    expected, _ = reference.bisect(x, 2, 7, max_iter=1)
    assert min(len(side) for side in expected) > n // 4
    for backend in BACKENDS:
        assert leaves(bisect(x, 2, seed=7, max_iter=1, backend=backend)) == expected


@pytest.mark.parametrize("channels", [3, 64, 2048])
@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-7])
def test_dot_products_with_a_direction_do_not_round(channels, apart):
    rng = np.random.default_rng(channels)
    x, _ = waves._unit_rows(rng.standard_normal((20, channels)).astype(np.float32))
    sums = rng.standard_normal((1, channels)) + apart * rng.standard_normal((2, channels))
    c = waves._centroids(sums)
    d = waves._directions(c[:1], c[1:])[0]
    np.testing.assert_allclose(d, c[1] - c[0], atol=2.0**-26 * np.linalg.norm(c[1] - c[0]))
    for row in x.astype(np.float64):
        exact = sum(Fraction(p) * Fraction(q) for p, q in zip(row, d, strict=True))
        assert Fraction(float(np.cumsum(row * d)[-1])) == exact
        assert Fraction(float(np.cumsum((row * d)[::-1])[-1])) == exact
    again = np.zeros(channels)
    compiled._direction(c[0], c[1], np.empty(channels), again)
    np.testing.assert_array_equal(again, d)


def test_least_similar_rows_that_tie():
    """Both seeds are copies of one row, and five other rows are at right angles to it."""
    for seed in range(12):
        x = np.eye(6, dtype=np.float32)[[0] * 40 + [1, 2, 3, 4, 5]]
        expected, _ = reference.bisect(x, 2, seed, max_iter=1)
        for backend in BACKENDS:
            assert leaves(bisect(x, 2, seed=seed, max_iter=1, backend=backend)) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_clusters_do_not_depend_on_the_order_of_rows(backend):
    x = pfv_like(1200, 24, seed=5)
    x[::50] = 0
    x[1::50] = x[2]
    ids = np.random.default_rng(0).choice(2**63 - 1, len(x), replace=False)
    shuffled = np.random.default_rng(1).permutation(len(x))
    tree = bisect(x, 96, row_ids=ids, backend=backend)
    other = bisect(x[shuffled], 96, row_ids=ids[shuffled], backend=backend)
    np.testing.assert_array_equal(other.labels, tree.labels[shuffled])
    np.testing.assert_array_equal(other.size, tree.size)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tree_is_consistent_and_largest_first(backend):
    x = pfv_like(1000, 20, seed=8)
    tree = bisect(x, 60, backend=backend)
    assert tree.k == tree.requested == 60 and len(tree.node) == 119
    np.testing.assert_array_equal(tree.concept[tree.concept >= 0], np.arange(60))
    np.testing.assert_array_equal(tree.size[tree.concept >= 0], np.bincount(tree.labels))
    for node in np.flatnonzero(tree.concept < 0):
        children = np.flatnonzero(tree.parent == node)
        assert len(children) == 2 and children[0] == node + 1
        assert tree.size[children].sum() == tree.size[node]
    # Every split node was at least as large as every leaf that was left.
    assert tree.size[tree.concept < 0].min() >= tree.size[tree.concept >= 0].max()


def test_fewer_concepts_refine_into_more():
    x = pfv_like(700, 16, seed=2)
    coarse, fine = bisect(x, 20), bisect(x, 50)
    for concept in range(50):
        assert len(set(coarse.labels[fine.labels == concept])) == 1


def test_seed_changes_the_clusters_and_repeats_them():
    x = pfv_like(600, 16, seed=2)
    assert_same(bisect(x, 30, seed=1), bisect(x, 30, seed=1))
    assert (bisect(x, 30, seed=1).labels != bisect(x, 30, seed=2).labels).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_identical_rows_are_never_split(backend):
    distinct = np.eye(5, 7, dtype=np.float32)
    x = np.concatenate([np.repeat(distinct, 9, axis=0) * np.arange(1, 46)[:, None], np.zeros((4, 7))])
    tree = bisect(x.astype(np.float32), 30, backend=backend)
    assert tree.k == 5 and tree.requested == 30 and tree.dropped == 4
    assert (tree.labels[45:] == -1).all()
    assert sorted(leaves(tree)) == [list(range(9 * i, 9 * i + 9)) for i in range(5)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.zeros((3, 3)), np.ones((1, 3)), np.ones((4, 3))])
def test_nothing_to_split(backend, x):
    tree = bisect(x.astype(np.float32), 4, backend=backend)
    assert tree.k == int(x.any())
    assert (tree.labels == (0 if x.any() else -1)).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(backend, value):
    x = np.ones((4, 3), dtype=np.float32)
    x[2, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        bisect(x, 2, backend=backend)


@pytest.mark.parametrize(
    "change",
    [{"k": 0}, {"max_iter": 0}, {"row_ids": [1, 1]}, {"row_ids": [1]}, {"backend": "gpu"}, {"x": np.ones(3)}],
)
def test_bad_arguments_are_refused(change):
    with pytest.raises(ValueError):
        bisect(**{"x": np.ones((2, 3), dtype=np.float32), "k": 2, **change})


def test_cohesion_within_two_percent_of_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    x = pfv_like(1500, 48, noise=0.4, spread=1.0, topics=20, atoms_per_topic=40)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    peer = cluster.BisectingKMeans(64, bisecting_strategy="largest_cluster", random_state=0).fit(unit)

    def mean_cosine(labels):
        return np.average(cohesion(x, labels, 64), weights=np.bincount(labels, minlength=64))

    ours = mean_cosine(bisect(x, 64).labels)
    assert ours > 0.98 * mean_cosine(peer.labels_)
    assert ours > 0.7


def test_concept_vectors_are_means_of_members():
    x = pfv_like(300, 12, seed=4)
    x[7] = 0
    tree = bisect(x, 10)
    v = concept_vectors(x, tree.labels, 10)
    unit = concept_vectors(x, tree.labels, 10, scale="unit")
    for concept in range(10):
        mean = x[tree.labels == concept].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(v[concept], mean, rtol=1e-6)
        np.testing.assert_allclose(unit[concept], mean / np.linalg.norm(mean), rtol=1e-6, atol=1e-7)
    assert v.dtype == unit.dtype == np.float32
    assert not concept_vectors(x, np.full(300, -1), 3).any()
    with pytest.raises(ValueError):
        concept_vectors(x, tree.labels, 10, scale="median")


def test_cohesion_is_the_mean_cosine_to_the_centroid():
    x = pfv_like(200, 12, seed=6)
    tree = bisect(x, 6)
    got = cohesion(x, tree.labels, 7)
    for concept in range(6):
        members = x[tree.labels == concept].astype(np.float64)
        members /= np.linalg.norm(members, axis=1, keepdims=True)
        centroid = members.sum(axis=0) / np.linalg.norm(members.sum(axis=0))
        np.testing.assert_allclose(got[concept], (members @ centroid).mean(), rtol=1e-6)
    assert got[6] == 0


def test_cap_on_concepts():
    assert capped_concepts(8, 64, 10_000, 10) == (512, False)
    assert capped_concepts(8, 64, 5_120, 10) == (512, False)
    assert capped_concepts(8, 64, 5_119, 10) == (511, True)
    assert capped_concepts(8, 64, 3, 10) == (1, True)


def test_works_without_numba(monkeypatch):
    x = pfv_like(200, 8, seed=1)
    expected = bisect(x, 12)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert_same(bisect(x, 12), expected)
    with pytest.raises(ValueError, match="not installed"):
        bisect(x, 12, backend="numba")


def test_a_gpu_is_looked_for_only_where_it_is_worth_its_start(monkeypatch):
    asked = []
    monkeypatch.setattr(bisecting, "compiles_cuda", lambda: asked.append(1) or True)
    assert bisecting._choose("auto", bisecting.CUDA_WORTH - 1) == "numba" and not asked
    assert bisecting._choose("auto", bisecting.CUDA_WORTH) == "cupy" and asked


@pytest.mark.parametrize(("n", "channels", "k"), [(300, 8, 40), (200, 24, 17), (120, 3, 30)])
def test_it_is_what_the_paper_words(n, channels, k):
    """Rows in general position: no ties, so float64 read literally gives the same clusters."""
    x = np.random.default_rng(n).standard_normal((n, channels)).astype(np.float32)
    tree = bisect(x, k, seed=5)
    assert sorted(leaves(tree)) == reference.plain(x, k, seed=5)

"""Aggregation into edges, weights, kept and shared concepts, against sums written out by hand."""

import numpy as np

from gigraph.graph import aggregate, keep, scopes_of, weights


def random_rows(seed=0, images=12, classes=3, sources=6, targets=4):
    rng = np.random.default_rng(seed)
    rows = []
    for image in range(images):
        for target in rng.choice(targets, 2, replace=False):
            for source in rng.choice(sources, 3, replace=False):
                rows.append((image % classes, source, target, rng.normal() * (rng.random() < 0.8), image))
    return np.array(rows), {-1: images, **dict.fromkeys(range(classes), images // classes)}


def test_mean_error_and_support_against_the_dense_sum():
    rows, images = random_rows()
    scope, source, target = (rows[:, i].astype(int) for i in range(3))
    edges = aggregate(scope, source, target, rows[:, 3], images)
    assert len(edges.scope) == len({*zip(scope, source, target, strict=True)})
    for s, q, t, mean, se, support, evaluated, n in zip(
        edges.scope, edges.source, edges.target, edges.mean, edges.se, edges.support, edges.evaluated, edges.images,
        strict=True,
    ):  # fmt: skip
        here = (scope == s) & (source == q) & (target == t)
        dense = np.zeros(images[s])
        dense[: here.sum()] = rows[here, 3]
        assert np.isclose(mean, dense.mean()) and np.isclose(se, dense.std(ddof=1) / np.sqrt(images[s]))
        assert support == (dense != 0).sum() and n == images[s] and evaluated >= here.sum()


def test_order_of_rows_does_not_matter():
    rows, images = random_rows(3)
    shuffled = rows[np.random.default_rng(1).permutation(len(rows))]
    one, two = (aggregate(*(r[:, i].astype(int) for i in range(3)), r[:, 3], images) for r in (rows, shuffled))
    for name in ("scope", "source", "target", "support", "evaluated"):
        assert (getattr(one, name) == getattr(two, name)).all()
    assert np.allclose(one.mean, two.mean) and np.allclose(one.se, two.se)


def test_means_add_up_to_the_targets_change():
    rows, images = random_rows(5)
    edges = aggregate(*(rows[:, i].astype(int) for i in range(3)), rows[:, 3], images)
    for s in (0, 1, 2):
        for t in range(4):
            here = (edges.scope == s) & (edges.target == t)
            total = rows[(rows[:, 0] == s) & (rows[:, 2] == t), 3].sum() / images[s]
            assert np.isclose(edges.mean[here].sum(), total)


def test_a_single_image_has_no_standard_error():
    edges = aggregate(np.array([0]), np.array([1]), np.array([2]), np.array([3.0]), {0: 1})
    assert edges.mean[0] == 3 and edges.se[0] == 0


def test_nothing_gives_no_edges():
    edges = aggregate(*(np.empty(0, int) for _ in range(3)), np.empty(0), {-1: 0})
    assert len(edges.mean) == 0


def test_weights_are_normalised_per_scope_by_the_strongest_concept():
    scope = np.array([0, 0, 0, 1, 1])
    mean = np.array([2.0, -4.0, -9.0, 0.5, 0.25])
    source = np.array([3, 4, -1, 3, 4])
    assert weights(scope, mean, source).tolist() == [0.5, 1.0, 1.0, 1.0, 0.5]


def test_kept_are_the_most_relevant_concepts_of_each_class():
    scope = np.array([0] * 5 + [1] * 4)
    source = np.array([7, 8, 9, 5, -1, 7, 9, 8, 6])
    value = np.array([1.0, 3.0, 2.0, -4.0, 9.0, 5.0, 1.0, 0.0, 2.0])
    edges = aggregate(scope, source, scope, value, {0: 1, 1: 1})
    kept = keep(edges, 2)
    assert list(zip(kept.scope, kept.rank, kept.concept, strict=True)) == [
        (0, 0, 8),
        (0, 1, 9),
        (1, 0, 7),
        (1, 1, 6),
    ]


def test_scopes_count_classes_and_the_dataset():
    assert scopes_of(np.array([2, 2, 5])) == {-1: 3, 2: 2, 5: 1}

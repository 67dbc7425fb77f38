"""Aggregation into edges, weights, kept and shared concepts, against sums written out by hand."""

import io

import networkx as nx
import numpy as np
import pytest

from gigraph.method.graph import (
    DATASET,
    Edges,
    Rows,
    _stable_order,
    aggregate,
    among,
    class_edges,
    edges_of,
    edges_of_members,
    keep,
    mean_and_error,
    places_of,
    scopes_of,
    weights,
)
from gigraph.records.graphml import write_graphml


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
    assert edges.mean[0] == 3 and np.isnan(edges.se[0])


def test_edges_come_by_scope_target_and_falling_size():
    rows, images = random_rows(7, images=60, sources=40)
    value = np.round(rows[:, 3], 1)  # so that some are equal
    edges = edges_of(Rows(rows[:, 4].astype(int) % 3, *(rows[:, i].astype(int) for i in (1, 2)), value), images)
    keys = [*zip(edges.scope.tolist(), edges.target.tolist(), (-abs(edges.mean)).tolist(), edges.source.tolist(),
                 strict=True)]  # fmt: skip
    assert keys == sorted(keys) and len(set(edges.scope.tolist())) == 4


@pytest.mark.parametrize("span", [1, 5, 2**20, 2**30])  # three of the last do not fit one number
def test_the_order_by_several_keys_is_stable(span):
    rng = np.random.default_rng(0)
    keys = [rng.integers(-span, span, 500) for _ in range(3)]
    assert (_stable_order(*keys) == np.lexsort(keys[::-1])).all()
    assert len(_stable_order(*(key[:0] for key in keys))) == 0


def test_ends_are_found_among_others():
    rng = np.random.default_rng(0)
    known, wanted = ([rng.integers(low, 4, 60) for low in (-1, -2, 0)] for _ in range(2))
    last = {ends: i for i, ends in enumerate(zip(*known, strict=True))}
    found = places_of(wanted, known)
    assert found.tolist() == [last.get(ends, -1) for ends in zip(*wanted, strict=True)]
    assert (found >= 0).any() and (found < 0).any()
    none = [key[:0] for key in known]
    assert places_of(wanted, none).tolist() == [-1] * 60 and len(places_of(none, known)) == 0


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


def two_images() -> Rows:
    """Image 0 of class 0 with targets 0 and 1, image 1 of class 1 with target 1."""
    label, target = np.array([0, 0, 1]), np.array([0, 1, 1])
    return Rows.from_csr(label, target, np.array([0, 2, 3, 4]), np.array([7, 8, 7, 8]), np.array([1.0, 2.0, 4.0, 8.0]))


def test_rows_are_spread_from_csr():
    rows = two_images().with_source(-1, np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0.5, 0.25, 0.125]))
    found = set(zip(rows.label.tolist(), rows.source.tolist(), rows.target.tolist(), rows.value.tolist(), strict=True))
    assert found == {
        (0, 7, 0, 1), (0, 8, 0, 2), (0, 7, 1, 4), (1, 8, 1, 8), (0, -1, 0, 0.5), (0, -1, 1, 0.25), (1, -1, 1, 0.125),
    }  # fmt: skip


def test_members_add_up_to_their_families_edges():
    rng = np.random.default_rng(0)
    leader = np.array([0, 0, 2, 2, 2, 5])
    label, source, target = (rng.integers(0, n, 200) for n in (3, 6, 4))
    _, first = np.unique(np.stack([label, source, target]), axis=1, return_index=True)
    label, source, target = label[first], source[first], target[first]
    value, images = rng.normal(size=len(label)), {DATASET: 9, 0: 3, 1: 3, 2: 3}
    whole = edges_of(Rows(label, leader[source], target, value), images)
    chosen = np.flatnonzero((whole.scope >= 0) & (whole.target < 2))
    wanted = Edges(*(getattr(whole, name)[chosen] for name in Edges.__dataclass_fields__))
    several = source < 5
    found = edges_of_members(Rows(*(a[several] for a in (label, source, target, value))), leader, wanted, images)
    assert len(found.mean) and (found.target < 2).all() and (found.scope >= 0).all() and (found.source < 5).all()
    for i in range(len(wanted.mean)):
        mine = (found.scope == wanted.scope[i]) & (leader[found.source] == wanted.source[i])
        mine &= found.target == wanted.target[i]
        assert mine.any() == (wanted.source[i] != 5)
        assert not mine.any() or np.isclose(found.mean[mine].sum(), wanted.mean[i])


def as_dict(edges):
    keys = zip(edges.scope.tolist(), edges.source.tolist(), edges.target.tolist(), strict=True)
    return dict(zip(keys, edges.mean.tolist(), strict=True))


def test_edges_are_averaged_per_class_and_over_the_dataset():
    found = as_dict(edges_of(two_images(), {DATASET: 2, 0: 1, 1: 1}))
    assert found == {
        (0, 7, 0): 1, (0, 8, 0): 2, (0, 7, 1): 4, (1, 8, 1): 8,
        (DATASET, 7, 0): 0.5, (DATASET, 8, 0): 1, (DATASET, 7, 1): 2, (DATASET, 8, 1): 4,
    }  # fmt: skip


def test_relevance_counts_each_image_towards_its_own_class_only():
    found = as_dict(class_edges(two_images(), {DATASET: 2, 0: 1, 1: 1}))
    assert found == {(0, 7, 0): 1, (0, 8, 0): 2, (1, 8, 1): 8, (DATASET, 7, DATASET): 0.5, (DATASET, 8, DATASET): 5}


def test_a_concept_kept_for_one_class_is_not_kept_for_another():
    found = among(np.array([0, 0, 1, -1]), np.array([3, 4, 3, 3]), np.array([0, 1]), np.array([3, 4]))
    assert found.tolist() == [True, False, False, False]


def test_mean_and_error():
    assert mean_and_error(np.array([1.0, 3.0])) == (2.0, 1.0)
    mean, error = mean_and_error(np.array([5.0]))
    assert mean == 5 and np.isnan(error)


def test_graphml_is_read_back_by_networkx():
    name = 'a"<&\u202e\U0001f42f'
    nodes = [
        {"layer": "x", "concept": 3, "kind": "concept", "name": name + "\x00", "members": 2, "inner_cosine": 0.75},
        {"layer": "classes", "concept": 0, "kind": "class", "name": "tiger", "members": None, "inner_cosine": None},
    ]
    edge = {
        "source_layer": "x", "source": 3, "target_layer": "classes", "target": 0, "scope": 0, "mean": -0.25,
        "se": 0.5, "support": 4, "weight": 1.0, "ablation": float("nan"),
    }  # fmt: skip
    out = io.StringIO()
    write_graphml(out, nodes, [edge, {**edge, "scope": 1, "se": None}])
    graph = nx.parse_graphml(out.getvalue(), force_multigraph=True)
    of_family = {"members": 2, "inner_cosine": 0.75}
    assert graph.nodes["x:3"] == {"layer": "x", "concept": 3, "kind": "concept", "name": name + "\ufffd", **of_family}
    assert "members" not in graph.nodes["classes:0"]
    edges = [data for _, _, data in graph.edges(data=True)]
    assert edges[0]["se"] == 0.5 and "se" not in edges[1]  # a single image has no standard error
    assert [e["scope"] for e in edges] == [0, 1] and edges[0]["mean"] == -0.25 and edges[0]["support"] == 4

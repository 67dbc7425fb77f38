"""Families against their literal reading, and what holds of their attributions as theorems."""

from itertools import combinations

import numpy as np
import pytest
import torch

from gigraph.errors import UserError
from gigraph.method import families as module
from gigraph.method.families import Families, average_families, tree_families
from gigraph.method.gig import Attribution, Decomposition, ablate, attribute, class_score, concept_score
from gigraph.method.vectors import unit
from gigraph.records.attributions import rows
from gigraph.records.families import read_families, write_families
from reference.families import average_linkage, cosine, largest_subtrees


def near_parallel(seed, k=24, c=5, spread=0.5):
    """Return concept vectors around a few directions, of different lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, c))
    vectors = centres[rng.integers(0, 6, k)] + spread * rng.normal(size=(k, c))
    return (vectors * rng.uniform(0.2, 5, (k, 1))).astype(np.float32)


def partition(families):
    return {tuple(np.flatnonzero(families.leader == one).tolist()) for one in families.ids}


@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_average_linkage_against_the_literal_one(monkeypatch, seed, threshold):
    monkeypatch.setattr(module, "BLOCK", 7)  # components and distances come in blocks
    vectors = near_parallel(seed)
    vectors[3] = 0
    found = average_families(vectors, threshold)
    assert partition(found) == average_linkage(vectors, threshold)
    assert 1 < len(found.ids) < len(vectors)
    assert (found.inner[found.size > 1] >= threshold - 1e-6).all()


def test_components_that_no_chain_connects_are_linked_apart(monkeypatch):
    """The memory that linking takes is that of the largest one."""
    linked = []
    real = module._linked
    monkeypatch.setattr(module, "_linked", lambda units, t: linked.append(len(units)) or real(units, t))
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(5), 4, 0) + 0.05 * rng.normal(size=(20, 5))
    assert partition(average_families(vectors, 0.7)) == {tuple(range(i, i + 4)) for i in range(0, 20, 4)}
    assert linked == [4] * 5
    monkeypatch.setattr(module, "LARGEST", 3)
    with pytest.raises(UserError, match=r"4 concepts are connected .* raise families\.cosine"):
        average_families(vectors, 0.7)


def test_a_chain_is_cut_where_its_mean_falls_below():
    """Single linkage would merge all of a fan of directions whose neighbours are near."""
    angle = np.radians(np.arange(0, 180, 20))
    found = average_families(np.stack([np.cos(angle), np.sin(angle)], 1), 0.9)
    assert len(found.ids) > 2 and found.size.max() > 1


def a_tree(seed, k):
    """Return a random binary tree on k concepts: node, parent, concept."""
    rng = np.random.default_rng(seed)
    trees, node, parent, concept = [], [], [], []
    for i in rng.permutation(k).tolist():
        node.append(len(node))
        concept.append(i)
        parent.append(-1)
        trees.append(node[-1])
    while len(trees) > 1:
        pair = [trees.pop(int(rng.integers(len(trees)))) for _ in range(2)]
        node.append(len(node))
        concept.append(-1)
        parent.append(-1)
        for child in pair:
            parent[child] = node[-1]
        trees.append(node[-1])
    order = rng.permutation(len(node))
    return tuple(np.array(column)[order] for column in (node, parent, concept))


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_largest_subtrees_against_the_literal_ones(seed, threshold):
    vectors = near_parallel(seed, k=14, c=3)
    vectors[5] = 0
    tree = a_tree(seed, 14)
    found = tree_families(vectors, threshold, *tree)
    assert partition(found) == largest_subtrees(vectors, threshold, *(column.tolist() for column in tree))


def test_without_a_tree_every_concept_is_a_root():
    vectors, each = near_parallel(0), np.arange(24)
    assert not tree_families(vectors, 0.1, each, np.full(24, -1), each).merged
    assert tree_families(vectors[:1], 0.1, each[:1], np.array([-1]), each[:1]).leader.tolist() == [0]


@pytest.mark.parametrize("find", [
    average_families, lambda v, t: tree_families(v, t, *a_tree(0, len(v))),
], ids=["average", "tree"])  # fmt: skip
def test_degenerate_vectors(find):
    assert find(np.ones((1, 3), np.float32), 0.7).leader.tolist() == [0]
    assert not find(np.zeros((4, 3), np.float32), 0.7).merged
    same = find(np.tile(np.float32([[0.1, 0.7, -0.3]]), (5, 1)), 1.0)
    assert same.leader.tolist() == [0] * 5 and np.allclose(same.inner, 1) and np.allclose(same.weight, 1)
    opposite = np.float32([[1, 2], [-1, -2], [2, 4]])
    if find is average_families:
        assert partition(find(opposite, 0.01)) == {(0, 2), (1,)}
    assert (1,) in partition(find(opposite, 0.01))


def test_a_family_is_described_by_its_members():
    vectors = near_parallel(1)
    found = average_families(vectors, 0.6)
    wide = vectors.astype(np.float64)
    assert found.merged
    for members in partition(found):
        m = unit(unit(wide[list(members)]).sum(0))
        to = np.array([cosine(wide[j], m) for j in members])
        leader = members[int(to.astype(np.float32).argmax())]  # two are always as near
        pairs = [cosine(wide[i], wide[j]) for i, j in combinations(members, 2)] or [1.0]
        for j, near in zip(members, to, strict=True):
            assert found.leader[j] == leader and found.size[j] == len(members)
            assert found.cosine[j] == pytest.approx(near, abs=1e-6)
            assert found.weight[j] == pytest.approx(wide[j] @ m / (wide[leader] @ m), rel=1e-5)
            assert found.inner[j] == pytest.approx(np.mean(pairs), abs=1e-6)
            assert found.least[j] == pytest.approx(min(pairs), abs=1e-6)
        row = found.directions(vectors)[leader]
        np.testing.assert_allclose(row, m if len(members) > 1 else vectors[leader], rtol=1e-5, atol=1e-6)
        assert found.members(leader).tolist() == sorted(members)


def test_of_members_that_are_as_near_the_smallest_id_leads():
    """Two are always equally near to their mean."""
    vectors = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    twins = np.concatenate([vectors, unit(vectors) + np.float32(0.01) * vectors[::-1]])
    found = average_families(twins, 0.999)
    pairs = [members for members in partition(found) if len(members) == 2]
    assert len(pairs) > 20 and all(found.leader[list(members)].tolist() == [members[0]] * 2 for members in pairs)


def test_a_familys_map_is_its_members_coefficients_along_its_direction():
    vectors = near_parallel(2)
    found = average_families(vectors, 0.6)
    u = np.random.default_rng(0).normal(size=len(vectors))
    family, value = found.collect(np.arange(len(vectors)), u)
    assert (family == found.leader).all()
    leader = found.ids[found.size[found.ids] > 1][0]
    members, m = found.members(leader), found.directions(vectors)[leader].astype(np.float64)
    expected = sum(u[j] * (vectors[j] @ m) for j in members) / (vectors[leader] @ m)
    assert value[family == leader].sum() == pytest.approx(expected, rel=1e-5)
    alone = found.size == 1
    assert (value[alone] == u[alone]).all() and found.weight[leader] == 1


def test_the_maps_of_families_are_the_sums_of_what_their_members_add():
    vectors = near_parallel(7)
    found = average_families(vectors, 0.7)
    assert found.merged
    u = np.random.default_rng(1).normal(size=(9, len(vectors)))
    maps = found.maps(u)
    assert maps.shape == (9, len(found.ids))
    for column, family in enumerate(found.ids.tolist()):
        inside = found.members(family)
        m = found.directions(vectors)[family]
        m = vectors[inside[0]] if len(inside) == 1 else m
        towards = u[:, inside] @ (vectors[inside] @ unit(m[None])[0]) / (vectors[family] @ unit(m[None])[0])
        np.testing.assert_allclose(maps[:, column], towards, rtol=1e-4, atol=1e-5)


def test_families_are_read_back(tmp_path):
    found = average_families(near_parallel(3), 0.6)
    write_families(tmp_path / "one.parquet", found, "")
    again = read_families(tmp_path / "one.parquet")
    for name in ("leader", "cosine", "weight", "inner", "least"):
        assert (getattr(again, name) == getattr(found, name)).all() and getattr(again, name).dtype == getattr(
            found, name
        ).dtype


# ---- theorems: what the graph shows of families is what it would show of the merged concepts -----------------

N, P, C, C_B, K = 3, 6, 5, 4, 24


@pytest.fixture
def world():
    """A ReLU network on P positions that mixes them, N images of sparse codes, and families of their concepts."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    mix, first, second = torch.randn(P, P), torch.randn(C, 8), torch.randn(8, C_B)

    def segment(x):
        return torch.relu(torch.relu(torch.einsum("pr,nrc->npc", mix, x @ first))) @ second

    images = []
    for code in torch.randn(N, P, K) * (torch.rand(N, P, K) < 0.3):
        active = code.any(0).nonzero()[:, 0]
        images.append(Decomposition(active, code[:, active]))
    vectors = near_parallel(0)
    found = average_families(vectors, 0.7)
    assert found.size.max() > 2
    yield {"segment": segment, "vectors": torch.tensor(vectors.astype(np.float64)), "beta": torch.randn(C),
           "images": images, "families": found, "family": torch.tensor(found.leader)}  # fmt: skip
    torch.set_default_dtype(torch.float32)


def run(world, score, targets, images=None, vectors=None, **options):
    segment = (lambda x: world["segment"](x).mean(1)) if targets.shape[1] == C_B else world["segment"]
    vectors = world["vectors"] if vectors is None else vectors
    return attribute(segment, score, vectors, world["beta"], images or world["images"], targets, **options)


def merged_concepts(world, image):
    """Return an image whose sources are its families: at each position one, what its members add there together."""
    family = world["family"][image.concepts]
    leaders = family.unique().tolist()
    parts = torch.stack([
        image.u[:, family == one] @ world["vectors"][image.concepts[family == one]] for one in leaders
    ])  # fmt: skip
    u = torch.zeros(P, len(leaders), P)
    for p in range(P):
        u[p, :, p] = 1  # the source of each family and position is there and nowhere else
    return Decomposition(torch.arange(len(leaders) * P), u.flatten(1)), parts.flatten(0, 1), leaders


@pytest.mark.parametrize("towards", ["concepts", "classes"])
def test_a_familys_attribution_is_that_of_the_merged_concepts(world, towards):
    score = concept_score(torch.randn(7, C_B)) if towards == "concepts" else class_score()
    t = torch.arange(7 if towards == "concepts" else C_B)[None]
    for image in world["images"]:
        (single,) = run(world, score, t, [image], steps=9, max_steps=9)
        merged, vectors, leaders = merged_concepts(world, image)
        torch.testing.assert_close(merged.offset(vectors), image.offset(world["vectors"]))
        (whole,) = run(world, score, t, [merged], vectors, steps=9, max_steps=9)
        found = single.merged(world["family"])
        assert found.concepts.tolist() == leaders and len(leaders) < len(image.concepts)
        torch.testing.assert_close(found.values, whole.values.unflatten(1, (-1, P)).sum(2))
        torch.testing.assert_close(found.completeness_error, single.completeness_error)


def test_a_familys_score_is_a_fixed_combination_of_its_members(world):
    """And so is what its sources do for it."""
    targets = near_parallel(5, c=C_B)
    found = average_families(targets, 0.7)
    leader = int(found.ids[found.size[found.ids] > 2][0])
    members = found.members(leader)
    towards = concept_score(torch.tensor(found.directions(targets).astype(np.float64)))
    each = concept_score(torch.tensor(targets.astype(np.float64)))
    length = np.linalg.norm(unit(targets[members].astype(np.float64)).sum(0))
    (one,) = run(world, towards, torch.tensor([[leader]]), world["images"][:1], steps=9, max_steps=9)
    (parts,) = run(world, each, torch.tensor(members)[None], world["images"][:1], steps=9, max_steps=9)
    for name in ("values", "at_concepts", "at_baseline"):
        combined = getattr(parts, name).sum(0, keepdim=True) / length
        torch.testing.assert_close(getattr(one, name), combined, rtol=1e-5, atol=1e-6)


def test_a_family_is_deleted_with_all_its_members_at_once(world):
    score, image, to = concept_score(torch.randn(7, C_B)), world["images"][0], torch.tensor([1, 5])
    there = set(world["family"][image.concepts].tolist())
    sources = [*sorted(there), next(one for one in range(K) if one not in there)]
    arguments = (world["segment"], score, world["vectors"], world["beta"], image, sources, to)
    drop = ablate(*arguments, batch=3, family=world["family"])
    full = torch.zeros(P, K)
    full[:, image.concepts] = image.u

    def value(code):
        return score(world["segment"]((world["beta"] + code @ world["vectors"])[None]), to[None])[0]

    for one, found in zip(sources, drop, strict=True):
        code = full.clone()
        code[:, world["families"].members(one)] = 0
        torch.testing.assert_close(found, value(full) - value(code))
    assert (drop[-1] == 0).all()
    # It is not what its members do one at a time.
    alone = ablate(*arguments[:5], image.concepts.tolist(), to)
    summed = torch.zeros(K, 2).index_add_(0, world["family"][image.concepts], alone)
    assert not torch.allclose(summed[sources], drop, rtol=0.01)


def test_families_are_complete_to_the_tolerance_of_their_own_sizes(world):
    """Members may cancel each other, and then their sizes would allow an error that is large beside the families'."""
    score, to = concept_score(torch.randn(7, C_B)), torch.arange(7).repeat(N, 1)
    options = {"steps": 2, "max_steps": 4374, "tolerance": 1e-3}
    for one in run(world, score, to, family=world["family"], **options):
        whole = one.merged(world["family"])
        assert (whole.completeness_error.abs() <= 1e-3 * whole.total_absolute).all()
        assert (whole.quadrature_error <= 1e-3 * whole.total_absolute).all()
    coarse = [one.merged(world["family"]) for one in run(world, score, to, **options)]
    assert any((one.quadrature_error > 1e-3 * one.total_absolute).any() for one in coarse)


def an_attribution():
    """Concepts 0, 1 and 4 are a family that 1 leads, as are 2 and 3 of 3; the last two are alone."""
    one = np.ones(8, np.float32)
    families = Families(np.array([1, 1, 3, 3, 1, 5, 6, 6]), one, one, one, one)
    values = torch.tensor([[4.0, 4.0, 9.0, -8.5, 4.0, 6.0, 0.25], [0.0, 1.0, 1.0, 1.0, -5.0, 0.0, 0.0]])
    return Attribution(torch.arange(7), values, torch.ones(2), torch.zeros(2), torch.tensor([3, 3])), families


def test_members_are_summed_before_sources_are_cut_off():
    one, families = an_attribution()
    first, second = rows(7, 1, torch.tensor([2, 5]), torch.ones(2), one, 2, families)
    # Alone, 2 and 3 would have been the strongest.
    assert (first["sources"], first["values"], first["remainder"]) == ([1, 5], [12.0, 6.0], 0.75)
    assert (second["sources"], second["values"], second["remainder"]) == ([1, 3], [-4.0, 2.0], 0.0)
    assert (first["members"], first["member_values"]) == ([0, 1, 4], [4.0, 4.0, 4.0])
    assert (second["members"], second["member_values"]) == ([0, 1, 2, 3, 4], [0.0, 1.0, 1.0, 1.0, -5.0])
    assert first["total_absolute"] == 12 + 0.5 + 6 + 0.25 and first["completeness_error"] == 18.75 - 1
    # A family of several of which one member is active says which.
    assert rows(7, 1, torch.tensor([2, 5]), torch.ones(2), one, 9, families)[0]["members"] == [0, 1, 2, 3, 4, 6]


def test_without_families_a_row_is_what_it_was():
    one, families = an_attribution()
    (first, _) = rows(7, 1, torch.tensor([2, 5]), torch.ones(2), one, 3, Families.alone(8))
    assert (first["sources"], first["values"], first["remainder"]) == ([2, 3, 5], [9.0, -8.5, 6.0], 12.25)
    assert first["members"] == first["member_values"] == [] and first["total_absolute"] == 35.75
    assert one.merged(None) is one and not Families.alone(8).merged and families.merged
    identity = one.merged(torch.arange(8))
    assert torch.equal(identity.values, one.values) and torch.equal(identity.concepts, one.concepts)

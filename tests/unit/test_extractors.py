import importlib.util

import numpy as np
import pytest
import torch

from gigraph.errors import UserError
from gigraph.extractors import extract, filters
from gigraph.extractors.autoencoder import FIRST_NORM, decayed, folded, train
from gigraph.extractors.extraction import images_of, nearest
from gigraph.extractors.plugged import extract as plug
from gigraph.extractors.registry import ENCODES, MODULES
from gigraph.extractors.sae import Penalised
from gigraph.extractors.topk import TopK
from gigraph.method.coding import ENCODER, Coder
from gigraph.method.lasso import lasso
from gigraph.method.stability import best_match
from gigraph.method.vectors import unit

SETTINGS = {
    "scale": "mean", "max_iter": 20, "nonzeros": 2, "steps": 400, "batch_size": 64, "learning_rate": 1e-2,
    "name": "SemiNMF", "decoder_bias": False,
}  # fmt: skip


def mixtures(n=400, c=12, atoms=5, seed=0):
    """Sparse non-negative mixtures of known directions, with a little noise."""
    random = np.random.default_rng(seed)
    truth = unit(random.normal(size=(atoms, c)))
    u = random.exponential(1, (n, atoms)) * (random.random((n, atoms)) < 0.25)
    u[np.arange(n), random.integers(0, atoms, n)] += 1
    return (u @ truth + 0.02 * random.normal(size=(n, c))).astype(np.float32), truth


def groups(per=60, k=4, c=10, seed=1):
    """Rows around a few directions far apart."""
    random = np.random.default_rng(seed)
    truth = np.linalg.qr(random.normal(size=(c, c)))[0][:k]
    rows = np.repeat(truth, per, 0) * random.uniform(0.5, 3, (k * per, 1)) + 0.03 * random.normal(size=(k * per, c))
    return rows.astype(np.float32), truth


@pytest.mark.parametrize("method", [name for name in MODULES if name not in ENCODES])
def test_every_extractor_keeps_the_contract_and_forgets_the_order_of_rows(method):
    x, _ = mixtures()
    x[7] = 0
    ids = np.arange(len(x)) * 13 + 5
    found = extract(method, x, 6, row_ids=ids, seed=3, settings=SETTINGS)
    k = x.shape[1] if method == "channels" else 6
    assert found.vectors.shape == (k, x.shape[1]) and found.vectors.dtype == np.float32
    assert np.isfinite(found.vectors).all() and found.vectors.any(1).all()
    assert found.size.shape == found.cohesion.shape == (k,) and found.size.sum() == len(x) - 1
    assert (found.encoder is not None) == (method in ENCODES)
    order = np.random.default_rng(0).permutation(len(x))
    again = extract(method, x[order], 6, row_ids=ids[order], seed=3, settings=SETTINGS)
    np.testing.assert_array_equal(found.vectors, again.vectors)
    # Which concept's member a row is stands beside the row as it was given.
    assert (np.bincount(found.labels[found.labels >= 0], minlength=k) == found.size).all() and found.labels[7] == -1
    np.testing.assert_array_equal(found.labels[order], again.labels)


def test_concepts_say_of_how_many_images_their_pfvs_are():
    labels = np.array([0, 0, 0, 1, 1, -1, 3])
    images = np.array([7, 7, 9, 8, 8, 6, 7])
    assert images_of(labels, images, 4).tolist() == [2, 1, 0, 1]


@pytest.mark.parametrize("method", ["bisecting", "polished", "kmeans"])
def test_clusterings_find_groups_that_are_far_apart(method):
    x, truth = groups()
    found = extract(method, x, len(truth), row_ids=np.arange(len(x)), seed=0, settings=SETTINGS)
    assert best_match(truth, found.vectors).min() > 0.999
    assert sorted(found.size.tolist()) == [60] * 4
    np.testing.assert_allclose(found.cohesion, 1, atol=0.02)


@pytest.mark.parametrize("method", ["kmeans", "polished"])
def test_spherical_kmeans_ends_where_no_row_is_nearer_to_another_centre(method):
    x, _ = mixtures(300, 8, 4)
    settings = {**SETTINGS, "max_iter": 500, "scale": "unit"}
    found = extract(method, unit(x), 5, row_ids=np.arange(len(x)), seed=0, settings=settings)
    labels = nearest(x, found.vectors)
    means = np.stack([unit(x)[labels == k].sum(0) for k in range(5)])
    np.testing.assert_allclose(unit(means), found.vectors, atol=1e-5)


def test_polishing_never_lowers_the_cohesion_of_the_whole():
    x, _ = mixtures(400, 10, 6, seed=4)
    rough, fine = (
        extract(name, x, 12, row_ids=np.arange(len(x)), seed=0, settings=SETTINGS) for name in ("bisecting", "polished")
    )
    assert (fine.cohesion @ fine.size) > (rough.cohesion @ rough.size)


def test_dictionary_learning_finds_the_atoms_of_sparse_mixtures():
    x, truth = mixtures(1500)
    found = extract("dictionary", x, 5, row_ids=np.arange(len(x)), seed=0, settings=SETTINGS)
    assert best_match(truth, found.vectors).mean() > 0.95
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)


def test_lasso_lars_has_the_minimum_of_our_lasso():
    from sklearn.linear_model import LassoLars

    x, truth = mixtures(20)
    v, lam = truth.astype(np.float32), 0.1
    ours = lasso(x, v, lam, tol=1e-6).dense(len(v))
    theirs = LassoLars(alpha=lam / x.shape[1], fit_intercept=False).fit(v.T, x.T).coef_
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


AUTOENCODERS = ["sae", "topk", "batchtopk"]


@pytest.mark.parametrize("method", AUTOENCODERS)
@pytest.mark.parametrize("biased", [True, False])
def test_an_autoencoders_concepts_are_the_autoencoder(method, biased):
    x, _ = mixtures()
    settings = {**SETTINGS, "decoder_bias": biased}
    found = extract(method, x, 8, row_ids=np.arange(len(x)), seed=0, settings=settings)
    assert found.vectors.shape == (8, x.shape[1]) and method in ENCODES
    u = found.encoder.dense(x)
    assert (u >= 0).all() and found.encoder.offset.any() == biased
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)
    assert np.linalg.norm(x - found.encoder.offset - u @ found.vectors) < 0.6 * np.linalg.norm(x - x.mean(0))
    np.testing.assert_array_equal(found.size, (u > 0).sum(0))
    assert f"{(u > 0).sum() / len(x):.1f} active" in found.notes[0] and "dead" in found.notes[0]
    calibration = {"method": ENCODER, "sign": "nonnegative", "penalty": ENCODER, "value": 0.0}
    codes = Coder(found.vectors, calibration, 1e-4, found.encoder)(x)
    np.testing.assert_array_equal(codes.dense(8), u)


def test_so_many_features_are_active_as_are_wanted():
    """Of every PFV by topk, of all together by batchtopk."""
    x, _ = mixtures()
    active = {}
    for method in ("topk", "batchtopk"):
        found = extract(method, x, 8, row_ids=np.arange(len(x)), seed=0, settings=SETTINGS)
        active[method] = (found.encoder.dense(x) > 0).sum(1)
    assert active["topk"].max() == 2 and (active["topk"] == 2).mean() > 0.5
    assert active["batchtopk"].sum() == pytest.approx(2 * len(x), rel=0.01) and active["batchtopk"].max() > 2


@pytest.mark.parametrize("pooled", [False, True])
def test_the_largest_features_stay(pooled):
    features = torch.rand(6, 9)
    kept = TopK(2, False, 9, pooled).largest(features, 2)
    assert ((kept == features) | (kept == 0)).all() and int((kept > 0).sum()) == 12
    if pooled:
        assert kept[kept > 0].min() >= features[kept == 0].max()
    else:
        assert ((kept > 0).sum(1) == 2).all()
        for own, all_of in zip(kept, features, strict=True):
            assert own[own > 0].min() >= all_of[own == 0].max()


def test_dead_features_learn_what_the_others_leave():
    """Of a feature that is never among the largest, only the second loss has a gradient."""
    torch.manual_seed(0)
    x = torch.randn(200, 6)
    model = train(x, 5, TopK(1, False, 9), steps=1, batch_size=10, learning_rate=0.0, seed=0)
    model.encoder.requires_grad_()
    model.encoder_bias[3] = -0.01
    recipe = TopK(1, False, 9)
    for idle, learns in ((0, False), (10, True)):
        recipe._idle = torch.zeros(5)
        recipe._idle[3] = idle
        with torch.no_grad():
            never = recipe.largest(model.features(x), 1)[:, 3] == 0
        model.encoder.grad = None
        recipe.loss(model, x[never], 1.0).backward()
        assert bool(model.encoder.grad[3].any()) == learns


@pytest.mark.parametrize(("activation", "level"), [("relu", 0.0), ("topk", 2), ("threshold", 0.4)])
def test_folding_scale_and_norms_leaves_reconstructions_alone(activation, level):
    x, _ = mixtures()
    scale = np.float32(np.sqrt(x.shape[1]) / np.linalg.norm(x, axis=1).mean())
    recipe = Penalised(0.2, True) if activation == "relu" else TopK(2, True, 9)
    rows = torch.from_numpy(x * scale)
    model = train(rows, 6, recipe, steps=50, batch_size=64, learning_rate=1e-2, seed=1)
    features = model.features(rows)
    if activation == "topk":
        features = recipe.largest(features, level)
    elif activation == "threshold":
        features = torch.where(features > level, features, 0)
    expected = model.reconstruct(features).numpy() / scale
    encoder = folded(model, float(scale), activation, level)
    vectors = (model.decoder / model.decoder.norm(dim=0)).T.numpy()
    np.testing.assert_allclose(encoder.offset + encoder.dense(x) @ vectors, expected, rtol=1e-3, atol=1e-5)


def test_training_starts_as_the_recipe_says():
    x = torch.randn(100, 8)
    model = train(x, 5, Penalised(0.0, True), steps=1, batch_size=10, learning_rate=0.0, seed=0)
    torch.testing.assert_close(model.decoder.norm(dim=0), torch.full((5,), FIRST_NORM))
    torch.testing.assert_close(model.encoder, model.decoder.T)
    assert not model.encoder_bias.any() and not model.decoder_bias.any()


def test_the_learning_rate_decays_over_the_last_fifth():
    rate = [decayed(step, 1000) for step in range(1000)]
    assert rate[:800] == [1.0] * 800 and rate[900] == pytest.approx(0.5) and rate[999] == pytest.approx(0.005)


def parts_in_clutter(n=1500, c=12, seed=0):
    """Two parts that are seldom there, in PFVs which vary most along a direction that overlaps with both."""
    random = np.random.default_rng(seed)
    truth = np.linalg.qr(random.normal(size=(c, c)))[0][:2]
    clutter = unit((truth.sum(0) + random.normal(size=c))[None])
    there = random.random((n, 2)) < 0.1
    x = there * random.uniform(1, 2, (n, 2)) @ truth + 3 * random.normal(size=(n, 1)) * clutter
    return (x + 0.1 * random.normal(size=(n, c))).astype(np.float32), there


def separation(response, there):
    return np.mean([(response[there, None] > response[None, ~there]).mean()])


def test_filters_detect_parts_that_directions_do_not():
    """Their responses separate the positions of each part, which the best of as many cluster means cannot."""
    x, there = parts_in_clutter()
    ids = np.arange(len(x))
    found = extract("filters", x, 12, row_ids=ids, seed=0, settings={**SETTINGS, "nonzeros": 1}, uniform=x)
    means = extract("bisecting", x, 12, row_ids=ids, seed=0, settings=SETTINGS)
    responses = x @ found.encoder.weights.T + found.encoder.bias
    projected = x @ unit(means.vectors).T
    for part in there.T:
        best, other = (max(separation(one, part) for one in many.T) for many in (responses, projected))
        assert best > 0.97 and other < 0.9


def test_filters_keep_the_contract():
    x, _ = parts_in_clutter(600)
    ids = np.arange(len(x)) * 7
    found = extract("filters", x, 12, row_ids=ids, seed=0, settings=SETTINGS, uniform=x[::2])
    assert 2 <= len(found.vectors) <= 12 and found.vectors.any(1).all() and not found.encoder.offset.any()
    assert found.vectors.shape == found.encoder.weights.shape and "detectors are distinct" in found.notes[0]
    order = np.random.default_rng(0).permutation(len(x))
    again = extract("filters", x[order], 12, row_ids=ids[order], seed=0, settings=SETTINGS, uniform=x[::2])
    np.testing.assert_array_equal(found.vectors, again.vectors)
    # So many fire per PFV as are wanted, and the code is the least squares on those.
    fires = found.encoder.dense(x) > 0
    assert fires.sum() / len(x) == pytest.approx(SETTINGS["nonzeros"], rel=0.05)
    calibration = {"method": ENCODER, "sign": "nonnegative", "penalty": ENCODER, "value": 0.0}
    codes = Coder(found.vectors, calibration, 1e-4, found.encoder)(x)
    u = codes.dense(len(found.vectors))
    assert (u >= 0).all() and not (u[~fires] != 0).any() and codes.stationarity.max() < 1e-5
    assert codes.rel_l2.mean() < 0.8


def test_detectors_move_towards_what_excites_them_and_doubles_are_dropped():
    z = np.array([[4.0, 0, 0], [3, 3, 0], [0, 0, 1]], dtype=np.float32)
    w = np.eye(3, dtype=np.float32)
    # (4 - 2) [4, 0, 0] + (3 - 2) [3, 3, 0]; the second is excited by one position, the third by none.
    expected = unit(np.array([[11.0, 3, 0], [3, 3, 0], [0, 0, 1]]))
    np.testing.assert_allclose(filters.refined(w, z), expected, rtol=1e-6)
    close = np.array([[1, 0], [0.95, np.sqrt(1 - 0.95**2)], [0.6, 0.8]])
    np.testing.assert_allclose(filters.distinct(close), close[[0, 2]])


def test_a_dictionary_that_is_not_there_is_refused_in_one_line():
    there = importlib.util.find_spec("overcomplete") is not None
    expected = "no dictionary 'Nonsense'" if there else "needs the package overcomplete"
    with pytest.raises(UserError, match=expected):
        plug(mixtures()[0], 3, row_ids=np.arange(400), seed=0, settings={"name": "Nonsense"})


@pytest.mark.skipif(importlib.util.find_spec("overcomplete") is None, reason="the extra overcomplete is not installed")
def test_overcompletes_dictionaries_plug_in():
    x, _ = mixtures()
    found = extract("overcomplete-SemiNMF", x, 5, row_ids=np.arange(len(x)), seed=0, settings=SETTINGS)
    assert found.vectors.shape == (5, 12)

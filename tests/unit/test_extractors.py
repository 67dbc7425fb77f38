import importlib.util

import numpy as np
import pytest
import torch

from gigraph.errors import UserError
from gigraph.extractors import extract
from gigraph.extractors.autoencoder import FIRST_NORM, train
from gigraph.extractors.autoencoder import schedule as factors
from gigraph.extractors.extraction import images_of, nearest
from gigraph.extractors.plugged import extract as plug
from gigraph.extractors.registry import ENCODES, MODULES
from gigraph.method.encoder import Encoder
from gigraph.method.lasso import lasso
from gigraph.method.stability import best_match
from gigraph.method.vectors import unit

SETTINGS = {
    "scale": "mean", "max_iter": 20, "nonzeros": 2, "steps": 400, "batch_size": 64, "learning_rate": 1e-2,
    "name": "SemiNMF",
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


@pytest.mark.parametrize("method", [name for name in MODULES if name != "sae"])
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


def test_the_autoencoders_concepts_are_the_autoencoder():
    x, _ = mixtures()
    found = extract("sae", x, 8, row_ids=np.arange(len(x)), seed=0, settings=SETTINGS)
    assert found.vectors.shape == (8, x.shape[1]) and (found.encoder is not None) == ("sae" in ENCODES)
    u = found.encoder.dense(x)
    assert (u >= 0).all() and found.encoder.offset.any()
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)
    scale = np.sqrt(x.shape[1]) / np.linalg.norm(x, axis=1).mean()
    # Train the found penalty's model again by hand and compare its reconstruction, unscaled.
    assert np.linalg.norm(x - found.encoder.offset - u @ found.vectors) < 0.6 * np.linalg.norm(x - x.mean(0)), scale
    np.testing.assert_array_equal(found.size, (u > 0).sum(0))
    assert "dead" in found.notes[0]


def test_folding_scale_and_norms_leaves_reconstructions_alone():
    x, _ = mixtures()
    scale = np.float32(np.sqrt(x.shape[1]) / np.linalg.norm(x, axis=1).mean())
    model = train(torch.from_numpy(x * scale), 6, 0.2, steps=50, batch_size=64, learning_rate=1e-2, seed=1)
    expected = model.reconstruct(model.features(torch.from_numpy(x * scale))).numpy() / scale
    norms = model.decoder.norm(dim=0)
    biases = (model.encoder_bias * norms / scale).numpy(), (model.decoder_bias / scale).numpy()
    encoder = Encoder((model.encoder * norms[:, None]).numpy(), *biases)
    vectors = (model.decoder / norms).T.numpy()
    np.testing.assert_allclose(encoder.offset + encoder.dense(x) @ vectors, expected, rtol=1e-3, atol=1e-5)


def test_training_starts_as_the_recipe_says():
    x = torch.randn(100, 8)
    model = train(x, 5, 0.0, steps=1, batch_size=10, learning_rate=0.0, seed=0)
    torch.testing.assert_close(model.decoder.norm(dim=0), torch.full((5,), FIRST_NORM))
    torch.testing.assert_close(model.encoder, model.decoder.T)
    assert not model.encoder_bias.any() and not model.decoder_bias.any()


def test_rate_decays_over_the_last_fifth_and_penalty_warms_up_over_the_first_twentieth():
    rate, warmth = zip(*(factors(step, 1000) for step in range(1000)), strict=True)
    assert rate[:800] == (1.0,) * 800 and rate[900] == pytest.approx(0.5) and rate[999] == pytest.approx(0.005)
    assert warmth[0] == pytest.approx(0.02) and warmth[24] == pytest.approx(0.5) and set(warmth[49:]) == {1.0}


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

"""The coefficients of a layer by each method, and the script that fixes what they are made with."""

import importlib.util
from argparse import Namespace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from explorer.fixture import MEASURED
from gigraph.errors import UserError
from gigraph.explorer import evidence
from gigraph.method.certificate import certified
from gigraph.method.coding import ENCODER, Coder, has_lambda, sparse
from gigraph.method.encoder import Encoder
from gigraph.method.lasso import lambda_max, lasso
from gigraph.method.pursuit import Pursuit
from gigraph.planning.config import load
from gigraph.planning.ladder import numbers
from gigraph.planning.plan import Plan
from gigraph.records import tables
from gigraph.records.encoders import write_encoder
from gigraph.records.schemas import SCHEMAS

TOLERANCE = 1e-4
LASSO = {"method": "lasso", "sign": "any", "penalty": "relative", "value": 0.3}
REFITTED = {**LASSO, "method": "refitted"}
PURSUIT = {"method": "pursuit", "sign": "any", "penalty": "nonzeros", "value": 5.0}
NONNEGATIVE = {**PURSUIT, "sign": "nonnegative"}
BY_ENCODER = {"method": ENCODER, "sign": "nonnegative", "penalty": ENCODER, "value": 0.0}
METHODS = [LASSO, REFITTED, PURSUIT, NONNEGATIVE, *({**one, "sign": "nonnegative"} for one in (LASSO, REFITTED))]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    v = rng.standard_normal((40, 16)).astype(np.float32)
    x = v[rng.integers(0, 40, 300)] + 0.5 * v[rng.integers(0, 40, 300)]
    x += 0.3 * rng.standard_normal(x.shape).astype(np.float32)
    x[7] = 0
    return x, v


def encoder(v):
    return Encoder(v / 20, np.zeros(len(v), np.float32), np.zeros(v.shape[1], np.float32))


@pytest.mark.parametrize("sign", ["any", "nonnegative"])
def test_by_default_they_are_the_lassos_bit_for_bit(data, sign):
    x, v = data
    codes = Coder(v, {**LASSO, "sign": sign}, TOLERANCE)(x)
    own = lasso(x, v, 0.3 * lambda_max(x, v, sign), sign=sign, tol=TOLERANCE)
    for name in ("indptr", "indices", "values", "gap", "rel_l2"):
        np.testing.assert_array_equal(getattr(codes, name), getattr(own, name))
    assert codes.gap.max() <= TOLERANCE and np.isnan(codes.stationarity).all()
    assert (codes.values < 0).any() == (sign == "any")


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_refitted_ones_have_the_lassos_support_and_no_larger_residual(data, factor):
    """At any lambda; only the lasso has a gap, only least squares have a stationarity."""
    x, v = data
    codes, before = Coder(v, REFITTED, TOLERANCE)(x, factor), Coder(v, LASSO, TOLERANCE)(x, factor)
    np.testing.assert_array_equal(codes.indptr, before.indptr)
    np.testing.assert_array_equal(codes.indices, before.indices)
    assert (codes.rel_l2 <= before.rel_l2).all() and codes.rel_l2.mean() < 0.9 * before.rel_l2.mean()
    assert codes.stationarity.max() <= 1e-6 and np.isnan(codes.gap).all()


def test_a_pursuit_takes_so_many_concepts_of_every_pfv(data):
    x, v = data
    codes = Coder(v, PURSUIT, TOLERANCE)(x)
    there = x.any(1)
    assert (codes.nonzeros()[there] == 5).all() and codes.nonzeros()[7] == 0
    assert codes.stationarity.max() <= 1e-6 and np.isnan(codes.gap).all()
    u, r = codes.dense(len(v)), x - codes.dense(len(v)) @ v
    np.testing.assert_allclose(codes.rel_l2[there], np.linalg.norm(r, axis=1)[there] / np.linalg.norm(x, axis=1)[there],
                               rtol=1e-4, atol=1e-6)  # fmt: skip
    assert (u < 0).any()
    # More than the rank of the vectors cannot be independent.
    assert Coder(v, {**PURSUIT, "value": 99.0}, TOLERANCE)(x).nonzeros().max() <= 16


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_nonnegative_refitted_ones_stay_on_the_lassos_support(data, factor):
    """What the non-negative least squares make zero leaves it."""
    x, v = data
    refitted, plain = ({**one, "sign": "nonnegative"} for one in (REFITTED, LASSO))
    codes, before = Coder(v, refitted, TOLERANCE)(x, factor), Coder(v, plain, TOLERANCE)(x, factor)
    assert (codes.values > 0).all() and (codes.rel_l2 <= before.rel_l2).all()
    assert not ((codes.dense(40) != 0) & (before.dense(40) == 0)).any()
    assert codes.stationarity.max() <= 1e-6


def test_a_nonnegative_pursuit_has_no_negative_coefficient(data):
    x, v = data
    codes = Coder(v, NONNEGATIVE, TOLERANCE)(x)
    assert (codes.values > 0).all() and codes.nonzeros()[x.any(1)].min() >= 1 and codes.nonzeros().max() <= 5
    assert codes.stationarity.max() <= 1e-6


@pytest.mark.parametrize("calibration", METHODS, ids=lambda one: f"{one['method']}-{one['sign']}")
def test_coding_does_not_depend_on_what_is_coded_with_it(data, calibration):
    """As attributed images, held-out ones and a new one come in batches of their own."""
    pytest.importorskip("numba")
    x, v = data
    coder = Coder(v, calibration, TOLERANCE)
    whole = coder(x).dense(len(v))
    parts = np.concatenate([coder(part).dense(len(v)) for part in (x[:1], x[1:50], x[50:])])
    np.testing.assert_array_equal(whole != 0, parts != 0)
    if calibration["method"] == "pursuit":
        np.testing.assert_array_equal(whole, parts)
    np.testing.assert_allclose(whole, parts, rtol=1e-3, atol=1e-5)


def test_only_a_lambda_can_be_multiplied(data):
    x, v = data
    assert [has_lambda(one) for one in (*METHODS, BY_ENCODER)] == [True, True, False, False, True, True, False]
    for calibration, own in ((PURSUIT, None), (BY_ENCODER, encoder(v))):
        with pytest.raises(ValueError, match=f"method {calibration['method']}, which has no lambda"):
            Coder(v, calibration, TOLERANCE, own)(x, 2.0)
    with pytest.raises(ValueError, match="not 'omp'"):
        Coder(v, {**PURSUIT, "method": "omp"}, TOLERANCE)


def test_an_encoder_takes_the_place_of_any_method(data):
    x, v = data
    given = encoder(v)
    for calibration in (BY_ENCODER, *METHODS):
        codes = Coder(v, calibration, TOLERANCE, given)(x)
        np.testing.assert_array_equal(codes.dense(len(v)), given.dense(x))
        assert np.isnan(codes.gap).all() and np.isnan(codes.stationarity).all()


def test_a_log_names_the_certificate_that_there_is(data):
    x, v = data
    found = [Coder(v, one, TOLERANCE)(x) for one in (LASSO, REFITTED, PURSUIT)]
    words = [certified(codes.gap, codes.stationarity) for codes in found]
    assert [one.rsplit(" ", 1)[0] for one in words] == ["largest duality gap", *["largest stationarity"] * 2]
    assert words[0].endswith(f"{found[0].gap.max():.1e}") and words[2].endswith(f"{found[2].stationarity.max():.1e}")
    codes = Coder(v, BY_ENCODER, TOLERANCE, encoder(v))(x)
    assert certified(codes.gap, codes.stationarity) == "without a certificate"


@pytest.mark.parametrize(
    ("gap", "stationarity", "shown"),
    [
        ([1e-5, 2e-5], [np.nan] * 2, {"gap": [1e-5, 2e-5]}),
        ([np.nan] * 2, [1e-8, 2e-8], {"stationarity": [1e-8, 2e-8]}),
        ([1e-5, np.nan], [np.nan, 2e-8], {"gap": [1e-5, None], "stationarity": [None, 2e-8]}),
    ],
)
def test_the_page_shows_the_certificates_that_there_are(tmp_path, gap, stationarity, shown):
    """As numbers that JSON can hold."""
    tables.write(tmp_path / "r.parquet", "reconstruction", {
        "layer": ["a", "b"], "rel_l2": [0.5] * 2, "l0_ratio": [0.5] * 2, "nonzeros": [4.0] * 2, "gap": gap,
        "stationarity": stationarity, "pfvs": [9] * 2, **{key: [value] * 2 for key, value in MEASURED.items()},
    })  # fmt: skip
    exhibit = evidence._plain("reconstruction", tmp_path / "r.parquet")
    assert sorted(exhibit["head"]) == sorted(["layer", "rel_l2", "l0_ratio", "nonzeros", *shown, "pfvs", *MEASURED])
    found = dict(zip(exhibit["head"], zip(*exhibit["rows"], strict=True), strict=True))
    assert {name: list(found[name]) for name in shown} == shown


@pytest.fixture
def calibrated(data, tmp_path, caplog):
    """Return what the script ``calibration`` fixes with some settings (and trials), and what it logs."""
    x, v = data
    beta = np.full(v.shape[1], 0.25, np.float32)
    k, n = len(v), len(x)
    files = {name: tmp_path / f"{name}.parquet" for name in ("centre", "concepts", "pfvs", "trials", "calibration")}
    centre = {"layer": ["a"], "center": ["mean"], "beta": [beta], "distance": [0.0], "mean_cosine": [0.1]}
    tables.write(files["centre"], "centre", centre)
    tables.write(files["concepts"], "concepts", {"concept": range(k), "size": [1] * k, "images": [1] * k,
                                                 "cohesion": [1.0] * k, "node": [None] * k,
                                                 "vector": v}, vectors="vector")  # fmt: skip
    write_encoder(tmp_path / "concepts.encoder.parquet", None, len(beta), "")
    same = {"y": [0] * n, "x": [0] * n, "contribution": [1.0] * n, "residual": [0.0] * n, "fallback": [False] * n}
    tables.write(files["pfvs"], "pfvs", {"image_id": range(n), **same, "pfv": x + beta}, vectors="pfv")
    spec = importlib.util.spec_from_file_location(
        "script_calibration", Path(__file__).parents[2] / "workflow/scripts/calibration.py"
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def fixed(tried=(0.3, 0.62, 0.85, 0.8), **settings):
        size = len(tried)
        kept = {"layer": ["a"] * size, "images": [9] * size, "asked": [1, 2, 4, 8][:size], "logit": tried}
        others = {name: [0.5] * size for name in SCHEMAS["trials"].names if name not in kept}
        tables.write(files["trials"], "trials", {**kept, **others})
        given = {"seed": 0, "holdout": 0.0, "layer": "a", "method": "lasso", "sign": "any", "penalty": "nonzeros",
                 "value": 4.0, "tolerance": 1e-4, "calibration": 1000, **settings}  # fmt: skip
        caplog.clear()
        with caplog.at_level("INFO", logger="gigraph"):
            compute = Namespace(memory_mb=100)
            script.main(Namespace(settings=given, compute=compute, lineage="", **files | {"pfvs": [files["pfvs"]]}))
        assert "nan" not in caplog.text
        return pl.read_parquet(files["calibration"]).row(0, named=True), caplog.text

    return fixed


def test_the_script_says_what_was_fixed_for_each_method(data, calibrated):
    x, v = data
    (one, _), (refitted, text) = calibrated(), calibrated(method="refitted")
    assert one["method"] == "lasso" and refitted["method"] == "refitted" and "refitted: lambda (absolute)" in text
    assert refitted["penalty"] == one["penalty"] == "absolute" and refitted["value"] == one["value"]
    assert refitted["nonzeros"] == pytest.approx(one["nonzeros"], abs=0.05)
    assert refitted["rel_l2"] < 0.9 * one["rel_l2"]
    found, text = calibrated(method="pursuit", sign="nonnegative")
    assert [found[key] for key in ("method", "sign", "penalty", "value")] == ["pursuit", "nonnegative", "nonzeros", 4]
    own = Pursuit(v).solve(x, 4, sign="nonnegative")
    assert found["nonzeros"] == pytest.approx(own.nonzeros().mean())
    assert found["rel_l2"] == pytest.approx(own.rel_l2.mean(), rel=1e-4) and "pursuit: at most 4 concepts:" in text
    assert "note: 30 non-zeros per PFV were asked for" in calibrated(method="pursuit", value=30.0)[1]


@pytest.mark.parametrize(("wanted", "taken"), [(0.2, 1), (0.62, 2), (0.7, 4), (0.85, 4)])
@pytest.mark.parametrize("method", ["lasso", "pursuit"])
def test_the_fewest_non_zeros_are_taken_that_keep_the_wanted_part(calibrated, method, wanted, taken):
    found, text = calibrated(method=method, penalty="decision", value=wanted)
    assert found["nonzeros"] == pytest.approx(taken, rel=0.05) and found["penalty"] != "decision"
    assert f"{taken} non-zeros keep" in text and "note" not in text


def test_where_none_keeps_enough_those_that_keep_most_are_taken_and_it_is_said(calibrated):
    """And what allows more: not a number that is out of reach of half the channels already."""
    for tried, limit, remedy in (
        ((0.3, 0.62, 0.85, 0.8), "8 (half the channels, or all concepts)", "raise concepts.expansion"),
        ((0.3, 0.62, 0.85), "4 (coefficients.most)", "raise it, or concepts.expansion"),
    ):
        found, text = calibrated(tried, method="pursuit", penalty="decision", value=0.9)
        assert found["value"] == 4
        said = f"4 non-zeros keep 85% of the centred logit of 9 images, and none up to {limit} keep the wanted 90%: "
        assert f"note: a: {said}{remedy}\n" in text


def test_too_much_of_the_decision_is_not_what_was_wanted(calibrated):
    found, _ = calibrated(tried=(1.9, 50.0, 0.81, 0.9), method="pursuit", penalty="decision", value=0.8)
    assert found["value"] == 4


def test_where_there_is_nothing_to_keep_it_is_said(calibrated):
    with pytest.raises(UserError, match=r"penalty: decision: at layer a the network decides no more .* nonzeros"):
        calibrated(tried=(np.nan,) * 4, penalty="decision", value=0.8)
    assert calibrated(tried=(np.nan, 0.1, 0.2, 0.1), method="pursuit", penalty="decision", value=0.8)[0]["value"] == 4


def test_a_network_with_shuffled_weights_that_decides_nothing_is_coded_all_the_same(calibrated):
    """Else the evaluation of every run with this penalty would end at its control."""
    nothing = {"tried": (np.nan,) * 4, "method": "pursuit", "penalty": "decision", "value": 0.8}
    found, text = calibrated(**nothing, shuffled=True)
    assert found["value"] == 8 and "8 non-zeros are taken, the most that are tried" in text


def test_the_calibration_knows_whether_weights_are_shuffled():
    raw = {"layers": ["a"], "images": {"source": "menagerie"}, "coefficients": {"penalty": "decision", "value": 0.9}}
    plan = Plan(load(raw), Path("scripts"))
    of = {"method": "bisecting", "layer": "a"}
    assert "shuffled" not in plan.settings("calibration", **of)
    assert plan.control.settings("calibration", **of)["shuffled"] is True


def test_a_ladder_ends_at_the_most():
    for most in (1, 2, 5, 40, 256):
        tried = numbers(most)
        assert tried == sorted({*tried}) and tried[0] == 1 and tried[-1] == most
    assert numbers(40) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40]


def test_no_more_non_zeros_are_tried_than_leave_a_code_sparse():
    assert sparse([1, 2, 3, 4, 6, 8, 12, 32], 160, 16) == [1, 2, 3, 4, 6, 8]
    assert sparse([1, 2, 4, 8], 3, 100) == [1, 2, 3] and sparse([1, 2], 9, 1) == [1]


@pytest.mark.parametrize("method", ["lasso", "refitted", "pursuit"])
def test_a_coder_asked_for_another_value_is_as_a_new_one(data, method):
    x, v = data
    of = lambda value: {"method": method, "sign": "any", "penalty": "relative" if method != "pursuit" else "nonzeros",  # noqa: E731
                        "value": value}  # fmt: skip
    one, many = (0.5, 0.2) if method != "pursuit" else (2, 5)
    coder = Coder(v, of(one), 1e-4)
    new, shared = Coder(v, of(many), 1e-4)(x), coder.asking(of(many))(x)
    np.testing.assert_array_equal(new.indices, shared.indices)
    np.testing.assert_array_equal(new.values, shared.values)
    assert coder(x).nonzeros().mean() < new.nonzeros().mean()


def test_an_encoder_that_only_detects_leaves_the_coefficients_to_the_method(data):
    x, v = data
    own = Encoder(v / 20, np.zeros(len(v), np.float32), np.ones(v.shape[1], np.float32)).detecting()
    assert not own.codes and not own.offset.any() and own.weights is not None
    ours, plain = Coder(v, PURSUIT, TOLERANCE, own)(x), Coder(v, PURSUIT, TOLERANCE)(x)
    np.testing.assert_array_equal(ours.indices, plain.indices)
    np.testing.assert_array_equal(ours.values, plain.values)

"""How much of the decision is kept: theorems of the share, and the scores beside literal ones."""

import numpy as np
import pytest
import torch

from gigraph.method.decision import Decisions, decide
from gigraph.method.gig import Batch, class_score
from gigraph.method.share import SCORES, Share, range_of, share, summary
from gigraph.method.targets import FEW_CLASSES, class_output


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    return rng.uniform(4, 9, 40), rng.uniform(2, 7, 40), rng.uniform(-1, 1, 40)


def test_all_is_kept_at_x_and_nothing_at_the_baseline(scores):
    x, _, baseline = scores
    assert share(x, x, baseline) == pytest.approx((1, 0), abs=1e-12)
    assert share(x, baseline, baseline) == pytest.approx((0, 0), abs=1e-12)
    assert share(x, baseline + 0.3 * (x - baseline), baseline) == pytest.approx((0.3, 0), abs=1e-12)


def test_the_share_is_a_ratio_of_sums_and_its_error_that_of_the_bootstrap(scores):
    x, kept, baseline = scores
    ratio, error = share(*scores)
    assert ratio == pytest.approx((kept - baseline).sum() / (x - baseline).sum())
    rng = np.random.default_rng(1)
    again = [share(*(one[some] for one in scores))[0] for some in rng.integers(0, len(x), (2000, len(x)))]
    assert error == pytest.approx(np.std(again), rel=0.15)
    # The unit of the score does not matter.
    assert share(*(5 * one + 3 for one in scores)) == pytest.approx((ratio, error))


def test_one_image_has_no_error_and_no_gain_no_share(scores):
    ratio, error = share(*(one[:1] for one in scores))
    assert np.isfinite(ratio) and np.isnan(error)
    assert np.isnan(share(scores[2], scores[1], scores[0])).all()
    assert np.isnan(share(*(np.full(9, 2.0),) * 3)).all()


def test_a_gain_within_its_error_has_no_share():
    """Of almost nothing any ratio can be kept."""
    for x, kept in (([1.0001, 1], [3, 1]), ([5, 5, 5.1], [1, 9, 4])):
        baseline = np.array([1.0, 1, 5][: len(x)]) if x[0] < 2 else np.array([4.99, 5.05, 5.06])
        assert np.isnan(share(np.array(x), np.array(kept, float), baseline)).all()


def test_too_much_is_lost_as_too_little_is(scores):
    x, _, baseline = scores
    ends = ("", "_at_a", "_at_baseline")
    for factor, kept in ((0.7, 0.7), (1.3, 0.7), (1, 1), (3, -1)):
        logit = {"logit": x, "logit_at_a": baseline + factor * (x - baseline), "logit_at_baseline": baseline}
        others = {key + end: np.zeros(40) for key in ("predicted", "probability") for end in ends}
        found = summary(logit | others, "a")
        assert found.logit == pytest.approx(factor) and found.kept == pytest.approx(kept)
        assert f"keep {factor:.0%} of the centred logit (standard error 0%)" in found.said()


def test_a_share_without_a_number_says_why():
    none = Share(1, *[float("nan")] * 2, 1.0, float("nan"), 0.9, *[float("nan")] * 2)
    assert none.said() == "keep 100% of the predictions; X has not clearly more of the centred logit than the baseline"
    one = Share(1, 0.5, float("nan"), 1.0, float("nan"), 0.9, *[float("nan")] * 2)
    assert one.said() == "keep 50% of the centred logit and 100% of the predictions"
    value = Share(1, 0.5, float("nan"), 1.0, *[float("nan")] * 4)  # a regression has no probability
    assert value.said() == "keep 50% of the value and 100% of the predictions"
    nothing = summary({key + end: np.empty(0) for key in SCORES for end in ("", "_at_a", "_at_baseline")}, "a")
    assert nothing.images == 0 and np.isnan(nothing.logit)


def test_a_decision_is_the_softmaxs_class_and_its_scores():
    logits = torch.randn(7, 5, dtype=torch.float64)
    found = decide(logits)
    np.testing.assert_array_equal(found.predicted, np.argmax(logits.numpy(), 1))
    of = torch.arange(7) % 5
    for to, one in ((found.predicted, found), (of, decide(logits, of))):
        rows = np.arange(7), to.numpy()
        exp = np.exp(logits.numpy())
        np.testing.assert_allclose(one.probability, (exp / exp.sum(1, keepdims=True))[rows], rtol=1e-5)
        np.testing.assert_allclose(one.logit, (logits.numpy() - logits.numpy().mean(1, keepdims=True))[rows], rtol=1e-4)
    # What the softmax does not see, no number shows.
    moved = decide(logits + 100)
    np.testing.assert_allclose(moved.logit, found.logit, atol=1e-4)


@pytest.mark.parametrize("points", [1, 2, 100])
def test_decisions_are_those_at_each_input_whatever_the_batch(points):
    torch.manual_seed(0)
    head = torch.randn(3, 4)
    x, other, start = torch.randn(5, 6, 3), torch.randn(5, 6, 3), torch.randn(3)
    segment = lambda pfvs: torch.tanh(pfvs).sum(1) @ head  # noqa: E731
    gathered = Decisions(segment, Batch(points))
    for part in (slice(0, 3), slice(3, 5)):
        gathered.add(x[part], iter([("concepts", other[part]), ("baseline", start)]))
    found = gathered.columns()
    predicted = segment(x).argmax(1)
    ends = {"": x, "_at_concepts": other, "_at_baseline": start.expand_as(x)}
    assert found.keys() == {key + end for key in ("predicted", "probability", "logit") for end in ends}
    for end, where in ends.items():
        one = decide(segment(where), predicted)
        for key in ("predicted", "probability", "logit"):
            np.testing.assert_allclose(found[key + end], getattr(one, key), rtol=1e-5, err_msg=key + end)


def test_a_summary_counts_images_and_averages(scores):
    probability = tuple(np.clip(one / 10, 0, 1) for one in scores)
    predicted = np.arange(40), np.where(np.arange(40) < 30, np.arange(40), 0)
    ends = ("", "_at_a", "_at_baseline")
    columns = dict(zip(["predicted", "predicted_at_a"], predicted, strict=True))
    for key, many in (("probability", probability), ("logit", scores)):
        columns |= {key + end: one for end, one in zip(ends, many, strict=True)}
    found = summary(columns, "a")
    assert found.images == 40 and found.agreement == 30 / 40
    assert found.agreement_se == pytest.approx(np.sqrt(0.75 * 0.25 / 39))
    assert (found.logit, found.logit_se) == share(*scores)
    assert found.probability_at_concepts == pytest.approx(probability[1].mean())


@pytest.mark.parametrize("output", ["probability", "logit", "centred_logit"])
def test_what_is_attributed_is_what_is_configured(output):
    assert class_output(output, 2) == class_output(output, 5000) == output


def test_auto_is_the_probability_of_few_classes_and_the_centred_logit_of_many():
    assert class_output("auto", FEW_CLASSES) == "probability"
    assert class_output("auto", FEW_CLASSES + 1) == "centred_logit"


def test_the_centred_logit_is_a_score():
    logits, to = torch.randn(3, 6), torch.tensor([[0, 5], [1, 1], [2, 4]])
    wanted = (logits - logits.mean(1, keepdim=True)).gather(1, to)
    torch.testing.assert_close(class_score("centred_logit")(logits, to), wanted)
    with pytest.raises(ValueError, match="centred"):
        class_score("odds")


@pytest.mark.parametrize(
    ("logits", "words"),
    [([], ""), ([None, np.nan], ""), ([0.93, 0.931], "93%"), ([np.nan, 0.9, None], "90%"),
     ([0.987, 0.6, 0.7], "60 to 99%"), ([1.6, 0.9], "40 to 90%")],
)  # fmt: skip
def test_what_layers_keep_is_told_from_the_least_to_the_most_with_what_is_too_much_as_lost(logits, words):
    assert range_of(logits) == words

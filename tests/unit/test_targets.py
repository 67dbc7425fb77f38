"""Which targets an image is attributed to."""

import numpy as np

from gigraph.method.targets import by_count, class_targets, concept_targets, first_distinct


def lists(targets):
    return [some.tolist() for some in targets]


def test_the_label_comes_first_then_the_most_probable_others():
    scores = np.array([[0.1, 0.6, 0.3, 0.0], [0.7, 0.1, 0.1, 0.1]])
    assert lists(class_targets(scores, np.array([3, 0]), 2, scores.argmax(1))) == [[3, 1, 2], [0, 1, 2]]


def test_without_a_label_the_most_probable_classes_are_taken():
    assert lists(class_targets(np.array([[0.1, 0.6, 0.3]]), np.array([-1]), 1, np.array([1]))) == [[1, 2]]


def test_with_none_besides_only_wrong_predictions_have_a_second_target():
    """Labels 1 (right), 0 (wrong), unknown, and one that is right though another scores more."""
    scores, predicted = np.array([[0.1, 0.6, 0.3]] * 4), np.array([1, 1, 1, 2])
    assert lists(class_targets(scores, np.array([1, 0, -1, 2]), 0, predicted)) == [[1], [0, 1], [1], [2]]


def test_images_are_grouped_by_how_many_targets_they_have():
    groups = [(images, to.tolist()) for images, to in by_count([np.array(t) for t in ([4, 5], [6], [7, 8], [9])])]
    assert groups == [([1, 3], [[6], [9]]), ([0, 2], [[4, 5], [7, 8]])]
    assert list(by_count([])) == []


def test_more_targets_than_classes_are_all_classes():
    assert sorted(class_targets(np.array([[0.2, 0.8]]), np.array([0]), 7, np.array([1]))[0]) == [0, 1]


def test_kept_concepts_come_before_the_images_own_and_every_row_is_full():
    assert concept_targets([[5, 2], []], [[2, 7], [7]], 3, range(10)).tolist() == [[5, 2, 7], [7, 0, 1]]


def test_a_shard_without_images_has_no_rows():
    assert class_targets(np.empty((0, 4)), np.empty(0, np.int64), 2, np.empty(0, np.int64)) == []
    assert concept_targets([], [], 3, range(10)).shape == (0, 3)


def test_first_distinct_never_repeats():
    assert first_distinct([3, 3, 1, 3], 4, range(5)) == [3, 1, 0, 2]
    assert first_distinct([], 9, range(3)) == [0, 1, 2]


def test_a_target_that_fills_up_leads_a_family():
    assert concept_targets([[5]], [[2]], 4, [2, 5, 6, 9]).tolist() == [[5, 2, 6, 9]]
    assert concept_targets([[5]], [[]], 9, [2, 5]).tolist() == [[5, 2]]

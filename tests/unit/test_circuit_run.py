"""What circuits of a class are made from, against tables written by hand."""

import numpy as np
import pyarrow as pa
import pytest

from gigraph.circuit_run import classes_with_most, likely_others, mean_relevance
from gigraph.method.families import Families


def test_the_classes_with_the_most_images_in_their_order():
    labels = [4, 4, 4, 1, 1, 7, 7, 7, -1, -1, -1, -1]
    assert classes_with_most(labels, None) == [1, 4, 7]
    assert classes_with_most(labels, 1) == [4] and classes_with_most(labels, 2) == [4, 7]
    assert classes_with_most(labels, 0) == []


def test_others_are_of_the_classes_that_the_class_is_most_readily_taken_for_one_of_each_first():
    selection = [{"image_id": i, "label": label} for i, label in enumerate([0, 0, 1, 1, 2, 2, 3, -1])]
    found = likely_others(np.array([9.0, 0.4, 0.6, 0.0]), selection, 0, 4)
    assert [row["image_id"] for row in found] == [4, 2, 6, 5]


@pytest.mark.parametrize(("alone", "expected"), [(False, [3, 0, 2.5]), (True, [1, 2, 2.5])])
def test_relevance_is_the_mean_over_the_classs_own_images(alone, expected):
    """Two images of class 0; concepts 0 and 1 are a family. Other rows are of another class, or of another target."""
    lists = lambda *rows: pa.array(rows, pa.list_(pa.int32()))  # noqa: E731
    numbers = lambda *rows: pa.array(rows, pa.list_(pa.float32()))  # noqa: E731
    table = pa.table({
        "label": [0, 0, 1, 0], "target": [0, 0, 1, 2],
        "sources": lists([0, 2], [0], [2], [2]), "values": numbers([2, 5], [4], [99], [99]),
        "members": lists([0, 1], [0, 1], [], []), "member_values": numbers([1, 1], [1, 3], [], []),
    })  # fmt: skip
    families = Families(np.array([0, 0, 2]), *np.ones((4, 3), np.float32))
    np.testing.assert_allclose(mean_relevance(table, 0, families, alone), expected)

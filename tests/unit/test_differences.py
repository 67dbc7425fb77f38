"""What matched concepts do in two runs, by hand: stand-ins whose attributions are written here."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from gigraph.differences.effects import EDGE, RELEVANCE, Compared, Sides, noise_of, ranked
from gigraph.differences.images import Common
from gigraph.differences.responses import Vocabularies, places
from gigraph.method.matching import Matching
from gigraph.reserved import CLASSES


class StandIn:
    """A run of two layers, and what it attributes: rows (image, label, target, {source: value}, total)."""

    def __init__(self, names, **rows):
        self.names = names
        self.rows = {tuple(key.split("__")): value for key, value in rows.items()}

    def attributions(self, source, target):
        rows = self.rows.get((source, target))
        return None if rows is None else pl.DataFrame(
            {
                "image_id": [row[0] for row in rows], "label": [row[1] for row in rows],
                "target": [row[2] for row in rows], "sources": [[*row[3]] for row in rows],
                "values": [[*row[3].values()] for row in rows], "total_absolute": [row[4] for row in rows],
            },
            schema_overrides={"image_id": pl.Int64},
        )  # fmt: skip

    @property
    def attributed(self):
        rows = self.rows["low", CLASSES]
        return pl.DataFrame({"image_id": [r[0] for r in rows], "label": [r[1] for r in rows]}).unique().sort("image_id")


def matching(one, two, k, l):  # noqa: E741
    every = np.ones(len(one)), np.ones(len(one)), np.ones(k), np.ones(l), np.ones(k), np.ones(l)
    return Matching(np.array(one), np.array(two), *every, np.full(k, -1), np.full(l, -1))


def vocabularies():
    """Layer low: families 2, 5, 7 of A and 1, 4 of B, 2 is 4; layer high: 0 is 3."""
    low = Vocabularies(matching([0], [1], 3, 2), (np.array([2, 5, 7]), np.array([1, 4])), None, None)
    high = Vocabularies(matching([0], [0], 1, 1), (np.array([0]), np.array([3])), None, None)
    return {"low": low, "high": high}


def common(pairs, shared=True):
    a, b = zip(*pairs, strict=True)
    return Common(pl.DataFrame({"a": a, "b": b}, {"a": pl.Int64, "b": pl.Int64}), shared)


def runs():
    one = StandIn(
        {"cat": 0, "dog": 1},
        low__classes=[
            (10, 0, 0, {2: 0.5, 5: 0.1}, 1.0), (10, 0, 1, {2: 9.0}, 9.0),  # the second is of another class
            (11, 0, 0, {2: 0.7}, 1.0), (12, 0, 0, {2: 0.6, 5: 0.2}, 1.0), (13, 1, 1, {7: 0.3}, 1.0),
        ],
        low__high=[
            (10, 0, 0, {2: 4.0, 5: -1.0}, 8.0), (11, 0, 0, {2: 1.0}, 4.0), (12, 0, 0, {2: 3.0}, 4.0),
        ],
    )  # fmt: skip
    two = StandIn(
        {"dog": 0, "cat": 1, "cow": 2},
        low__classes=[
            (20, 1, 1, {4: 0.1, 1: 0.4}, 1.0), (21, 1, 1, {4: 0.2}, 1.0), (22, 1, 1, {4: 0.3, 1: 0.2}, 1.0),
            (24, 0, 0, {4: 0.1}, 1.0),
        ],
        low__high=[(20, 1, 3, {4: 10.0}, 40.0), (22, 1, 3, {4: 20.0}, 40.0)],
    )  # fmt: skip
    return one, two


def row(frame, **where):
    (found,) = frame.filter(**where).to_dicts()
    return found


def test_relevances_of_the_same_images_by_hand():
    compared = Compared(runs(), common([(10, 20), (11, 21), (12, 22)]), vocabularies(), ["cat", "dog"])
    found = compared.relevances()
    assert found.schema == RELEVANCE
    both = row(found, **{"class": "cat", "a": 2})
    assert both["b"] == 4 and both["paired"] and both["images_a"] == both["images_b"] == 3
    assert both["mean_a"] == pytest.approx(0.6) and both["mean_b"] == pytest.approx(0.2)
    change = np.array([0.1 - 0.5, 0.2 - 0.7, 0.3 - 0.6])
    assert both["difference"] == pytest.approx(change.mean())
    assert both["se"] == pytest.approx(change.std(ddof=1) / np.sqrt(3))
    assert both["kind"] == "both"
    only_a, only_b = row(found, **{"class": "cat", "a": 5}), row(found, **{"class": "cat", "b": 1})
    assert (
        only_a["kind"] == only_b["kind"] == "only"
        and only_a["b"] is None
        and (only_a["mean_a"], only_a["mean_b"]) == (pytest.approx(0.1), 0)
    )
    assert only_b["a"] is None and (only_b["mean_a"], only_b["mean_b"]) == (0, pytest.approx(0.2))
    assert only_a["se"] == pytest.approx(np.std([0.1, 0, 0.2], ddof=1) / np.sqrt(3))
    assert not len(found.filter(pl.col("a") == 7, pl.col("class") == "cat")), "does nothing in either"


def test_what_is_split_counts_with_the_partner():
    """Family 5 of A is cut from family 4 of B, whose partner is 2: what both do here is compared with what 4 does."""
    there = vocabularies()
    there["low"].nodes.split_of_one[1] = 1
    compared = Compared(runs(), common([(10, 20), (11, 21), (12, 22)]), there, ["cat", "dog"])
    found = compared.relevances()
    both = row(found, **{"class": "cat", "a": 2})
    assert (both["kind"], both["b"], both["with_a"], both["with_b"]) == ("both", 4, [5], [])
    change = np.array([0.1 - 0.6, 0.2 - 0.7, 0.3 - 0.8])
    assert both["mean_a"] == pytest.approx(0.7) and both["difference"] == pytest.approx(change.mean())
    assert both["se"] == pytest.approx(change.std(ddof=1) / np.sqrt(3)) and not len(found.filter(pl.col("a") == 5))
    assert row(found, **{"class": "cat", "b": 1})["with_b"] == []
    edge = Compared(runs(), common([(10, 99)]), there, ["cat"])
    edge.sides["cat"] = Sides((np.array([10, 11, 12]), np.array([20, 22, 22])), False)
    (one,) = edge.edges("low", "high").to_dicts()
    assert one["source_with_a"] == [5] and one["mean_a"] == pytest.approx(np.mean([3 / 8, 1 / 4, 3 / 4]))


def test_classes_are_those_of_the_same_name():
    compared = Compared(runs(), common([(10, 20)]), vocabularies(), ["cat", "dog"])
    dogs = compared.relevances().filter(pl.col("class") == "dog")
    assert sorted((r["a"] or -1, r["b"] or -1) for r in dogs.to_dicts()) == [(2, 4), (7, -1)]
    assert dogs["p"].null_count() == 2 and dogs["paired"].to_list() == [False, False], "an image each"


def test_other_images_are_compared_by_their_means():
    compared = Compared(runs(), common([(99, 98)]), vocabularies(), ["cat"])
    found = row(compared.relevances(), **{"class": "cat", "a": 2})
    parts = [np.var(side, ddof=1) / 3 for side in ([0.5, 0.7, 0.6], [0.1, 0.2, 0.3])]
    assert not found["paired"] and found["se"] == pytest.approx(np.sqrt(sum(parts)))


def test_an_edge_of_two_images_is_not_compared():
    """Two that happen to agree have no error, and would be the surest difference of all."""
    assert not len(
        Compared(runs(), common([(10, 20), (11, 21), (12, 22)]), vocabularies(), ["cat"]).edges("low", "high")
    )


def test_edges_are_shares_over_the_images_that_have_the_target(monkeypatch):
    monkeypatch.setattr("gigraph.differences.effects.FEWEST", 2)
    compared = Compared(runs(), common([(10, 20), (11, 21), (12, 22)]), vocabularies(), ["cat", "dog"])
    found = compared.edges("low", "high")
    assert found.schema == EDGE
    both = row(found, source_a=2)
    assert (both["target_a"], both["target_b"], both["source_b"], both["images_a"]) == (0, 3, 4, 2)
    assert both["mean_a"] == pytest.approx(np.mean([4 / 8, 3 / 4])), "image 21 was not looked at in B"
    assert both["mean_b"] == pytest.approx(np.mean([10 / 40, 20 / 40]))
    assert row(found, source_a=5)["mean_a"] == pytest.approx(-1 / 16)
    assert not len(compared.edges("high", "low")), "no pair of either run"


def test_few_images_in_common_are_not_enough_for_pairs():
    one, two = np.arange(10), np.arange(100, 110)
    assert not Sides.of(one, two, {0: 100, 1: 101, 2: 102, 3: 103}).same
    half = Sides.of(one, two, {i: 100 + i for i in range(5)})
    assert half.same and [ids.tolist() for ids in half.ids] == [[*range(5)], [*range(100, 105)]]
    assert not Sides.of(one, two, {i: 200 + i for i in range(10)}).same, "B has not attributed them"


def effects(**columns):
    count = len(columns["difference"])
    given = {"kind": ["both"] * count, **columns}
    frame = pl.DataFrame({name: given.get(name, [None] * count) for name in RELEVANCE}, strict=False)
    return frame.select(pl.col(name).cast(kind) for name, kind in RELEVANCE.items())


def test_what_differs_is_ranked_by_what_it_at_least_is():
    """The second is the surest, the first the largest; the third may be chance, the fourth is nothing."""
    found = ranked(
        effects(a=[1, 2, 3, 4], difference=[-0.5, 0.1, 0.2, 0.0], se=[0.05, 0.002, 0.2, 0.0], df=[19.0] * 4,
                p=[2e-9, 1e-19, 0.33, 1.0]),
        0.05,
    )  # fmt: skip
    assert found["a"].to_list() == [1, 2, 3] and found["rank"].to_list() == [1, 2, 3]
    assert found["kept"].to_list() == [True, True, False]
    assert found["q"].to_list() == pytest.approx([4e-9, 4e-19, 0.44]), "of four"
    # The interval's level is 1 - .05 2 / 4.
    assert found["at_least"][0] == pytest.approx(-(0.5 - 2.4334 * 0.05), abs=1e-4) and found["at_least"][2] == 0


def test_noise_is_told_by_kind_from_all_pairs_of_trainings():
    """Three trainings of A: three pairs, two degrees of freedom; two of B have one more, and weigh as much as that."""
    change = effects(kind=["both", "both", "only"], difference=[0.3, -0.3, 0.0], se=[0.1, 0.1, 0.0])
    still = effects(kind=["both", "both"], difference=[0.0, None], se=[0.0, None])
    found = noise_of([(3, [change, change, still]), (2, [still])])
    assert {row["kind"]: row["freedom"] for row in found.to_dicts()} == {"both": 3, "only": 2}, "B says nothing of only"
    # Weights 2/3 of five differences of A, of which four are 0.3 -+ 0.1, and 1 of one of B.
    told = dict(found.select("kind", "noise").iter_rows())
    assert told["both"] == pytest.approx(np.sqrt((2 / 3 * 4 * 0.08) / (2 / 3 * 5 + 1))) and told["only"] == 0
    assert not len(noise_of([])) and not len(noise_of([(2, [pl.DataFrame(schema=EDGE)])]))


def test_a_new_concept_is_ranked_by_the_noise_of_new_ones():
    """What both have differs by more, and trainings differ so by chance: it is nothing. The new one is first."""
    noise = pl.DataFrame({"kind": ["both", "only"], "noise": [0.3, 0.03], "freedom": [4.0, 4.0]})
    compared = effects(
        kind=["both", "only", "both", "only"], a=[1, 2, 3, 4], difference=[0.6, 0.4, 0.01, 0.0],
        se=[0.01, 0.01, 0.01, 0.0], df=[19.0] * 4, p=[1e-19, 1e-15, 0.3, 1.0],
    )  # fmt: skip
    assert ranked(compared, 0.05)["a"].to_list() == [1, 2, 3]
    found = ranked(compared, 0.05, noise)
    assert found["a"].to_list() == [2, 1, 3] and found["kept"].to_list() == [True, False, False]
    total, one = 0.01**2 + 0.03**2, found.filter(a=2)
    freedom = total**2 / (0.01**4 / 19 + 0.03**4 / 4)
    assert one["p"][0] == pytest.approx(2 * stats.t.sf(0.4 / np.sqrt(total), freedom))
    assert one["q"][0] == pytest.approx(4 * one["p"][0]) and one["noise"][0] == 0.03
    few = ranked(compared, 0.05, noise.with_columns(freedom=pl.lit(1.0)))
    assert few["a"].to_list() == [2, 1, 3] and not few["kept"].any(), "of two trainings nothing can be told"


def test_what_is_kept_is_ordered_in_units_of_the_noise():
    noise = pl.DataFrame({"kind": ["both", "only"], "noise": [0.2, 0.05], "freedom": [90.0, 90.0]})
    compared = effects(
        kind=["both", "only"], a=[1, 2], difference=[1.2, 0.6], se=[0.01] * 2, df=[19.0] * 2, p=[1e-16] * 2
    )
    for given, order in ((None, [1, 2]), (noise, [2, 1])):
        found = ranked(compared, 0.05, given)
        assert found["kept"].all() and found["a"].to_list() == order and found["at_least"][order.index(1)] > 0.6


def test_what_is_not_kept_is_ordered_by_its_errors():
    """The second has larger errors over images, and so more degrees of freedom and a smaller p."""
    noise = pl.DataFrame({"kind": ["both"], "noise": [0.1], "freedom": [1.0]})
    compared = effects(a=[1, 2, 3], difference=[0.5, 0.6, 0.0], se=[0.01, 0.1, 0.1], df=[19.0] * 3, p=[1e-9, 1e-4, 1])
    found = ranked(compared, 0.001, noise)
    assert found["a"].to_list() == [1, 2] and not found["kept"].any() and found["p"][0] > found["p"][1]


def test_a_kind_that_no_training_tells_keeps_its_errors():
    noise = pl.DataFrame({"kind": ["both"], "noise": [0.2], "freedom": [4.0]})
    compared = effects(
        kind=["both", "only"], a=[1, 2], difference=[0.3, 0.3], se=[0.01] * 2, df=[19.0] * 2, p=[1e-16] * 2
    )
    found = {row["a"]: row for row in ranked(compared, 0.05, noise).to_dicts()}
    assert found[2]["noise"] is None and found[2]["p"] == 1e-16 and found[1]["p"] > 0.05


def test_nothing_is_left_of_equal_effects():
    assert not len(ranked(effects(a=[1, 2, 3, 4], difference=[0.0] * 4, se=[0.0] * 4, df=[3.0] * 4, p=[1.0] * 4), 0.05))
    assert ranked(pl.DataFrame(schema=RELEVANCE), 0.05).columns[:4] == ["rank", "kept", "q", "at_least"]


@pytest.mark.parametrize("grid", [(24, 24), (12, 12), (7, 9), (1, 1), (100, 3), (25, 25)])
def test_large_maps_are_looked_at_evenly(grid):
    found = places(*grid)
    rows, columns = np.unique(found // grid[1]), np.unique(found % grid[1])
    assert len(found) == len(rows) * len(columns) <= 144
    for some in (rows, columns):
        assert some[0] == 0 and len(np.unique(np.diff(some))) <= 1
    assert places(*grid, 2).tolist() == [0, 1, *(2 + found).tolist()]
    assert len(places(12, 12)) == 144

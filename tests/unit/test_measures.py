import numpy as np
import polars as pl
import pytest

from gigraph.evaluation.measures import GRID, Measures, mean, per_image
from gigraph.evaluation.summary import _table, summary
from gigraph.evaluation.titles import short


def test_mean_and_standard_error_by_hand():
    found = mean([1.0, 2.0, np.nan, 6.0])
    assert (found.value, found.n) == (3.0, 3) and found.se == pytest.approx(np.sqrt(7 / 3))
    assert np.isnan(mean([5.0]).se) and mean([]).n == 0


def test_rows_of_one_image_count_once():
    found = mean(per_image([1.0, 3.0, 1.0, 5.0, 9.0], np.array([7, 7, 2, 7, 2])))
    assert (found.value, found.se, found.n) == (4, 1, 2)  # of 5 and 3


def test_rows_become_tables(tmp_path):
    measures = Measures(method="bisecting", layer="a")
    measures.add("rel_l2", [0.25, 0.75])
    measures.add("rank_correlation", 0.5, n=30, target="b", order="gig")
    measures.add_curves(np.tile(GRID, (4, 1)), target="b", order="gig", metric="deletion", output="p", axis="all")
    for kind in ("measures", "curves"):
        measures.write(kind, tmp_path / f"{kind}.parquet", "0")
    rows = pl.read_parquet(tmp_path / "measures.parquet").to_dicts()
    assert rows[0]["value"] == 0.5 and rows[0]["se"] == pytest.approx(0.25) and rows[0]["target"] == ""
    assert rows[1]["n"] == 30 and rows[1]["target"] == "b"
    curves = pl.read_parquet(tmp_path / "curves.parquet")
    assert curves["x"].to_list() == pytest.approx(curves["value"].to_list()) and set(curves["n"]) == {4}
    empty = pl.read_parquet(tmp_path / "measures.parquet").clear()
    topics = {"reconstruction": pl.DataFrame(rows[:1], schema=empty.schema)}
    topics |= dict.fromkeys(("classes", "interlayer", "stability", "edges", "sensitivity"), empty)
    settings = {
        "layers": ["a"],
        "pairs": [["a", "classes"]],
        "methods": ["bisecting"],
        "graphs": ["bisecting"],
        "attribution": {"method": "gig"},
    }
    assert "| bisecting | 0.500 ± 0.250 |" in summary(topics, settings)
    title = "## Sensitivity to lambda"
    assert title not in summary(topics, settings)  # no layer has a lambda
    one = pl.DataFrame(rows[:1], schema=empty.schema).with_columns(metric=pl.lit("rel_l2_lambda_x_2"))
    assert f"{title}\n\n" in (text := summary(topics | {"sensitivity": one}, settings))
    assert "| rel_l2_lambda_x_2 | 0.500 ± 0.250 |" in text


def test_counts_read_as_counts_and_rows_without_a_number_are_left_out():
    rows = pl.DataFrame(
        [("a", "x", 3.0, np.nan), ("a", "y", 1.0, np.nan), ("b", "x", np.nan, np.nan), ("c", "y", 2.0, None)],
        schema=["method", "layer", "value", "se"],
        orient="row",
    )
    table = _table("t", rows, None, "method", ["a", "b", "c"], ["x", "y"])
    assert table.splitlines()[2:] == ["| | x | y |", "|---|---|---|", "| a | 3 | 1 |", "| c |  | 2 |"]
    mixed = rows.with_columns(value=pl.col("value") / 2, se=pl.lit(0.25))
    assert "| a | 1.500 ± 0.250 | 0.500 ± 0.250 |" in _table("t", mixed, None, "method", ["a"], ["x", "y"])
    partly = rows.with_columns(method=pl.lit("a")).head(3).tail(2)
    assert "| a | – | 1 |" in _table("t", partly, None, "method", ["a"], ["x", "y"])


def test_the_control_is_of_the_graphs_extractor_whatever_is_compared_first():
    from gigraph.records.schemas import SCHEMAS

    columns = dict.fromkeys(SCHEMAS["measures"].names, pl.Utf8) | dict.fromkeys(("value", "se"), pl.Float64)
    empty = pl.DataFrame(schema=columns)
    topics = dict.fromkeys(("reconstruction", "classes", "interlayer", "stability", "edges", "sensitivity"), empty)
    blank = {"method": "bisecting", "target": "", "order": "", "reading": "", "trained": 0.9, "shuffled": 0.5}
    rows = [
        {**blank, "topic": "reconstruction", "metric": "rel_l2", "layer": "a", "auc": 0.125, "n": 30},
        {**blank, "topic": "reconstruction", "metric": "r2_8_terms", "layer": "", "auc": 1.0, "n": 3},
        {**blank, "topic": "classes", "metric": "mu_fidelity", "layer": "a", "order": "gig", "auc": None, "n": 0},
        {**blank, "topic": "network", "metric": "outputs", "layer": "", "auc": None, "n": 90, "shuffled": 1.0},
    ]
    settings = {"layers": ["a"], "pairs": [["a", "classes"]], "methods": ["random", "bisecting"],
                "graphs": ["bisecting"], "shortcut": None, "attribution": {"method": "gig"}}  # fmt: skip
    text = summary({**topics, "sanity": pl.DataFrame(rows)}, settings)
    assert "by the concepts of bisecting" in text and text.count("says the same of every image") == 1
    assert "| Relative l2 error of held-out PFVs | better when shuffled | 0.125 |  |" in text
    assert "| R2 with 8 concepts | not judged |  | 1.000 |" in text
    assert "| C-muFidelity | not judged | – |" in text and "nearer to linear" in text


def test_a_short_title_stands_by_itself():
    shortcut = {"part": "tag", "class": "cheetah"}
    found = [short(topic, metric, "gig", shortcut) for topic, metric in (
        ("classes", "c_difference_probability_all"), ("classes", "c_difference_probability_active"),
        ("classes", "accuracy_at_concepts"), ("interlayer", "difference_projection"),
        ("interlayer", "difference_largest_projection"), ("interlayer", "gig_gain_projection"),
        ("interlayer", "gig_gain_largest_projection"), ("edges", "correlation_at_x"), ("edges", "rank_correlation_all"),
        ("edges", "share_error"), ("stability", "stability"), ("comparison", "stability_of_maps"),
        ("truth", "average_precision"), ("truth", "average_precision_coefficients"), ("truth", "iou_families"),
        ("truth", "tag_share"), ("truth", "tag_concepts_share"), ("truth", "profile_likeness_vs_confusion"),
        ("sensitivity", "relevance_agreement_lambda_x_0.5"), ("further", "something_else"))]  # fmt: skip
    assert len(set(found)) == len(found) and not any(words.startswith("The same") or "(" in words for words in found)
    assert found[0] == "C-Insertion minus C-Deletion of the probability, all concepts"
    assert found[6] == "GIG's lead in the projection, maximised anew" and found[-1] == "Something else"

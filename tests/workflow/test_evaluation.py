"""The target `evaluation`: what it plans, what it draws from any numbers, and (slow) a whole run on a toy."""

import itertools
import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from gigraph.evaluation.orders import arranged, title
from gigraph.evaluation.plots import ORDERS
from gigraph.evaluation.summary import summary
from gigraph.planning.config import load
from gigraph.planning.plan import Plan
from gigraph.records import tables
from gigraph.records.paths import SHOWN
from gigraph.records.schemas import SCHEMAS
from gigraph.reserved import CLASSES
from workflow.shadow import Shadow
from workflow.toy import ROOT, configure, draw, jobs, snakemake

METHODS = ["bisecting", "sae", "random"]
TINY = {
    "evaluation": {"methods": METHODS, "holdout": 0.3, "images": 10, "interlayer_images": 4, "targets": 2, "points": 6,
                   "subsets": 8, "seeds": 1, "edges": 10},
    "autoencoder": {"steps": 60},
    "images": {"shards": 1},
    "attribution": {"images_per_class": 1},
}  # fmt: skip


def test_the_target_is_planned_apart_from_the_default(tmp_path):
    draw(tmp_path, 20)
    path = configure(tmp_path, **TINY)
    default = snakemake(tmp_path, "-np", "--configfile", str(path))
    assert default.returncode == 0, default.stderr[-3000:]
    planned = set(jobs(default.stdout + default.stderr))
    assert not {"validation", "stability", "edge_checks", "evaluation_tables", "evidence"} & planned
    run = snakemake(tmp_path, "evaluation", "-np", "--configfile", str(path))
    assert run.returncode == 0, run.stderr[-3000:]
    found = jobs(run.stdout + run.stderr)
    expected = {"concepts": 6, "calibration": 6, "validation": 6, "stability": 2, "edge_checks": 1, "heldout": 1,
                "probes": 1, "comparison": 6,
                "evaluation_tables": 1, "evaluation_figures": 1, "graph": 1, "explorer": 1, "evidence": 1}  # fmt: skip
    assert {rule: found.get(rule) for rule in expected} == expected
    assert "truth" not in found
    # Of the network with its weights shuffled only what is measured, of the graph's extractor.
    control = {"concepts": 2, "validation": 2, "stability": 2, "graph": 1, "edge_checks": 1}
    assert {rule: found.get(f"control_{rule}") for rule in control} == control
    assert not {"control_comparison", "control_explorer", "control_exemplars", "control_circuits"} & {*found}


def test_the_control_is_the_run_with_shuffled_weights_wherever_it_lies(tmp_path):
    draw(tmp_path, 20)
    raw = {"images": {"source": str(tmp_path / "images")}, "layers": [{"name": "layer3.1"}], "seed": 7}
    plan = Plan(load({**raw, "methods": ["kmeans", "bisecting"]}), ROOT / "workflow/scripts")
    control = plan.control
    assert control is not None and control.control is None and control.config.model.shuffled == 7
    of = {"method": "kmeans", "layer": "layer3.1"}
    alone = Plan(load({**raw, "methods": ["kmeans"], "model": {"shuffled": 7}, "output": "else"}), plan.scripts)
    assert control.lineage("validation", **of) == alone.lineage("validation", **of) != plan.lineage("validation", **of)
    assert control.results("measures", **of).parent == plan.root / "shuffled/kmeans/evaluation/layers"
    # What it is held against rests on it; a run that is shuffled itself, or asked for none, has none.
    tables = plan.lineage("evaluation_tables")
    for without in ({"evaluation": {"control": False}}, {"model": {"shuffled": 7}}):
        other = Plan(load({**raw, "methods": ["kmeans", "bisecting"], **without}), plan.scripts)
        assert other.control is None and other.lineage("evaluation_tables") != tables
        assert not other.reads("evaluation_tables")["control"]


@pytest.mark.slow
def test_the_explorer_waits_for_no_evaluation_and_shows_one_in_the_end(tmp_path):
    """The target ends with the site built again; either target then leaves the other's results as they are."""
    small = {"layers": ["layer3.1"], "images": {"shards": 1}, "evaluation": {"methods": ["bisecting"]}}
    shadow = Shadow(tmp_path, **small)
    assert shadow.run().returncode == 0
    assert "evidence" not in {stage for stage, *_ in shadow.jobs()}
    assert shadow.run("evaluation").returncode == 0
    stages = [stage for stage, *_ in shadow.jobs()]
    assert "explorer" not in stages and stages.index("evidence") > stages.index("evaluation_tables")
    # What the real site says; this one's jobs only pretend.
    shown = tables.lineage_of(shadow.folder / "results" / "evaluation" / "classes.parquet")
    (shadow.folder / "results/explorer/data").mkdir()
    says = shadow.folder / "results/explorer/data" / SHOWN
    says.write_text(json.dumps(shown))
    retitled = shadow.write("retitled", **small, explorer={"title": "Another"})
    looked = shadow.write("looked", **small | {"evaluation": {"methods": ["bisecting"], "points": 9}})
    for config, target, expected in (
        (None, "all", set()),
        (None, "evaluation", set()),
        (retitled, "all", {"explorer"}),
        (retitled, "evaluation", {"explorer", "evidence"}),
        (looked, "all", {"explorer"}),
        (
            looked,
            "evaluation",
            {"validation", "control_validation", "evaluation_tables", "evaluation_figures", "explorer", "evidence"},
        ),
    ):
        run = shadow.run("-np", target, config=config)
        assert run.returncode == 0 and set(jobs(run.stdout + run.stderr)) - {target} == expected, (target, config)
    # Built without it in between: its page has the same bytes, so that Snakemake sees no change.
    says.write_text(json.dumps(""))
    run = shadow.run("-np", "evaluation")
    assert set(jobs(run.stdout + run.stderr)) - {"evaluation"} == {"evidence"}


def test_settings_of_one_extractor_touch_no_other():
    scripts = ROOT / "workflow" / "scripts"
    raw = {"layers": ["layer3.1", "layer4.0"], "methods": ["bisecting"]}
    one, other = (Plan(load({**raw, "autoencoder": {"steps": steps}}), scripts) for steps in (10, 20))
    for method in ("bisecting", "sae"):
        same = [plan.lineage("validation", method=method, layer="layer3.1") for plan in (one, other)]
        assert (same[0] == same[1]) == (method == "bisecting")
    # Another way to set lambda leaves an extractor the default number of non-zeros, which is the same number.
    plain, absolute = (Plan(load({**raw, **more}), scripts) for more in ({}, {"coefficients": {"penalty": "absolute"}}))
    assert len({plan.lineage("concepts", method="sae", layer="layer3.1") for plan in (plain, absolute)}) == 1
    looked = Plan(load({**raw, "evaluation": {"points": 9}}), scripts)
    assert looked.lineage("graph", method="bisecting") == one.lineage("graph", method="bisecting")
    assert looked.lineage("validation", method="sae", layer="layer3.1") != one.lineage(
        "validation", method="sae", layer="layer3.1"
    )


def invented(root, layers, pairs, methods, own):
    """Write evaluation tables of invented numbers, of a graph by the attribution method `own`."""
    random = np.random.default_rng(0)
    blank = dict.fromkeys(("method", "layer", "target", "order", "part", "metric"), "")

    def write(topic, rows):
        rows = [{**blank, "value": random.random(), "se": 0.01, "n": 20, "values": [], **row} for row in rows]
        columns = {name: [row[name] for row in rows] for name in SCHEMAS["measures"].names}
        tables.write(root / "evaluation" / f"{topic}.parquet", "measures", columns)

    each = [{"method": method, "layer": layer} for method in methods for layer in layers]
    write("reconstruction", [{**one, "metric": m} for one in each for m in ("rel_l2", "nonzeros", "r2_8_terms")])
    write("stability", [{**one, "metric": "stability"} for one in each])
    write("sensitivity", [{**one, "metric": f"{m}_lambda_x_{f}"} for one in each for f in (0.25, 0.5, 2, 4)
                          for m in ("rel_l2", "nonzeros", "relevance_agreement")])  # fmt: skip
    classes = [f"c_difference_probability_{axis}" for axis in ("active", "all")]
    write("classes", [{**one, "target": CLASSES, "order": own, "metric": m} for one in each for m in classes])
    between = [(a, b) for a, b in pairs if b != CLASSES]
    metrics = [f"{what}_{m}" for what in ("difference", f"{own}_gain") for m in ("projection", "largest_projection")]
    write("interlayer", [{"method": method, "layer": a, "target": b, "order": order, "metric": metric}
                         for method in methods for a, b in between for order in [*ORDERS, "later"]
                         for metric in metrics])  # fmt: skip
    write("edges", [{"method": methods[0], "layer": a, "target": b, "metric": m} for a, b in pairs
                    for m in ("rank_correlation_shown", "rank_correlation_others", "rank_correlation_all",
                              "share_concepts", "share_remainder", "share_error")])  # fmt: skip
    truth = ("average_precision", "iou", "purity", "redraw_rank_correlation", "tag_rank", "tag_concepts_share")
    write("truth", [{**one, "metric": m} for one in each for m in truth])
    rows = []
    for method in methods:
        keys = [(layer, CLASSES, own, "probability") for layer in layers]
        keys += [(a, b, order, "projection") for a, b in between for order in [*ORDERS, "later"]]
        for layer, target, order, output in keys:
            for metric in ("deletion", "insertion"):
                rows += [{"method": method, "layer": layer, "target": target, "order": order, "metric": metric,
                          "output": output, "axis": "active", "x": x, "value": x, "se": 0.02, "n": 9}
                         for x in np.linspace(0, 1, 101)]  # fmt: skip
    columns = {name: [row[name] for row in rows] for name in SCHEMAS["curves"].names}
    tables.write(root / "evaluation" / "curves.parquet", "curves", columns)
    concepts = [(layer, k) for layer in layers for k in range(5)]
    columns = {"layer": [layer for layer, _ in concepts], "concept": [k for _, k in concepts]}
    columns |= {name: random.random(len(concepts)) for name in ("stability", "over_concepts", "chance")}
    columns["over_pfvs"] = np.full(len(concepts), np.nan)
    tables.write(root / "evaluation" / "found_again.parquet", "stability", columns)


def test_the_graphs_own_order_comes_first_and_chance_last():
    found = ["gig", "gradient_x_input", "ablation", "random", "", "gig"]
    assert arranged(found, "gig") == ["gig", "ablation", "gradient_x_input", "random"]
    assert arranged(found, "gradient_x_input") == ["gradient_x_input", "ablation", "gig", "random"]
    assert arranged([], "gig") == ["gig", "ablation", "random"]


@pytest.mark.parametrize(("count", "own"), [(1, "gig"), (9, "gradient_x_input")])
def test_figures_come_from_any_number_of_layers_with_axes_and_legends(tmp_path, count, own):
    """They follow the graph's attribution method, and name it; a method that they do not know has a style, too."""
    layers = [f"layer{i}" for i in range(count)]
    pairs = [*itertools.pairwise(layers), *((layer, CLASSES) for layer in layers)]
    invented(tmp_path, layers, pairs, ["bisecting", "overcomplete-NMF"], own)
    settings = Plan(load({"layers": ["layer3.1"]}), ROOT / "workflow/scripts").settings("evaluation_figures")
    settings |= {"layers": layers, "pairs": pairs, "methods": ["bisecting", "overcomplete-NMF"],
                 "attribution": {"method": own}}  # fmt: skip
    command = [sys.executable, str(ROOT / "workflow/scripts/evaluation_figures.py"), "--root", str(tmp_path)]
    run = subprocess.run([*command, "--settings", json.dumps(settings)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for name in ("reconstruction", "extraction", "interlayer", "edges", "stability", "sensitivity", "truth"):
        assert "<svg" in (tmp_path / "figures" / f"{name}.svg").read_text()[:2000]
    if pairs[0][1] != CLASSES:
        assert f"<!-- {title(own)} -->" in (tmp_path / "figures" / "interlayer.svg").read_text()
        assert "<!-- later -->" in (tmp_path / "figures" / "interlayer.svg").read_text()
    assert f"correlation of {title(own)} with" in (tmp_path / "figures" / "edges.svg").read_text()
    topics = {path.stem: pl.read_parquet(path) for path in (tmp_path / "evaluation").glob("*.parquet")}
    text = summary(topics, settings | {"graphs": settings["methods"][:1]})
    assert text.count("C-Insertion minus C-Deletion, over") == 2  # of the graph's own order
    assert (f"{title(own)}'s lead over each order" in text) == (count > 1)
    _, _, titled = text.partition("\nMean ±")  # above it the graph's own method is held against others
    assert f"Edges: {title(own)} against" in titled and ("GIG" in titled) == (own == "gig")


@pytest.mark.slow
def test_the_evaluation_of_a_toy(tmp_path):
    draw(tmp_path)
    path = configure(tmp_path, **TINY)
    run = snakemake(tmp_path, "evaluation", "--configfile", str(path))
    assert run.returncode == 0, run.stderr[-4000:]
    root = tmp_path / "results" / "evaluation"
    assert len(pl.read_parquet(root / "heldout.parquet")) == 10
    curves = pl.read_parquet(root / "curves.parquet").filter(pl.col("axis") == "active")
    ends = curves.filter(pl.col("target") == CLASSES).group_by("method", "layer", "output", "metric", "order").agg(
        pl.col("value").sort_by("x").first().alias("first"), pl.col("value").sort_by("x").last().alias("last")
    )  # fmt: skip
    both = ends.filter(pl.col("metric") == "deletion").join(
        ends.filter(pl.col("metric") == "insertion"), on=["method", "layer", "output", "order"]
    )
    np.testing.assert_allclose(both["first"], both["last_right"], atol=1e-4)
    np.testing.assert_allclose(both["last"], both["first_right"], atol=1e-4)
    projected = curves.filter(
        (pl.col("output") == "projection") & (pl.col("metric") == "deletion") & (pl.col("x") == 0)
    )
    np.testing.assert_allclose(projected["value"], 1, atol=1e-4)
    sizes = pl.read_parquet(root / "reconstruction.parquet").filter(pl.col("metric") == "concepts")
    counts = {method: part["value"].to_list() for (method,), part in sizes.group_by("method")}
    assert counts["sae"] == counts["random"]
    assert "## Edges" in (root / "summary.md").read_text()
    # Every topic is held against the network with shuffled weights, and the page says what follows.
    sane = pl.read_parquet(root / "sanity.parquet")
    assert {*sane["topic"]} >= {"reconstruction", "classes", "interlayer", "stability", "edges", "comparison"}
    assert (
        sane["auc"].is_between(0, 1).all()
        and (sane.filter(pl.col("topic") != "comparison")["method"] == METHODS[0]).all()
    )
    (outputs,) = sane.filter(pl.col("topic") == "network").to_dicts()
    assert outputs["n"] == 60 and outputs["trained"] > 1 and outputs["auc"] is None
    assert "better when shuffled" in (tmp_path / "results/explorer/data/evidence.js").read_text()
    again = snakemake(tmp_path, "evaluation", "-n", "--configfile", str(path))
    assert "Nothing to be done" in again.stdout + again.stderr

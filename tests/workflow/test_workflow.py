"""The whole workflow on a toy: its tables add up, a second run does nothing, a change reruns what it touches."""

import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from gigraph.planning.stages import STAGES
from gigraph.records import tables
from gigraph.version import __version__
from workflow.toy import configure, jobs, snakemake


@pytest.fixture
def done(toy_run):
    return toy_run


def read(folder, path):
    return pl.read_parquet(folder / "results" / path)


def test_every_table_has_its_schema_and_its_provenance(done):
    seen = sorted((done / "results").rglob("*.parquet"))
    assert len(seen) > 25
    for path in seen:
        metadata = pq.read_metadata(path).metadata
        assert metadata[b"gigraph.version"].decode() == __version__
        assert len(metadata[b"gigraph.lineage"]) == 16, path


def test_images_and_rejects(done):
    images = read(done, "images.parquet")
    assert len(images) == 60 and images["image_id"].n_unique() == 60
    assert (images["label"] == images["predicted"]).mean() > 0.9
    rejected = read(done, "rejected.parquet")
    assert rejected["path"].to_list() == ["bee/broken.jpg"] and rejected["reason"][0]


def test_every_coefficient_carries_its_gap(done):
    for layer in ("layer3.1", "layer4.0"):
        table = pl.concat([read(done, f"bisecting/coefficients/{layer}/{shard}.parquet") for shard in (0, 1)])
        assert len(table) == 20 * 36 and table["gap"].max() <= 1e-4


def test_circuits_of_every_class_are_measured_and_add_up(done):
    """What the network says of a class's images, and circuits of the same nodes, are the same in all tables."""
    kinds = ("", ".curves", ".members")
    found, curves, members = (
        pl.concat([read(done, f"bisecting/circuits/{shard}{kind}.parquet") for shard in (0, 1)]) for kind in kinds
    )
    selection = read(done, "selection.parquet")
    decisions = pl.concat([read(done, f"bisecting/decisions/layer4.0/{shard}.parquet") for shard in (0, 1)])
    attributed = pl.concat([
        read(done, f"bisecting/attributions/layer4.0--classes/{shard}.parquet") for shard in (0, 1)
    ]).filter(pl.col("label") == pl.col("target"))  # fmt: skip
    assert set(found["scope"]) == set(members["scope"]) == set(selection["label"]) and len(decisions) == len(selection)
    for scope in set(selection["label"]):
        rows = {(row["order"], row["layer"]): row for row in found.filter(scope=scope).iter_rows(named=True)}
        assert set(rows) == {(order, "") for order in ("network", "gig", "gradient_x_input", "random", "pruned")} | {
            ("layer", layer) for layer in ("layer3.1", "layer4.0")
        }
        network = rows["network", ""]
        at_x = attributed.filter(label=scope)["at_x"]  # two images of a class, all of which circuits look at
        assert network["images"] == len(at_x) == 2 and network["score"] == pytest.approx(at_x.mean(), abs=1e-4)
        at_concepts = attributed.filter(label=scope)["at_concepts"]
        assert rows["layer", "layer4.0"]["score"] == pytest.approx(at_concepts.mean(), abs=1e-3)
        own, points = members.filter(scope=scope), curves.filter(scope=scope)
        assert own["rank"].to_list() == list(range(network["nodes"]))
        for column in ("score", "margin"):
            ends = points.filter((pl.col("size") == 0) | (pl.col("size") == network["nodes"]))
            assert ends.group_by("size").agg(pl.col(column).n_unique())[column].to_list() == [1, 1]
        for order in ("gig", "gradient_x_input", "pruned"):
            size = rows[order, ""]["size"]
            assert size is None or rows[order, ""]["score"] >= 0.8 * network["score"] - 1e-6
        size = rows["pruned", ""]["size"]
        assert own["smallest"].sum() == (size or 0) and (size is None or size <= rows["gig", ""]["size"])


def test_attributions_are_complete_or_say_that_they_took_all_steps(done):
    for pair in ("layer3.1--layer4.0", "layer3.1--classes", "layer4.0--classes"):
        table = pl.concat([read(done, f"bisecting/attributions/{pair}/{shard}.parquet") for shard in (0, 1)])
        complete = pl.col("completeness_error").abs() <= 0.05 * pl.col("total_absolute") + 1e-6
        assert table.select((complete | (pl.col("steps") == 12)).all()).item()
        assert table.select(complete.mean()).item() > 0.5
        added = pl.col("values").list.sum() + pl.col("remainder") - pl.col("completeness_error")
        change = pl.col("at_concepts") - pl.col("at_baseline")
        assert table.select(
            ((added - change).abs() <= 1e-4 * (pl.col("total_absolute") + change.abs() + 1)).all()
        ).item()


def test_the_real_score_of_the_predicted_class_is_its_probability(done):
    images = read(done, "images.parquet").select("image_id", "predicted", "probability")
    for layer in ("layer3.1", "layer4.0"):
        table = pl.concat([read(done, f"bisecting/attributions/{layer}--classes/{shard}.parquet") for shard in (0, 1)])
        own = table.join(images, on="image_id").filter(pl.col("target") == pl.col("predicted"))
        assert len(own) == 20 and ((own["at_x"] - own["probability"]).abs() < 1e-4).all()
        # The error node is what the real activations add to what the concepts give.
        assert ((own["error"] - (own["at_x"] - own["at_concepts"])).abs() < 1e-5).all()


def test_with_no_classes_besides_an_image_is_attributed_to_its_own_and_what_it_is_taken_for(done, tmp_path):
    """The toy takes every image for its own class: of two images the label is made another."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    wanted = [f"bisecting/attributions/layer4.0--classes/{shard}.parquet" for shard in (0, 1)]
    all_of = pl.concat([read(done, file) for file in wanted])
    selection = pq.read_table(tmp_path / "results/selection.parquet")
    labels = dict(zip(*(selection[name].to_pylist() for name in ("image_id", "label")), strict=True))
    wrong = all_of["image_id"].unique(maintain_order=True)[[1, 12]].to_list()
    for image in wrong:
        labels[image] = all_of.filter(image_id=image)["target"][1]
    column = pa.array([labels[i] for i in selection["image_id"].to_pylist()], selection.schema.field("label").type)
    place = selection.schema.get_field_index("label")
    changed = selection.set_column(place, selection.schema.field(place), column)
    pq.write_table(changed, tmp_path / "results/selection.parquet")

    path = configure(tmp_path, attribution={"top_classes": 0})
    run = snakemake(tmp_path, *(f"results/{file}" for file in wanted), "--configfile", str(path))
    assert run.returncode == 0, run.stderr[-4000:]
    few = pl.concat([read(tmp_path, file) for file in wanted])
    predicted = dict(read(done, "images.parquet").select("image_id", "predicted").iter_rows())
    for (image,), rows in few.group_by("image_id"):
        assert rows["target"].to_list() == list(dict.fromkeys([labels[image], predicted[image]]))
        assert len(rows) == (2 if image in wrong else 1)
    both = few.join(all_of, on=["image_id", "target"], maintain_order="left")
    assert len(both) == len(few) and few["image_id"].rle_id().n_unique() == all_of["image_id"].n_unique()
    assert ((both["at_concepts"] - both["at_concepts_right"]).abs() < 1e-5).all()
    for row in both.iter_rows(named=True):
        one, other = (dict(zip(row[f"sources{end}"], row[f"values{end}"], strict=True)) for end in ("", "_right"))
        apart = sum(abs(one.get(i, 0) - other.get(i, 0)) for i in one | other)
        assert apart <= 0.02 * row["total_absolute"]


def test_shown_edges_are_checked_by_ablation(done):
    edges = read(done, "bisecting/graph/edges.parquet").filter("shown")
    assert len(edges) > 20 and (edges["scope"] >= 0).all() and (edges["source"] >= 0).all()
    assert edges["ablation"].is_finite().all()
    assert (edges["weight"] <= 1).all() and (edges["support"] <= edges["images"]).all()


def test_edges_are_means_of_attributions(done):
    edges = read(done, "bisecting/graph/edges.parquet")
    rows = pl.concat([read(done, f"bisecting/attributions/layer4.0--classes/{s}.parquet") for s in (0, 1)])
    edge = edges.filter(
        (pl.col("target_layer") == "classes") & (pl.col("source_layer") == "layer4.0") & pl.col("shown")
    ).row(0, named=True)
    own = rows.filter((pl.col("label") == edge["scope"]) & (pl.col("target") == edge["target"]))
    values = [dict(zip(r["sources"], r["values"], strict=True)).get(edge["source"], 0) for r in own.to_dicts()]
    assert np.isclose(edge["mean"], sum(values) / edge["images"], rtol=1e-5)
    # Of the families' own sums: the standard errors of members would not add up to it.
    assert np.isclose(edge["se"], np.std(values, ddof=1) / len(values) ** 0.5, rtol=1e-4) and len(values) > 1


def test_members_add_up_to_the_families_that_the_graph_shows(done):
    nodes = read(done, "bisecting/graph/nodes.parquet").filter(pl.col("kind") == "concept")
    several = nodes.filter((pl.col("members") > 1) & pl.col("shown"))
    assert len(several) and (several["family"] == several["concept"]).all()
    for layer in ("layer3.1", "layer4.0"):
        families = read(done, f"bisecting/concepts/{layer}.families.parquet")
        assert families["family"].equals(nodes.filter(pl.col("layer") == layer)["family"])
        assert (families.filter(pl.col("members") > 1)["inner_cosine"] >= 0.7 - 1e-6).all()
    key = ["scope", "source_layer", "target_layer", "target"]
    members = read(done, "bisecting/graph/members.parquet")
    parts = members.group_by(*key, "family").agg(pl.col("mean").sum(), pl.col("mean").abs().sum().alias("size"))
    both = parts.join(
        read(done, "bisecting/graph/edges.parquet"), left_on=[*key, "family"], right_on=[*key, "source"], suffix="_edge"
    )
    assert len(both) == len(parts) and both["shown"].sum() > 5
    assert ((both["mean"] - both["mean_edge"]).abs() <= 1e-5 * both["size"] + 1e-7).all()
    shown = read(done, "bisecting/graph/edges.parquet").filter("shown")
    wanted = shown.join(several.select("layer", "concept"), left_on=["source_layer", "source"],
                        right_on=["layer", "concept"], how="semi")  # fmt: skip
    assert len(wanted) == both["shown"].sum()


@pytest.mark.slow
def test_without_families_every_concept_is_a_node(done, tmp_path):
    shutil.copytree(done / "images", tmp_path / "images")
    path = configure(tmp_path, families={"cosine": None})
    run = snakemake(tmp_path, "results/bisecting/graph/edges.parquet", "--configfile", str(path))
    assert run.returncode == 0, run.stderr[-4000:]
    nodes = read(tmp_path, "bisecting/graph/nodes.parquet").filter(pl.col("kind") == "concept")
    assert nodes["family"].equals(nodes["concept"]) and set(nodes["members"]) == {1} == set(nodes["inner_cosine"])
    assert read(tmp_path, "bisecting/graph/members.parquet").is_empty()
    rows = read(tmp_path, "bisecting/attributions/layer4.0--classes/*.parquet")
    assert rows["members"].list.len().max() == 0
    # What both runs attribute to the same concepts is the same; the one only adds it up.
    of = read(done, "bisecting/concepts/layer4.0.families.parquet")["family"].to_numpy()
    both = rows.join(read(done, "bisecting/attributions/layer4.0--classes/*.parquet"), on=["image_id", "target"])
    assert len(both) == len(rows)
    for row in both.filter(pl.col("steps") == pl.col("steps_right")).iter_rows(named=True):
        single, whole = np.zeros(len(of)), np.zeros(len(of))
        np.add.at(single, of[row["sources"]], row["values"])
        whole[row["sources_right"]] = row["values_right"]
        np.testing.assert_allclose(whole, single, atol=1e-4 * row["total_absolute"])


def test_the_graph_is_graphml(done):
    graph = ElementTree.parse(done / "results/bisecting/graph/graph.graphml").getroot()
    space = {"g": "http://graphml.graphdrawing.org/xmlns"}
    ids = {node.get("id") for node in graph.iterfind(".//g:node", space)}
    edges = list(graph.iterfind(".//g:edge", space))
    assert edges and all(edge.get("source") in ids and edge.get("target") in ids for edge in edges)


def test_the_explorer_and_the_figures_are_there(done):
    assert (done / "results/explorer/index.html").stat().st_size > 0
    for figure in ("reconstruction", "quadrature", "ablation"):
        assert "<svg" in (done / f"results/bisecting/figures/{figure}.svg").read_text()


def test_a_second_run_has_nothing_to_do(done):
    again = snakemake(done, "--configfile", str(done / "config.yaml"), "-n")
    said = [line for line in (again.stdout + again.stderr).splitlines() if line.startswith("Nothing to be done")]
    assert again.returncode == 0 and len(said) == 1 and said[0].endswith("; open results/explorer/index.html")


def test_a_run_says_a_line_for_each_stage_where_to_look_and_what_was_found(done):
    """It was hundreds of lines of Snakemake's."""
    lines = (done.parent / "toy.screen").read_text().splitlines()
    assert len([line for line in lines if " jobs done in " not in line]) <= 40, lines
    (begins,) = [i for i, line in enumerate(lines) if line.startswith(f"gigraph {__version__}: menagerie on 61 images")]
    log = lines[begins + 1].split()[1].rstrip(";")
    assert "Sample the PFVs of shard 1" in (text := Path(log).read_text()) and "steps (100%) done" in text
    stages = [line.split()[0] for line in lines if line.startswith("  ") and line.split()[0] in STAGES]
    assert len(stages) == len(set(stages)) and {"sample", "concepts", "attribution", "graph", "explorer"} <= set(stages)
    (end,) = [i for i, line in enumerate(lines) if line.startswith("gigraph: done in ")]
    assert lines[end].endswith("; open results/explorer/index.html")
    assert (
        lines[end + 1].startswith("  60 images, 98.3% recognised; of the decisions about them the concepts of each")
        and "strongest causes in layer4.0: " in lines[end + 2]
    )


def planned(folder, name, **changes):
    changed = {**yaml.safe_load((folder / "config.yaml").read_text()), **changes}
    run = snakemake(folder, "--configfile", str(configure(folder, name, **changed)), "-np")
    assert run.returncode == 0, run.stderr[-3000:]
    return jobs(run.stdout + run.stderr)


def test_how_the_work_is_done_reruns_nothing(done):
    assert planned(done, "batch", compute={"batch_size": 7, "memory_mb": 99, "workers": 2}) == {}


def test_one_layers_setting_reruns_that_layer_and_its_pairs(done):
    layers = ["layer3.1", {"name": "layer4.0", "coefficients": {"value": 5}}]
    found = planned(done, "lambda", layers=layers)
    # Of layer4.0: its calibration, its coefficients, its pair with the classes, and the pair that ends in it.
    assert found == {
        "calibration": 1, "coefficients": 2, "attribution": 4, "kept": 1, "ablation": 2, "exemplars": 1, "circuits": 2,
        "reconstruction": 1, "graph": 1, "figures": 1, "explorer": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_results_do_not_depend_on_shards_and_batches(done, tmp_path):
    shutil.copytree(done / "images", tmp_path / "images")
    path = configure(tmp_path, images={"shards": 1}, compute={"batch_size": 5, "memory_mb": 40})
    run = snakemake(tmp_path, "results/bisecting/graph/edges.parquet", "--configfile", str(path))
    assert run.returncode == 0, run.stderr[-4000:]
    for layer in ("layer3.1", "layer4.0"):
        key = ["image_id", "y", "x"]
        two = pl.concat([read(done, f"pfvs/{layer}/{s}.parquet") for s in (0, 1)]).sort(key)
        one = read(tmp_path, f"pfvs/{layer}/0.parquet").sort(key)
        assert one.select(key).equals(two.select(key))
        concepts = [read(folder, f"bisecting/concepts/{layer}.parquet") for folder in (done, tmp_path)]
        assert concepts[0]["size"].equals(concepts[1]["size"])
        vectors = [np.array(one["vector"].to_list()) for one in concepts]
        np.testing.assert_allclose(*vectors, rtol=1e-4, atol=1e-5)
    key = ["scope", "source_layer", "target_layer", "target", "source"]
    one, two = (read(folder, "bisecting/graph/edges.parquet").filter("shown").sort(key) for folder in (done, tmp_path))
    assert one.select(key).equals(two.select(key))
    np.testing.assert_allclose(one["mean"], two["mean"], rtol=1e-2, atol=2e-3)


@pytest.mark.slow
def test_forked_jobs_make_the_same_tables(done, tmp_path):
    """The toy's run is of jobs in processes of their own."""
    shutil.copytree(done / "images", tmp_path / "images")
    shutil.copy(done / "config.yaml", tmp_path)
    run = snakemake(tmp_path, "--configfile", str(tmp_path / "config.yaml"))
    assert run.returncode == 0, run.stderr[-4000:]
    files = sorted(path.relative_to(done / "results") for path in (done / "results").rglob("*.parquet"))
    apart = [str(path) for path in files if not read(done, path).equals(read(tmp_path, path))]
    assert len(files) > 40 and not [path for path in apart if "kernels" not in path]


def test_lineage_is_what_the_tables_carry(done):
    assert tables.lineage_of(done / "results/layers.parquet")
    assert tables.lineage_of(done / "nothing.parquet") is None

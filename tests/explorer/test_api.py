"""The Python API on the fixture's results; the page that documents it is executed."""

from __future__ import annotations

import doctest
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import gigraph
from gigraph.errors import UserError
from gigraph.explorer import Inputs
from gigraph.records import tables
from gigraph.reserved import CLASSES

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"


def test_causes_are_all_that_a_layer_does_for_a_class(results: Path, inputs: Inputs):
    run = gigraph.open(results)
    rows = [
        row for row in tables.read(inputs.edges).to_pylist() if row["scope"] == 1 and row["target_layer"] == CLASSES
    ]
    found = run.causes("leopard")
    assert found["layer"].unique(maintain_order=True).to_list() == list(run.layers)
    for layer in run.layers:
        mine = [row for row in rows if row["source_layer"] == layer and row["target"] == 1]
        total = sum(abs(row["mean"]) for row in mine)  # the error node and the remainder, too
        wanted = sorted((row for row in mine if row["source"] >= 0), key=lambda row: (-row["mean"], row["source"]))
        own = run.causes(1, layer)
        assert own.equals(found.filter(pl.col("layer") == layer)) and len(own) == len(wanted) > 5
        assert own["concept"].to_list() == [row["source"] for row in wanted]
        assert own["share"].to_list() == pytest.approx([row["mean"] / total for row in wanted], rel=1e-5)
        checked = [
            None if row["ablation"] is None or math.isnan(row["ablation"]) else row["ablation"] for row in wanted
        ]
        assert own["ablation"].to_list() == checked
    with pytest.raises(UserError, match=r"there is no layer 'layer4\.1' in this run; did you mean layer4.0"):
        run.causes("leopard", "layer4.1")


@pytest.fixture(scope="module")
def results(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture's tables laid out as a run's."""
    source, root = inputs.images.parent, tmp_path_factory.mktemp("api") / "results"
    (root / "bisecting" / "evaluation").mkdir(parents=True)
    for name in ("images", "classes", "layers", "rejected", "selection"):
        shutil.copy(source / f"{name}.parquet", root)
    for name in ("nodes", "edges", "members", "kept"):
        (root / "bisecting" / "graph").mkdir(exist_ok=True)
        shutil.copy(source / f"{name}.parquet", root / "bisecting" / "graph")
    shutil.copy(source / "reconstruction.parquet", root / "bisecting" / "evaluation")
    (root / "bisecting" / "circuits").mkdir()
    for name, end in (("circuits", ""), ("circuit_curves", ".curves"), ("circuit_members", ".members")):
        shutil.copy(source / f"{name}.parquet", root / "bisecting" / "circuits" / f"0{end}.parquet")
    for name in ("concepts", "exemplars"):
        shutil.copytree(source / name, root / "bisecting" / name)
    return root


def test_the_documented_examples_run(results: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(results.parent)
    flags = doctest.IGNORE_EXCEPTION_DETAIL
    found = doctest.testfile(str(DOCUMENT), module_relative=False, optionflags=flags)
    assert found.attempted > 10 and found.failed == 0


def test_shared_concepts_are_the_intersection(results: Path):
    run = gigraph.open(results)
    kept = tables.read(results / "bisecting/graph/kept.parquet").to_pylist()
    for labels in ([0, 1], [0, 1, 2], [3]):
        sets = [{(r["layer"], r["concept"]) for r in kept if r["scope"] == label} for label in labels]
        found = run.shared(labels)
        assert set(found.select("layer", "concept").iter_rows()) == set.intersection(*sets)
        for layer, concept, least in found.iter_rows():
            mine = [
                r["relevance"] for r in kept if (r["layer"], r["concept"]) == (layer, concept) and r["scope"] in labels
            ]
            assert least == min(mine)


def test_the_networkx_graph_has_the_shown_edges(results: Path):
    run = gigraph.open(results)
    rows = [
        r for r in tables.read(results / "bisecting/graph/edges.parquet").to_pylist() if r["scope"] == 2 and r["shown"]
    ]
    graph = run.to_networkx(2)
    assert graph.number_of_edges() == len(rows)
    for row in rows:
        edge = graph.edges[(row["source_layer"], row["source"]), (row["target_layer"], row["target"])]
        assert edge["mean"] == row["mean"]


def test_the_members_of_a_family_do_what_it_does(results: Path):
    run = gigraph.open(results)
    family, count, *_ = run.families("layer3.1").row(0)
    members = run.members("layer3.1", family)["concept"].to_list()
    assert members[0] == family and len(members) == count == 3
    concepts = run.concepts("layer3.1").filter(pl.col("family") == family)
    assert sorted(members) == concepts["concept"].to_list()
    key = ["source_layer", "target_layer", "target"]
    parts = run.member_edges(0).group_by(*key, "family").agg(pl.col("mean").sum(), pl.col("source"))
    both = parts.join(run.edges(0), left_on=[*key, "family"], right_on=[*key, "source"], suffix="_of_edge")
    assert len(both) == len(parts) > 0
    assert ((both["mean"] - both["mean_of_edge"]).abs() < 1e-6).all()
    assert run.to_networkx(0).nodes["layer3.1", family]["members"] == count


def test_mistakes_get_one_line(results: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no finished graph"):
        gigraph.open(tmp_path)
    with pytest.raises(UserError, match="no method 'sae'"):
        gigraph.open(results, "sae")
    with pytest.raises(UserError, match=r"did you mean layer4\.0"):
        gigraph.open(results).concepts("layer4.9")


def test_a_class_without_a_graph_is_no_empty_frame(results: Path, tmp_path: Path):
    root = shutil.copytree(results, tmp_path / "results")
    selection = pl.read_parquet(root / "selection.parquet")
    selection.filter(pl.col("label") != 1).write_parquet(root / "selection.parquet")
    run = gigraph.open(root)
    words = r"^no image of class 'leopard' is attributed; add it to attribution\.classes .* others: 'cheetah', "
    asked = (run.edges, run.member_edges, run.relevance, run.graph_scores, run.to_networkx, run.circuit)
    for one in (*asked, run.circuit_curve, lambda of: run.shared([0, of])):
        with pytest.raises(UserError, match=words):
            one("leopard")
    assert run.label("leopard") == 1 and len(run.edges("cheetah"))


def test_classes_answer_to_what_the_explorer_calls_them(results: Path, tmp_path: Path):
    root = shutil.copytree(results, tmp_path / "results")
    names = pl.read_parquet(root / "classes.parquet").with_columns(
        pl.format("n0144076{}_{}", pl.col("label"), pl.col("class")).alias("class")
    )
    names.write_parquet(root / "classes.parquet")
    assert gigraph.open(root).label("leopard") == gigraph.open(root).label("n01440761_leopard") == 1
    (root / "run.json").write_text(json.dumps({"config": {"explorer": {"names": {"n01440761_leopard": "spots"}}}}))
    run = gigraph.open(root)
    assert run.label("spots") == 1 and run.edges("spots").equals(run.edges(1))
    assert run.label("leopard") == 1  # as it is called without
    with pytest.raises(UserError, match="there is no class 'leopards'; did you mean n01440761_leopard"):
        run.label("leopards")


def test_importing_gigraph_stays_light():
    code = "import sys, gigraph; sys.exit(bool({'polars', 'torch', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_circuits_of_shards_that_an_earlier_run_left_are_not_read(results: Path, tmp_path: Path):
    root = shutil.copytree(results, tmp_path / "results")
    own = {str(path.relative_to(tmp_path)): tables.lineage_of(path) for path in root.rglob("*.parquet")}
    assert all(own.values())
    (root / "plan.json").write_text(json.dumps(own))
    before = gigraph.open(root).circuits()
    for path in (root / "bisecting" / "circuits").glob("0*"):
        shutil.copy(path, path.with_name(path.name.replace("0", "1", 1)))
    assert gigraph.open(root).circuits().equals(before)


def test_circuits_are_read(results: Path):
    run = gigraph.open(results)
    found = run.circuits()
    assert set(found["class"]) == {"cheetah", "leopard"} and len(found) == 10
    smallest = run.circuit("cheetah")
    assert smallest["rank"].to_list() == list(range(9)) and smallest.columns[:2] == ["layer", "concept"]
    assert len(run.circuit("leopard", size=7)) == 7
    with pytest.raises(UserError, match=r"^class 'leopard': no circuit of the graph's \d+ nodes alone keeps as much"):
        run.circuit("leopard")
    with pytest.raises(UserError, match="there is no class 7"):
        run.label(7)
    for asked in (run.circuit, run.circuit_curve):
        with pytest.raises(UserError, match=r"has no circuit: see circuit\.classes$"):
            asked(2)
    shutil.rmtree(results / "bisecting" / "circuits")
    with pytest.raises(UserError, match=r"has no circuits of bisecting; run snakemake again"):
        run.circuits()


def test_scores_of_a_graph_are_those_of_its_edges(results: Path):
    run = gigraph.open(results)
    scores = run.graph_scores("cheetah")
    assert all(0 <= scores[name] <= 1 for name in scores)
    edges = [row for row in tables.read(results / "bisecting/graph/edges.parquet").to_pylist() if row["scope"] == 0]
    into = [row for row in edges if row["target_layer"] == "classes" and row["target"] == 0
            and row["source_layer"] == "layer4.0"]  # fmt: skip
    error = sum(abs(row["mean"]) for row in into if row["source"] == -1)
    # The influence that ends in the error node of the last layer never comes down.
    assert scores["replacement"] * scores["followed"] <= 1 - error / sum(abs(row["mean"]) for row in into) + 1e-6

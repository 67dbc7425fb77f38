"""Extractors compared on equal terms: pairs, selectivity, sanity, leads, and the whole of it on a toy network."""

import importlib.util
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch import nn

from gigraph.evaluation import compared, probes, sanity, verdicts
from gigraph.evaluation.comparison import CODERS, OWN, coder_name
from gigraph.method.encoder import Encoder
from gigraph.method.heldout import held_out
from gigraph.method.origin import choose, place
from gigraph.method.stability import best_map
from gigraph.model.models import load_model
from gigraph.model.shuffled import shuffle
from gigraph.planning.stages.evaluation import BASES
from gigraph.records.encoders import read_encoder, write_encoder
from gigraph.reserved import CLASSES
from gigraph.worlds import registry
from gigraph.worlds.alignment import coverage
from gigraph.worlds.pairs import NUISANCES, changed, factors, pairs, selectivity
from gigraph.worlds.truth import intersection_over_union

ROOT = Path(__file__).parents[2]


# ---- weights, origins, encoders -----------------------------------------------------------------------------


def test_shuffled_weights_are_the_same_numbers_elsewhere():
    module, other = (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(4, 5)) for _ in range(2))
    other.load_state_dict(module.state_dict())
    shuffle(other, 1)
    for (name, one), two in zip(module.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.flatten().sort().values, two.flatten().sort().values, rtol=0, atol=0)
        assert one.unique().numel() == 1 or not torch.equal(one, two), name
    for one, two in zip(module.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    third = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(4, 5))
    third.load_state_dict(module.state_dict())
    shuffle(third, 2)
    assert not torch.equal(other[0].weight, third[0].weight)


def test_a_model_is_loaded_shuffled_alike_in_every_job():
    plain, one, two = (load_model("menagerie", shuffled=seed).state_dict() for seed in (None, 3, 3))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(plain["fc.weight"], one["fc.weight"])


@pytest.mark.parametrize(("center", "shift", "taken"), [
    ("auto", 0.1, "batchnorm"), ("auto", 9.0, "mean"), ("batchnorm", 9.0, "batchnorm"), ("mean", 0.1, "mean"),
    ("zero", 0.1, "zero"), ("batchnorm", None, "mean"), ("auto", None, "mean"),
])  # fmt: skip
def test_the_origin_that_is_chosen(center, shift, taken):
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    beta = None if shift is None else np.full(4, shift, np.float32)
    name, found = choose(x, beta, center)
    expected = {"batchnorm": beta, "mean": x.mean(0), "zero": np.zeros(4)}[taken]
    assert name == taken and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if center == "auto":
        assert place(x, found).within


@pytest.mark.parametrize(("activation", "level"), [("relu", 0.0), ("topk", 3.0), ("threshold", 0.25), ("support", 0.0)])
def test_an_encoder_is_read_as_it_was_written(tmp_path, activation, level):
    random = np.random.default_rng(0)
    own = Encoder(*(random.standard_normal(shape).astype(np.float32) for shape in ((5, 3), 5, 3)), activation, level)
    write_encoder(tmp_path / "a.encoder.parquet", own, 3, "")
    found = read_encoder(tmp_path / "a.parquet")
    x = random.standard_normal((20, 3)).astype(np.float32)
    np.testing.assert_array_equal(found.dense(x), own.dense(x))
    assert (found.activation, found.level) == (activation, level) and found.solves == (activation == "support")
    with pytest.raises(ValueError, match="activation must be one of relu, topk"):
        Encoder(own.weights, own.bias, own.offset, "gelu")


# ---- pairs of scenes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.NAMES)
def test_pairs_differ_in_their_factor_and_in_nothing_else(name):
    world = registry.get(name)
    able = factors(world)
    pairs_of = list(pairs(world, 0, 12))
    assert len(pairs_of) == 12 * (1 + len(able) + len(NUISANCES))
    assert BASES * (len(able) + len(NUISANCES)) >= 2000
    for base, factor, scene in pairs_of:
        if not factor:
            original = scene
            continue
        assert scene.index == base
        differing = {key for key, value in vars(scene).items() if value != getattr(original, key)}
        if factor in NUISANCES:
            assert differing == {"nuisance"}
            moved = {k for k, v in vars(scene.nuisance).items() if v != getattr(original.nuisance, k)}
            assert moved and moved <= {*NUISANCES[factor]}
        else:
            assert differing == {factor}


def test_a_changed_factor_takes_every_other_value():
    world = registry.get("menagerie")
    scenes = list(world.scenes(0, "pairs", 300))
    for kind, values in {**world.values, "place": world.places}.items():
        seen = {(getattr(one, kind), getattr(changed(world, one, kind), kind)) for one in scenes}
        assert seen == {(a, b) for a in values for b in values if a != b}


def test_selectivity_is_the_probability_of_a_larger_change():
    random = np.random.default_rng(0)
    change = random.random((40, 5, 6))
    found = selectivity(change, 3)

    def literal(half, f, k):
        above = [
            (one > other) + 0.5 * (one == other)
            for one in half[:, f, k] for g in range(5) if g != f for other in half[:, g, k]
        ]  # fmt: skip
        return np.mean(above)

    for k in range(6):
        fit = [literal(change[:20], f, k) for f in range(3)]
        assert found.factor[k] == np.argmax(fit)
        assert found.score[k] == pytest.approx(literal(change[20:], int(np.argmax(fit)), k))
    for f in range(3):
        best = np.argmax([literal(change[:20], f, k) for k in range(6)])
        assert found.best[f] == pytest.approx(literal(change[20:], f, best))


def test_a_concept_of_one_factor_is_selective_and_one_of_all_is_not():
    change = np.zeros((20, 4, 3))
    change[:, 1, 0] = 1  # of factor 1
    change[:, :, 1] = np.random.default_rng(0).random((20, 4))  # of all alike
    found = selectivity(change, 2)
    assert found.factor[0] == 1 and found.score[0] == 1 and found.best[1] == 1
    assert abs(found.score[1] - 0.5) < 0.2 and found.score[2] == 0.5  # the third never responds


# ---- measures -----------------------------------------------------------------------------------------------


def test_thresholds_are_of_positive_responses():
    """Of a sparse map quantiles of all responses above the least are 0 nearly all, if one is negative."""
    mask = np.arange(1000) < 20
    response = np.where(mask, np.linspace(2, 1, 1000), 0.0)
    response[20:40] = 0.5
    response[-1] = -1
    assert intersection_over_union(response, mask, response, mask) == 1
    assert intersection_over_union(-mask.astype(float), mask, response, mask) == 0


def test_maps_match_by_their_correlation():
    random = np.random.default_rng(0)
    maps = random.standard_normal((200, 4))
    others = np.concatenate([3 * maps[:, [2, 0]] + 1, random.standard_normal((200, 2))], 1)
    maps[:, 3] = 7
    found = best_map(maps, others)
    np.testing.assert_allclose(found[[0, 2]], 1, atol=1e-6)
    expected = max(np.corrcoef(maps[:, 1], other)[0, 1] for other in others.T)
    assert found[1] == pytest.approx(expected, abs=1e-6) and np.isnan(found[3])


def row(**changes):
    return {"method": "a", "layer": "l", "network": "trained", "concepts": 8, "seed": 0, "reading": "cosine",
            "part": "", "metric": "purity", "value": 0.0, "se": 0.0, "n": 3, "values": [1.0, 2.0, 3.0],
            **changes}  # fmt: skip


def test_how_well_a_measure_tells_two_networks_apart():
    assert sanity.auc([3, 4], [1, 2]) == 1 and sanity.auc([1, 2], [1, 2]) == 0.5 and sanity.auc([1], [2, 2]) == 0
    assert sanity.auc([2, np.nan, None], [1, 2]) == 0.75 and np.isnan(sanity.auc([], [1]))
    rows = [row(), row(network="shuffled", values=[0.0, 0.5, 2.5]), row(seed=1, network="shuffled", values=[9.0])]
    (found,) = sanity.separation(rows)
    assert found["auc"] == pytest.approx(7 / 9) and found["n"] == 3 and found["trained"] == 2
    (found,) = sanity.separation([{**one, "metric": "rel_l2"} for one in rows])
    assert found["auc"] == pytest.approx(2 / 9)
    # Where the shuffled network has no number there is a row that says so.
    (found,) = sanity.separation([row(), row(network="shuffled", values=[np.nan])])
    assert found["auc"] is None and found["n"] == 0 and found["trained"] == 2 and found["shuffled"] is None
    assert not sanity.separation(rows[:1]) and not sanity.separation([{**one, "metric": "nonzeros"} for one in rows])


def measure(metric, values, layer="l", **names):
    blank = {"method": "a", "target": "", "order": "", "part": ""}
    return {**blank, "layer": layer, "metric": metric, "values": values, **names}


def test_how_well_measures_of_the_whole_evaluation_tell_two_networks_apart():
    trained = [
        measure("rel_l2", [0.1, 0.2, 0.5]), measure("nonzeros", [8.0, 9.0]), measure("unused_map", [0.1], method="b"),
        measure("r2_8_terms", [0.9], layer="k"), measure("r2_8_terms", [0.4]), measure("r2_8_terms", [np.nan], "m"),
    ]  # fmt: skip
    shuffled = [
        measure("rel_l2", [0.3, np.nan]), measure("nonzeros", [1.0]),
        measure("r2_8_terms", [0.8], layer="k"), measure("r2_8_terms", [0.3]), measure("r2_8_terms", [0.3], "m"),
    ]  # fmt: skip
    error, terms = sanity.separation_of("reconstruction", trained, shuffled)
    assert (error["layer"], error["auc"], error["shuffled"]) == ("l", pytest.approx(2 / 3), pytest.approx(0.3))
    assert error["n"] == 1 and error["topic"] == "reconstruction"
    # One number a layer: each layer beside itself, which .9, .4 against .8, .3 in one heap are not.
    assert (terms["metric"], terms["layer"], terms["auc"], terms["n"]) == ("r2_8_terms", "", 1, 2)
    # Parts are values, targets and orders are not.
    parts = [measure("iou", [value], part=part) for part, value in (("eye", 0.5), ("ear", 0.2))]
    (iou,) = sanity.separation_of("truth", parts, [{**parts[0], "values": [0.3]}, {**parts[1], "values": [np.nan]}])
    assert iou["layer"] == "l" and iou["auc"] == 0.5
    drops = [measure("deletion_projection", [1.0, 2.0], target=to, order=of) for to in "mn" for of in ("gig", "random")]
    found = sanity.separation_of("interlayer", drops, drops)
    assert [(one["target"], one["order"], one["auc"]) for one in found] == [
        ("m", "gig", 0.5), ("m", "random", 0.5), ("n", "gig", 0.5), ("n", "random", 0.5)]  # fmt: skip


def test_a_single_number_that_a_network_lacks_is_a_row_without_a_verdict():
    """As the correlations of edges of a network whose output nothing changes."""
    (found,) = sanity.separation_of(
        "edges", [measure("correlation_all", [0.9])], [measure("correlation_all", [np.nan])]
    )
    assert found["auc"] is None and verdicts.verdict([found]) == "not judged"
    (found,) = sanity.separation_of("edges", [measure("share_error", [0.1, 0.2])], [measure("share_error", [])])
    assert found["auc"] is None and found["n"] == 0


def test_no_rank_is_the_worst():
    first = [measure("tag_rank", [rank], layer) for rank, layer in ((3.0, "k"), (np.nan, "l"), (np.nan, "m"))]
    other = [measure("tag_rank", [rank], layer) for rank, layer in ((np.nan, "k"), (900.0, "l"), (np.nan, "m"))]
    (found,) = sanity.separation_of("truth", first, other)
    assert found["auc"] == 0.5 and found["n"] == 3 and found["trained"] == 3 and found["shuffled"] == 900


def said(auc, n=20):
    return {"auc": auc, "n": n, "topic": "comparison", "method": "a", "metric": "iou", "reading": "lasso"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [([said(0.7)], "better here"), ([said(0.69)], "alike when shuffled"), ([said(0.5)], "alike when shuffled"),
     ([said(0.3)], "better when shuffled"),
     ([said(0.0), said(0.1), said(0.9)], "better when shuffled"), ([said(0.0), said(1.0)], "differs by layer"),
     ([said(1.0, 9)], "not judged"), ([said(None, 0)], "not judged"), ([], "not judged"),
     ([said(1.0, 5), said(0.9, 5)], "better here"), ([said(1.0, 9), said(None, 20)], "not judged"),
     ([said(0.5), said(None, 0)], "alike when shuffled")],
)  # fmt: skip
def test_what_most_layers_say_is_the_verdict(rows, words):
    assert verdicts.verdict(rows) == words


def test_what_checks_the_attribution_is_not_marked():
    assert verdicts.mark("reconstruction", "rel_l2", [said(0.0)]) == " (better when shuffled)"
    for topic, metric in (("classes", "mu_fidelity"), ("edges", "rank_correlation_at_x"), ("edges", "same_sign_all")):
        assert verdicts.mark(topic, metric, [said(0.0)]) == "" and "nearer to linear" in verdicts.remarks(
            topic, [metric]
        )
    assert verdicts.mark("edges", "share_error", [said(0.0)]) and not verdicts.remarks("edges", ["share_error"])
    words = verdicts.remarks("classes", ["c_difference_accuracy_all"])
    assert "whether the network is right" in words and "random PFVs" in words
    assert verdicts.remarks("comparison", ["probability_at_concepts"]) == words
    assert not verdicts.remarks("comparison", ["iou"]) and not verdicts.remarks("classes", ["c_deletion_value_all"])


def test_a_network_that_says_the_same_of_every_image_is_found_out():
    def predictions(*outputs):
        names = ("predicted", "probability", "value")
        return [dict(zip(names, one, strict=True)) for one in outputs]

    one = predictions((3, 1.0, None), (3, 0.9999, None), (3, 1.0, None))
    found = sanity.outputs(predictions((3, 0.9, None), (2, 0.9, None), (3, 0.8, None)), one)
    assert (found["trained"], found["shuffled"], found["n"], found["auc"]) == (3, 1, 3, None)
    assert "says the same of every image" in verdicts.constant([found])
    assert not verdicts.constant([{**found, "shuffled": 2.0}]) and not verdicts.constant([said(0.5)])
    values = [predictions(*((int(v > 0), None, v) for v in many)) for many in ([1.0, -2.0], [400.1, 400.2])]
    assert sanity.outputs(*values)["shuffled"] == 1


@pytest.mark.parametrize(
    ("topic", "metric", "sign"),
    [("classes", "c_deletion_probability_all", -1), ("classes", "c_difference_accuracy_active", 1),
     ("classes", "probability_at_x", 0), ("classes", "probability_at_concepts", 1), ("edges", "same_sign_at_x", 1),
     ("edges", "share_error", -1), ("edges", "share_concepts", 1), ("truth", "prevalence", 0),
     ("truth", "tag_rank", -1), ("classes", "c_difference_value_all", 0), ("classes", "value_at_concepts", 0),
     ("truth", "tag_concepts", 0), ("truth", "tag_concepts_share", 1), ("stability", "stability_chance", 0),
     ("interlayer", "gig_gain_projection", 1), ("interlayer", "targets_passed_over", 0), ("curves", "insertion", 0)],
)  # fmt: skip
def test_which_way_a_measure_is_better(topic, metric, sign):
    assert sanity.sense(topic, metric) == sign


def test_a_value_is_not_better_for_being_larger():
    for metric in ("probability_at_concepts", "insertion_minus_deletion"):
        rows = [row(metric=metric), row(metric=metric, network="shuffled")]
        assert sanity.separation(rows) and not sanity.separation(rows, regression=True)
    rows = [row(), row(network="shuffled")]
    assert sanity.separation(rows, regression=True) == sanity.separation(rows)


def test_seeds_are_averaged_value_by_value():
    (found,) = compared.over_seeds([row(), row(seed=1, values=[3.0, 2.0, 4.0])])
    np.testing.assert_allclose(found["values"], [2, 2, 3.5])
    assert found["value"] == pytest.approx(2.5) and found["se"] == pytest.approx(np.std([2, 2, 3.5], ddof=1) / 3**0.5)
    (found,) = compared.over_seeds([row(value=2.0), row(seed=1, values=[3.0, 4.0], value=4.0)])
    assert found["value"] == 3 and len(found["values"]) == 3


def test_leads_are_paired_but_for_concepts_and_of_the_same_place():
    own, other = [1.0, 2.0, 5.0], [0.5, 1.5, 2.0]
    rows = compared.over_seeds([
        row(values=own), row(method="random", values=other), row(reading="filter"), row(method="random", layer="m"),
        row(values=own, metric="iou"), row(method="random", values=other, metric="iou"),
        row(metric="rel_l2"), row(method="random", values=[1.0, 2.0], metric="rel_l2"),
    ])  # fmt: skip
    purity, iou = compared.leads(rows)
    differences = np.subtract(own, other)
    errors = [np.std(values, ddof=1) / 3**0.5 for values in (own, other, differences)]
    assert purity["metric"] == "purity" and purity["se"] == pytest.approx(np.hypot(*errors[:2]))
    assert purity["value"] == iou["value"] == pytest.approx(differences.mean())
    assert iou["metric"] == "iou" and iou["se"] == pytest.approx(errors[2]) and iou["method"] == "a"


def test_a_row_is_marked_by_what_was_looked_at_itself():
    rows = [said(auc) for auc in (0.9, 0.5, 0.5)]
    rows += [{**said(0.1), "topic": "truth", "reading": ""}]  # another topic's
    known = verdicts.of_comparison(rows)

    def marked(reading, method="a"):
        return verdicts.marked(known, {"method": method, "metric": "iou", "reading": reading})

    assert marked("lasso") == "lasso (alike when shuffled)"
    assert marked("pursuit") == "pursuit" and marked("lasso", "b") == "lasso"  # of these nothing is known
    own = {"method": "a", "metric": "iou", "reading": "lasso"}
    pursued = {**own, "reading": "pursuit"}
    assert not verdicts.unseen(known, [own]) and verdicts.unseen(known, [own, pursued])
    assert not verdicts.unseen(known, [pursued])  # no measure, as the number of non-zeros


def test_every_measure_is_explained():
    for title, words in compared.MEASURES.values():
        assert title and words.endswith(".")


# ---- the whole of it ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The stages `probes` and `comparison` on the drawn world's own model, small."""
    import json

    import yaml

    from gigraph.planning.config import load
    from gigraph.planning.plan import Plan
    from gigraph.records import tables
    from gigraph.records.paths import Results
    from gigraph.worlds.dataset import write

    folder = tmp_path_factory.mktemp("compared")
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    raw |= {"output": str(folder), "layers": ["layer4.0"], "drawn": {**raw["drawn"], "count": 60}}
    raw["evaluation"] |= {"methods": ["bisecting", "filters", "channels"], "scenes": 40}
    plan = Plan(load(raw), ROOT / "workflow" / "scripts")
    results = Results(folder)
    write(registry.get("menagerie"), plan.image_folder, "images", 60)
    listed = sorted(path.relative_to(plan.image_folder).as_posix() for path in plan.image_folder.rglob("*.png"))
    classes = sorted({path.split("/")[0] for path in listed})
    columns = {"image_id": np.arange(60), "path": listed, "label": [classes.index(p.split("/")[0]) for p in listed]}
    ids = {name: value if name != "label" else np.array(value, np.int32) for name, value in columns.items()}
    more = {"shard": np.zeros(60, np.int32)}
    tables.write(folder / "heldout.parquet", "selection", {**ids, **more})
    compute = SimpleNamespace(**json.loads(plan.config.compute.model_dump_json()))

    def script(name):
        spec = importlib.util.spec_from_file_location(f"{name}_script", plan.scripts / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    common = {"compute": compute, "lineage": "", "root": str(folder)}
    settings = json.loads(plan.settings_json("probes")) | {"bases": 10}
    chosen = str(folder / "heldout.parquet")
    script("probes")(Namespace(settings=settings, manifests=[chosen], heldout=chosen, **common))
    found = {}
    for method in plan.config.evaluated:
        path = folder / f"{method}.parquet"
        settings = json.loads(plan.settings_json("comparison", method=method, layer="layer4.0"))
        script("comparison")(Namespace(settings=settings, comparison=path, **common))
        found[method] = pl.read_parquet(path)
    return results, found


def test_the_probes_of_both_networks_are_of_the_same_images(run):
    from functools import partial

    from gigraph.evaluation.probes import read_probe

    results, _ = run
    one, two = (read_probe(partial(results, network=name, layer="layer4.0"), 10**6) for name in ("trained", "shuffled"))
    assert one.maps.shape == two.maps.shape == (40, 36, 256) and one.found.shape[1] == 256
    np.testing.assert_array_equal(one.shown, two.shown)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.pairs.shape == two.pairs.shape and one.pairs.shape[2] == 16 and not np.allclose(one.maps, two.maps)
    assert one.pairs.shape[1] == 1 + len(factors(registry.get("menagerie"))) + len(NUISANCES)
    few = read_probe(partial(results, network="trained", layer="layer4.0"), 36 * 10)
    assert few.maps.shape[0] == few.shown.shape[0] == 10


def test_every_extractor_reading_and_coder_is_measured_on_both_networks(run):
    _, found = run
    for method, rows in found.items():
        own = rows.filter(pl.col("seed") == 0, pl.col("metric") == "rel_l2", pl.col("network") == "trained")
        coders = {coder_name(*one) for one in CODERS} | ({OWN} if method == "filters" else set())
        assert {*own["reading"]} == coders
        shuffled = rows.filter(pl.col("network") == "shuffled")
        assert {*shuffled["metric"]} == {*rows["metric"]}
        readings = rows.filter(pl.col("metric") == "average_precision", pl.col("network") == "trained")
        assert {"cosine", "projection", "filter"} <= {*readings["reading"]}
        assert rows["values"].list.len().min() >= 1
        told = {(one["metric"], one["reading"]): one for one in sanity.separation(rows.iter_rows(named=True))}
        assert told["insertion_minus_deletion", "own" if method == "filters" else "lasso"]["auc"] > 0.5
        assert ("nonzeros", "lasso") not in told


def test_one_image_of_maps_is_no_two(tmp_path):
    """However few positions are asked for, two images are taken where there are two, and never more than there are."""
    from gigraph.records import tables

    def probe(images):
        pfvs = np.arange(12 * images, dtype=np.float32).reshape(-1, 3)
        image = np.repeat(np.arange(images, dtype=np.int32), 4)
        files = {kind: tmp_path / f"{images}.{kind}.parquet" for kind in ("probes", "maps", "pairs")}
        roles = {"role": ["centre", "found", "uniform"], "image_id": np.arange(3), "position": np.zeros(3, np.int32)}
        tables.write(files["probes"], "probes", {**roles, "pfv": pfvs[:3]}, vectors="pfv")
        maps = {"image": image, "label": image, "shown": [None] * len(image), "pfv": pfvs}
        tables.write(files["maps"], "maps", maps, vectors="pfv")
        tables.write(files["pairs"], "pairs", {"base": [], "factor": [], "pfv": pfvs[:0]}, vectors="pfv")
        return probes.read_probe(files.get, 1)

    assert [probe(images).maps.shape for images in (1, 2, 3)] == [(1, 4, 3), (2, 4, 3), (2, 4, 3)]


def test_without_labels_each_network_is_asked_about_what_it_says_itself():
    """As a run on it is; with labels all are asked about these."""
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]])

    def labels(unlabelled):
        layer = SimpleNamespace(to_pfvs=lambda values: values)
        values = {"l": torch.zeros(2, 4, 3), CLASSES: logits}
        network = SimpleNamespace(activations=lambda x, layers: values, task="classes")
        images = [(slice(0, 2), torch.zeros(2, 3, 8, 8))]
        subject = SimpleNamespace(layers={"l": layer}, network=network, images=lambda *_: images)
        heldout = pa.table({"image_id": [5, 6], "path": ["a", "b"], "label": [2, 2]})
        found = probes._of_images(subject, heldout, {"source": "", "unlabelled": unlabelled})
        return next(columns["label"][::4].tolist() for _, kind, columns, _ in found if kind == "maps")

    assert labels(unlabelled=True) == [1, 0] and labels(unlabelled=False) == [2, 2]


def test_few_pfvs_allow_few_concepts(run):
    """No more than leave each its members: 55 images give 220 PFVs, 55 concepts of four. Channels are all there are."""
    _, found = run
    assert {*found["bisecting"]["concepts"]} == {40, 55} and {*found["channels"]["concepts"]} == {256}
    assert "stability_of_maps" not in {*found["channels"]["metric"]}


def test_probes_depend_on_no_order_of_the_images_and_the_first_few_are_of_every_class():
    """However the images are sharded, the same PFVs have the same names."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(10**6)[:2000]
    labels = np.repeat(np.arange(10), 200)
    settings = {"seed": 0, "holdout": 0.1}

    def chosen(order):
        columns = {"image_id": ids[order], "label": labels[order], "path": [str(i) for i in ids[order]]}
        return probes._chosen(pa.table(columns), settings)

    one, other = chosen(np.arange(2000)), chosen(rng.permutation(2000))
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1] == other[1] and len(one[0]) == probes.FOUND and not held_out(one[0], 0, 0.1).any()
    assert np.bincount(one[2][:555], minlength=10).min() > 30


@pytest.mark.parametrize("first", [0, 1])
def test_tokens_before_the_patches_are_no_place(first):
    owners = np.zeros((2, 6, 6), np.uint8)
    owners[:, :3, :3] = 1
    covered = coverage(owners, [1], (2, 2, first))
    assert covered.shape == (2, first + 4, 1) and not covered[:, :first].any()
    np.testing.assert_allclose(covered[0, first:, 0], [1, 0, 0, 0])
    pfvs = np.arange(first + 4, dtype=np.float32)[None, :, None]
    np.testing.assert_array_equal(probes.averaged(pfvs, (2, 2, first))[0, :, 0], np.arange(first, first + 4))

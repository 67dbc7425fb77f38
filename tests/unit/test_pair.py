"""A pair opened from a run's tables: where its path starts, and that everybody who attributes opens the same one."""

import importlib.util
import json
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from gigraph import attributors
from gigraph.attributors.registry import MODULES
from gigraph.evaluation import truth
from gigraph.evaluation.validation import HeldOut, to_class
from gigraph.hashing import image_id
from gigraph.method.families import Families, average_families
from gigraph.pair import QUADRATURE, Pair
from gigraph.planning.config import Compute, load
from gigraph.planning.plan import Plan
from gigraph.planning.stages import STAGES
from gigraph.records import tables
from gigraph.records.attributions import Decompositions
from gigraph.records.encoders import write_encoder
from gigraph.records.families import write_families
from gigraph.records.paths import Results
from gigraph.reserved import CLASSES
from gigraph.subject import Subject
from gigraph.vocabulary import Vocabulary
from gigraph.worlds import registry
from gigraph.worlds.dataset import write
from workflow.toy import ROOT

BELOW, LAYER, K = "layer3.1", "layer4.0", 12
COMPUTE = Compute(device="cpu", workers=1, batch_size=8)
OF = {"method": "bisecting"}
WORLD = registry.get("menagerie")


def planned(folder, **attribution):
    raw = {"output": str(folder / "results"), "images": {"source": str(folder / "images")}, "layers": [BELOW, LAYER]}
    more = {"coefficients": {"penalty": "relative", "value": 0.4}, "evaluation": {"points": 4, "subsets": 4}}
    return Plan(load({**raw, **more, "attribution": attribution}), ROOT / "workflow" / "scripts")


class Run:
    """Twenty pictures, two of each class, and all that a run has of two layers before its attributions."""

    def __init__(self, folder):
        write(WORLD, folder / "images", "toy", 20)
        self.folder, self.results, plan = folder, Results(folder / "results"), planned(folder)
        self.subject = Subject(plan.network, COMPUTE, plan.layers)
        files = sorted(path.relative_to(folder / "images") for path in folder.glob("images/*/*.png"))
        rows = {"image_id": [image_id(str(path)) for path in files], "shard": [0] * len(files),
                "path": list(map(str, files)), "label": [WORLD.number(path.parent.name) for path in files]}  # fmt: skip
        for name in ("selection", "heldout"):
            tables.write(self.results(name), "selection", rows)
        self.x = torch.cat([x for _, x in self.subject.images(folder / "images", rows["image_id"], rows["path"])])
        for layer in plan.layers:
            self._vocabulary(layer)
            self.stage("coefficients", plan.settings("coefficients", **OF, layer=layer, shard=0), selection="selection",
                       **{name: name for name in ("centre", "concepts", "calibration", "coefficients", "decisions")},
                       of={**OF, "layer": layer, "shard": 0})  # fmt: skip

    def _vocabulary(self, layer):
        of, pfvs = {**OF, "layer": layer}, self.subject.pfvs(self.x, layer).flatten(0, 1).numpy()
        beta = pfvs.mean(0)
        vectors = pfvs[np.random.default_rng(0).choice(len(pfvs), K, replace=False)] - beta
        concepts = {"concept": range(K), "size": [1] * K, "images": [1] * K, "cohesion": [1.0] * K}
        concepts |= {"node": [None] * K, "vector": vectors}
        row = {"layer": [layer], "method": ["lasso"], "sign": ["any"], "penalty": ["relative"], "value": [0.4],
               "nonzeros": [0.0], "rel_l2": [0.0]}  # fmt: skip
        centre = {"layer": [layer], "center": ["mean"], "beta": [beta], "distance": [0.0], "mean_cosine": [0.0]}
        tables.write(self.results("centre", **of), "centre", centre)
        tables.write(self.results("concepts", **of), "concepts", concepts, vectors="vector")
        tables.write(self.results("calibration", **of), "calibration", row)
        write_encoder(self.results("encoder", **of), None, len(beta), "")
        write_families(self.results("families", **of), Families.alone(K), "")

    def stage(self, name, settings, of, **files):
        """Run a script of the workflow here, on the same model."""
        spec = importlib.util.spec_from_file_location(f"pair_{name}", ROOT / f"workflow/scripts/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.Subject = lambda *_: self.subject
        settings = json.loads(json.dumps(settings))  # as it comes by the command line
        paths = {key: self.results(value, **of) for key, value in files.items()}
        options = {"root": self.results.root, "compute": COMPUTE, "lineage": "", "shard": 0, "targets": [], **OF}
        module.main(Namespace(settings=settings, **options, **paths))

    def stored(self, **attribution):
        """Return the attributions of LAYER to classes as the stage stores them, {(image, target): row}."""
        of = {**OF, "source": LAYER, "target": CLASSES, "shard": 0}
        settings = planned(self.folder, top_sources=K, **attribution).settings("attribution", **of)
        of["layer"] = LAYER
        self.stage("attribution", settings, of, **{n: n for n in ("selection", "coefficients", "attributions")})
        return {
            (row["image_id"], row["target"]): row for row in tables.read(self.results("attributions", **of)).to_pylist()
        }

    def opened(self, source, target, **attribution):
        """Return a pair, and the decompositions of two images."""
        settings = planned(self.folder, **attribution).settings(
            "attribution", **OF, source=source, target=target, shard=0
        )
        pair = Pair.open(self.subject, self.results.root, OF["method"], source, target, settings["attribution"])
        table = tables.read(self.results("coefficients", **OF, layer=source, shard=0))
        images = Decompositions.of_table(table, self.subject.layers[source].positions, self.subject.device)
        return pair, images(slice(0, 2))

    def held_out(self, **attribution):
        """Return what the evaluation of LAYER starts from."""
        settings = planned(self.folder, **attribution).settings("validation", **OF, layer=LAYER)
        return HeldOut(self.subject, self.results.root, self.results("heldout"), settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("pair"))


def dense(concepts, values):
    found = np.zeros(K)
    found[concepts] = values
    return found


SETTINGS = {
    "default": {},
    "zero": {"baseline": "zero"},
    "bfloat16": {"precision": "bfloat16"},
    "logit": {"class_output": "logit"},
    "one step": {"steps": 1, "max_steps": 1},
    "gradient": {"method": "gradient_x_input"},
}


@pytest.fixture(scope="module")
def graphs(made):
    """The class attributions that the stage stores under each of SETTINGS: each setting makes a difference."""
    found = {name: made.stored(**settings) for name, settings in SETTINGS.items()}
    for name, rows in found.items():
        if name != "default":
            assert max(apart(rows[key], found["default"][key]) for key in rows) > 1e-3, name
    return found


def apart(one, other):
    one, other = (dense(row["sources"], row["values"]) for row in (one, other))
    return np.abs(one - other).sum() / np.abs(other).sum()


def noise(name, row, default):
    """That of float32; that of bfloat16 depends on what lies in a batch beside it, and stays below the precision's."""
    return 1e-3 if name != "bfloat16" else 0.2 * apart(row, default)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_evaluation_looks_at_the_attributions_that_the_graph_shows(made, graphs, name):
    held = made.held_out(**SETTINGS[name])
    keys = list(zip(held.ids, held.labels, strict=True))
    for key, (concepts, values) in zip(keys, to_class(held), strict=True):
        row = graphs[name][key]
        assert apart({"sources": concepts, "values": values}, row) < noise(name, row, graphs["default"][key])
    measures = pl.DataFrame(held.measures.rows["measures"])
    assert set(measures["order"]) == {SETTINGS[name].get("method", "gig"), "random", ""}
    # The curves lead to where the graph's paths do.
    end = measures.filter(pl.col("metric") == "probability_at_concepts")["value"].item()
    rows = [graphs["zero" if name == "zero" else "default"][key] for key in keys]
    assert end == pytest.approx(np.mean([row["at_concepts"] for row in rows]), rel=1e-3)


@pytest.mark.parametrize("name", ["zero", "bfloat16", "gradient"])
def test_the_drawn_truth_is_compared_with_the_graphs_attributions_to_logits(made, graphs, name):
    """Whatever `class_output` is, the truth is that of the logit; all else is as in the graph."""
    rows, default = made.stored(**SETTINGS[name], class_output="logit"), graphs["logit"]
    held = made.held_out(**SETTINGS[name])
    order = [*range(0, 20, 2), *range(1, 20, 2)]  # one scene of each class in the half that scores
    labels = np.array(held.labels)[order]
    assert set(labels[10:].tolist()) == set(range(10))
    settings = planned(made.folder, **SETTINGS[name]).settings("truth", **OF)["attribution"]
    found = truth.profiles(held.subject, held.layer, held.pfvs[LAYER][order], labels, settings, 10)
    for index in order[10:]:
        key = held.ids[index], held.labels[index]
        mine = {"sources": np.arange(K), "values": found[held.labels[index]]}
        assert apart(mine, rows[key]) < noise(name, rows[key], default[key])


@pytest.mark.parametrize(("source", "target"), [(BELOW, LAYER), (LAYER, CLASSES)])
@pytest.mark.parametrize("baseline", ["beta", "zero"])
def test_the_path_starts_at_the_centre_or_at_zero(made, source, target, baseline):
    pair, images = made.opened(source, target, baseline=baseline)
    path, to, image = pair.path, torch.tensor([[0, 5]]), images[0]
    beta = torch.from_numpy(pair.source.beta.copy())
    assert torch.equal(path.start, torch.zeros_like(beta) if baseline == "zero" else beta)

    def score(x):
        return path.score(path.segment(x[None]), to)[0]

    (found,) = pair.attribute([image], to)
    torch.testing.assert_close(found.at_baseline, score(path.start.expand(len(image.u), -1)))
    assert (found.completeness_error.abs() <= path.tolerance * found.total_absolute).all()
    x, q = path.start + image.offset(path.vectors), int(image.concepts[0])
    drop = score(x) - score(x - image.u[:, :1] * path.vectors[q])
    torch.testing.assert_close(pair.ablate(image, [q], to[0])[0], drop, rtol=1e-3, atol=1e-5)


def test_scores_of_real_activations_are_those_of_the_images(made):
    """F_ab of the source's PFVs is what the target layer sees."""
    pair, _ = made.opened(BELOW, LAYER)
    here, there = (made.subject.pfvs(made.x[:2], layer) for layer in (BELOW, LAYER))
    to = torch.tensor([[1, 2, 3], [4, 5, 6]])
    through = pair.path.score(pair.path.segment(here), to)
    torch.testing.assert_close(pair.at_x(there, to), through, rtol=1e-3, atol=1e-4)


def test_method_and_precision_can_be_others_than_the_pairs_own(made):
    (pair, images), (exact, _) = made.opened(LAYER, CLASSES, precision="bfloat16"), made.opened(LAYER, CLASSES)
    to = torch.tensor([[0], [0]])
    own, every = exact.attribute(images, to)[0].values, {}
    for method in MODULES:
        found, every[method] = (one.attribute(images, to, method)[0].values for one in (pair, exact))
        again = pair.attribute(images, to, method, precision="float32")[0].values
        assert torch.equal(again, every[method]) and not torch.equal(found, again), method
    assert [method for method, values in every.items() if torch.equal(values, own)] == ["gig"]


def test_what_only_attributes_reads_no_calibration_and_builds_no_lasso(made, monkeypatch):
    read = []
    monkeypatch.setattr(tables, "read", lambda path, *more, real=tables.read: read.append(path) or real(path, *more))
    pair, _ = made.opened(BELOW, LAYER)
    wanted = [("concepts", BELOW), ("encoder", BELOW), ("centre", BELOW), ("coefficients", BELOW), ("concepts", LAYER),
              ("families", BELOW), ("families", LAYER)]  # fmt: skip
    assert set(read) == {made.results(name, **OF, layer=layer, shard=0) for name, layer in wanted}
    with pytest.raises(ValueError, match="tolerance"):
        pair.source.code(np.zeros((1, 3), np.float32))


def test_images_decomposed_anew_are_those_of_the_table(made):
    held, (_, images) = made.held_out(), made.opened(LAYER, CLASSES)
    for one, other in zip(held.images[:2], images, strict=True):
        assert torch.equal(one.concepts, other.concepts)
        torch.testing.assert_close(one.u, other.u, rtol=1e-3, atol=1e-3)


@pytest.fixture
def grouped(made):
    """The run with families of several in both layers, of as many sizes as there are."""
    found = {}
    for layer in (BELOW, LAYER):
        of = {**OF, "layer": layer}
        vectors = tables.numpy(tables.read(made.results("concepts", **of)), "vector")
        found[layer] = next(one for t in (0.9, 0.8, 0.6, 0.4, 0.2) if (one := average_families(vectors, t)).merged)
        write_families(made.results("families", **of), found[layer], "")
    yield found
    for layer in found:
        write_families(made.results("families", **OF, layer=layer), Families.alone(K), "")


EVERY = ["label", "at_x", "at_concepts", "at_baseline", "error"]


def test_the_stage_stores_families_as_sums_of_the_concepts_that_it_would_store(made, graphs, grouped):
    single, found = graphs["default"], made.stored()
    families, checked = grouped[LAYER], 0
    assert single.keys() == found.keys()
    for key, row in found.items():
        alone, whole = dense(single[key]["sources"], single[key]["values"]), dense(row["sources"], row["values"])
        expected = np.bincount(families.leader, alone, K)
        scale = np.abs(alone).sum()
        if single[key]["steps"] == row["steps"]:  # by families an integral may need more
            np.testing.assert_allclose(whole, expected, atol=1e-5 * scale)
            assert all(row[name] == single[key][name] for name in EVERY)
            checked += 1
        parts = dense(row["members"], row["member_values"])
        several = families.size > 1
        np.testing.assert_allclose(np.bincount(families.leader[several], parts[several], K)[families.leader[several]],
                                   whole[families.leader[several]], atol=1e-6 * scale)  # fmt: skip
        assert not parts[~several].any() and set(row["sources"]) <= set(families.ids.tolist())
        assert row["total_absolute"] == pytest.approx(np.abs(whole).sum(), rel=1e-5)
    assert checked > len(found) / 2


def test_a_later_layers_families_are_targets_by_their_directions_and_sources_go_together(made, grouped):
    pair, images = made.opened(BELOW, LAYER)
    one = next(int(f) for f in grouped[LAYER].ids if grouped[LAYER].size[f] > 1)
    vectors = tables.numpy(tables.read(made.results("concepts", **OF, layer=LAYER)), "vector").astype(np.float64)
    m = vectors[grouped[LAYER].members(one)]
    m = (m / np.linalg.norm(m, axis=1, keepdims=True)).mean(0)
    m = torch.from_numpy(m / np.linalg.norm(m)).float()
    real = made.subject.pfvs(made.x[:1], LAYER)
    torch.testing.assert_close(pair.at_x(real, torch.tensor([[one]]))[0, 0], (real[0] @ m).sum(), rtol=1e-4, atol=1e-4)
    below, path, to = grouped[BELOW], pair.path, torch.tensor([one])
    family = next(int(f) for f in below.ids if below.size[f] > 1)
    code = torch.zeros(len(images[0].u), K)
    code[:, images[0].concepts] = images[0].u
    gone = code.clone()
    gone[:, below.members(family)] = 0
    before, after = (path.score(path.segment((path.start + u @ path.vectors)[None]), to[None])[0] for u in (code, gone))
    torch.testing.assert_close(pair.ablate(images[0], [family], to)[0], before - after, rtol=1e-3, atol=1e-5)


def test_families_of_one_leave_every_number_as_it_is_without_them(made, graphs):
    """Bit for bit: what `families.cosine: null` stores is what a pair of vocabularies without families gives."""
    pair, _ = made.opened(LAYER, CLASSES)
    assert pair.path.family is None
    table = tables.read(made.results("coefficients", **OF, layer=LAYER, shard=0))
    positions = made.subject.layers[LAYER].positions
    images = Decompositions.of_table(table, positions, made.subject.device)(slice(0, 20))
    ids = tables.numpy(table, "image_id")[::positions].tolist()
    keys = [[t for image, t in graphs["default"] if image == one] for one in ids]
    bare = Pair(made.subject, Vocabulary(made.results.root, OF["method"], LAYER, made.subject), None,
                planned(made.folder).settings("attribution", **OF, source=LAYER, target=CLASSES, shard=0)["attribution"]
                )  # fmt: skip
    # In the batches of the stage.
    for first in range(0, len(ids), made.subject.images_at_once):
        part = slice(first, first + made.subject.images_at_once)
        found = bare.attribute(images[part], torch.tensor(keys[part]))
        for image, targets, one in zip(ids[part], keys[part], found, strict=True):
            for t, target in enumerate(targets):
                row = graphs["default"][image, target]
                order = np.argsort(-np.abs(one.values[t].numpy().astype(np.float64)), kind="stable")
                assert row["sources"] == one.concepts.numpy()[order].tolist()
                assert row["values"] == one.values[t].numpy()[order].tolist()
                assert row["total_absolute"] == one.total_absolute[t].item() and row["steps"] == one.steps[t].item()
                assert row["completeness_error"] == one.completeness_error[t].item()
                assert row["members"] == row["member_values"] == []
    image, path, to = images[0], pair.path, torch.tensor([0, 3])
    drop = pair.ablate(image, image.concepts.tolist(), to)
    with torch.no_grad():  # as one concept was deleted before there were families
        whole = path.start + image.offset(path.vectors)
        parts = image.u.T[:, :, None] * path.vectors[image.concepts, None, :]
        scores = [path.score(path.segment(x), to.expand(len(x), -1)) for x in (whole[None], whole - parts)]
    assert torch.equal(drop, scores[0] - scores[1])


class ReachedError(Exception):
    pass


def test_the_truth_attributes_within_the_memory_budget(monkeypatch):
    def attribute(method, path, *_):
        raise ReachedError(path.room.points)

    monkeypatch.setattr(attributors, "attribute", attribute)
    subject = SimpleNamespace(
        device=torch.device("cpu"), segment=lambda *_: None, path_points={"a": 7}.get,
        network=SimpleNamespace(outputs=2, task="classes"),
    )  # fmt: skip
    vocabulary = SimpleNamespace(
        layer="a", decompose=lambda _: ([], None), directions=None, start=torch.zeros(2), family=None
    )
    with pytest.raises(ReachedError, match="7"):
        truth.profiles(subject, vocabulary, np.zeros((4, 4, 3)), np.zeros(4, int), {"baseline": "beta"}, 10)


@pytest.mark.parametrize("stage", ["attribution", "ablation", "validation", "edge_checks", "truth"])
def test_every_setting_that_a_stage_gets_arrives_in_its_pair(made, stage):
    """Of all who attribute or delete: none falls back on a default of its own."""
    given = {"method": "gradient_x_input", "baseline": "zero", "class_output": "logit", "steps": 3, "max_steps": 5}
    given |= {"tolerance": 0.03125, "precision": "bfloat16"}
    plan = planned(made.folder, **given)
    wildcards = {**OF, "source": LAYER, "target": CLASSES, "layer": LAYER, "shard": 0}
    of = {name: wildcards[name] for name in STAGES[stage].of}
    settings = plan.settings(stage, **of)["attribution"]
    pair = Pair.open(
        made.subject, made.results.root, OF["method"], LAYER, CLASSES, {"class_output": "logit"} | settings
    )
    assert settings["baseline"] == "zero" and not pair.path.start.any()
    assert {name: given[name] for name in settings} == settings
    if "steps" in settings:
        assert pair.method == given["method"]
        assert {name: getattr(pair.path, name) for name in QUADRATURE} == {name: given[name] for name in QUADRATURE}

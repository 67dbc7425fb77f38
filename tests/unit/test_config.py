"""The configuration: every mistake is one line that names the key, and the files that depend on it agree with it."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from gigraph.errors import UserError
from gigraph.planning.config import Config, Section, load, read, schema

ROOT = Path(__file__).parents[2]


READY = sorted((ROOT / "workflow/configs").glob("*.yaml"))


def default(**changes):
    return {**yaml.safe_load((ROOT / "config.yaml").read_text()), **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"imges": {}}, ["imges", "did you mean images"]),
        ({"images": {"shard": 3}}, ["images.shard", "did you mean shards"]),
        ({"images": {"shards": "many"}}, ["images.shards", "integer", "many"]),
        ({"images": {"shards": 0}}, ["images.shards", "greater than 0"]),
        ({"menagerie": {"count": 100}}, ["menagerie", "called drawn now"]),
        ({"drawn": {"shortcut": 0.02}}, ["drawn.shortcut", "drawn.train"]),
        ({"drawn": {"shortcut": 1.2, "train": True}}, ["drawn.shortcut"]),
        ({"images": {"source": "traffic"}}, ["model.source", "menagerie", "traffic", "give both the same world"]),
        ({"images": {"max_rejected": 2}}, ["images.max_rejected", "less than or equal to 1"]),
        ({"images": {"classes": {"a": 0, "b": 0}}}, ["images.classes", "a and b are both output 0"]),
        ({"images": {"classes": {"a": "first"}}}, ["images.classes", "a: 'first' is no output", "from 0"]),
        ({"images": {"classes": {"a": -1}}}, ["images.classes", "a: -1 is no output"]),
        ({"images": {"classes": ["a", "b", "a"]}}, ["images.classes", "a is listed twice"]),
        (
            {"images": {"classes": {"class 1": 0, "class 2": 1, "class 3": 5}}},
            ["images.classes", "output 2 has no folder", "'class 2', which is the folder of another output"],
        ),
        ({"coefficients": {"value": 0.9}}, ["coefficients", "value: 0.9 with penalty: nonzeros", "penalty: decision"]),
        ({"coefficients": {"most": 1000}}, ["coefficients.most", "256"]),
        ({"families": {"cosine": 1e-6}}, ["families.cosine", "0.01"]),
        ({"layers": []}, ["layers", "at least 1"]),
        ({"layers": "layer1"}, ["layers", "list"]),
        ({"layers": ["a", "a"]}, ["layers", "twice"]),
        ({"layers": ["a/b"]}, ["layers", "a/b"]),
        ({"layers": ["classes"]}, ["layers", "classes"]),
        ({"layers": [{"name": "a", "concept": {}}]}, ["concept", "did you mean concepts"]),
        (
            {"layers": [{"name": "a", "concepts": {"expansio": 2}}]},
            ["layers.a.concepts.expansio", "did you mean expansion"],
        ),
        (
            {"layers": [{"name": "a", "concepts": {"expansion": "two"}}]},
            ["layers.a.concepts.expansion", "two"],
        ),
        ({"layers": ["a"], "attribution": {"pairs": [["a", "b"]]}}, ["attribution.pairs", "'b'"]),
        ({"layers": ["a", "b"], "attribution": {"pairs": [["b", "a"]]}}, ["attribution.pairs", "swap"]),
        ({"attribution": {"max_steps": 2}}, ["max_steps", "below steps"]),
        ({"attribution": {"classes": "cat"}}, ["attribution.classes", "list of class names", "how many"]),
        ({"attribution": {"classes": []}}, ["attribution.classes", "list of class names"]),
        ({"attribution": {"classes": 0}}, ["attribution.classes", "how many"]),
        ({"attribution": {"method": "gigs"}}, ["attribution.method", "did you mean gig"]),
        ({"graph": {"top": 20}}, ["graph.top", "class_targets"]),
        ({"model": {"reference": float("nan")}}, ["model.reference", "finite"]),
        ({"model": {"task": "multilabel"}}, ["model.task", "'labels'", "multilabel"]),
        (
            {"model": {"task": "regression"}, "attribution": {"class_output": "probability"}},
            ["attribution.class_output", "regression has no probability", "take auto"],
        ),
        ({"preprocessing": {"channels": 17}}, ["preprocessing.channels", "16"]),
        ({"preprocessing": {"channels": 4, "mean": [0.5]}}, ["preprocessing", "mean: it has 1", "(4)"]),
        ({"preprocessing": {"mean": [0.5], "std": [1, 1]}}, ["preprocessing", "std: it has 2", "(1)"]),
        ({"methods": ["kmean"]}, ["methods.0", "did you mean kmeans"]),
        ({"methods": []}, ["methods", "at least 1"]),
        ({"preprocessing": {"mean": [0.5, float("nan"), 0.5]}}, ["preprocessing.mean.1", "finite"]),
        ({"preprocessing": {"std": [float("inf")] * 3}}, ["preprocessing.std.0", "finite"]),
        ({"coefficients": {"value": float("inf")}}, ["coefficients.value", "finite"]),
        ({"preprocessing": {"resize": True}}, ["preprocessing.resize", "true is what YAML makes of yes"]),
        ({"images": {"limit_per_class": False}}, ["images.limit_per_class", "no, off or false", "write a number"]),
        ({"images": {"classes": yaml.safe_load("[yes, no]")}}, ["images.classes", "YAML", "in quotes"]),
        (
            {"images": {"classes": yaml.safe_load("{yes: 0, no: 1}")}},
            ["images.classes", "true is no name", "in quotes"],
        ),
        ({"images": {"classes": yaml.safe_load("[2020-01-01]")}}, ["images.classes", "in quotes"]),
        ({"images": {"classes": "classes.txt"}}, ["images.classes: 'classes.txt' is no list", "{a: 0, b: 1}"]),
        ({"images": None}, ["images: it is a section", "leave it out"]),
        ({"images": "photos"}, ["images: it is a section", "'photos'"]),
        ({"compute": 3}, ["compute", "section", "3"]),
        ({"coefficients": {"tolerance": 1.0e-7}}, ["coefficients.tolerance", "0.000001"]),
        ({"exemplars": {"tile": 512}}, ["exemplars", "tile", "WebP"]),
        ({"families": {"cosine": 0}}, ["families.cosine", "0.01"]),
        ({"families": {"linkage": "single"}}, ["families.linkage", "'tree'", "single"]),
        ({"layers": [{"name": "a", "families": {"cosin": 1}}]}, ["layers.a.families.cosin", "did you mean cosine"]),
        ({"coefficients": {"method": "omp"}}, ["coefficients.method", "'pursuit'", "omp"]),
        ({"coefficients": {"sign": "positive"}}, ["coefficients.sign", "'nonnegative'", "positive"]),
        ({"coefficients": {"method": "pursuit", "penalty": "relative", "value": 0.1}}, ["penalty: nonzeros", "number"]),
        ({"coefficients": {"method": "pursuit", "penalty": "absolute"}}, ["penalty: absolute", "penalty: nonzeros"]),
        ({"coefficients": {"method": "pursuit", "value": 7.5}}, ["value: 7.5", "whole number"]),
        (
            {"layers": ["b", {"name": "a", "coefficients": {"method": "pursuit", "penalty": "absolute"}}]},
            ["layers.a.coefficients: penalty", "method: pursuit"],
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(changes, words):
    with pytest.raises(UserError) as caught:
        load(default(**changes))
    line = str(caught.value)
    assert "\n" not in line and not line.startswith("config")
    assert all(word in line for word in words), line


def test_a_missing_key_is_named():
    with pytest.raises(UserError, match="layers is missing"):
        load({})


def test_numbers_that_yaml_or_the_command_line_give_as_text_are_numbers():
    config = load(default(coefficients={"tolerance": "1e-3", "value": "8"}))
    assert config.coefficients.tolerance == 1e-3 and config.coefficients.value == 8


def test_classes_called_by_numbers_need_no_quotes():
    both = ([0, 1], {0: 0, 1: 1})
    assert [load(default(images={"classes": classes})).images.classes for classes in both] == [["0", "1"]] * 2


def test_a_layers_own_settings_lie_over_the_defaults():
    config = load(
        default(
            layers=["a", {"name": "b", "concepts": {"expansion": 2}, "families": {"cosine": None}}],
            concepts={"expansion": 5, "min_members": 9},
        )
    )
    assert config.layer("a").concepts.expansion == 5
    assert (config.layer("a").families.cosine, config.layer("b").families.cosine) == (0.7, None)
    assert config.layer("b").concepts.expansion == 2 and config.layer("b").concepts.min_members == 9


def test_each_layer_has_its_own_way_of_coding():
    """Where all layers' defaults, taken together with a layer's own, can be."""
    own = {"method": "pursuit", "sign": "nonnegative", "value": 6}
    config = load(default(layers=["a", {"name": "b", "coefficients": own}, {"name": "c", "coefficients": {
        "method": "refitted", "penalty": "relative", "value": 0.1}}]))  # fmt: skip
    ways = [(one.method, one.sign, one.value) for one in (config.layer(name).coefficients for name in "abc")]
    assert ways == [("lasso", "any", 8), ("pursuit", "nonnegative", 6), ("refitted", "any", 0.1)]


def test_pairs_are_consecutive_layers_classes_and_the_configs_own():
    config = load(default(layers=["a", "b", "c"], attribution={"pairs": [["a", "c"], ["a", "b"]]}))
    assert config.pairs() == [
        ("a", "b"),
        ("b", "c"),
        ("a", "classes"),
        ("b", "classes"),
        ("c", "classes"),
        ("a", "c"),
    ]


def keys(model=Config, prefix=""):
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_embedded_default_has_every_key_with_a_comment():
    text = (ROOT / "config.yaml").read_text().splitlines()
    raw = default()
    for key in keys():
        value = raw
        for step in key.split("."):
            assert step in value, key
            value = value[step]
        pattern = re.compile(rf"\s*{key.split('.')[-1]}:")
        assert any(
            pattern.match(line) and text[i - 1].lstrip().startswith(("#", "penalty:", "steps:"))
            for i, line in enumerate(text)
        ), key


@pytest.mark.parametrize("path", sorted((ROOT / "workflow" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_ready_configurations_are_valid_over_the_default(path):
    raw = default()
    for key, value in yaml.safe_load(path.read_text()).items():
        raw[key] = {**raw[key], **value} if isinstance(value, dict) else value
    assert load(raw).names


def test_no_setting_is_tuned_to_the_second_drawn_world():
    """Its configuration says names, and nothing that the first world's does not say."""
    first, second = load(read([])).model_dump(), load(read([ROOT / "workflow/configs/traffic.yaml"])).model_dump()
    named = {key: value for key, value in second.items() if value != first[key]}
    assert named.keys() == {"output", "images", "model"}
    own = {(key, name) for key in ("images", "model") for name in first[key] if first[key][name] != second[key][name]}
    assert own == {("images", "source"), ("model", "source")}


def test_the_papers_setting():
    raw = default()
    for key, value in yaml.safe_load((ROOT / "workflow/configs/imagenet-resnet50.yaml").read_text()).items():
        raw[key] = {**raw[key], **value} if isinstance(value, dict) else value
    config = load(raw)
    assert len(config.names) == 16
    assert {config.layer(name).concepts.expansion for name in config.names} == {8}
    assert {config.layer(name).sampling.pfvs_per_image for name in config.names} == {1}


def test_the_committed_schema_is_the_configs():
    committed = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert committed == schema(), "write it anew: uv run python -m gigraph.planning.config"


def test_every_key_is_explained():
    def described(node):
        for name, one in node.get("properties", {}).items():
            assert "description" in one or "$ref" in one, name

    described(schema())
    for definition in schema()["$defs"].values():
        described(definition)


def test_the_conda_environment_has_pyprojects_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = dict(pin.split("==") for pin in project["tool"]["uv"]["constraint-dependencies"])
    names = {re.split(r"[\[;>= ]", one)[0] for one in project["project"]["dependencies"]}
    environment = yaml.safe_load((ROOT / "envs/gigraph.yaml").read_text())
    (pip,) = (one["pip"] for one in environment["dependencies"] if isinstance(one, dict))
    given = dict(re.match(r"([\w-]+)(?:\[.*\])?==([\w.+]+)", one).groups() for one in pip)
    assert given == {name: pins[name] for name in names}


DEMO_ONLY = {"images_per_class"}
"""The explorer's keys whose values are the demo's own: a limit that keeps its site small."""


def test_the_default_config_spells_out_the_typed_defaults():
    """So there is one set of defaults, whether a key is read from config.yaml, the schema, or `Config` itself."""
    spelt = load(default()).model_dump()
    typed = Config(layers=default()["layers"]).model_dump()
    assert {key for key in spelt if spelt[key] != typed[key]} <= {"explorer"}
    assert {key for key in spelt["explorer"] if spelt["explorer"][key] != typed["explorer"][key]} <= DEMO_ONLY


def test_the_methods_of_the_graph_are_evaluated_too():
    config = load(default(methods=["polished"], evaluation={"methods": ["bisecting", "random"]}))
    assert config.evaluated == ["bisecting", "random", "polished"]


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_the_papers_method_is_one_file_more_whatever_is_configured(path):
    """Of what layers do not set for themselves."""
    config = load(read([path, ROOT / "workflow/configs/paper.yaml"]))
    assert config.methods == ["bisecting"] and config.contribution.method == "srd"
    for section, wanted in {
        "coefficients": {"method": "lasso", "sign": "any", "penalty": "nonzeros", "value": 8},
        "concepts": {"center": "batchnorm", "scale": "mean"}, "families": {"cosine": None},
        "attribution": {"method": "gig", "class_output": "probability", "baseline": "beta"},
    }.items():  # fmt: skip
        assert wanted.items() <= getattr(config, section).model_dump().items(), section
    for layer in config.layers:
        own = config.layer(layer.name)
        assert own.coefficients.method == "lasso" and own.coefficients.value >= 8 and own.families.cosine is None


@pytest.mark.parametrize("path", [path for path in READY if path.stem != "paper"], ids=lambda path: path.stem)
def test_numbers_of_non_zeros_are_tried_for_one_method_and_taken_by_all(path):
    names = load(read([path])).names
    raw = {**read([path]), "layers": names, "coefficients": {"penalty": "decision", "value": 0.8}}
    for methods, tried in ((["bisecting"], "bisecting"), (["sae", "kmeans"], "kmeans")):
        assert load({**raw, "methods": methods}).tried == tried


def test_a_key_that_is_written_twice_is_refused(tmp_path):
    """The second one won without a word."""
    file = tmp_path / "my.yaml"
    file.write_text("seed: 1\nconcepts:\n  expansion: 2\n  expansion: 4\n")
    with pytest.raises(UserError, match=r"my\.yaml, line 4: expansion is written twice"):
        read([file])
    file.write_text("base: &base {a: 1}\nexplorer:\n  labels: {<<: *base, b: two}\n")
    assert read([file])["explorer"]["labels"] == {"a": 1, "b": "two"}


def test_gigraph_plan_takes_several_files_as_snakemake_does(tmp_path, monkeypatch, capsys):
    from gigraph.cli import main

    for name, text in (("one", "seed: 1"), ("two", "seed: 2")):
        (tmp_path / f"{name}.yaml").write_text(text)
    seen = []
    monkeypatch.setattr("gigraph.commands.plan.measured", lambda config: seen.append(config.seed) or (None, None))
    monkeypatch.setattr("gigraph.commands.plan.costs", lambda *_: None)
    monkeypatch.setattr("gigraph.commands.plan.describe", lambda *_: "")
    assert main(["plan", "--configfile", *(str(tmp_path / f"{name}.yaml") for name in ("one", "two"))]) == 0
    assert seen == [2]

"""Two finished runs compared: one toy run against copies of it that differ in what each test says."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gigraph
from gigraph import cli
from gigraph.differences import difference as module
from gigraph.differences.difference import OWN, Difference, difference
from gigraph.errors import UserError
from gigraph.reserved import CLASSES
from workflow.altered import altered

LAYER = "layer4.0"
PLANTED = 0.3


@pytest.fixture(scope="module")
def run(toy_run) -> Path:
    return toy_run / "results"


def beside(tmp_path: Path, run: Path, copied: bool = False, name: str = "other") -> Path:
    """Return where a copy of a run goes: its images lie beside it, as they did."""
    home = tmp_path / name
    home.mkdir()
    images = run.parent / "images"
    if images.is_dir():
        shutil.copytree(images, home / "images") if copied else (home / "images").symlink_to(images)
    return home / "results"


def families(run: Path, layer: str = LAYER) -> pl.DataFrame:
    return pl.read_parquet(run / "bisecting" / "concepts" / f"{layer}.families.parquet")


def strongest(run: Path, layer: str = LAYER) -> tuple[str, int, int]:
    """Return class, label and family of the largest relevance of a layer."""
    kept = pl.read_parquet(run / "bisecting" / "graph" / "kept.parquet")
    row = kept.filter((pl.col("layer") == layer) & (pl.col("scope") >= 0)).sort("relevance", descending=True)
    scope, family = row.select("scope", "concept").row(0)
    names = dict(pl.read_parquet(run / "classes.parquet").select("label", "class").iter_rows())
    return names[scope], scope, family


def test_a_run_and_itself_differ_in_nothing(run, tmp_path, capsys):
    assert cli.main(["diff", str(run), str(run), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "nothing differs" in said
    tables = {name: pl.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in Difference.TABLES}
    assert not any(len(tables[name]) for name in ("only_a", "only_b", "relevances", "edges"))
    both = tables["concepts"]
    assert (both["a"] == both["b"]).all() and both["similarity"].min() == pytest.approx(1)
    assert both.filter(pl.col("level") == "family")["cosine"].min() == pytest.approx(1, abs=1e-5)
    assert (tables["classes"]["difference"] == 0).all() and (tables["classes"]["same_prediction"] == 1).all()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["equal"] and summary["shared"] and summary["compared"]["relevances"] > 20
    assert {path.name for path in (tmp_path / "out").iterdir()} <= OWN
    assert "Nothing differs" in (tmp_path / "out" / "index.html").read_text()


def test_the_order_of_concepts_is_no_difference(run, tmp_path):
    count = len(families(run))
    order = np.random.default_rng(0).permutation(count).tolist()
    other = altered(run, beside(tmp_path, run, copied=True), {LAYER: order})
    found = gigraph.diff(run, other)
    assert found.equal and not found.notes and len(found.concepts)
    single = found.concepts.filter((pl.col("layer") == LAYER) & (pl.col("level") == "concept"))
    if len(single):
        assert [order[b] for b in single["b"]] == single["a"].to_list()
    lower = found.concepts.filter(pl.col("layer") != LAYER)
    assert (lower["a"] == lower["b"]).all()
    assert "nothing differs" in repr(found)


def test_a_family_that_is_gone_is_only_in_the_other(run, tmp_path):
    name, scope, family = strongest(run)
    table = families(run)
    left = table.filter(pl.col("family") != family)["concept"].to_list()
    other = altered(run, beside(tmp_path, run), {LAYER: left})
    found = difference(run, other)
    gone = found.only_a.filter(pl.col("level") == found.only_a["level"][0])
    assert gone.select("layer", "concept").rows() == [(LAYER, family)] and not len(found.only_b)
    assert len(found.concepts.filter(pl.col("layer") == LAYER)) >= len(left) // 2, "other numbers of concepts"
    # The same PFVs are coded by what is left, so that the family may count with one of these.
    counted = (pl.col("a") == family) | pl.col("with_a").list.contains(family)
    first = found.relevances.filter(counted & (pl.col("class") == name)).row(0, named=True)
    kept = pl.read_parquet(run / "bisecting" / "graph" / "kept.parquet")
    lost = kept.filter(layer=LAYER, scope=scope, concept=family)["relevance"][0]
    assert first["difference"] == pytest.approx(-lost, abs=1e-6) and lost > 0
    assert (first["kind"] == "only") == (first["b"] is None) == (gone["split_from"][0] is None)
    assert not len(found.relevances.filter(~counted)), "nothing else has changed"
    turned = difference(other, run)
    assert turned.only_b.select("layer", "concept").rows()[0] == (LAYER, family) and not len(turned.only_a)
    assert turned.relevances["difference"].abs().sort().to_list() == pytest.approx(
        found.relevances["difference"].abs().sort().to_list()
    )


def test_a_planted_difference_comes_first(run, tmp_path, capsys):
    name, label, family = strongest(run)

    def change(source, target, table):
        if (source, target) != (LAYER, CLASSES):
            return table
        values = [
            [v + PLANTED * (t == label and s == family) for s, v in zip(sources, values, strict=True)]
            for t, sources, values in table.select("target", "sources", "values").iter_rows()
        ]
        return table.with_columns(values=pl.Series(values, dtype=pl.List(pl.Float32)))

    other = altered(run, beside(tmp_path, run), change=change)
    assert cli.main(["diff", str(run), str(other), "--out", str(tmp_path / "out")]) == 0
    assert f"1. {name}: {LAYER} #{family} / #{family}" in capsys.readouterr().out
    found = pl.read_parquet(tmp_path / "out" / "relevances.parquet")
    first = found.row(0, named=True)
    assert (
        len(found) == 1
        and first["rank"] == 1
        and first["kept"]
        and first["difference"] == pytest.approx(PLANTED, abs=1e-5)
    )
    assert 0 < first["at_least"] <= first["difference"] and first["paired"]
    page = (tmp_path / "out" / "index.html").read_text()
    there = os.path.relpath((run / "explorer" / "index.html").resolve(), (tmp_path / "out").resolve())
    assert f'href="{there}#/class/{name}?sel={LAYER}:{family}"' in page
    assert [*(tmp_path / "out" / "pictures").iterdir()]


def trained_again(seed: int, planted: tuple[int, int] | None = None):
    """Return a change of all relevances, as much in all images, as another training makes; and what is planted."""

    def change(source, target, table):
        if target != CLASSES:
            return table
        generator, size = np.random.default_rng(seed), 0.02
        families = sorted({one for sources in table["sources"] for one in sources})
        by = generator.normal(size=(len(families), 20)) * size
        values = [
            [
                v + by[families.index(s), t] + PLANTED * ((t, s) == planted and source == LAYER)
                for s, v in zip(sources, values, strict=True)
            ]
            for t, sources, values in table.select("target", "sources", "values").iter_rows()
        ]
        return table.with_columns(values=pl.Series(values, dtype=pl.List(pl.Float32)))

    return change


def test_what_further_trainings_change_is_no_difference(run, tmp_path, capsys):
    name, label, family = strongest(run)
    other = altered(run, beside(tmp_path, run), change=trained_again(0, (label, family)))
    again = [altered(run, beside(tmp_path, run, name=f"{i}"), change=trained_again(i)) for i in (1, 2, 3)]
    alone = difference(run, other)
    found = difference(run, other, noise=again[:2], noise_b=again[2])
    assert len(alone.differs) > 5 and found.facts["freedom"] == 3
    assert found.facts["noise"] == {"a": [*map(str, again[:2])], "b": [str(again[2])]}
    # Of the seven differences of trainings at least, one is also planted: B against its further training.
    assert found.facts["deviations"]["both"] == pytest.approx(0.02 * 2**0.5, rel=0.5)
    assert len(found.relevances) == len(alone.relevances) and len(found.differs) < len(alone.differs) / 2
    first = found.relevances.row(0, named=True)
    assert (first["class"], first["layer"], first["a"], first["rank"]) == (name, LAYER, family, 1)
    assert "by more than trainings do" in found.said()
    capsys.readouterr()
    arguments = ["--out", str(tmp_path / "out"), "--noise", str(again[0]), "--noise", str(again[1])]
    assert cli.main(["diff", str(run), str(other), *arguments]) == 0
    said = capsys.readouterr().out
    assert f"1. {name}: {LAYER} #{family} / #{family}" in said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["freedom"] == 2 and len(summary["noise"]["a"]) == 2
    assert "2 further trainings of A" in (tmp_path / "out" / "index.html").read_text()


def test_all_pairs_of_trainings_are_compared_and_each_run_is_looked_at_once(run, tmp_path, monkeypatch):
    again = [altered(run, beside(tmp_path, run, name=f"{i}"), change=trained_again(i)) for i in (1, 2)]
    looked = []
    own = module.look
    monkeypatch.setattr(module, "look", lambda one, *more: looked.append(one.folder) or own(one, *more))
    pairs = module.View(20).noise([module.Finished(one) for one in (run, *again)], "--noise")
    assert len(pairs) == 3 and sorted(looked) == sorted([run, *again])
    ends = [pair.relevances.select("mean_a", "mean_b") for pair in pairs]
    assert ends[0]["mean_a"].to_list() == pytest.approx(ends[1]["mean_a"].to_list())
    assert ends[0]["mean_b"].to_list() == pytest.approx(ends[2]["mean_a"].to_list())


def test_a_further_training_is_another_one(run, tmp_path, capsys):
    other = altered(run, beside(tmp_path, run))
    for given in (["--noise", str(run)], ["--noise", str(other)], ["--noise-b", f"{other}/../{other.name}"]):
        assert cli.main(["diff", str(run), str(other), "--out", str(tmp_path / "out"), *given]) == 1
        said = capsys.readouterr().err
        assert f"{given[0]}: " in said and "is given twice" in said and said.count("\n") == 1
    twin = altered(run, beside(tmp_path, run, name="twin"))
    assert cli.main(["diff", str(run), str(other), "--out", str(tmp_path / "out"), "--noise", str(twin)]) == 1
    *progress, said = capsys.readouterr().err.splitlines()
    assert "tell no noise" in said and str(twin) in said and all("concepts match" in line for line in progress)


def test_what_is_not_alike_tells_no_noise(run, tmp_path, capsys):
    other, noise = (altered(run, beside(tmp_path, run, name=name)) for name in ("b", "a2"))
    said = []
    for change in (
        lambda: configured(noise, lambda config: config["attribution"].update(class_output="logit")),
        lambda: rename(noise, bee="wasp"),
    ):
        change()
        assert cli.main(["diff", str(run), str(other), "--out", str(tmp_path / "out"), "--noise", str(noise)]) == 1
        said.append(capsys.readouterr().err.splitlines()[-1])
        assert said[-1].startswith("gigraph: error: --noise: ")
    assert "other attributions (attribution.class_output)" in said[0] and "other classes" in said[1]
    assert not (tmp_path / "out").exists()


def rename(run: Path, **names: str) -> None:
    """Give classes other names."""
    for table in ("classes", "images"):
        path = run / f"{table}.parquet"
        old = pq.read_table(path)
        column = pl.Series(old["class"].to_pylist()).replace(names).to_list()
        at = old.schema.get_field_index("class")
        pq.write_table(old.set_column(at, old.schema.field(at), pa.array(column)), path)


def configured(run: Path, change) -> None:
    path = run / "run.json"
    told = json.loads(path.read_text())
    change(told["config"])
    path.write_text(json.dumps(told))


def test_only_classes_that_both_have_are_compared(run, tmp_path):
    other = altered(run, beside(tmp_path, run))
    rename(other, bee="wasp", moth="butterfly")
    found = difference(run, other)
    said = " ".join(found.notes)
    assert "bee" in said and "wasp" in said and "moth" in said and "butterfly" in said
    assert "bee" not in found.facts["classes"] and "tiger" in found.facts["classes"]
    assert not len(found.relevances) and found.nodes(found.concepts)


def test_without_a_class_in_common_concepts_are_still_matched(run, tmp_path):
    other = altered(run, beside(tmp_path, run))
    names = pl.read_parquet(run / "classes.parquet")["class"].to_list()
    rename(other, **{name: f"another {name}" for name in names})
    found = difference(run, other)
    assert any("no class" in note for note in found.notes) and not found.facts["classes"]
    assert not len(found.classes) and len(found.concepts) and not len(found.only_a)
    found.save(tmp_path / "out")


def test_only_layers_that_both_have_are_compared(run, tmp_path):
    other = altered(run, beside(tmp_path, run))
    for path in [*other.glob(f"bisecting/concepts/{LAYER}.*")]:
        path.unlink()
    found = difference(run, other)
    assert LAYER not in found.facts["layers"] and any(LAYER in note for note in found.notes)


def test_other_images_are_seen_by_both(run, tmp_path):
    """Their pixels are changed by one; both models then look at those of A."""
    from PIL import Image

    other = altered(run, beside(tmp_path, run, copied=True))
    folder = other.parent / "images" if (other.parent / "images").is_dir() else other / "drawn" / "images"
    for path in folder.rglob("*.png"):
        pixels = np.array(Image.open(path))
        pixels[0, 0, 0] ^= 1
        Image.fromarray(pixels).save(path)
    found = difference(run, other)
    assert not found.facts["shared"] and any("share no image" in note for note in found.notes)
    assert not len(found.only_a) and not len(found.relevances), "the means are equal"
    assert found.classes["looked_at"].sum() == found.facts["looked_at"]


def test_another_attribution_is_not_compared(run, tmp_path):
    other = altered(run, beside(tmp_path, run))
    configured(other, lambda config: config["attribution"].update(class_output="logit"))
    found = difference(run, other)
    assert any("class_output" in note for note in found.notes) and found.facts["compared"]["relevances"] == 0
    configured(other, lambda config: config["attribution"].update(method="gradient_x_input"))
    found = difference(run, other)
    assert any("attribution.method" in note for note in found.notes) and found.facts["compared"]["edges"] == 0


def other_task(run):
    path = run / "classes.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index("task")
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(["labels"] * len(table))), path)


def other_layers(run):
    for path in [*(run / "bisecting" / "concepts").iterdir()]:
        path.unlink()
    (run / "bisecting" / "concepts").rmdir()


def other_weights(run):
    configured(run, lambda config: config["model"].update(shuffled=3))


def other_version(run):
    configured(run, lambda config: config.update(magic=1))


def without_images(run):
    (run.parent / "images").unlink(missing_ok=True)
    shutil.rmtree(run / "drawn", ignore_errors=True)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: (run / "run.json").unlink(), ["run.json", "run snakemake"]),
        (lambda run: (run / "run.json").write_text("{}"), ["cannot read", "run.json"]),
        (other_version, ["run.json is of another version", "unknown key magic"]),
        (lambda run: shutil.rmtree(run / "bisecting" / "graph"), ["no finished graph"]),
        (other_task, ["model.task", "labels"]),
        (other_layers, ["no layer of the same name"]),
        (other_weights, ["its model gives image", "have changed since"]),
        (without_images, ["is gone", "restore it"]),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(run, tmp_path, capsys, spoil, words):
    other = altered(run, beside(tmp_path, run))
    spoil(other)
    assert cli.main(["diff", str(run), str(other), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("gigraph: error: ") and said.count("\n") == 1 and all(word in said for word in words), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--fdr", "1"], ["--fdr", "between 0 and 1"]),
        (["--images", "3"], ["--images", "10 or more"]),
        (["--method", "bisectin"], ["no method 'bisectin'", "bisecting"]),
        (["--method", "bisecting", "bisecting", "bisecting"], ["--method", "two"]),
    ],
)
def test_wrong_words_are_refused(run, tmp_path, capsys, given, words):
    assert cli.main(["diff", str(run), str(run), "--out", str(tmp_path / "out"), *given]) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


def test_a_folder_of_something_else_is_left_alone(run, tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert cli.main(["diff", str(run), str(run), "--out", str(tmp_path)]) == 1
    assert "thesis.tex" in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert cli.main(["diff", str(run), str(run), "--out", str(tmp_path / "thesis.tex")]) == 1
    assert "is a file" in capsys.readouterr().err
    with pytest.raises(UserError, match="holds no finished graph"):
        gigraph.diff(tmp_path, run)


@pytest.mark.slow
def test_the_planted_shortcut_is_what_a_fair_training_lacks_first(tmp_path):
    """Small trainings on small pictures: of what differs towards the shortcut's class, the tag comes first."""
    from gigraph.worlds import train
    from workflow.toy import configure, snakemake

    runs = {}
    for name, more in {"biased": [], "fair": ["--shortcut", "0.02"]}.items():
        weights = tmp_path / f"{name}.safetensors"
        train.main(
            ["--world", "menagerie", "--out", str(weights), "--size", "48", "--train", "3000", "--epochs", "12",
             "--test", "10", "--facts", "0", *more]
        )  # fmt: skip
        settings = configure(
            tmp_path, name, output=name, images={"source": "menagerie", "shards": 1}, drawn={"count": 400, "size": 48},
            model={"weights": str(weights)}, concepts={"expansion": 0.5}, attribution={"images_per_class": 20},
        )  # fmt: skip
        made = snakemake(tmp_path, "--configfile", str(settings))
        assert made.returncode == 0, made.stderr[-4000:]
        runs[name] = tmp_path / name
    found = gigraph.diff(runs["biased"], runs["fair"])
    assert found.facts["shared"] and found.facts["images"] == 400, "the images stay the same"
    first = found.differs.filter(pl.col("class") == "cheetah").row(0, named=True)
    parts = gigraph.open(runs["biased"]).table("evaluation/alignment")
    tag = parts.filter(part="tag", vectors="families", layer=first["layer"])["detectors"][0].to_list()
    assert first["a"] in tag and first["difference"] < -0.2
    accuracy = {row["class"]: row for row in found.classes.to_dicts()}
    assert accuracy["cheetah"]["difference"] < -0.1 and accuracy["cheetah"]["q"] < 0.05

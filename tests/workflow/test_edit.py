"""Concepts taken out of a finished run's model: files, loader, report, Python, and what is refused."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from PIL import Image

import gigraph
from gigraph.cli import main
from gigraph.edit import Choice, Edited
from gigraph.edit_images import facts, measure, of_run
from gigraph.errors import UserError
from gigraph.method.heldout import held_out
from gigraph.model.models import load_model
from gigraph.planning.opening import plan_of
from gigraph.records import tables
from gigraph.worlds.model import normalise

PAGE = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def done(toy_run, tmp_path_factory):
    """The toy's results beside its images."""
    folder = tmp_path_factory.mktemp("edit") / "toy"
    return shutil.copytree(toy_run, folder, symlinks=True)


@pytest.fixture
def here(done, monkeypatch):
    monkeypatch.chdir(done)
    return done


@pytest.fixture(scope="module")
def loader():
    """The documentation's loader, executed as it stands there."""
    (text,) = re.findall(r"```python\n(import json, torch, safetensors\n.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert "gigraph" not in text
    names = {"__name__": "mine"}  # as in a file of that name
    exec(text, names)
    return names["load_edit"]


def photos(folder, count=6):
    """Return some of the run's images as the model takes them."""
    paths = sorted((folder / "images").glob("*/*.png"))[:: 60 // count]
    return normalise(np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths]))


def edit(*arguments):
    return main(["edit", "--scenes", "0", "--draws", "2", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--suppress", "layer3.1:1,2"],
        ["--suppress", "layer3.1:0", "--boost", "layer3.1:3,4", "--gain", "0.5", "--only-where", "0.2"],
        ["--suppress", "layer3.1:1", "--suppress", "layer4.0:2,3", "--suppress", "layer3.1:5"],
    ],
)
def test_the_readmes_loader_says_what_gigraph_measured(here, loader, arguments):
    assert edit(*arguments, "--out", "out") == 0
    asked = {"suppress": [], "boost": []}
    for flag, text in zip(arguments[::2], arguments[1::2], strict=True):
        if flag[2:] in asked:
            asked[flag[2:]].append(text)
    threshold = 0.2 if "--only-where" in arguments else None
    model, x = load_model("menagerie"), photos(here)
    own = gigraph.open("results").edited(model, **asked, gain=0.5, only_where=threshold)
    loaded = loader(load_model("menagerie"), "out/edit.safetensors")
    torch.testing.assert_close(loaded(x), own(x), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(own(x), model(x), atol=1e-3)
    # It trains, and what was measured, by segments of the folded network, is the same network.
    loaded(x).sum().backward()
    assert loaded.conv1.weight.grad.abs().sum() > 0
    choices = [Choice.parse(action, text) for action, many in asked.items() for text in many]
    opened = Edited(plan_of("results"), choices, 0.5, threshold)
    scores = opened.looks([])(x)
    torch.testing.assert_close(scores[1], own(x).detach(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(scores[0], model(x).detach(), atol=1e-3, rtol=1e-3)


def test_where_all_folds_the_state_dict_says_what_the_hook_says(here, capsys):
    assert edit("--suppress", "layer4.0:0,1,2", "--out", "out") == 0
    assert "folds into the weights: yes" in capsys.readouterr().out
    from safetensors.torch import load_file

    model, x = load_model("menagerie"), photos(here)
    own = gigraph.open("results").edited(model, suppress=["layer4.0:0,1,2"])
    folded = load_model("menagerie")
    folded.load_state_dict(load_file("out/folded.safetensors"))
    torch.testing.assert_close(folded(x), own(x), atol=1e-4, rtol=1e-4)
    assert load_model("menagerie", weights="out/folded.safetensors").training is False
    # A later edit that does not fold leaves no older file behind.
    assert edit("--suppress", "layer3.1:0", "--out", "out") == 0
    assert not Path("out/folded.safetensors").exists()
    report = json.loads(Path("out/report.json").read_text())
    assert "no convolution or linear map" in report["edits"][0]["why_not"]


def test_the_report_counts_what_is_there(here):
    (here / "mine" / "cheetah").mkdir(parents=True)
    for path in sorted((here / "images" / "cheetah").glob("*.png"))[:3]:
        shutil.copy(path, here / "mine" / "cheetah")
    (here / "mine" / "cheetah" / "broken.jpg").write_text("no picture")
    Image.new("RGB", (50, 70)).save(here / "mine" / "cheetah" / "other.png")
    flat = here / "flat"
    flat.mkdir()
    shutil.copy(sorted((here / "images" / "bee").glob("*.png"))[0], flat)
    given = ["--images", "mine", "--images", "flat", "--of", "cheetah"]
    family = int(gigraph.open("results").families("layer4.0")["family"][0])
    assert edit("--suppress", f"layer4.0:family={family}", "--out", "out", *given) == 0
    report = json.loads(Path("out/report.json").read_text())
    by = {section["name"]: section for section in report["images"]}
    images = pl.read_parquet("results/images.parquet")
    unseen = held_out(images["image_id"].to_numpy(), 0, 0.1)
    assert by["held out"]["all"]["images"] == unseen.sum() and by["found on"]["all"]["images"] == (~unseen).sum()
    right = images.filter(pl.col("label") == pl.col("predicted")).height / images.height
    both = [by[name]["all"] for name in ("found on", "held out") if name in by]
    counted = sum(one["accuracy"]["before"] * one["images"] for one in both) / images.height
    assert counted == pytest.approx(right)
    assert (by["mine"]["all"]["images"], by["mine"]["left_out"]) == (3, 2)
    assert [one["class"] for one in by["mine"]["classes"]] == ["cheetah"] and "others" not in by["mine"]
    assert by["flat"]["labels"].startswith("the model's own") and by["flat"]["all"]["accuracy"]["before"] == 1
    members = sorted(gigraph.open("results").members("layer4.0", family)["concept"])
    assert report["edits"][0]["changes"][0]["concepts"] == members
    drawn = report["random"]["concepts"]
    assert len(drawn) == 2 and all(len(ids) == len(members) and not {*ids} & {*members} for ((ids,),) in drawn)
    table = pl.read_parquet("out/per_class.parquet")
    assert table.height == sum(len(section["classes"]) for section in report["images"])
    for row in table.iter_rows(named=True):
        change = (row["gained"] - row["lost"]) / row["count"]
        assert change == pytest.approx(row["accuracy_after"] - row["accuracy_before"])
        assert row["low"] <= row["high"]
    page = Path("out/report.html").read_text()
    assert "<script" not in page and "mine" in page and "2 more could not be read" in page
    # The same again is the same to the bit.
    assert edit("--suppress", f"layer4.0:family={family}", "--out", "again", *given) == 0
    for name in ("report.json", "per_class.parquet", "edit.safetensors"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes(), name


def test_circuits_run_alone_before_and_after(here):
    assert edit("--suppress", "layer3.1:0,1,2,3,4,5", "--out", "out") == 0
    report, run = json.loads(Path("out/report.json").read_text()), gigraph.open("results")
    said = {one["class"]: one for one in report["circuits"]["classes"]}
    found = run.circuits().filter((pl.col("order") == "pruned") & pl.col("score").is_not_null())
    whole = {row["class"]: row for row in run.circuits().filter(pl.col("order") == "network").iter_rows(named=True)}
    assert {*said} == {*found["class"]} and 0 < len(said) < 10
    for row in found.iter_rows(named=True):
        one = said[row["class"]]
        assert (one["images"], one["nodes"], one["concepts"]) == (row["images"], row["size"], row["concepts"])
        assert one["nodes"] == len(run.circuit(row["class"]))
        assert one["circuit"]["before"] == pytest.approx(row["score"], abs=1e-5)
        assert one["network"]["before"] == pytest.approx(whole[row["class"]]["score"], abs=1e-5)
    # The network after is the model with the edit in it, on the class's attributed images.
    name, one = next(iter(said.items()))
    attributed = pl.read_parquet("results/selection.parquet").filter(pl.col("label") == run.label(name))
    paths = [here / "images" / path for path in attributed["path"][: one["images"]]]
    own = run.edited(load_model("menagerie"), suppress=["layer3.1:0,1,2,3,4,5"])
    with torch.no_grad():
        scores = own(normalise(np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])))
    right = float(scores.softmax(1)[:, run.label(name)].mean())
    assert one["network"]["after"] == pytest.approx(right, abs=1e-4)
    assert max(abs(one["circuit"]["after"] - one["circuit"]["before"]) for one in said.values()) > 0.01
    table = pl.read_parquet("out/per_class.parquet")
    for row in table.iter_rows(named=True):
        own = said.get(row["class"], {"circuit": {"before": None, "after": None}})["circuit"]
        assert (row["circuit_before"], row["circuit_after"]) == (own["before"], own["after"])
    assert Path("out/report.html").read_text().count("its circuit alone<") == 1


def test_an_edit_of_nothing_leaves_circuits_as_they_are(here):
    assert edit("--boost", "layer3.1:0,1", "--gain", "0", "--out", "out") == 0
    for one in json.loads(Path("out/report.json").read_text())["circuits"]["classes"]:
        for what in ("circuit", "network"):
            assert one[what]["after"] == pytest.approx(one[what]["before"], abs=1e-3), one["class"]


def test_without_circuits_nothing_is_said_of_them_and_of_others_that_they_are_left_out(done, tmp_path, monkeypatch):
    folder = shutil.copytree(done, tmp_path / "toy", symlinks=True)
    monkeypatch.chdir(folder)
    (circuits,) = Path("results").glob("*/circuits")
    kept = tables.read(circuits / "0.parquet")
    columns = {name: kept[name].to_pylist() for name in kept.column_names}
    tables.write(circuits / "0.parquet", "circuits", columns, "another")
    assert edit("--suppress", "layer3.1:0", "--out", "out") == 0
    report = json.loads(Path("out/report.json").read_text())
    assert report["circuits"] is None and "nothing is said of circuits: " in report["notes"][0]
    assert "0.parquet is not what this configuration plans" in report["notes"][0]
    shutil.rmtree(circuits)
    assert edit("--suppress", "layer3.1:0", "--out", "out") == 0
    report = json.loads(Path("out/report.json").read_text())
    assert report["circuits"] is None and report["notes"] == []
    assert "circuit" not in Path("out/report.html").read_text()
    table = pl.read_parquet("out/per_class.parquet")
    assert table.height and table.select("circuit_before", "circuit_after").null_count().row(0) == (table.height,) * 2


def test_predictions_before_are_the_runs(here):
    opened = Edited(plan_of("results"), [Choice.parse("suppress", "layer4.0:0")])
    images = pl.read_parquet("results/images.parquet")
    unseen = held_out(images["image_id"].to_numpy(), 0, 0.1)
    for one, which in zip(of_run(opened.plan, opened.subject), (~unseen, unseen), strict=False):
        found = measure(opened.subject, one, opened.looks([]))
        mine = images.filter(pl.Series(which))
        assert found["predicted"][0].tolist() == mine["predicted"].to_list()
        chosen = mine["predicted"].to_numpy() == mine["label"].to_numpy()
        np.testing.assert_allclose(found["probability"][0][chosen], mine["probability"].to_numpy()[chosen], atol=1e-4)


def test_nothing_edited_is_the_model_in_python(here):
    model, x = load_model("menagerie"), photos(here)
    run = gigraph.open("results")
    assert torch.equal(run.edited(model)(x), model(x))
    assert torch.equal(run.edited(model, suppress="layer3.1:2")(x), run.edited(model, suppress=["layer3.1:2"])(x))
    minus = run.edited(model, boost=["layer3.1:2"], gain=-1.0)
    torch.testing.assert_close(minus(x), run.edited(model, suppress=["layer3.1:2"])(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no concept is given"),
        (["--suppress", "layer3.1"], "names no concepts"),
        (["--suppress", "layer3.1:one"], "names no concepts"),
        (["--suppress", "layer31:0"], "did you mean layer3.1"),
        (["--suppress", "layer3.1:99999"], "there is no 99999"),
        (["--suppress", "layer3.1:0", "--only-where", "1"], "no threshold"),
        (["--suppress", "layer3.1:0", "--gain", "2"], "--gain is of what is boosted"),
        (["--boost", "layer3.1:0", "--gain", "nan"], "not finite"),
        (["--suppress", "layer3.1:0", "--of", "cheeta"], "did you mean cheetah"),
        (["--suppress", "layer3.1:0", "--images", "nowhere"], "--images: there is no folder"),
        (["--suppress", "layer3.1:0", "--method", "sea"], "no graph of 'sea'"),
        (["--suppress", "layer3.1:0", "--run", "elsewhere"], "there is no elsewhere/run.json"),
        (["--suppress", "layer3.1:0", "--draws", "-1"], "at least 0"),
    ],
)
def test_mistakes_are_answered_in_a_line(here, capsys, arguments, message):
    assert edit(*arguments, "--out", "never") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not Path("never").exists()


def test_a_family_is_named_by_its_leader(here, capsys):
    families = gigraph.open("results").families("layer4.0")
    large = families.filter(pl.col("members") > 1)
    assert large.height
    leader = int(large["family"][0])
    other = next(c for c in gigraph.open("results").members("layer4.0", leader)["concept"] if c != leader)
    assert edit("--suppress", f"layer4.0:family={other}", "--out", "never") == 1
    assert f"concept {other} is in family={leader}" in capsys.readouterr().err


def test_a_strange_folder_is_no_class(here, capsys):
    (here / "odd" / "cheeta").mkdir(parents=True)
    shutil.copy(sorted((here / "images" / "bee").glob("*.png"))[0], here / "odd" / "cheeta")
    assert edit("--suppress", "layer3.1:0", "--images", "odd", "--out", "never") == 1
    assert "did you mean cheetah" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(here, capsys, monkeypatch):
    Path("taken").write_text("a file")
    monkeypatch.setattr("gigraph.edit.measure", None)
    assert edit("--suppress", "layer3.1:0", "--out", "taken") == 1
    assert "--out: cannot write to taken" in capsys.readouterr().err


def test_what_is_no_number_is_not_counted(here, capsys):
    assert edit("--boost", "layer3.1:0", "--gain", "1e38", "--out", "never") == 1
    assert "give a smaller --gain" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", "[]", "", '{"config": 3}'])
def test_a_run_that_says_nothing_of_itself_is_refused(tmp_path, capsys, text):
    (tmp_path / "run.json").write_text(text)
    assert edit("--suppress", "layer3.1:0", "--run", str(tmp_path)) == 1
    assert f"cannot read {tmp_path / 'run.json'}" in capsys.readouterr().err


def test_spans_of_nothing_and_of_everything(here, capsys, monkeypatch):
    k = len(gigraph.open("results").concepts("layer3.1"))
    opened = Edited(plan_of("results"), [Choice.parse("suppress", "layer3.1:" + ",".join(map(str, range(k))))])
    assert opened.controls(3, 0) == [] and any("no control" in note for note in opened.notes)
    monkeypatch.setattr("gigraph.edit.Vocabulary.vectors", np.zeros((4, 128), np.float32))
    with pytest.raises(UserError, match="zero vectors"):
        Edited(plan_of("results"), [Choice.parse("suppress", "layer3.1:0,1")])
    monkeypatch.setattr("gigraph.edit.Vocabulary.vectors", np.eye(128, dtype=np.float32))
    whole = Edited(plan_of("results"), [Choice.parse("suppress", "layer3.1:" + ",".join(map(str, range(128))))])
    assert "nothing of the layer is left but its centre" in whole.notes[0]
    # Then all images look alike from there on.
    scores = whole.looks([])(photos(here))[1]
    torch.testing.assert_close(scores, scores[:1].expand_as(scores), atol=1e-3, rtol=1e-3)


def test_a_run_is_edited_from_any_folder(here, tmp_path, monkeypatch):
    """Its configuration names the images relative to where snakemake was started."""
    told = json.loads(Path("results/run.json").read_text())["config"]
    assert not Path(told["output"]).is_absolute() and not Path(told["images"]["source"]).is_absolute()
    arguments = ["--suppress", "layer3.1:0,1", "--out"]
    assert edit(*arguments, str(tmp_path / "there")) == 0
    monkeypatch.chdir(tmp_path)
    assert edit("--run", str(here / "results"), *arguments, "here") == 0
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("there", "here")]
    assert [report.pop("run") for report in reports] == ["results", str(here / "results")]
    assert reports[0] == reports[1] and reports[0]["images"][0]["all"]["images"] > 10
    own = gigraph.open(here / "results").edited(load_model("menagerie"), suppress=["layer3.1:0,1"])
    assert torch.isfinite(own(photos(here))).all()


def test_another_model_than_the_runs_is_refused(here):
    run, model = gigraph.open("results"), load_model("menagerie")
    with torch.no_grad():
        model.layer2[0].conv1.weight[0, 0] += 1e-3
    with pytest.raises(UserError, match=r"other weights than the run's \(layer2.0.conv1.weight differs\)"):
        run.edited(model, suppress=["layer3.1:0"])
    with pytest.raises(UserError, match="is not the run's: only"):
        run.edited(torch.nn.Sequential(model), suppress=["layer3.1:0"])
    with pytest.raises(UserError, match=r"did you mean layer3\.1"):
        run.edited(model, suppress=["layer3.2:0"])


def test_a_run_of_other_settings_is_refused(done, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(done, tmp_path / "toy", symlinks=True)
    monkeypatch.chdir(folder)
    told = json.loads(Path("results/run.json").read_text())
    told["config"]["seed"] = 5
    Path("results/run.json").write_text(json.dumps(told))
    assert edit("--suppress", "layer3.1:0") == 1
    assert "is not what this configuration plans" in capsys.readouterr().err
    assert yaml.safe_load(Path("config.yaml").read_text())["output"] == "results"
    assert tables.lineage_of("results/layers.parquet")


def test_facts_of_random_edits_are_counted_like_those_of_the_model(here):
    opened = Edited(plan_of("results"), [Choice.parse("suppress", "layer3.1:0")])
    model = load_model("menagerie")
    assert facts(opened.plan, opened.subject, opened.looks([]), model, model, 20) is None  # the toy's images are files
    world = SimpleNamespace(world="menagerie", config=opened.plan.config)
    own = opened.looks([])

    def look(x):
        scores = own(x)
        return [*scores, scores[0], scores[0]]  # two controls that change nothing

    found = facts(world, opened.subject, look, model, opened.apply(model), 40)
    assert found["counts"]["leopard_tag_added"] >= 3
    for name, one in found["random"].items():
        assert {found["before"][name]} == {*one.values()}, name
    assert found["after"] != found["before"]
    assert facts(world, opened.subject, look, model, model, 0) is None


def test_an_images_own_circuit(here):
    """What a class's circuits say is the mean of what those of its images do, where they are the same ones."""
    run = gigraph.open("results")
    row = run.circuits().filter(order="network").row(0, named=True)
    selection = pl.read_parquet("results/selection.parquet").filter(pl.col("label") == run.label(row["class"]))
    ids = selection["image_id"].to_list()[: row["images"]]
    found = [run.image_circuit(image) for image in ids]
    assert np.mean([one.found.real.score for one in found]) == pytest.approx(row["score"], abs=1e-5)
    curves = run.circuit_curve(row["class"])
    for one in found:
        assert one.label == run.label(row["class"]) and len(one.members) == row["nodes"]
        assert one.members["rank"].to_list() == [*range(row["nodes"])]
        for _, layer in one.members.group_by("layer"):
            assert layer["relevance"].is_sorted(descending=True)
        smallest = one.found.smallest
        if smallest is not None:
            assert one.members["smallest"].sum() == smallest.size
            assert smallest.score >= 0.8 * one.found.real.score - 1e-6
    for order in curves["order"].unique().to_list():
        ends = [one.found.curves[order].points[-1].score for one in found]
        mine = curves.filter(order=order).sort("size")
        assert np.mean(ends) == pytest.approx(mine["score"][-1], abs=1e-5), order
    with pytest.raises(UserError, match="image 12345 is not among the"):
        run.image_circuit(12345)

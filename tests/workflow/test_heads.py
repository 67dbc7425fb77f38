"""From a configuration to a finished explorer, for every kind of head, output and image."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from gigraph.cli import main
from gigraph.explorer.chunks import read_chunk
from gigraph.images.preprocessing import Preprocessing, batches
from gigraph.model.models import load_model
from gigraph.records.paths import Results
from workflow.toy import configure, snakemake

HEADS = Path(__file__).with_name("heads.py")
SIDE = 32
IN_A_FOLDER = 5


def images(folder: Path, channels: int, names: tuple[str, ...], suffix: str) -> None:
    """Write noise with a bright square in another channel for each folder."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(names):
        here = folder / "images" / name
        here.mkdir(parents=True)
        for i in range(IN_A_FOLDER):
            values = generator.uniform(0, 0.5, (SIDE, SIDE, channels))
            y, x = generator.integers(0, SIDE - 12, 2)
            values[y : y + 12, x : x + 12, number % channels] += 0.5
            pixels = (values * 255).astype(np.uint8)
            if suffix == ".npy":
                np.save(here / f"{i}.npy", pixels)
            elif suffix == ".tif":
                first, *more = (Image.fromarray(pixels[..., channel]) for channel in range(channels))
                first.save(here / f"{i}.tif", save_all=True, append_images=more)
            else:
                Image.fromarray(pixels.squeeze()).save(here / f"{i}.png")


def finished(folder: Path, model: dict, *, channels=3, names=("a", "b", "c"), suffix=".png", layer="block2", **more):
    """Run a configuration, and return its results, its page's data, and the model's own outputs by path."""
    images(folder, channels, names, suffix)
    settings = configure(
        folder,
        images={"source": "images", "shards": 1}, model=model, layers=[layer],
        preprocessing={"channels": channels, "crop": SIDE},
        concepts={"expansion": 1, "min_members": 2}, coefficients={"value": 3, "calibration": 100},
        exemplars={"nearest": 2, "tile": 32, "localised": 1}, explorer={"images_per_class": 2}, **more,
    )  # fmt: skip
    run = snakemake(folder, "--configfile", str(settings))
    assert run.returncode == 0, run.stderr[-4000:]
    data = folder / "results" / "explorer" / "data"
    assert (folder / "results" / "explorer" / "index.html").is_file()
    paths = sorted((folder / "images").rglob(f"*{suffix}"))
    own = load_model(model["source"], arguments=model["arguments"])
    given = own(next(batches(enumerate(paths), Preprocessing(channels=channels), len(paths)))[1])
    names_of = [str(path.relative_to(folder / "images")) for path in paths]
    return Results(folder / "results"), data, given, names_of, settings


def said_of(results: Results, paths: list[str]) -> pl.DataFrame:
    """Return the images' rows in the order of some paths."""
    return pl.DataFrame({"path": paths}).join(pl.read_parquet(results("images")), on="path", how="left")


def scores(results: Results, layer: str = "block2") -> pl.DataFrame:
    """Return what was attributed for classes, at X, with the images' paths."""
    of = {"method": "bisecting", "source": layer, "target": "classes", "shard": 0}
    table = pl.read_parquet(results("attributions", **of))
    return table.join(pl.read_parquet(results("selection")).select("image_id", "path"), on="image_id")


@pytest.mark.slow
def test_labels_are_explained_one_by_one(tmp_path):
    """By their own logits; an image of a folder whose label is on counts as recognised, whatever else is on."""
    model = {"source": f"{HEADS}:Net", "weights": "random", "arguments": {"head": "sigmoid", "returns": "dict"}}
    results, data, given, paths, _ = finished(tmp_path, model)
    p = given["logits"].detach().numpy()
    rows = said_of(results, paths)
    label = np.repeat(np.arange(3), IN_A_FOLDER)
    own = p[np.arange(len(p)), label]
    wanted = np.where(own > 0.5, label, p.argmax(1))
    assert rows["predicted"].to_list() == wanted.tolist()
    np.testing.assert_allclose(rows["probability"], p[np.arange(len(p)), wanted], atol=1e-5)
    table = scores(results)
    logits = np.log(p / (1 - p))
    found = [logits[paths.index(path), target] for path, target in table.select("path", "target").iter_rows()]
    np.testing.assert_allclose(table["at_x"], found, atol=1e-3)
    meta = read_chunk(data, "meta")
    assert (meta["output"], meta["kept"], meta["said"]) == ("logit", "logit", "probability")
    assert meta["accuracy"] == [int((own > 0.5).sum()), len(p)]


@pytest.mark.slow
def test_one_logit_is_explained_as_two_classes_of_five_channels(tmp_path):
    arguments = {"head": "sigmoid", "outputs": 1, "returns": "flat", "channels": 5}
    model = {"source": f"{HEADS}:Net", "weights": "random", "arguments": arguments}
    results, data, p, paths, _ = finished(tmp_path, model, channels=5, names=("no", "yes"), suffix=".npy")
    p = p.detach().numpy()
    rows = said_of(results, paths)
    assert rows["predicted"].to_list() == (p > 0.5).astype(int).tolist()
    np.testing.assert_allclose(rows["probability"], np.maximum(p, 1 - p), atol=1e-5)
    assert rows["label"].to_list() == [0] * IN_A_FOLDER + [1] * IN_A_FOLDER and rows["value"].null_count() == len(p)
    table = scores(results)
    z = np.log(p / (1 - p))
    found = [z[paths.index(path)] * (2 * to - 1) for path, to in table.select("path", "target").iter_rows()]
    np.testing.assert_allclose(table["at_x"], found, atol=1e-3)
    assert [row[1] for row in read_chunk(data, "meta")["classes"]] == ["no", "yes"]


@pytest.mark.slow
def test_a_value_is_explained_by_what_lowers_and_what_raises_it(tmp_path, monkeypatch, capsys):
    """Of grey images, whose folders are groups; and so is a new image."""
    arguments = {"outputs": 1, "channels": 1}
    source = {"source": f"{HEADS}:Net", "weights": "random", "arguments": arguments}
    values = load_model(**source)
    images(tmp_path / "before", 1, ("old", "young"), ".png")
    files = sorted((tmp_path / "before" / "images").rglob("*.png"))
    middle = float(values(next(batches(enumerate(files), Preprocessing(channels=1), len(files)))[1]).median())
    model = {**source, "task": "regression", "reference": middle}
    results, data, given, paths, settings = finished(tmp_path, model, channels=1, names=("old", "young"))
    value = given.detach().numpy()[:, 0]
    rows = said_of(results, paths)
    np.testing.assert_allclose(rows["value"], value, atol=1e-5)
    assert rows["probability"].null_count() == len(value) and set(rows["label"]) == {-1}
    assert rows["predicted"].to_list() == (value > middle).astype(int).tolist()
    selection = pl.read_parquet(results("selection"))
    assert sorted(selection["label"]) == [0, 0, 1, 1]  # two on each side
    table = scores(results)
    found = [
        (value[paths.index(path)] - middle) * (2 * to - 1) for path, to in table.select("path", "target").iter_rows()
    ]
    np.testing.assert_allclose(table["at_x"], found, atol=1e-4)
    kept = pl.read_parquet(results("reconstruction", method="bisecting"))
    assert 0 < kept["logit"][0] < 1.5 and kept["probability"].is_nan().all()
    meta = read_chunk(data, "meta")
    assert (meta["output"], meta["kept"], meta["said"]) == ("value", "value", "value")
    assert [row[1] for row in meta["classes"]] == ["lower", "higher"]
    listed = read_chunk(data, "images/1")
    assert all(entry[4] > middle for entry in listed)
    monkeypatch.chdir(tmp_path)
    assert main(["explain", f"images/{paths[0]}", "--configfile", str(settings)]) == 0
    assert f"({value[0]:.3f};" in capsys.readouterr().out


@pytest.mark.slow
def test_a_log_softmax_in_a_named_tuple_is_undone_for_pages_of_a_tiff(tmp_path):
    model = {
        "source": f"{HEADS}:Net",
        "weights": "random",
        "arguments": {"head": "log_softmax", "returns": "named", "channels": 4},
    }
    model |= {"output": "scores"}
    results, data, given, paths, _ = finished(tmp_path, model, channels=4, suffix=".tif")
    p = given.scores.exp().detach().numpy()
    rows = said_of(results, paths)
    np.testing.assert_allclose(rows["probability"], p.max(1), atol=1e-5)
    assert rows["predicted"].to_list() == p.argmax(1).tolist()
    meta = read_chunk(data, "meta")
    assert (meta["output"], meta["kept"]) == ("probability", "centred logit")


@pytest.mark.slow
def test_patches_are_shown_apart_from_class_and_register_tokens(tmp_path):
    torch.manual_seed(0)
    model = {"source": f"{HEADS}:Tokens", "weights": "random", "arguments": {}}
    results, data, given, paths, _ = finished(tmp_path, model, layer="block1", names=("a", "b"))
    rows = said_of(results, paths)
    np.testing.assert_allclose(rows["probability"], given.logits.softmax(1).max(1).values.detach(), atol=1e-5)
    assert pl.read_parquet(results("layers"))["grid"].to_list() == [[4, 4, 3]]
    (layer,) = read_chunk(data, "meta")["layers"]
    assert (layer["height"], layer["width"]) == (4, "4 + 3")
    maps = [
        text
        for path in data.glob("image-*.js")
        for text in read_chunk(data, path.stem.replace("image-", "image/"))["maps"].values()
    ]
    assert maps and all([len(part) for part in text.split("|")] == [4 * 5 - 1, 3] for text in maps)
    # Where a concept is strongest, of patches and other tokens together, the level is the highest.
    assert all("z" in text or not text.strip("0/|") for text in maps)

"""A new image on a finished graph: an image of the run must get the attributions that the run gave it."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gigraph.cli import main
from gigraph.explain import opened
from gigraph.explorer.chunks import read_chunk


@pytest.fixture(scope="module")
def done(toy_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain") / "toy"
    return shutil.copytree(toy_run, folder, symlinks=True)


def test_an_image_of_the_run_gets_the_runs_attributions(done, monkeypatch, capsys):
    monkeypatch.chdir(done)
    root = done / "results"
    image = pl.read_parquet(root / "selection.parquet").row(0, named=True)
    path = f"images/{image['path']}"
    assert main(["explain", path, "--configfile", "config.yaml"]) == 0
    assert "index.html#/image/~-1/" in capsys.readouterr().out
    (folder,) = (root / "bisecting" / "explained").iterdir()
    new = pl.read_parquet(folder / "attributions" / "layer4.0--classes.parquet")
    old = pl.read_parquet(root / "bisecting/attributions/layer4.0--classes/*.parquet")
    old = old.filter(pl.col("image_id") == image["image_id"])
    predicted = pl.read_parquet(folder / "image.parquet")["predicted"][0]
    one, two = (
        dict(zip(*f.filter(pl.col("target") == predicted).select("sources", "values").row(0), strict=True))
        for f in (new, old)
    )
    assert one.keys() == two.keys() and one
    np.testing.assert_allclose([one[c] for c in two], list(two.values()), rtol=1e-2, atol=1e-6)
    # Its own concepts as targets are among the run's, which adds those of its class.
    of_concepts = [
        pl.read_parquet(files).filter(pl.col("image_id").is_in([new["image_id"][0], image["image_id"]]))
        for files in (folder / "attributions/layer3.1--layer4.0.parquet",
                      root / "bisecting/attributions/layer3.1--layer4.0/*.parquet")
    ]  # fmt: skip
    both = of_concepts[0].join(of_concepts[1], on="target", suffix="_of_run")
    assert len(both) and both["at_x"].is_finite().all()
    np.testing.assert_allclose(both["at_concepts"], both["at_concepts_of_run"], rtol=1e-3, atol=1e-5)
    ((name, picture, shown, taken, _),) = read_chunk(root / "explorer" / "data", "explained")
    assert (picture, shown, taken) == (name, image["path"].split("/")[-1], predicted)
    chunk = read_chunk(root / "explorer" / "data", f"image/{name}")
    shown = {node[0]: node[1] for node in chunk["layers"][1]}
    assert shown and all(np.float32(value) == np.float32(one[concept]) for concept, value in shown.items())
    assert (root / "explorer" / "sheets" / "images" / f"{name}.webp").is_file()


def test_labels_of_the_configuration_are_in_the_explorer(done):
    assert read_chunk(done / "results" / "explorer" / "data", "meta")["labels"] == {"1:1": "kept by a rebuild"}


def test_the_configuration_is_the_snakefiles_not_one_that_happens_to_lie_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("output: decoy\n")
    (tmp_path / "my.yaml").write_text("attribution: {steps: 5}\n")
    plan = opened([tmp_path / "my.yaml"])
    assert (plan.root, plan.config.attribution.steps) == (Path("results"), 5)
    assert plan.config.attribution.max_steps == 72 and (plan.scripts / "explorer.py").is_file()


def test_a_missing_image_gets_one_line(done, monkeypatch, capsys):
    monkeypatch.chdir(done)
    assert main(["explain", "no-such.png", "--configfile", "config.yaml"]) == 1
    assert "there is no image no-such.png" in capsys.readouterr().err

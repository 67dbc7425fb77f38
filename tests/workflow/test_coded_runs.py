"""A run whose layers are coded in other ways than the paper's ends in a finished explorer, and explains new images."""

import json

import numpy as np
import polars as pl
import pytest

from explorer.fixture import MEASURED
from gigraph.cli import main
from gigraph.explorer.chunks import read_chunk
from gigraph.method.reading import reading, spread_of
from gigraph.records import tables
from gigraph.records.encoders import read_encoder
from gigraph.records.paths import Results
from workflow.toy import configure, draw, snakemake

LAYERS = [
    {"name": "layer3.1", "coefficients": {"method": "refitted", "penalty": "decision", "value": 0.6, "most": 4}},
    {"name": "layer4.0", "coefficients": {"method": "pursuit", "sign": "nonnegative"}},
]


@pytest.mark.slow
def test_a_run_refits_one_layer_and_pursues_the_other(tmp_path, monkeypatch, capsys):
    draw(tmp_path)
    configfile = configure(tmp_path, layers=LAYERS)
    run = snakemake(tmp_path, "--configfile", str(configfile))
    assert run.returncode == 0, run.stderr[-4000:]
    root = tmp_path / "results"
    results = Results(root)
    assert pl.read_parquet(results("kernels"))["kernel"].to_list() in ([], ["clustering", "lasso", "pursuit"])
    fixed = [
        pl.read_parquet(results("calibration", method="bisecting", layer=one["name"])).row(0, named=True)
        for one in LAYERS
    ]
    assert [(one["method"], one["sign"], one["penalty"]) for one in fixed] == [
        ("refitted", "any", "absolute"),
        ("pursuit", "nonnegative", "nonzeros"),
    ]
    assert fixed[1]["value"] == 4
    tried = pl.read_parquet(results("trials", method="bisecting", layer="layer3.1"))
    assert tried["asked"].to_list() == [1, 2, 3, 4] and tried["logit"][3] > tried["logit"][0]
    enough = tried.filter(pl.col("logit") >= 0.6)
    taken = (enough if len(enough) else tried.sort("logit", descending=True))["asked"][0]
    assert abs(fixed[0]["nonzeros"] - taken) <= 0.1 * taken
    assert not results("trials", method="bisecting", layer="layer4.0").exists()
    tables = {}
    for one in LAYERS:
        tables[one["name"]] = table = pl.concat(
            pl.read_parquet(results("coefficients", method="bisecting", layer=one["name"], shard=shard))
            for shard in range(2)
        )
        assert table["gap"].is_nan().all() and table["stationarity"].max() <= 1e-6
    pursued = tables["layer4.0"]
    assert pursued["concepts"].list.len().max() == 4 and pursued["values"].list.min().drop_nulls().min() > 0
    logs = {path: path.read_text() for path in (root / "logs").rglob("*.log")}
    assert not [path for path, text in logs.items() if {"nan", "nan,"} & set(text.split())]
    named = [path for path, text in logs.items() if "largest stationarity" in text]
    assert {path.relative_to(root / "logs").parts[1] for path in named} == {"coefficients", "reconstruction.log"}
    # On the page there is no gap, and no number that JSON could not hold.
    data = root / "explorer" / "data"
    evidence = read_chunk(data, "evidence")
    json.dumps(evidence, allow_nan=False)
    (exhibit,) = [part for chapter in evidence for part in chapter["parts"] if "attributed images" in part["title"]]
    shown = ["layer", "rel_l2", "l0_ratio", "nonzeros", "stationarity", "pfvs", *MEASURED]
    assert sorted(exhibit["head"]) == sorted(shown)

    # A new image is coded as the run's: here one of them.
    monkeypatch.chdir(tmp_path)
    image = pl.read_parquet(results("selection")).row(0, named=True)
    assert main(["explain", f"images/{image['path']}", "--configfile", str(configfile)]) == 0
    (folder,) = (root / "bisecting" / "explained").iterdir()
    for layer, table in tables.items():
        new = pl.read_parquet(folder / "coefficients" / f"{layer}.parquet")
        old = table.filter(pl.col("image_id") == image["image_id"])
        assert new.columns == old.columns and len(new) == len(old) > 0
        same = np.array(new["concepts"].to_list() == old["concepts"].to_list())
        assert same.all(), layer
        one, two = (frame["values"].explode().drop_nulls().to_numpy() for frame in (new, old))
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)
        assert new["gap"].is_nan().all() and new["stationarity"].max() <= 1e-6
    assert "index.html#/image/~-1/" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_by_filters_reads_its_pictures_and_maps_by_them(tmp_path):
    """Exemplars are the PFVs of the largest response of the extractor's own detectors, and maps are responses."""
    draw(tmp_path)
    layers = [{"name": "layer4.0", "concepts": {"expansion": 0.0625}}]
    pictures = {"reading": "filter", "maps": "reading", "nearest": 4, "tile": 48, "localised": 2, "relevant": 2}
    configfile = configure(tmp_path, methods=["filters"], layers=layers, exemplars=pictures)
    run = snakemake(tmp_path, "--configfile", str(configfile))
    assert run.returncode == 0, run.stderr[-4000:]
    results = Results(tmp_path / "results")
    of = {"method": "filters", "layer": "layer4.0"}
    encoder = read_encoder(results("concepts", **of))
    assert encoder.activation == "support" and not encoder.offset.any()
    codes = pl.concat(pl.read_parquet(results("coefficients", shard=shard, **of)) for shard in range(2))
    assert codes["values"].explode().drop_nulls().min() > 0 and codes["stationarity"].max() < 1e-5
    beta = tables.beta(results("centre", layer="layer4.0"))
    uniform = tables.numpy(tables.read(results("uniform", layer="layer4.0")), "pfv") - beta
    read = reading("filter", np.zeros_like(encoder.weights), spread_of(uniform), encoder.weights)
    shown = pl.read_parquet(results("exemplars", **of))
    families = pl.read_parquet(results("families", **of))
    alone = set(families.filter(pl.col("members") == 1)["concept"].to_list())
    pfvs = pl.concat(pl.read_parquet(results("pfvs", layer="layer4.0", shard=shard)) for shard in range(2))
    response = read(np.stack(pfvs["pfv"].to_list()) - beta)
    looked = 0
    for (concept,), mine in shown.filter(pl.col("by") == "response").group_by("concept"):
        if concept not in alone:
            continue
        best = pfvs.with_columns(response=response[:, concept]).group_by("image_id").agg(pl.col("response").max())
        expected = best.sort("response", descending=True)["response"].head(4).to_numpy()
        np.testing.assert_allclose(mine.sort("rank")["value"].to_numpy(), expected, rtol=1e-3, atol=1e-4)
        looked += 1
    assert looked
    relevant = shown.filter(pl.col("by") == "relevance")
    assert len(relevant) and (relevant["value"] > 0).all()
    # No position does more for the class than the concept does in the image, and it is one of the class's images.
    attributed = pl.read_parquet(
        results("attributions", method="filters", source="layer4.0", target="classes", shard=0)
    )
    assert set(relevant["image_id"]) <= set(pl.read_parquet(results("selection"))["image_id"]) and len(attributed)
    located = pl.read_parquet(results("localisation", **of))
    assert located["map"].explode().min() < 0  # responses, which coefficients are not


@pytest.mark.slow
def test_filters_detect_and_a_pursuit_codes(tmp_path):
    draw(tmp_path)
    layers = [{"name": "layer4.0", "concepts": {"expansion": 0.0625}}]
    coded = {"method": "pursuit", "encoder": False, "value": 3, "calibration": 200}
    configfile = configure(tmp_path, methods=["filters"], layers=layers, coefficients=coded)
    run = snakemake(tmp_path, "--configfile", str(configfile))
    assert run.returncode == 0, run.stderr[-4000:]
    results, of = Results(tmp_path / "results"), {"method": "filters", "layer": "layer4.0"}
    encoder = read_encoder(results("concepts", **of))
    assert not encoder.codes and encoder.weights.any()
    fixed = pl.read_parquet(results("calibration", **of)).row(0, named=True)
    assert (fixed["method"], fixed["value"]) == ("pursuit", 3)
    codes = pl.concat(pl.read_parquet(results("coefficients", shard=shard, **of)) for shard in range(2))
    assert codes["concepts"].list.len().max() == 3 and codes["values"].explode().drop_nulls().min() < 0

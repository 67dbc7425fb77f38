"""What scripts hold at once, show and compile."""

import importlib.util
import itertools
from argparse import Namespace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gigraph.method import bisecting, lasso
from gigraph.records import tables
from gigraph.records.schemas import SCHEMAS

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def script(name):
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("drawn", [False, True])
def test_the_explorer_shows_a_whole_evaluation_of_this_configuration_or_none(tmp_path, drawn, monkeypatch):
    """What another configuration left, or what was cut short, is not shown."""
    monkeypatch.chdir(tmp_path)
    explorer = script("explorer")
    settings = {"method": "bisecting", "drawn": drawn}

    def put(name, kind, lineage="mine"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tables.write(path, kind, {column: [] for column in SCHEMAS[kind].names}, lineage)
        return path

    for topic in explorer.TOPICS:
        put(f"evaluation/{topic}.parquet", "measures")
    put("evaluation/curves.parquet", "curves")
    put("bisecting/evaluation/stability.parquet", "stability")
    put("evaluation/effects.parquet", "effects", "of the model")
    put("evaluation/truth.parquet", "measures", "mine" if drawn else "another's")
    mine = ["mine", *["of the model"] * drawn]
    found = explorer.evaluation_of(tmp_path, settings, mine)
    assert set(found) == {*explorer.TOPICS, "curves", *(["truth", "effects"] if drawn else [])}
    assert explorer.evaluation_of(tmp_path, settings, ["another's", "of the model"]) == {}
    put("evaluation/effects.parquet", "effects", "of another model")
    assert "effects" not in explorer.evaluation_of(tmp_path, settings, mine)
    path = tmp_path / "evaluation/curves.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert explorer.evaluation_of(tmp_path, settings, mine) == {}


def test_after_the_script_kernels_no_job_compiles(tmp_path, monkeypatch):
    """Whatever arrays the jobs come with: of a table, which may not be written, or made anew."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytest.importorskip("numba")

    def compiled():
        functions = {name: f for module in (bisecting, lasso) for name, f in vars(module).items()}
        return {name: list(f.signatures) for name, f in functions.items() if hasattr(f, "signatures")}

    script("kernels").main(Namespace(kernels=tmp_path / "kernels.parquet", lineage=""))
    assert pl.read_parquet(tmp_path / "kernels.parquet")["kernel"].to_list() == ["clustering", "lasso"]
    before = compiled()
    rng = np.random.default_rng(0)
    for writeable, order in itertools.product((True, False), "CF"):
        x, v = np.asarray(rng.random((60, 5)), np.float32, order), np.asarray(rng.random((9, 5)), np.float32, order)
        x.flags.writeable = v.flags.writeable = writeable
        bisecting.bisect(x, 8, backend="numba")
        lasso.lasso(x, v, 0.3, backend="numba")
        lasso.lasso(x, v, 0.3, backend="numba", memory=1)  # without the Gram matrix
        lasso.calibrate(x, v, 2, backend="numba")
    after = compiled()
    assert after == before
    # Other tests may have compiled before.
    assert [len(after[name]) for name in ("_unit_rows_compiled", "_split_largest_first", "_advance")] == [1, 1, 1]

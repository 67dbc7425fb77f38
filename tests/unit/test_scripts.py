"""What scripts hold at once and compile."""

import importlib.util
import itertools
import weakref
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from gigraph.method import bisecting, lasso
from gigraph.planning.config import Compute
from gigraph.records import tables
from gigraph.records.schemas import SCHEMAS

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def script(name):
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ReachedError(Exception):
    pass


def test_truth_attributes_within_the_memory_budget(monkeypatch):
    truth = script("truth")

    def attribute(*_, batch, **__):
        raise ReachedError(batch.points)

    monkeypatch.setattr(truth, "attribute", attribute)
    layer = SimpleNamespace(height=2, width=2, channels=3)
    subject = SimpleNamespace(
        device=torch.device("cpu"), segment=lambda *_: None, layers={"a": layer}, path_points={"a": 7}.get
    )
    vocabulary = SimpleNamespace(layer="a", decompose=lambda pfvs: ([], None), directions=None, start=None)
    settings = {"steps": 1, "max_steps": 1, "tolerance": 1}
    labels = np.zeros(4, int)
    with pytest.raises(ReachedError, match="7"):
        truth._relevance(None, subject, vocabulary, np.zeros((4, 4, 3)), labels, None, None, None, None, settings)


def test_edges_open_the_vocabularies_of_one_pair_at_a_time(monkeypatch, tmp_path):
    edges = script("edge_checks")
    alive, most = weakref.WeakSet(), []

    class Vocabulary:
        directions = start = torch.ones(2, 2)

        def __init__(self, root, method, layer, *_):
            self.layer = layer
            alive.add(self)
            most.append(len(alive))

    subject = SimpleNamespace(device=torch.device("cpu"), segment=lambda *_: None, path_points=lambda _: 1)
    monkeypatch.setattr(edges, "Vocabulary", Vocabulary)
    monkeypatch.setattr(edges, "Subject", lambda *_: subject)
    monkeypatch.setattr(edges, "_shares", lambda *_: None)
    (tmp_path / "m" / "graph").mkdir(parents=True)
    for path, kind in (("selection", "selection"), ("m/graph/edges", "edges")):
        tables.write(tmp_path / f"{path}.parquet", kind, {name: [] for name in SCHEMAS[kind].names})
    pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "classes")]
    settings = {"method": "m", "layers": list("abcd"), "pairs": pairs, "tolerances": dict.fromkeys("abcd", 0.1),
                "edges": 3, "seed": 0, "class_output": "logit", "baseline": "center", "shards": 1}  # fmt: skip
    out = {name: str(tmp_path / f"{name}.parquet") for name in ("checks", "measures")}
    selection = str(tmp_path / "selection.parquet")
    edges.main(Namespace(settings=settings, root=tmp_path, compute=Compute(), selection=selection, lineage="", **out))
    assert max(most) == 2
    assert len(pl.read_parquet(out["measures"])) == 4 * 3 * 3


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

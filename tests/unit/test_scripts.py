"""What scripts hold at once and compile."""

import ast
import importlib.util
import inspect
import itertools
import subprocess
import sys
import weakref
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from gigraph.method.bisecting import bisect, tree
from gigraph.method.lasso import batched, calibrate, lasso, rounding
from gigraph.method.pursuit import Pursuit
from gigraph.method.pursuit import batched as batched_pursuit
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


def compiled_modules():
    from gigraph.method.bisecting import compiled as clustering
    from gigraph.method.lasso import compiled as decomposition
    from gigraph.method.pursuit import compiled as pursuit

    return clustering, decomposition, pursuit


ENTERED = ["_advance", "_pursue", "_refit", "_split_largest_first", "_unit_rows"]
"""The kernels that Python calls."""


def kernels_of(module):
    return [value for value in vars(module).values() if hasattr(value, "py_func")]


def test_after_the_script_kernels_no_job_compiles(tmp_path, monkeypatch):
    """Whatever arrays the jobs come with: of a table, which may not be written, or made anew."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytest.importorskip("numba")

    def compiled():
        return [(f.__qualname__, list(f.signatures)) for module in compiled_modules() for f in kernels_of(module)]

    script("kernels").main(Namespace(kernels=tmp_path / "kernels.parquet", lineage=""))
    assert pl.read_parquet(tmp_path / "kernels.parquet")["kernel"].to_list() == ["clustering", "lasso", "pursuit"]
    before = compiled()
    rng = np.random.default_rng(0)
    for writeable, order in itertools.product((True, False), "CF"):
        x, v = np.asarray(rng.random((60, 5)), np.float32, order), np.asarray(rng.random((9, 5)), np.float32, order)
        x.flags.writeable = v.flags.writeable = writeable
        bisect(x, 8, backend="numba")
        lasso(x, v, 0.3, backend="numba")
        lasso(x, v, 0.3, backend="numba", memory=1)  # without the Gram matrix
        calibrate(x, v, 2, backend="numba")
        for memory, sign in itertools.product((2**31, 1), ("any", "nonnegative")):
            solver = Pursuit(v, backend="numba", memory=memory)
            solver.refit(x, solver.solve(x, 3, 0.1, sign), sign)
    after = compiled()
    assert after == before
    # Other tests may have compiled before.
    assert sorted((name, len(signatures)) for name, signatures in after if name in ENTERED) == [(n, 1) for n in ENTERED]


JOB = """
import sys
import numpy as np
from gigraph.method.bisecting import bisect
from gigraph.method.lasso import calibrate, lasso
from gigraph.method.pursuit import Pursuit
from gigraph.method.vectors import concept_vectors

loaded = {"numba", "torch"} & set(sys.modules)
assert not loaded, f"{loaded} loaded for nothing"
x = np.random.default_rng(0).random((60, 5), np.float32)
v = concept_vectors(x, bisect(x, 8, backend="numba").labels, 8)
lasso(x, v, 0.3, backend="numba")
calibrate(x, v, 2, backend="numba")
solver = Pursuit(v, backend="numba")
solver.refit(x, solver.solve(x, 2))

from gigraph.method.bisecting import compiled as clustering
from gigraph.method.lasso import compiled as decomposition
from gigraph.method.pursuit import compiled as pursuit

modules = (clustering, decomposition, pursuit)
kernels = {name: f.stats for m in modules for name, f in vars(m).items() if hasattr(f, "stats")}
print(*sorted(name for name, stats in kernels.items() if stats.cache_hits))
print(*sorted(name for name, stats in kernels.items() if stats.cache_misses))
"""


def test_a_job_finds_on_disk_what_the_script_kernels_compiled(tmp_path, monkeypatch):
    """In a process of its own, and without the compiler for what needs none."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytest.importorskip("numba")
    script("kernels").main(Namespace(kernels=tmp_path / "kernels.parquet", lineage=""))
    done = subprocess.run([sys.executable, "-c", JOB], cwd=tmp_path, text=True, capture_output=True)
    assert done.stdout.splitlines() == [" ".join(ENTERED), ""], done.stderr


def test_kernels_compile_in_nothing_from_other_files():
    """numba renews its cache on disk when a kernel's own file changes, and by nothing else."""
    pytest.importorskip("numba")
    others_of = [[tree], [batched, rounding], [batched_pursuit, rounding]]
    for module, others in zip(compiled_modules(), others_of, strict=True):
        body = ast.parse(Path(module.__file__).read_text()).body
        own = {node.name for node in body if isinstance(node, ast.FunctionDef)}
        constants = {target.id for node in body if isinstance(node, ast.Assign) for target in node.targets}
        for kernel in kernels_of(module):
            read = {name for name in kernel.py_func.__code__.co_names if name in vars(module)}
            assert {name for name in read - own - constants if not inspect.ismodule(vars(module)[name])} == set()
        shared = [(name, other) for other in others for name in constants & set(vars(other)) if name.isupper()]
        assert shared
        for name, other in shared:
            assert vars(module)[name] == vars(other)[name], name

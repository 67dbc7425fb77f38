"""How a job starts and ends: every second of it is paid fifty times a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gigraph.device import torch_device
from gigraph.errors import UserError
from gigraph.planning.config import Compute, Model
from gigraph.records.notes import notes_in
from gigraph.running.results import said

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"

SWEEP = """
import sys
sys.path.insert(0, {scripts!r})
import exemplars, sample  # the imports of two stages
from types import SimpleNamespace
import torch
from gigraph.model.contribution import contributions, receptive_fields
from gigraph.subject import Subject

compute = SimpleNamespace(device="cpu", memory_mb=64, batch_size=2, workers=1)
settings = {{"model": {model!r}, "preprocessing": {preprocessing!r}, "image_size": [96, 96]}}
subject = Subject(settings, compute, [{layer!r}])
layers = list(subject.layers.values())
x = torch.rand(2, *subject.network.image_shape)
for method in ("srd", "lrp", "grad_x_input"):
    contributions(subject.network, layers, x, method)
    receptive_fields(subject.network, layers[0], x, torch.zeros(2, 1, dtype=torch.int64), method)
for name in {names!r}:
    assert name not in sys.modules, name
"""
NO_PREPROCESSING = dict.fromkeys(("resize", "crop", "mean", "std", "interpolation"))


def loads_none_of(names, source, layer):
    code = SWEEP.format(
        scripts=str(SCRIPTS), model={**Model().model_dump(), "source": source}, layer=layer, names=names,
        preprocessing=NO_PREPROCESSING,
    )  # fmt: skip
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def test_a_sweep_loads_neither_torchs_compiler_nor_its_symbolic_shapes():
    loads_none_of(["torch._dynamo", "sympy"], "menagerie", "layer1.0")


def test_a_users_torchvision_comes_without_torchs_compiler(tmp_path):
    (tmp_path / "mine.py").write_text("import torchvision\n\n\ndef net():\n    return torchvision.models.resnet18()\n")
    loads_none_of(["torch._dynamo"], f"{tmp_path}/mine.py:net", "layer1.0")


SCRIPT = """
import atexit, sys, warnings
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run

atexit.register(print, "taken apart", file=sys.stderr)

def main(args):
    tables.write(args.table, "rejected", {"path": ["a"], "reason": ["b"]})
    tables.read(args.table)
    assert "pyarrow.dataset" not in sys.modules  # slow to load
    warnings.warn("of a library, note: this", stacklevel=1)
    log.info("logged")
    if sys.stdout is not None:
        sys.stdout.write("printed")

run(main, "table")
"""


@pytest.mark.parametrize("stdout", ["", " >&-"])
@pytest.mark.parametrize("controlled", [True, False])
def test_a_job_ends_whole_and_its_process_at_once(tmp_path, controlled, stdout):
    """Nothing that it said or wrote is lost; run by hand, a script ends as any other, for profilers' sake."""
    (tmp_path / "stage.py").write_text(SCRIPT)
    run = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} stage.py --table t.parquet --log stage.log{stdout}"],
        cwd=tmp_path, env={**os.environ, **({"GIGRAPH_CONTROLLER": str(os.getpid())} if controlled else {})},
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout == ("" if stdout else "printed")
    assert "logged" in run.stderr and "logged" in (tmp_path / "stage.log").read_text()
    # Of no interest to who only watches the run, and no result.
    assert " warning: UserWarning: of a library, note: this (" in (tmp_path / "stage.log").read_text()
    assert said(tmp_path / "stage.log")[-1] == "logged" and "UserWarning: of a library\n" not in run.stderr
    assert notes_in(tmp_path / "stage.log") == []
    assert ("taken apart" in run.stderr) == (not controlled)
    assert (tmp_path / "t.parquet").is_file() and (tmp_path / "stage.json").is_file()


@pytest.fixture
def products():
    """Leave torch's settings as they were found."""
    modules = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [module.allow_tf32 for module in modules]
    yield modules
    for module, value in zip(modules, before, strict=True):
        module.allow_tf32 = value


def test_products_on_a_gpu_are_of_all_of_float32(monkeypatch, products):
    for module in products:
        module.allow_tf32 = True
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch_device(Compute(device="cpu")).type == "cpu" and products[0].allow_tf32
    assert torch_device(Compute()).type == "cuda"
    assert not any(module.allow_tf32 for module in products)
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_device(Compute()).type == "cpu"
    with pytest.raises(UserError, match="torch finds no CUDA device"):
        torch_device(Compute(device="cuda"))

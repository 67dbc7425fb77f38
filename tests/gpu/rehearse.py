"""Checks and times what runs on a GPU, beside the same on a CPU (see `rehearse.sh`)."""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.data import mixtures
from gigraph.device import torch_device
from gigraph.method.bisecting import bisect
from gigraph.method.compiler import compiles_cuda
from gigraph.method.gig import Batch, Decomposition, ablate, attribute, class_score, concept_score, forward_slopes
from gigraph.method.lasso import Codes, Solver, calibrate, lasso
from gigraph.method.pursuit import Pursuit
from gigraph.method.quadrature import midpoint
from gigraph.method.vectors import concept_vectors
from gigraph.model.contribution import contributions
from gigraph.model.models import load_model
from gigraph.model.network import Network
from gigraph.planning.config import Model
from gigraph.planning.stages import STAGES
from gigraph.running import leases
from gigraph.subject import Subject
from gpu import chain

ROOT = Path(__file__).parents[2]
SECTIONS: dict[str, Callable] = {}
TREE = ("node", "parent", "size", "concept", "labels", "requested", "dropped")


class Rehearsal:
    """What was asked for, and what came out."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--cpu", action="store_true", help="everything small and on the CPU")
        parser.add_argument("--limit", type=float, default=540, help="seconds after which the table is printed")
        parser.add_argument("--only", nargs="*", default=list(SECTIONS), choices=list(SECTIONS))
        parser.add_argument("--jobs", type=Path, help="jobs of a run, as chain.py wrote them")
        given = parser.parse_args()
        self.jobs = json.loads(given.jobs.read_text()) if given.jobs else []
        self.cpu, self.limit, self.only = given.cpu, given.limit, given.only
        self.device = "cpu" if self.cpu else "cuda"
        self.out = Path(os.environ.get("OUT", "rehearsal"))
        self.out.mkdir(parents=True, exist_ok=True)
        self.began, self.section, self.failed = time.monotonic(), "", 0
        self.rows: list[str] = []
        self.log_file = (self.out / "log.txt").open("w")

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.limit - (time.monotonic() - self.began)

    def row(self, what: str, value: str, *, good: bool = True) -> None:
        """Add a line to the table."""
        self.failed += not good
        self.rows.append(f"{self.section:12} {what:58} {'' if good else 'FAILED: '}{value}")
        (self.out / "table.txt").write_text("\n".join(self.rows) + "\n")
        print(f"[{time.monotonic() - self.began:4.0f}] {self.rows[-1]}", flush=True)

    def log(self, text: str) -> None:
        """Write down more than the table needs."""
        self.log_file.write(f"{text}\n")
        self.log_file.flush()

    def run(self) -> None:
        """Run the sections, and print the table."""
        threading.Thread(target=self._stop, daemon=True).start()
        torch_device(SimpleNamespace(device=self.device))  # as every job begins
        for self.section in self.only:
            started = time.monotonic()
            try:
                SECTIONS[self.section](self)
            except Exception as error:
                self.row("", f"{type(error).__name__}: {str(error).splitlines()[:1]}", good=False)
                self.log(traceback.format_exc())
            self.log(f"{self.section}: {time.monotonic() - started:.1f} s")
            if not self.cpu:
                torch.cuda.empty_cache()
        self._finish()

    def _stop(self) -> None:
        time.sleep(max(1.0, self.left()))
        self.row("stopped by the clock", f"{self.limit:.0f} s", good=False)
        self._finish()

    def _finish(self) -> None:
        print("\n" + "\n".join(self.rows), flush=True)
        self.log_file.flush()
        os._exit(bool(self.failed))

    def timed(self, work: Callable, repeats: int = 3) -> tuple:
        """Return what it gives, and the median of its seconds after one run that warms up."""
        found, seconds = work(), []
        for _ in range(1 if self.cpu else repeats):
            self._wait()
            began = time.perf_counter()
            found = work()
            self._wait()
            seconds.append(time.perf_counter() - began)
        return found, median(seconds)

    def _wait(self) -> None:
        if not self.cpu:
            torch.cuda.synchronize()


def section(function: Callable) -> Callable:
    """Have a function be a section of the table."""
    SECTIONS[function.__name__] = function
    return function


def deviation(one: object, other: object) -> float:
    """Return the largest difference over the largest value."""
    a, b = (np.asarray(part.detach().cpu() if torch.is_tensor(part) else part, np.float64) for part in (one, other))
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def environment() -> dict[str, str]:
    """Return the environment of a process that may see every GPU."""
    return {key: value for key, value in os.environ.items() if key != leases.VISIBLE}


@section
def machine(r: Rehearsal) -> None:
    for name in ("torch", "numpy", "numba", "torchvision", "cupy"):
        try:
            r.row(name, __import__(name).__version__)
        except ImportError as error:
            r.row(name, str(error), good=r.cpu)
    r.row("cores", str(len(os.sched_getaffinity(0))))
    r.row("devices", " ".join(leases.devices()) or "none", good=r.cpu or bool(leases.devices()))
    if not r.cpu:
        r.row("device", f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / 2**30:.0f} GiB")
        r.row("CuPy compiles for it", str(compiles_cuda()), good=compiles_cuda())


@section
def tests(r: Rehearsal) -> None:
    options = ["-p", "no:cacheprovider", "-o", "addopts=-q -m 'not slow'"]  # one process, pytest alone
    rest = () if r.cpu else ("cuda", "memory", "bisecting", "lasso", "pursuit")
    for name in ("leases", "runtime", *rest):
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, f"tests/unit/test_{name}.py"],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=max(10, r.left()),
        )  # fmt: skip
        counts = [line for line in run.stdout.splitlines() if " in " in line and ("passed" in line or "failed" in line)]
        r.row(f"test_{name}", (counts or [f"pytest ended with {run.returncode}"])[-1], good=run.returncode == 0)
        r.log(run.stdout + run.stderr)


HOLD = """
import sys, time
from pathlib import Path
from gigraph.running.leases import take
began = time.monotonic()
got = take(None, {slots}, Path({folder!r}), 20)
waited = time.monotonic() - began
import torch
print(got, torch.cuda.device_count(), f"{{waited:.0f}} s", flush=True)
time.sleep({hold})
"""


@section
def lease(r: Rehearsal) -> None:
    """Jobs as there are devices hold one each; one more waits until the first ends, or shares it where it may."""
    with tempfile.TemporaryDirectory() as folder:

        def start(slots: int, hold: float) -> subprocess.Popen:
            code = HOLD.format(slots=slots, hold=hold, folder=folder + "/leases")
            return subprocess.Popen([sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True)

        holders = [start(1, 60) for _ in leases.devices() or [""]]
        first = [one.stdout.readline().strip() for one in holders]
        shared = start(2, 0).communicate()[0].strip()
        threading.Timer(4, holders[0].kill).start()
        last = start(1, 0).communicate()[0].strip()
        for one in holders:
            one.kill()
            one.communicate()
    good = r.cpu or ("None" not in "".join([*first, shared, last]) and all(one.split()[1] == "1" for one in first))
    r.row("device, visible, waited: each holder", f"{', '.join(first)}; sharing {shared}; after one {last}", good=good)


@section
def clusters(r: Rehearsal) -> None:
    """The same trees bit for bit, whatever the rows."""
    backend = "numpy" if r.cpu else "cupy"
    for n, channels, k in [(300, 16, 20)] if r.cpu else [(2000, 32, 64), (10_000, 256, 1024), (5000, 2048, 600)]:
        for kind in ("plain", "lattice", "duplicates", "zero rows", "tight"):
            x = rows_of(kind, n, channels)
            ids = np.random.default_rng(1).choice(10**9, n, replace=False)
            compare_trees(r, f"{n} x {channels} -> {k} {kind}", x, k, backend, ids)
    n, channels, k = (400, 24, 100) if r.cpu else (50_000, 2048, 16_384)
    compare_trees(r, f"{n} x {channels} -> {k} as in the paper", rows_of("plain", n, channels), k, backend, None)


def rows_of(kind: str, n: int, channels: int) -> np.ndarray:
    """Return rows [n, channels] float32 with the ties that real ones have."""
    rng = np.random.default_rng(n)
    x = mixtures(n, channels)
    x -= x.mean(0)
    if kind == "lattice":
        x = rng.integers(-1, 2, (n, channels)).astype(np.float32)
    elif kind == "duplicates":
        x = x[rng.integers(0, n // 8, n)]
    elif kind == "zero rows":
        x[rng.random(n) < 0.1] = 0
    elif kind == "tight":
        x = (x[:1] * (1 + 1e-6 * rng.standard_normal((n, channels)))).astype(np.float32)
    return x


def compare_trees(r: Rehearsal, name: str, x: np.ndarray, k: int, backend: str, ids: np.ndarray | None) -> None:
    """Add a row about a clustering on both devices."""
    one, seconds = r.timed(lambda: bisect(x, k, seed=3, row_ids=ids, backend=backend))
    began = time.perf_counter()
    other = bisect(x, k, seed=3, row_ids=ids, backend="numba")
    same = all(np.array_equal(getattr(one, field), getattr(other, field)) for field in TREE)
    seen = f"{seconds:.3f} s; numba {time.perf_counter() - began:.3f} s; k {one.k}"
    r.row(name, f"{'equal' if same else 'different'}; {seen}", good=same)


@section
def codes(r: Rehearsal) -> None:
    """The lasso of either sign with its certificate, as low an objective, and what a sample takes."""
    cases = [(64, 128, 20_000), (256, 2048, 8000), (512, 4096, 8000), (2048, 16_384, 8192)]
    for channels, k, n in [(24, 100, 40)] if r.cpu else cases:
        x = rows_of("plain", max(2 * n, 3 * k), channels)
        tree = bisect(x, k, backend="numba" if r.cpu else "cupy")
        v = concept_vectors(x, tree.labels, tree.k)
        x = np.ascontiguousarray(x[np.linspace(0, len(x) - 1, n).astype(int)])
        for sign in ("any", "nonnegative"):
            compare_codes(r, f"C={channels} K={k} {sign}", x, v, sign)


def compare_codes(r: Rehearsal, name: str, x: np.ndarray, v: np.ndarray, sign: str) -> None:
    """Add rows about a lasso of one sign on both devices."""
    began = time.perf_counter()
    found = calibrate(x[:400], v, max(4.0, 0.005 * len(v)), sign=sign, backend="torch", device=r.device)
    seconds = time.perf_counter() - began
    r.row(f"{name} calibrate", f"{found.nonzeros:.1f} non-zeros in {seconds:.2f} s")
    few = min(len(x), 400 if x.shape[1] == 2048 else 2000)
    began = time.perf_counter()
    exact = lasso(x[:few], v, found.lam, sign=sign, backend="numba")
    beside = (time.perf_counter() - began) / few
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missed tolerance
        ours = lasso(x[:few], v, found.lam, sign=sign, backend="torch", device=r.device)
    a, b = (objective(x[:few], v, one.dense(len(v)), found.lam) for one in (ours, exact))
    apart = float(np.abs(a / b - 1).max())
    good = bool(ours.gap.max() <= 1e-4) and apart <= 2e-4 and (sign == "any" or ours.values.min(initial=0) >= 0)
    solver = Solver(v, sign=sign, backend="torch", device=r.device)
    _, seconds = r.timed(lambda: solver.solve(x, found.lam))
    what = f"{type(solver._kernel).__name__}: {seconds / len(x) * 1e6:.2f} us a sample; numba {beside * 1e6:.0f} us"
    r.row(name, f"{what}; gap {ours.gap.max():.1e}; objectives {apart:.1e} apart", good=good)


def objective(x: np.ndarray, v: np.ndarray, u: np.ndarray, lam: float) -> np.ndarray:
    """Return what the lasso minimises, float64 [N]."""
    rest = x - u.astype(np.float64) @ v.astype(np.float64)
    return 0.5 * (rest**2).sum(1) + lam * np.abs(u).sum(1, dtype=np.float64)


@section
def pursuits(r: Rehearsal) -> None:
    """Pursuit of either sign, and the refit of its supports, beside the compiled ones."""
    cases = [(64, 64, 20_000, 8), (256, 2048, 8000, 16), (512, 4096, 8000, 32), (2048, 16_384, 2048, 32)]
    for channels, k, n, width in [(24, 100, 40, 4)] if r.cpu else cases:
        x = rows_of("plain", max(2 * n, 3 * k), channels)
        tree = bisect(x, k, backend="numba" if r.cpu else "cupy")
        v = concept_vectors(x, tree.labels, tree.k)
        x = np.ascontiguousarray(x[np.linspace(0, len(x) - 1, n).astype(int)])
        few = min(n, 64 if channels == 2048 else 1000)
        solver = Pursuit(v, backend="torch", device=r.device)
        exact = Pursuit(v, backend="numba")
        for sign in ("any", "nonnegative"):
            exact.solve(x[:2], width, sign=sign)
            began = time.perf_counter()
            other = exact.solve(x[:few], width, sign=sign)
            beside = (time.perf_counter() - began) / few
            _, seconds = r.timed(lambda s=solver, x=x, w=width, sign=sign: s.solve(x, w, sign=sign))
            ours = solver.solve(x[:few], width, sign=sign)
            apart = float(np.abs(ours.rel_l2 - other.rel_l2).max())
            same = float(np.mean([set(a) == set(b) for a, b in zip(supports(ours), supports(other), strict=True)]))
            refitted = solver.refit(x[:few], other, sign=sign)
            grown = float((refitted.rel_l2 - other.rel_l2).max())
            what = f"{seconds / n * 1e6:.2f} us a sample; numba {beside * 1e6:.0f} us; same supports {same:.1%}"
            good = float(np.median(np.abs(ours.rel_l2 - other.rel_l2))) < 1e-5 and same > 0.95 and grown < 1e-5
            r.row(f"C={channels} K={k} {width} atoms {sign}", f"{what}; l2 {apart:.1e} apart", good=good)


def supports(codes: Codes) -> list[np.ndarray]:
    """Return each sample's atoms."""
    return np.split(codes.indices, codes.indptr[1:-1])


def networks(r: Rehearsal, source: str, size: int) -> dict[str, Network]:
    """Return one network on both devices."""
    model = load_model(source, weights=None, arguments={})
    shape = (3, size, size)
    return {"cpu": Network(copy.deepcopy(model), shape), "other": Network(model.to(r.device), shape)}


@section
def attributions(r: Rehearsal) -> None:
    """GIG, ablation and forward-mode slopes beside the CPU's."""
    for source, size, first, last in (
        ("torchvision:resnet50", 64 if r.cpu else 224, "layer3.2", "layer3.5"),
        ("torchvision:resnet50", 64 if r.cpu else 224, "layer4.1", "classes"),
        ("menagerie", 96, "layer3.1", "layer4.0"),
        ("menagerie", 96, "layer4.0", "classes"),
    ):
        pair = networks(r, source, size)
        steps, targets, count = (4, 2, 2) if r.cpu else (16, 8, 8)
        case = gig_case(pair["cpu"], first, last, count, targets)
        found = {}
        for where, network in pair.items():
            device = "cpu" if where == "cpu" else r.device
            score, basis, start, images, to = (part(device) for part in case)
            kept = [network.layer(name) for name in (first, last) if name != "classes"]
            folded = network.folded(kept)
            segment = folded.pfv_segment(*(None if n == "classes" else folded.layer(n) for n in (first, last)))
            some = {"steps": steps, "max_steps": steps, "batch": steps * count}

            def go(number: int, given=(segment, score, basis, start), images=images, to=to, some=some):
                return attribute(*given, images[:number], to[:number], **some)

            found[where] = (
                go(1)[0].values,
                *(
                    work(segment, score, basis, start, images[0], *rest)
                    for work, rest in ((ablate, ([0, 3, 7], to[0], 16)), (forward_slopes, (to[0], midpoint(4)[0], 16)))
                ),
            )
            if where != "cpu":
                _, one = r.timed(lambda go=go: go(1))
                _, all_ = r.timed(lambda go=go, count=count: go(count))
        apart = [deviation(a, b) for a, b in zip(found["other"], found["cpu"], strict=True)]
        took = f"{one / targets * 1e3:.2f} ms a target, {all_ / targets / count * 1e3:.3f} with {count} images"
        names = " ".join(f"{name} {d:.1e}" for name, d in zip(("gig", "ablate", "slopes"), apart, strict=True))
        r.row(f"{source} {first} -> {last}", f"{names} apart; {took}", good=max(apart) < 5e-3)


def gig_case(traced: Network, first: str, last: str, count: int, targets: int, kept: int = 32) -> list[Callable]:
    """Return score, concept vectors, start, images and targets, each as a function of a device; made on the CPU."""
    a, b = traced.layer(first), None if last == "classes" else traced.layer(last)
    torch.manual_seed(0)
    with torch.no_grad():
        real = a.to_pfvs(traced.activations(torch.randn(count, *traced.image_shape), [a])[first])
    start = real[0].mean(0)
    vectors = real[0][torch.randperm(a.positions)[: min(kept, a.positions)]] - start
    coded = [torch.linalg.lstsq(vectors.T, (one - start).T, driver="gelsd").solution.T.contiguous() for one in real]
    towards = torch.randn(targets, b.channels) if b else None
    atoms, to = torch.arange(len(vectors)), torch.arange(targets).expand(count, -1).contiguous()
    return [
        lambda d: class_score("logit") if towards is None else concept_score(towards.to(d)),
        vectors.to,
        start.to,
        lambda d: [Decomposition(atoms.to(d), u.to(d)) for u in coded],
        to.to,
    ]


@section
def room(r: Rehearsal) -> None:
    """More path points than the device holds: halved until they fit, with the same result."""
    network = networks(r, "torchvision:resnet50", 64 if r.cpu else 224)["other"]
    steps = 40 if r.cpu else 20_000
    case = gig_case(network if r.cpu else networks(r, "torchvision:resnet50", 224)["cpu"], "layer3.2", "layer3.5", 1, 1)
    score, basis, start, images, to = (part(r.device) for part in case)
    segment = network.pfv_segment(network.layer("layer3.2"), network.layer("layer3.5"))
    found = {}
    for points in (64, 10**6):
        batch = Batch(points)
        given = (segment, score, basis, start, images, to)
        found[points] = attribute(*given, steps=steps, max_steps=steps, batch=batch)[0].values
    apart = deviation(found[10**6], found[64])
    r.row(f"{steps} path points, 10^6 at once", f"{batch.points} in the end; {apart:.1e} apart", good=apart < 1e-3)


@section
def sweeps(r: Rehearsal) -> None:
    """SRD beside the CPU's, a whole sweep's time, and a subject's budget."""
    for source, size, names in (
        ("torchvision:resnet50", 64 if r.cpu else 224, ["layer1.2", "layer3.5", "layer4.2"]),
        ("menagerie", 96, ["layer3.1", "layer4.0"]),
    ):
        found, pair = {}, networks(r, source, size)
        x = torch.randn(2 if r.cpu else 4, 3, size, size)
        for where, network in pair.items():
            folded = network.folded([network.layer(name) for name in names])
            layers = [folded.layer(name) for name in names]
            found[where] = contributions(folded, layers, x.to("cpu" if where == "cpu" else r.device))[0]
            if where != "cpu":
                many = torch.randn(1 if r.cpu else 32, 3, size, size, device=r.device)
                _, seconds = r.timed(lambda f=folded, layers=layers, many=many: contributions(f, layers, many))
        apart = max(deviation(found["other"][name], found["cpu"][name]) for name in names)
        took = f"{seconds / len(many) * 1e3:.2f} ms an image, {len(many)} at once"
        r.row(f"{source}", f"{apart:.1e} apart; {took}", good=apart < 1e-4)
    plain = dict.fromkeys(("resize", "crop", "mean", "std", "interpolation"))
    model = {**Model().model_dump(), "source": "menagerie"}
    settings = {"model": model, "preprocessing": plain, "image_size": (96, 96)}
    compute = SimpleNamespace(device=r.device, batch_size=32, memory_mb=256, workers=2, jobs_per_gpu=1)
    subject = Subject(settings, compute, ["layer3.1"])
    tf32 = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    points = f"{subject.memory / 1e9:.1f} GB, {subject.path_points('layer3.1')} path points"
    r.row("a subject", f"{points}; TF32 {'on' if tf32 else 'off'}", good=r.cpu or not tf32)


@section
def jobs(r: Rehearsal) -> None:
    """A run's jobs on the CPU; then each that uses a GPU again on one, from the same inputs."""
    if not r.jobs:
        r.row("", "left out: no --jobs")
        return
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "cpu"
        folder.mkdir()
        began = time.monotonic()
        errors = [error for one in chain.run_all(r.jobs, folder, max(1, cores // 2)) if (error := one.exception())]
        seen = f"{len(r.jobs)} jobs in {time.monotonic() - began:.0f} s, {len(errors)} without result"
        r.row("all on the CPU", seen, good=not errors)
        r.log("\n".join(map(str, errors)))
        again = [job for job in r.jobs if STAGES[job["stage"]].gpu]
        for job, done, here in chain.run_again(again, folder, r.device, max(1, min(8, cores // 2))):
            if error := done.exception():
                r.row(job["name"], str(error).splitlines()[0][:150], good=False)
                r.log(str(error))
                continue
            receipt, tables = done.result(), [path for path in job["outputs"] if path.endswith(".parquet")]
            apart = "; ".join(f"{Path(path).stem}: {chain.differences(here / path, folder / path)}" for path in tables)
            where = f"{receipt['device']}, {receipt['seconds']:.1f} s, {receipt.get('peak_gpu_memory_mb', 0)} MB on it"
            r.row(job["name"], f"{where}; {apart}", good=r.cpu or receipt["device"] != "cpu")


if __name__ == "__main__":
    Rehearsal().run()

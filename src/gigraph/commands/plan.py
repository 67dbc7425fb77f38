"""Say what a run will cost before it is run: time, memory and disk of each stage, measured on this machine.

A few seconds of each kernel are timed at the configuration's own sizes; nothing is written, no weights are loaded.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gigraph.errors import UserError
from gigraph.planning.config import PROJECT, Config, chosen, load, read
from gigraph.planning.costs import Cost, LayerSize, Run, Throughput
from gigraph.planning.ladder import numbers
from gigraph.planning.resources import costs
from gigraph.reporting import log
from gigraph.reserved import CLASSES
from gigraph.worlds import registry as worlds

FORKED = 0.3
"""Seconds until a job forked from a process that has torch loaded does its first work (`gigraph.running.forks`)."""
TAKEN_FOR_ANOTHER = 0.25
"""Share of the images that are supposed to be taken for another class than their own."""
UNIT_IMAGE_BYTES = 20_000
"""Of a drawn image of 96 pixels with its mask."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--configfile", nargs="*", type=Path, default=[], help="as of snakemake; each is laid over those before it"
    )
    parser.add_argument("--cores", type=int, default=None, help="cores of the run (default: those of this machine)")


def main(args: argparse.Namespace) -> None:
    """Print the plan."""
    if args.cores is not None and args.cores < 1:
        raise UserError(f"--cores: {args.cores} is no number of cores; give 1 or more")
    config = load(read(chosen(args.configfile)))
    from gigraph.threads import threads_allowed

    cores = args.cores or threads_allowed()
    log.info("measuring this machine ...")
    run, rate = measured(config)
    print(describe(config, run, costs(run, rate), cores))


def measured(config: Config) -> tuple[Run, Throughput]:
    """Count a configuration's sizes and time its kernels on this machine.

    Raises
    ------
    UserError
        If the images, the model or a layer are not there.
    """
    import numpy as np
    import torch
    from threadpoolctl import threadpool_limits

    from gigraph.method.bisecting import bisect, capped_concepts
    from gigraph.method.coding import sparse
    from gigraph.method.lasso import lambda_max, lasso
    from gigraph.method.pursuit import Pursuit
    from gigraph.model.contribution import contributions
    from gigraph.planning.plan import Plan
    from gigraph.subject import Subject

    torch.set_num_threads(1)
    threadpool_limits(1)
    plan = Plan(config, PROJECT / "workflow" / "scripts")
    plan.check()
    log.info("the network: loading and tracing")
    settings = {**plan.settings("sample", shard=0), "model": {**config.model.model_dump(), "weights": None}}
    if config.model.source not in worlds.NAMES:
        settings["preprocessing"] |= _preset(config)
    else:
        settings["model"] = config.model.model_dump()
    traced = time.process_time()
    subject = Subject(settings, config.compute, config.names)
    traced = time.process_time() - traced
    log.info("what it takes a job to start, and to read an image")
    start = traced + (FORKED if _forks(subject) else _start("gigraph.subject, gigraph.records.tables"))
    light = _start("gigraph.running.runtime, gigraph.records.tables")
    kernels = _start("gigraph.running.runtime, gigraph.records.tables, numba, scipy.linalg") - light
    images, classes, draw, decode = _images(plan, config, subject)

    def clock(work: Callable[[], Any]) -> float:
        """Return the seconds of a run, after one that warms up."""
        work()
        if subject.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter if subject.device.type == "cuda" else time.process_time
        began = now()
        work()
        if subject.device.type == "cuda":
            torch.cuda.synchronize()
        return now() - began

    few = subject.images_at_once
    channels, height, width = subject.network.image_shape
    x = subject.inputs(list(np.random.default_rng(0).integers(0, 256, (few, height, width, channels), np.uint8)))
    layers = list(subject.layers.values())
    method = subject.contribution(config.contribution.method)
    log.info("forward and backward passes")
    with torch.inference_mode():
        forward = clock(lambda: subject.network.activations(x, layers)) / few
    sweep = clock(lambda: contributions(subject.network, layers, x, method)) / few
    segment = {}
    for source, target in config.pairs():
        there: Any = subject.segment(source, target)
        here = subject.layers[source]
        some = min(8, subject.path_points(source))
        points = torch.randn(some, here.positions, here.channels, device=subject.device)
        with torch.inference_mode():
            segment[source, target] = clock(partial(there, points)) / some
    reached, field = _fields(subject, x, method, clock)
    sizes = []
    for name, layer in subject.layers.items():
        own = config.layer(name)
        rows = images * own.sampling.pfvs_per_image
        k, _ = capped_concepts(own.concepts.expansion, layer.channels, rows, own.concepts.min_members)
        c = own.coefficients
        tried = tuple(sparse(numbers(c.most), k, layer.channels)) if c.penalty == "decision" else ()
        nonzeros = c.value if c.penalty == "nonzeros" else c.most if tried else 16
        drawn = own.sampling.pfvs_per_image
        merged = own.families.cosine is not None
        sizes.append(LayerSize(name, layer.channels, layer.positions, k, nonzeros, drawn, c.method, tried, merged))
    log.info("clustering and coding (the first time they are compiled, which takes half a minute)")
    middle = sorted(sizes, key=lambda size: size.channels)[len(sizes) // 2]
    rng = np.random.default_rng(0)
    k = min(1024, middle.concepts)
    v = rng.standard_normal((k, middle.channels), dtype=np.float32)
    mixed = v[rng.integers(0, k, 3000)] + 0.3 * v[rng.integers(0, k, 3000)]
    noisy = mixed + 0.5 * rng.standard_normal(mixed.shape, dtype=np.float32)
    splits = min(k, 750)
    clustering = clock(lambda: bisect(noisy, splits)) / (noisy.size * np.log2(splits))
    product = clock(lambda: noisy @ v.T) / (2 * noisy.size * k)
    lam = 0.2 * float(np.median(lambda_max(noisy[:300], v)))
    share = clock(lambda: lasso(noisy[:300], v, lam)) / 300 / (4 * middle.channels * k * product)
    n = round(middle.nonzeros)
    solver = Pursuit(v)
    pursuit = clock(lambda: solver.solve(noisy[:300], n)) / 300 / (2 * k * (middle.channels + n * n) * product)
    solver.refit(noisy[:30], solver.solve(noisy[:30], n))  # for the job that compiles them
    kept = sum(
        value.numel() * value.element_size()
        for value in subject.network.activations(x[:1], layers).values()
    )  # fmt: skip
    rate = Throughput(
        start, light, kernels, draw, decode, forward, sweep, segment, reached, field, clustering, product,
        max(1.0, share),
        _activations(subject, x[:1], kept), 450 * 2**20 + 8 * sum(p.numel() for p in _parameters(subject)), pursuit,
    )  # fmt: skip
    a = config.attribution
    towards = min(classes, 1 + (a.top_classes or TAKEN_FOR_ANOTHER))
    run = Run(
        images=images, attributed=a.most_images(classes, images), classes=classes,
        shards=config.images.shards, image_bytes=UNIT_IMAGE_BYTES * (config.drawn.size / 96) ** 2 * plan.drawn,
        scenes=plan.scenes,
        layers=sizes, pairs=config.pairs(), methods=len(config.methods), steps=a.steps, max_steps=a.max_steps,
        concept_targets=a.class_targets + a.top_targets, class_targets=towards,
        kept=a.class_targets, top_sources=a.top_sources, nearest=config.exemplars.nearest,
        relevant=config.exemplars.relevant, localised=config.exemplars.localised, batch=subject.images_at_once,
        memory=config.compute.memory_mb * 10**6, kernels=plan.kernels, spread=plan.spread,
        circuits=config.circuit.runs(classes, a.most_images(classes, images)),
    )  # fmt: skip
    return run, rate


def _preset(config: Config) -> dict[str, Any]:
    """Return the preprocessing that comes with the weights, which themselves are not loaded."""
    from gigraph.model.models import preset_of

    preset = preset_of(config.model.source, config.model.weights) or {}
    own = config.preprocessing.model_dump()
    return {key: preset.get(key) if value is None else value for key, value in own.items()}


def _start(modules: str) -> float:
    """Return the CPU seconds that imports take; like a job, the process is not taken apart at the end."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {modules}, os; os._exit(0)"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _fields(
    subject: Any, x: Any, method: str, clock: Callable[[Callable[[], Any]], float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return of each layer the seconds of a pass that relevance can go back from, per image, and of a PFV's field."""
    import torch

    from gigraph.model.contribution import receptive_fields

    reached, field = {}, {}
    for name, layer in subject.layers.items():

        def seconds(count: int, layer: Any = layer) -> float:
            at = torch.arange(count, device=x.device).expand(len(x), -1) % layer.positions
            return clock(partial(receptive_fields, subject.network, layer, x, at, method)) / len(x)

        one, three = seconds(1), seconds(3)
        field[name] = max(0.0, three - one) / 2
        reached[name] = max(0.0, one - field[name])
    return reached, field


def _forks(subject: Any) -> bool:
    """Whether jobs of a run on this machine are forked."""
    return sys.platform == "linux" and subject.device.type == "cpu" and os.environ.get("GIGRAPH_FORKS") != "0"


def _images(plan: Any, config: Config, subject: Any) -> tuple[int, int, float, float]:
    """Return the number of images and classes, and the seconds that one takes to draw and to read."""
    from gigraph.images.decoding import Unreadable, decode

    if plan.drawn:
        from gigraph.worlds.dataset import write

        world = worlds.get(config.images.source)
        with tempfile.TemporaryDirectory() as folder:
            options: dict[str, Any] = {"seed": config.drawn.seed, "size": config.drawn.size}
            options["progress"] = lambda done, count: None
            write(world, folder, "train", 2, **options)  # warms up
            began = time.process_time()
            write(world, folder, "test", 10, **options)
            draw = (time.process_time() - began) / 10
            paths = list(Path(folder).rglob("*.png"))
            return config.drawn.count, len(world.classes), draw, _reading(subject, paths, config.images.max_pixels)
    from gigraph.images.listing import labelled

    entries = labelled(plan.image_folder, plan.listed_classes, plan.grouped)
    per_class: dict[Any, int] = {}
    for entry in entries:
        per_class[entry.class_name] = per_class.get(entry.class_name, 0) + 1
    limit = config.images.limit_per_class
    count = sum(min(limit, n) if limit else n for n in per_class.values())
    classes = subject.network.outputs if plan.unlabelled else len(per_class)
    some = [plan.image_folder / entry.path for entry in entries[:: max(1, len(entries) // 8)][:8]]
    readable = []
    for path in some:
        try:
            decode(path, config.images.max_pixels, config.preprocessing.depth)
            readable.append(path)
        except Unreadable:
            continue
    return count, classes, 0.0, _reading(subject, readable, config.images.max_pixels)


def _reading(subject: Any, paths: list[Path], max_pixels: int) -> float:
    """Return the seconds that an image takes from file to network input."""
    from gigraph.images.decoding import decode

    began = time.process_time()
    for path in paths:
        subject.inputs([subject.preprocessing.display(decode(path, max_pixels, subject.preprocessing.channels))])
    return (time.process_time() - began) / max(1, len(paths))


def _parameters(subject: Any) -> list[Any]:
    return list(subject.network.graph_module.parameters())


def _activations(subject: Any, x: Any, least: int) -> int:
    """Return the bytes that a sweep of one image keeps: every operation's output, twice for its gradient."""
    from torch import Tensor

    from gigraph.method.srd import Sweep

    try:
        values = Sweep(subject.network.graph_module, x).values.values()
    except UserError:  # not linear given the pattern: gradient x input keeps about as much
        return 8 * least
    return 2 * sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))


def describe(config: Config, run: Run, planned: dict[str, Cost], cores: int) -> str:
    """Return the plan as text."""
    to_classes = sum(target == CLASSES for _, target in run.pairs)
    lines = [
        f"{run.images:,} images ({run.attributed:,} attributed), {run.classes} classes, {len(run.layers)} layers, "
        f"{sum(layer.concepts for layer in run.layers):,} concepts, {len(run.pairs)} pairs "
        f"({len(run.pairs) - to_classes} of layers, {to_classes} to the classes), "
        f"{', '.join(config.methods)}; to {config.output}",
        "",
        f"{'stage':30}{'jobs':>6}{'core time':>12}{'memory a job':>15}{'disk':>10}",
    ]
    total = Cost(
        sum(cost.jobs for cost in planned.values()),
        sum(cost.seconds for cost in planned.values()),
        max(cost.memory for cost in planned.values()),
        sum(cost.disk for cost in planned.values()),
    )
    for name, cost in {**planned, "total": total}.items():
        lines.append(
            f"{name:30}{cost.jobs:>6}{_duration(cost.seconds):>12}{_size(cost.memory):>15}{_size(cost.disk):>10}"
        )
    lines += [
        "",
        f"about {_duration(total.seconds / cores)} on {cores} core{'s' * (cores > 1)}, if its jobs keep them busy; "
        f"up to {_size(total.memory * cores)} of memory if the largest jobs meet. An estimate: expect it to be right "
        "within a factor of two.",
    ]
    largest = max(run.layers, key=lambda layer: layer.concepts)
    if run.memory < 8 * largest.concepts**2:
        lines.append(
            f"note: the lasso of {largest.name} would be faster with compute.memory_mb at "
            f"{math.ceil(8 * largest.concepts**2 / 1e6)} or more: it could keep the products of all concepts"
        )
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"

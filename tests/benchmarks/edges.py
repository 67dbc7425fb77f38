"""How aggregation, figures and explorer grow with the number of edges, up to 1,000 classes and 121,000 concepts.

    uv run python -m tests.benchmarks.edges                      five sizes up to the paper's, of five images a class
    uv run python -m tests.benchmarks.edges --parts 0.125 0.25   shares of the paper's classes and of its concepts

Attributions are drawn at random (`attributed`); from there on the workflow's own scripts and the explorer run, on one
thread, each size in a process of its own. CPU microseconds for each edge of the graph, and the exponent of a line
through the sizes, fitted to the logarithms: 1 is linear. Written: edges.json.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PARTS = (0.0625, 0.125, 0.25, 0.5, 1.0)
THREADS = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")


class Parts:
    """CPU seconds of named parts of a program, each without those inside of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside."""
        began = time.process_time()
        self._inside.append(0.0)
        try:
            yield
        finally:
            took = time.process_time() - began
            self.seconds[name] += took - self._inside.pop()
            if self._inside:
                self._inside[-1] += took

    def watch(self, module: Any, function: str, name: str) -> None:
        """Count a module's function, or what the generator that it returns does, as a part."""
        original = getattr(module, function)

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                found = original(*args, **kwargs)
            return self._each(found, name) if isinstance(found, Iterator) else found

        setattr(module, function, counted)

    def _each(self, found: Iterator[Any], name: str) -> Iterator[Any]:
        while True:
            with self.part(name):
                one = next(found, None)
            if one is None:
                return
            yield one


def script(name: str) -> Any:
    """Return a script of the workflow as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"workflow/scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(part: float, images: int, sources: int) -> dict[str, Any]:
    """Make a run of this size; return its edges, the seconds of each part, and the peak memory in GiB."""
    from gigraph.records import tables

    from .attributed import KEPT, METHOD, Run, Size

    parts, peaks = Parts(), {}
    explorer = importlib.import_module("gigraph.explorer.build")
    graph, kept = script("graph"), script("kept")
    for module, function, name in (
        (kept, "class_edges", "kept concepts"),
        (graph, "edges_of", "graph: aggregate"),
        (graph, "edges_of_members", "graph: aggregate members"),
        (graph, "weights", "graph: weights"),
        (graph, "_ablations", "graph: ablations"),
        (graph, "_nodes", "graph: nodes"),
        (graph, "write_graphml", "graph: GraphML"),
        (explorer.Graph, "read", "explorer: read"),
        (explorer, "scope_chunks", "explorer: classes"),
        (explorer, "neighbours", "explorer: neighbours"),
        (explorer, "kept_by_class", "explorer: decisions"),
        (explorer, "image_chunks", "explorer: images"),
        (explorer, "atlas_chunk", "explorer: atlas"),
        (explorer, "concept_chunks", "explorer: cards"),
        (explorer, "evidence", "explorer: evidence"),
        (explorer, "meta_chunk", "explorer: overview"),
        (explorer, "write_chunk", "explorer: writing"),
    ):  # fmt: skip
        parts.watch(module, function, name)

    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), Size.share(part, images, sources))
        run.begin()
        files = run.files
        for layer in run.layers:
            paths = [str(files("attributions", source=layer, target="classes", shard=at)) for at in range(run.shards)]
            settings = {"layer": layer, "class_targets": KEPT}
            with parts.part("kept: the rest"):
                kept.main(Namespace(
                    settings=settings, lineage="", selection=files("selection"), attributions=paths,
                    kept=files("kept", layer=layer),
                ))  # fmt: skip
        run.go_on()
        peaks["attributions"] = peak()
        settings = {"layers": run.layers, "pairs": run.pairs, "shards": run.shards}
        outputs = {name: files(name) for name in ("nodes", "edges", "members", "graphml")}
        with parts.part("graph: the rest"):
            graph.main(Namespace(
                settings=settings, lineage="", root=folder, method=METHOD, selection=files("selection"),
                class_table=files("classes"), kept=files("kept_of_all"), **outputs,
            ))  # fmt: skip
        peaks["graph"] = peak()
        with parts.part("figures"):
            script("figures").main(Namespace(
                settings={**settings, "attribution": {"method": "gig"}}, root=folder, method=METHOD,
            ))  # fmt: skip
        peaks["figures"] = peak()
        with parts.part("explorer: the rest"):
            explorer.build(run.inputs(), Path(folder) / "explorer")
        peaks["explorer"] = peak()
        shown = tables.read(outputs["edges"], ["shown"])
        size = {"classes": run.size.classes, "concepts": sum(run.size.widths), "edges": len(shown)}
    return {**size, "seconds": dict(parts.seconds), "peaks": peaks}


def peak() -> float:
    """Return the most memory that the process has had so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def exponent(edges: list[int], seconds: list[float]) -> float:
    """Return the slope of log seconds over log edges by least squares."""
    import numpy as np

    fit = np.polyfit(np.log(edges), np.log(np.maximum(seconds, 1e-9)), 1) if len(edges) > 1 else [np.nan]
    return float(fit[0])


def show(found: list[dict[str, Any]]) -> None:
    """Print the table."""
    edges = [one["edges"] for one in found]
    head = ("classes", "concepts", "edges")
    for name in head:
        print(f"{name:28}" + "".join(f"{one[name]:>12,}" for one in found))
    for name in found[0]["peaks"]:
        print(f"{'GiB, ' + name:28}" + "".join(f"{one['peaks'][name]:>12.2f}" for one in found))
    print(f"{'CPU us an edge':28}{'':{12 * len(found)}}{'exponent':>12}{'seconds':>10}")
    names = [*found[-1]["seconds"]]
    rows: dict[str, Callable[[str], bool]] = {name: name.__eq__ for name in names}
    for stage in dict.fromkeys(name.partition(":")[0] for name in names):
        rows[f"{stage}, all"] = lambda name, stage=stage: name.startswith(stage)
    for title, of in rows.items():
        seconds = [sum(took for name, took in one["seconds"].items() if of(name)) for one in found]
        each = "".join(f"{1e6 * took / count:>12.3f}" for took, count in zip(seconds, edges, strict=True))
        print(f"{title:28}{each}{exponent(edges, seconds):>12.2f}{seconds[-1]:>10.2f}")


def main() -> None:
    """Run the sizes one after another."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.edges", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--parts", nargs="+", type=float, default=PARTS, help="shares of 1,000 classes and 121,000 concepts"
    )
    parser.add_argument("--images", type=int, default=5, help="attributed images of a class")
    parser.add_argument("--sources", type=int, default=24, help="sources of an image and target")
    parser.add_argument("--out", type=Path, default=Path("results/peers/edges.json"))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(args.parts[0], args.images, args.sources)))
        return
    found = []
    for part in args.parts:
        own = ["--parts", str(part), "--images", str(args.images), "--sources", str(args.sources), "--one"]
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.edges", *own], check=True, stdout=subprocess.PIPE, cwd=ROOT,
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
        )  # fmt: skip
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{found[-1]['edges']:,} edges: {sum(found[-1]['seconds'].values()):.1f} s", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1))
    show(found)


if __name__ == "__main__":
    main()

"""The path integrals' estimated errors beside their true ones, on finished runs.

    uv run python -m tests.benchmarks.quadrature results [results-traffic ...] [--images 4] [--points 648]

Of each pair of layers the first images that the run attributed, with their targets in the run's own tables, are
attributed anew with the run's settings, and with so many midpoints. The table has, over the rows of each pair and over
all: the true error, the sum over the sources (families) of what differs, in percent of the sum of |GIG|; the estimate
over the true error, whose 10% quantile says how much too small one in ten is; and the points that a row took. The
machine does not matter, but for the time that it takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from gigraph.device import as_device
from gigraph.pair import Pair
from gigraph.planning.opening import plan_of
from gigraph.records import tables
from gigraph.records.attributions import Decompositions
from gigraph.reserved import CLASSES
from gigraph.subject import Subject


def rows(folder: Path, count: int, points: int):
    """Yield (pair, true errors, estimates, steps), arrays [rows], of each pair of a run."""
    plan = plan_of(folder)
    method = plan.config.methods[0]
    for source, target in plan.pairs:
        of = {"method": method, "source": source, "target": target, "shard": 0}
        settings = plan.settings("attribution", **of)
        subject = Subject(settings, plan.config.compute, [source] if target == CLASSES else [source, target])
        pair = Pair.open(subject, plan.root, method, source, target, settings["attribution"])
        coefficients = tables.read(plan.results("coefficients", method=method, layer=source, shard=0))
        positions = subject.layers[source].positions
        ids = tables.numpy(coefficients, "image_id")[::positions]
        known: dict[int, list[int]] = {}
        for row in tables.read(plan.results("attributions", **of), ["image_id", "target"]).to_pylist():
            known.setdefault(row["image_id"], []).append(row["target"])
        decompositions = Decompositions.of_table(coefficients, positions, subject.device)
        fixed = {**settings["attribution"], "steps": points, "max_steps": points}
        dense = Pair(subject, pair.source, pair.target, fixed)
        found = []
        for place in range(min(count, len(ids))):
            image, to = decompositions(slice(place, place + 1)), known[int(ids[place])]
            targets = as_device(np.array([to]), subject.device)
            one, other = (p.attribute(image, targets)[0] for p in (pair, dense))
            values, exact = (part.merged(pair.source.family).values.double() for part in (one, other))
            size = exact.abs().sum(1)
            found.append([(values - exact).abs().sum(1) / size, one.quadrature_error / size, one.steps])
        yield f"{source} -> {target}", *(np.concatenate([part.numpy() for part in column]) for column in zip(*found))


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.quadrature", description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="results folders of finished runs")
    parser.add_argument("--images", type=int, default=4, help="of each pair")
    parser.add_argument("--points", type=int, default=648, help="midpoints of the reference")
    args = parser.parse_args()
    head = ("true error %: median", "90%", "most", "estimate/true: 10%", "median", "90%", "points", "rows")
    print(f"{'':44}" + "  ".join(head))
    for run in args.runs:
        every: list[tuple[np.ndarray, ...]] = []
        for name, *found in rows(run, args.images, args.points):
            every.append(tuple(found))
            tell(f"{run.name} {name}", head, *found)
        tell(f"{run.name}, all", head, *(np.concatenate(part) for part in zip(*every, strict=True)))


def tell(name: str, head: tuple[str, ...], error: np.ndarray, estimate: np.ndarray, steps: np.ndarray) -> None:
    """Print a row of the table."""
    ratio = estimate / np.maximum(error, 1e-9)
    numbers = (
        *(100 * np.quantile(error, q) for q in (0.5, 0.9, 1)), *np.quantile(ratio, (0.1, 0.5, 0.9)),
        steps.mean(), len(error),
    )  # fmt: skip
    told = (
        f"{number:>{len(word)}.{0 if word in ('points', 'rows') else 2}f}"
        for number, word in zip(numbers, head, strict=True)
    )
    print(f"{name:44}" + "  ".join(told), flush=True)


if __name__ == "__main__":
    main()

"""Run gigraph's kernels and their peers in turn, in one process on one thread; print and write the table.

    uv run --group bench python -m tests.benchmarks            a few minutes
    uv run --group bench python -m tests.benchmarks --full     the paper's sizes, a quarter of an hour and more

On one thread, since not every peer has more, and in CPU seconds; OMP_NUM_THREADS asks for another number.
Written: peers.parquet, growth.parquet, growth.svg.
"""

from __future__ import annotations

import argparse
import itertools
import os
from dataclasses import asdict
from pathlib import Path

KERNELS = ("clustering", "lasso", "nonnegative", "pursuit", "gig", "srd", "growth")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="the paper's sizes")
    parser.add_argument("--only", nargs="+", choices=KERNELS, default=KERNELS)
    parser.add_argument("--out", type=Path, default=Path("results/peers"))
    args = parser.parse_args()
    threads = int(os.environ.setdefault("OMP_NUM_THREADS", "1"))
    # After the number of threads is set.
    import polars as pl
    import torch

    from . import demo, growth, measure, paths, peers

    torch.set_num_threads(threads)
    limits = measure.machine(threads)
    print(
        f"{threads} thread{'s' * (threads > 1)}: matrix product {limits.flops / 1e9:.0f} GF/s, "
        f"convolution {limits.convolutions / 1e9:.0f} GF/s, "
        f"copy {limits.bandwidth / 1e9:.1f} GB/s"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[measure.Row] = []
    wanted = set(args.only)
    own = demo.made() if wanted & {"clustering", "lasso", "nonnegative", "pursuit", "gig"} else None
    if "clustering" in wanted:
        cases = [
            (f"demo {layer} ", x, expansion * x.shape[1]) for layer, x in own.drawn.items() for expansion in (1, 8)
        ]
        sizes = [(10_000, 256, 1024), (20_000, 256, 2048)]
        sizes += [(50_000, 256, 2048), (30_000, 512, 4096), (50_000, 32, 16_384)] if args.full else [(10_000, 32, 2500)]
        cases += [("", peers.mixed(n, channels), k) for n, channels, k in sizes]
        rows += peers.clustering(limits, cases, 10**9)
    small, large = (peers.SAMPLES, 256, 2048), (peers.SAMPLES, 512, 4096)
    if "lasso" in wanted:
        sizes = [small, large] + [(peers.SAMPLES, 2048, 16_384)] * args.full
        problems = itertools.chain(peers.real(own), (peers.synthetic(*size) for size in sizes))
        rows += peers.decomposition(limits, problems, 16)
    if "nonnegative" in wanted:
        problems = itertools.chain(peers.real(own), map(peers.synthetic, *zip(small, large, strict=True)))
        rows += peers.decomposition(limits, problems, 16, "nonnegative")
    if "pursuit" in wanted:
        sizes = [(peers.SAMPLES, 256, 256), small, large]
        problems = itertools.chain(peers.real(own), (peers.synthetic(*size) for size in sizes))
        rows += peers.pursuit(limits, problems, 200)
    if {"gig", "srd", "growth"} & wanted:
        traced = paths.network()
    if "gig" in wanted:
        cases = itertools.chain(paths.small(own), paths.large(traced))
        rows += paths.attributions(limits, cases, 5 if args.full else 3)
    if "srd" in wanted:
        rows += paths.sweeps(limits, traced, 5 if args.full else 3)
    if rows:
        table = pl.DataFrame([asdict(row) for row in measure.relative(rows)], infer_schema_length=None).with_columns(
            threads=pl.lit(threads), gflops=pl.lit(limits.flops / 1e9), gbytes=pl.lit(limits.bandwidth / 1e9)
        )
        table.write_parquet(args.out / "peers.parquet")
        show(rows)
    if "growth" in wanted:
        curves = growth.curves(traced, args.full)
        pl.DataFrame(curves).write_parquet(args.out / "growth.parquet")
        growth.draw(curves, args.out / "growth.svg")
    print(f"written to {args.out}")


def show(rows) -> None:
    """Print the table."""
    print(f"{'':32}{'method':25}{'time':>12}  {'per':15}{'ratio':>8}{'quality':>10}{'roofline':>10}{'peak MiB':>10}")
    last = None
    for row in rows:
        head = f"{row.kernel}: {row.case}"
        if head != last:
            print(head)
            last = head
        unit, factor = ("s", 1) if row.seconds >= 1 else ("ms", 1e3) if row.seconds >= 1e-3 else ("us", 1e6)
        quality = "" if row.quality is None else f"{row.quality:.2g}" if row.quality < 0.01 else f"{row.quality:.4f}"
        share = "" if row.roofline is None else f"{row.roofline:.0%}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x" if row.ratio < 10 else f"{row.ratio:.0f}x"
        missed = f"  misses the gap in {row.missed:.1%}" if row.missed else ""
        print(
            f"{'':32}{row.method:25}{row.seconds * factor:>9.3g} {unit:2}  {row.item:15}{ratio:>8}{quality:>10}"
            f"{share:>10}{row.peak_mib:>10.0f}{missed}"
        )


if __name__ == "__main__":
    main()

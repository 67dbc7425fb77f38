"""Run gigraph's kernels and their peers in turn, in one process on one thread; print and write the table.

    uv run --group bench python -m tests.benchmarks            a few minutes
    uv run --group bench python -m tests.benchmarks --full     the paper's sizes, a quarter of an hour and more

On one thread, since not every peer has more, and in CPU seconds; OMP_NUM_THREADS asks for another number.
Written: peers.parquet, growth.parquet, growth.svg.
"""

from __future__ import annotations

import argparse
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

    from . import growth, measure, paths, peers

    torch.set_num_threads(threads)
    limits = measure.machine(threads)
    print(
        f"{threads} thread{'s' * (threads > 1)}: matrix product {limits.flops / 1e9:.0f} GF/s, "
        f"copy {limits.bandwidth / 1e9:.1f} GB/s"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[measure.Row] = []
    if "clustering" in args.only:
        cases = [(10_000, 256, 1024), (20_000, 256, 2048)]
        cases += [(50_000, 256, 2048), (30_000, 512, 4096), (50_000, 32, 16_384)] if args.full else [(10_000, 32, 2500)]
        rows += peers.clustering(limits, cases, 10**9)
    if "lasso" in args.only:
        cases = [(8000, 256, 2048), (8000, 512, 4096)] + ([(8000, 2048, 16_384)] if args.full else [])
        rows += peers.decomposition(limits, cases, 16 if args.full else 8)
    if "nonnegative" in args.only:
        rows += peers.decomposition(limits, [(8000, 256, 2048), (8000, 512, 4096)], 8, "nonnegative")
    if "pursuit" in args.only:
        rows += peers.pursuit(limits, [(8000, 256, 256), (8000, 256, 2048), (8000, 512, 4096)], 200)
    if {"gig", "srd", "growth"} & set(args.only):
        traced = paths.network()
    if "gig" in args.only:
        rows += paths.attributions(limits, traced, 5 if args.full else 3)
    if "srd" in args.only:
        rows += paths.sweeps(limits, traced, 5 if args.full else 3)
    if rows:
        table = pl.DataFrame([asdict(row) for row in measure.relative(rows)], infer_schema_length=None).with_columns(
            threads=pl.lit(threads), gflops=pl.lit(limits.flops / 1e9), gbytes=pl.lit(limits.bandwidth / 1e9)
        )
        table.write_parquet(args.out / "peers.parquet")
        show(rows)
    if "growth" in args.only:
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
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}x"
        print(
            f"{'':32}{row.method:25}{row.seconds * factor:>9.3g} {unit:2}  {row.item:15}{ratio:>8}{quality:>10}"
            f"{share:>10}{row.peak_mib:>10.0f}"
        )


if __name__ == "__main__":
    main()

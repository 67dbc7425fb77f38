"""Measure per layer how well the concepts reconstruct the PFVs, and with how few (Table 1)."""

from argparse import Namespace
from functools import partial

import numpy as np

from gigraph.method.certificate import certified
from gigraph.records import tables
from gigraph.records.paths import Results
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    files = partial(Results(args.root), method=args.method)
    rows = []
    for layer in args.settings["layers"]:
        shards = [files("coefficients", layer=layer, shard=shard) for shard in range(args.settings["shards"])]
        table = tables.read(shards, ["concepts", "rel_l2", "gap", "stationarity"])
        k = len(tables.read(files("concepts", layer=layer), ["concept"]))
        nonzeros = np.diff(tables.csr(table, "concepts")[0])
        gap, stationarity = tables.numpy(table, "gap"), tables.numpy(table, "stationarity")
        rows.append(
            {
                "layer": layer,
                "rel_l2": float(tables.numpy(table, "rel_l2").mean()),
                "l0_ratio": float(1 - nonzeros.mean() / k),
                "nonzeros": float(nonzeros.mean()),
                "gap": float(gap.max()),
                "stationarity": float(stationarity.max()),
                "pfvs": len(table),
            }
        )
        log.info(
            "%s: relative l2 error %.3f, %.1f non-zeros of %d, %s",
            layer, rows[-1]["rel_l2"], nonzeros.mean(), k, certified(gap, stationarity),
        )  # fmt: skip
    tables.write(
        args.reconstruction, "reconstruction", {key: [row[key] for row in rows] for key in rows[0]}, args.lineage
    )


if __name__ == "__main__":
    run(main, "root", "method", "reconstruction")

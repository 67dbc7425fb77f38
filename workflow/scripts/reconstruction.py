"""Measure per layer how well the concepts reconstruct the PFVs, with how few, and what is kept of the decision."""

from argparse import Namespace
from dataclasses import asdict
from functools import partial

import numpy as np

from gigraph.method.certificate import certified
from gigraph.method.origin import twins
from gigraph.method.share import Share
from gigraph.records import tables
from gigraph.records.decisions import kept_of
from gigraph.records.paths import Results
from gigraph.reporting import log
from gigraph.running.runtime import run

FEW = 0.5
"""Below this part of the centred logit, or of the predictions, the graph explains another network than the user's."""
REMEDY = (
    "take coefficients.method: pursuit, a larger coefficients.value or concepts.expansion, more images, or another "
    "concepts.center"
)


def main(args: Namespace) -> None:
    files = partial(Results(args.root), method=args.method)
    rows = []
    for layer in args.settings["layers"]:
        shards = [files("coefficients", layer=layer, shard=shard) for shard in range(args.settings["shards"])]
        table = tables.read(shards, ["concepts", "rel_l2", "gap", "stationarity"])
        vectors = tables.numpy(tables.read(files("concepts", layer=layer), ["vector"]), "vector")
        k, alike = len(vectors), twins(vectors)
        (centre,) = tables.read(files("centre", layer=layer), ["center", "mean_cosine"]).to_pylist()
        decisions = [files("decisions", layer=layer, shard=shard) for shard in range(args.settings["shards"])]
        kept = kept_of(tables.read(decisions))
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
                "concepts": k,
                "twins": alike,
                **centre,
                **asdict(kept),
            }
        )
        log.info(
            "%s: relative l2 error %.3f, %.1f non-zeros of %d (%d have a twin), %s",
            layer, rows[-1]["rel_l2"], nonzeros.mean(), k, alike, certified(gap, stationarity),
        )  # fmt: skip
        _report(layer, kept)
    tables.write(
        args.reconstruction, "reconstruction", {key: [row[key] for row in rows] for key in rows[0]}, args.lineage
    )


def _report(layer: str, kept: Share) -> None:
    """Log how much is kept of the decisions, and warn where it is little."""
    said = (
        f"{layer} keeps {kept.logit:.0%} of the centred logit (standard error {kept.logit_se:.0%}) and "
        f"{kept.agreement:.0%} of the predictions; class probability {kept.probability_at_concepts:.2f} at X~, "
        f"{kept.probability:.2f} at X"
    )
    if kept.logit >= FEW and kept.agreement >= FEW:
        log.info("%s, %d images", said, kept.images)
    else:
        log.info("note: %s: its concepts explain little of the decision; %s", said, REMEDY)


if __name__ == "__main__":
    run(main, "root", "method", "reconstruction")

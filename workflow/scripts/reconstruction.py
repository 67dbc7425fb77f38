"""Measure per layer how well the concepts reconstruct the PFVs, with how few, and what is kept of the decision."""

from argparse import Namespace
from dataclasses import asdict
from functools import partial

import numpy as np

from gigraph.method.certificate import certified
from gigraph.method.heldout import held_out
from gigraph.method.origin import twins
from gigraph.method.share import Share
from gigraph.records import tables
from gigraph.records.decisions import kept_of
from gigraph.records.paths import Results
from gigraph.reporting import log
from gigraph.running.runtime import run

FEW = 0.5
"""Below this part of the centred logit, or of the predictions, the graph explains another network than the user's."""
REMEDY = "a larger coefficients.value or concepts.expansion, more images, or another concepts.center"
UNSEEN = ("images", "logit", "logit_se", "agreement", "agreement_se")


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
        decided = tables.read(decisions)
        kept = kept_of(decided)
        seed, holdout = args.settings["seed"], args.settings["holdout"]
        unseen = kept_of(decided.filter(held_out(tables.numpy(decided, "image_id"), seed, holdout)))
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
                **{f"unseen_{key}": getattr(unseen, key) for key in UNSEEN},
            }
        )
        log.info(
            "%s: relative l2 error %.3f, %.1f non-zeros of %d (%d have a twin), %s",
            layer, rows[-1]["rel_l2"], nonzeros.mean(), k, alike, certified(gap, stationarity),
        )  # fmt: skip
        _report(layer, kept, unseen, args.settings["methods"][layer])
    tables.write(
        args.reconstruction, "reconstruction", {key: [row[key] for row in rows] for key in rows[0]}, args.lineage
    )


def _report(layer: str, kept: Share, unseen: Share, method: str) -> None:
    """Log how much is kept of the decisions, and warn where it is little."""
    said = f"{layer}: the concepts {kept.said()}"
    if np.isfinite(kept.probability):
        said += f"; class probability {kept.probability_at_concepts:.2f} at X~, {kept.probability:.2f} at X"
    if not (kept.kept >= FEW and kept.agreement >= FEW):
        remedy = REMEDY if method == "pursuit" else f"coefficients.method: pursuit, {REMEDY}"
        log.info("note: %s; take %s", said, remedy if np.isfinite(kept.logit) else "another concepts.center")
    else:
        log.info("%s, %d images", said, kept.images)
    if unseen.images:
        log.info("%s: of %d images new to the concepts they %s", layer, unseen.images, unseen.said())


if __name__ == "__main__":
    run(main, "root", "method", "reconstruction")

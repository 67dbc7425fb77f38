"""Fix one layer's lambda (Eq. 2), calibrated to a number of non-zeros or as configured, or its number of concepts."""

from argparse import Namespace
from typing import Any

import numpy as np

from gigraph.errors import UserError
from gigraph.method.coding import ENCODER, Coder, settle, sparse
from gigraph.method.share import kept
from gigraph.records import tables
from gigraph.records.encoders import read_encoder
from gigraph.records.pfvs import subsample
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings = args.settings
    memory = args.compute.memory_mb * 10**6
    vectors = tables.numpy(tables.read(args.concepts, ["vector"]), "vector")
    x = subsample(args.pfvs, settings["seed"], settings["holdout"], settings["calibration"]) - tables.beta(args.centre)
    encoder = read_encoder(args.concepts)
    asked, found = None, None
    fixed = {key: settings[key] for key in ("method", "sign", "penalty", "value")}
    if encoder is not None and encoder.codes:
        fixed = {"method": ENCODER, "sign": "nonnegative", "penalty": ENCODER, "value": 0}
    elif settings["penalty"] in ("nonzeros", "decision"):
        tried = settings["penalty"] == "decision"
        asked = settings["value"]
        if tried:
            bound = sparse([x.shape[1]], len(vectors), x.shape[1])[0]
            asked = _fewest(tables.read(args.trials).to_pylist(), asked, bound, settings.get("shuffled", False))
        fixed, found = settle(x, vectors, settings, asked, settings["tolerance"], memory)
    if found is not None and settings["method"] == "lasso":
        nonzeros, rel_l2 = found.nonzeros, found.rel_l2
    else:
        codes = Coder(vectors, fixed, settings["tolerance"], encoder, memory)(x)
        nonzeros, rel_l2 = codes.nonzeros().mean(), codes.rel_l2.mean()
    if asked is not None and abs(nonzeros - asked) > 0.05 * asked:
        log.info("note: %.4g non-zeros per PFV were asked for, %.4g were reached", asked, nonzeros)
    columns = {"layer": [settings["layer"]], "method": [fixed["method"]], "sign": [fixed["sign"]],
               "penalty": [fixed["penalty"]], "value": [float(fixed["value"])],
               "nonzeros": [float(nonzeros)], "rel_l2": [float(rel_l2)]}  # fmt: skip
    tables.write(args.calibration, "calibration", columns, args.lineage)
    what = "at most %.4g concepts" if fixed["method"] == "pursuit" else f"lambda ({fixed['penalty']}) %.4g"
    log.info(
        f"%s: {what}: %.1f non-zeros per PFV, relative l2 error %.3f", fixed["method"], fixed["value"], nonzeros, rel_l2
    )


def _fewest(trials: list[dict[str, Any]], wanted: float, bound: int, shuffled: bool = False) -> int:
    """Return the fewest non-zeros that keep the wanted part of the centred logit, or those that keep most.

    A network with shuffled weights, which need not decide anything, gets as many as are tried. `bound` is the number
    that concepts and channels allow.
    """
    parts = {row["asked"]: kept(row["logit"]) for row in trials}
    if not any(np.isfinite(one) for one in parts.values()):
        if shuffled:
            most = max(parts)
            log.info(
                "note: at layer %s the network with shuffled weights decides no more clearly at X than at the "
                "baseline; %d non-zeros are taken, the most that are tried", trials[0]["layer"], most,
            )  # fmt: skip
            return most
        raise UserError(
            f"coefficients.penalty: decision: at layer {trials[0]['layer']} the network decides no more clearly at X "
            "than at the baseline, so that there is nothing to keep; if the accuracy is low, mend that first "
            "(preprocessing, model.weights); else take penalty: nonzeros, or another concepts.center"
        )
    enough = [row for row in trials if parts[row["asked"]] >= wanted]
    one = (
        min(enough, key=lambda row: row["asked"]) if enough
        else max(trials, key=lambda row: np.nan_to_num(parts[row["asked"]], nan=-np.inf))
    )  # fmt: skip
    said = f"{one['asked']} non-zeros keep {one['logit']:.0%} of the centred logit of {one['images']} images"
    if enough:
        log.info("%s, %.0f%% are wanted", said, 100 * wanted)
    else:
        most = max(row["asked"] for row in trials)
        limit, remedy = (
            ("coefficients.most", "raise it, or concepts.expansion") if most < bound
            else ("half the channels, or all concepts", "raise concepts.expansion")
        )  # fmt: skip
        log.info(
            "note: %s: %s, and none up to %d (%s) keep the wanted %.0f%%: %s",
            one["layer"], said, most, limit, 100 * wanted, remedy,
        )  # fmt: skip
    return one["asked"]


if __name__ == "__main__":
    run(main, "trials?", "centre", "concepts", "pfvs+", "calibration")

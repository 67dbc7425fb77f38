"""Fix one layer's lambda (Eq. 2), calibrated to a number of non-zeros or as configured, or its number of concepts."""

from argparse import Namespace

import numpy as np

from gigraph.hashing import mix
from gigraph.method.coding import ENCODER, Coder
from gigraph.method.heldout import held_out
from gigraph.method.lasso import calibrate
from gigraph.records import tables
from gigraph.records.encoders import read_encoder
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    settings = args.settings
    memory = args.compute.memory_mb * 10**6
    vectors = tables.numpy(tables.read(args.concepts, ["vector"]), "vector")
    pfvs = tables.read(args.pfvs, ["image_id", "y", "x", "pfv"])
    pfvs = pfvs.filter(~held_out(tables.numpy(pfvs, "image_id"), settings["seed"], settings["holdout"]))
    key = mix(settings["seed"], *(tables.numpy(pfvs, name).astype(np.int64) for name in ("image_id", "y", "x")))
    some = np.sort(np.argsort(key, kind="stable")[: settings["calibration"]])
    x = tables.numpy(pfvs, "pfv")[some] - tables.beta(args.centre)
    encoder = read_encoder(args.concepts)
    asked = settings["value"] if encoder is None and settings["penalty"] == "nonzeros" else None
    fixed = {key: settings[key] for key in ("method", "sign", "penalty", "value")}
    if encoder is not None:
        fixed = {"method": ENCODER, "sign": "nonnegative", "penalty": ENCODER, "value": 0}
    found = None
    if asked is not None and settings["method"] != "pursuit":
        found = calibrate(x, vectors, asked, tol=settings["tolerance"], memory=memory)
        fixed |= {"penalty": "absolute", "value": found.lam}
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
    what = "concepts" if fixed["method"] == "pursuit" else f"lambda ({fixed['penalty']})"
    log.info(
        "%s: %s %.4g: %.1f non-zeros per PFV, relative l2 error %.3f",
        fixed["method"], what, fixed["value"], nonzeros, rel_l2,
    )  # fmt: skip


if __name__ == "__main__":
    run(main, "centre", "concepts", "pfvs+", "calibration")

"""Fix one layer's lambda: calibrated to a number of non-zeros, or as configured (Eq. 2)."""

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
    if encoder is None and settings["penalty"] == "nonzeros":
        found = calibrate(x, vectors, settings["value"], tol=settings["tolerance"], memory=memory)
        penalty, value, nonzeros, rel_l2 = "absolute", found.lam, found.nonzeros, found.rel_l2
        if abs(nonzeros - settings["value"]) > 0.05 * settings["value"]:
            log.info("note: %.4g non-zeros per PFV were asked for, %.4g were reached", settings["value"], nonzeros)
    else:
        penalty, value = (settings["penalty"], settings["value"]) if encoder is None else (ENCODER, 0)
        codes = Coder(vectors, {"penalty": penalty, "value": value}, settings["tolerance"], encoder, memory)(x)
        nonzeros, rel_l2 = codes.nonzeros().mean(), codes.rel_l2.mean()
    columns = {"layer": [settings["layer"]], "penalty": [penalty], "value": [float(value)],
               "nonzeros": [float(nonzeros)], "rel_l2": [float(rel_l2)]}  # fmt: skip
    tables.write(args.calibration, "calibration", columns, args.lineage)
    log.info("lambda (%s) %.4g: %.1f non-zeros per PFV, relative l2 error %.3f", penalty, value, nonzeros, rel_l2)


if __name__ == "__main__":
    run(main, "centre", "concepts", "pfvs+", "calibration")

"""Find one layer's centre beta: the batch norms' net shift (Eq. 8), the mean PFV, or zero."""

from argparse import Namespace

import numpy as np

from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    layer, center = args.settings["layer"], args.settings["center"]
    (row,) = [row for row in tables.read(args.layers).to_pylist() if row["layer"] == layer]
    beta = row["beta"]
    if center == "batchnorm" and beta is None:
        log.info("%s has no batch norm to take beta from; the mean PFV is used", layer)
        center = "mean"
    if center == "zero":
        beta = np.zeros(row["channels"], np.float32)
    elif center == "mean":
        beta = tables.numpy(tables.read(args.pfvs, ["pfv"]), "pfv").astype(np.float64).mean(0).astype(np.float32)
    tables.write(args.centre, "centre", {"layer": [layer], "center": [center], "beta": [beta]}, args.lineage)
    log.info("beta of %s (%s): norm %.4g", layer, center, np.linalg.norm(beta))


if __name__ == "__main__":
    run(main, "layers", "pfvs+", "centre")

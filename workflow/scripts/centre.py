"""Find one layer's centre beta: the batch norms' net shift (Eq. 8), the mean PFV, or zero."""

from argparse import Namespace

import numpy as np

from gigraph.method.origin import choose, place
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run


def main(args: Namespace) -> None:
    layer, center = args.settings["layer"], args.settings["center"]
    (row,) = [row for row in tables.read(args.layers).to_pylist() if row["layer"] == layer]
    pfvs = tables.numpy(tables.read(args.pfvs, ["pfv"]), "pfv")
    beta = None if row["beta"] is None else np.array(row["beta"], np.float32)
    if beta is None and center == "batchnorm":
        log.info("%s has no batch norm to take beta from; the mean PFV is used", layer)
    if beta is not None and center == "auto":
        seen = place(pfvs, beta)
        taken = "so it is used" if seen.within else "too far, so the mean PFV is used"
        log.info("%s: Eq. 8's beta lies %.2f of the PFVs' spread from their mean, %s", layer, seen.distance, taken)
    center, beta = choose(pfvs, beta, center)
    found = place(pfvs, beta)
    where = {"distance": [found.distance], "mean_cosine": [found.mean_cosine]}
    tables.write(args.centre, "centre", {"layer": [layer], "center": [center], "beta": [beta], **where}, args.lineage)
    log.info(
        "beta of %s (%s): norm %.4g, %.2f of the PFVs' spread from their mean; mean cosine of two PFVs around it %.2f",
        layer, center, np.linalg.norm(beta), found.distance, found.mean_cosine,
    )  # fmt: skip


if __name__ == "__main__":
    run(main, "layers", "pfvs+", "centre")

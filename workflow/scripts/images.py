"""Gather the manifest and the predictions of all shards into one table, and what of the folder is no image of it."""

from argparse import Namespace

import numpy as np

from gigraph.images.chance import cause, displaced
from gigraph.images.listing import left_out
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run

FEW = 5
"""Images of a class below which their share that is recognised says little."""


def main(args: Namespace) -> None:
    manifest, predictions = tables.read(args.manifests), tables.read(args.predictions)
    assert manifest["image_id"].equals(predictions["image_id"])
    columns = {name: manifest[name] for name in manifest.column_names}
    columns |= {name: predictions[name] for name in ("predicted", "probability", "value")}
    tables.write(args.images, "images", columns, args.lineage)
    unreadable = tables.read(args.rejects)
    # Beside its images a drawn world keeps its truth.
    others = [] if args.settings["drawn"] else left_out(args.settings["source"])
    both = [*zip(unreadable["path"].to_pylist(), unreadable["reason"].to_pylist(), strict=True), *others]
    reasons = {"path": [path for path, _ in both], "reason": [reason for _, reason in both]}
    tables.write(args.rejected, "rejected", reasons, args.lineage)
    for path, reason in others:
        log.info("%s: %s", path, reason)
    log.info("%d images, %d rejected, %d passed over", len(manifest), len(unreadable), len(others))
    labels = tables.numpy(manifest, "label")
    value, predicted = (tables.numpy(predictions, name) for name in ("value", "predicted"))
    if len(value) > 1 and np.isfinite(value).all() and len(np.unique(predicted)) == 1:
        log.info(
            "note: all values lie on one side of model.reference; set it to about their mean, %.4g, so that both what "
            "raises and what lowers a value is shown", value.mean(),
        )  # fmt: skip
    if len(labels) and labels.min() >= 0:
        right = labels == tables.numpy(predictions, "predicted")
        accuracy = right.mean()
        log.info("accuracy %.2f%% on %d images", 100 * accuracy, len(labels))
        known = {int(one): right[labels == one] for one in np.unique(labels)}
        names = dict(zip(labels.tolist(), manifest["class"].to_pylist(), strict=True))
        moved = displaced(labels, predicted, FEW)
        if moved:
            log.info(
                "note: most images of %s are predicted as one other class each: likely the folders are in another "
                "order than the outputs; images.classes gives that of the outputs", _some(names, moved),
            )  # fmt: skip
        lost = [label for label, own in known.items() if len(own) >= FEW and own.mean() < 0.5 and label not in moved]
        if lost:
            log.info(
                "note: less than half of the images of %s are recognised: their graphs are mostly of what the model "
                "takes for other classes", _some(names, lost),
            )  # fmt: skip
        if accuracy < 2 / max(labels.max() + 1, 4) and (lost or not moved):
            log.info(
                "note: accuracy %.1f%% is near chance; %s",
                100 * accuracy, cause(labels, tables.numpy(predictions, "predicted")),
            )  # fmt: skip
        elif accuracy < 0.5 and (lost or not moved):
            log.info(
                "note: accuracy %.1f%%: if the model knows more of such images than that, preprocessing (resize, crop, "
                "mean, std) or model.weights are not those of its training", 100 * accuracy,
            )  # fmt: skip


def _some(names: dict[int, str], labels: list[int]) -> str:
    return ", ".join(names[label] for label in labels[:5]) + ", ..." * (len(labels) > 5)


if __name__ == "__main__":
    run(main, "manifests+", "rejects+", "predictions+", "images", "rejected")

"""Draw one shard's PFVs of every layer: one forward and one backward sweep per batch (Eq. 10, Sec. 3.2.1)."""

from argparse import Namespace

import numpy as np
import torch

from gigraph.method.sampling import draw_positions
from gigraph.method.tasks import predict, probabilities
from gigraph.model.contribution import contributions
from gigraph.records import tables
from gigraph.records.paths import Results
from gigraph.reporting import log, progress
from gigraph.running.runtime import run
from gigraph.subject import Subject, check_finite

COLUMNS = ("image_id", "y", "x", "contribution", "residual", "fallback", "pfv")


def main(args: Namespace) -> None:
    settings = args.settings
    results = Results(args.root)
    outputs = {name: results("pfvs", layer=name, shard=args.shard) for name in settings["layers"]}
    stale = [name for name, path in outputs.items() if tables.lineage_of(path) != settings["layers"][name]["lineage"]]
    log.info("layers to sample: %s", ", ".join(stale) or "none")
    subject = Subject(settings, args.compute, list(settings["layers"]))
    method = subject.contribution(settings["contribution"]["method"])
    manifest = tables.read(args.manifest)
    ids, labels = tables.numpy(manifest, "image_id"), tables.numpy(manifest, "label")
    rows = {name: {key: [] for key in COLUMNS} for name in stale}
    predicted, probability, values, shares = [], [], [], []
    sweep = subject.images(settings["source"], ids, manifest["path"].to_pylist())
    for part, x in progress(sweep, -(-len(ids) // subject.images_at_once), "batches"):
        maps, pfvs, logits, score = contributions(
            subject.network, list(subject.layers.values()), x, method,
            labels[part], settings["contribution"]["target"],
        )  # fmt: skip
        network = subject.network
        best = predict(logits, torch.tensor(labels[part], device=logits.device, dtype=torch.int64), network.task)
        predicted.append(best.cpu().numpy())
        probability.append(probabilities(logits, network.task).gather(1, best[:, None])[:, 0].cpu().numpy())
        values.append(network.value(logits).cpu().numpy())
        residual = {name: (score - maps[name].sum(1)).cpu().numpy() for name in settings["layers"]}
        shares.append([np.abs(score.cpu().numpy()), *map(np.abs, residual.values())])
        for name in stale:
            check_finite(pfvs[name], name, ids[part])
            contribution = maps[name].cpu().numpy()
            _draw(
                rows[name], name, contribution, residual[name], pfvs[name], ids[part], settings,
                subject.layers[name].width,
            )  # fmt: skip
    for name in stale:
        channels = subject.layers[name].channels
        columns = {key: np.concatenate(found) if found else np.empty(0) for key, found in rows[name].items()}
        columns["pfv"] = columns["pfv"].reshape(-1, channels)
        tables.write(outputs[name], "pfvs", columns, settings["layers"][name]["lineage"], vectors="pfv")
        log.info("%s: %d PFVs, %d drawn uniformly", name, len(columns["pfv"]), int(np.sum(columns["fallback"])))
    if shares:
        logit, *missed = (np.concatenate(many).mean() for many in zip(*shares, strict=True))
        for name, value in zip(settings["layers"], missed, strict=True):
            log.info(
                "%s: the bias keeps %.2f of the logit (mean |logit - sum R| over mean |logit|)", name, value / logit
            )
    empty = np.empty(0)
    tables.write(
        args.predictions,
        "predictions",
        {
            "image_id": ids,
            "predicted": np.concatenate(predicted or [empty]).astype(np.int32),
            "probability": tables.nullable(np.concatenate(probability or [empty])),
            "value": tables.nullable(np.concatenate(values or [empty])),
        },
        args.lineage,
    )


def _draw(rows, name, contribution, residual, pfvs, ids, settings, width) -> None:
    count = settings["layers"][name]["pfvs_per_image"]
    position, fallback = draw_positions(contribution, count, seed=settings["seed"], image_ids=ids, layer=name)
    rows["image_id"].append(np.repeat(ids, position.shape[1]))
    rows["y"].append((position // width).ravel().astype(np.int32))
    rows["x"].append((position % width).ravel().astype(np.int32))
    rows["contribution"].append(np.take_along_axis(contribution, position, 1).ravel().astype(np.float32))
    rows["residual"].append(np.repeat(residual, position.shape[1]).astype(np.float32))
    rows["fallback"].append(fallback.ravel())
    index = torch.as_tensor(position, device=pfvs.device)[..., None].expand(-1, -1, pfvs.shape[2])
    rows["pfv"].append(pfvs.gather(1, index).flatten(0, 1).cpu().numpy())


if __name__ == "__main__":
    run(main, "manifest", "predictions", "root", "shard")

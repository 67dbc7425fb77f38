"""Draw PFVs of every layer at positions drawn uniformly from images that are not held out."""

from argparse import Namespace

import numpy as np
import torch

from gigraph.hashing import mix, text_key
from gigraph.method.heldout import held_out
from gigraph.method.sampling import draw_positions
from gigraph.records import tables
from gigraph.records.paths import Results
from gigraph.reporting import log, progress
from gigraph.running.runtime import run
from gigraph.subject import Subject, check_finite


def main(args: Namespace) -> None:
    settings, results = args.settings, Results(args.root)
    subject = Subject(settings, args.compute, settings["layers"])
    manifest = tables.read(args.manifests, ["image_id", "path"])
    ids, paths = tables.numpy(manifest, "image_id"), manifest["path"].to_pylist()
    seen = np.flatnonzero(~held_out(ids, settings["seed"], settings["holdout"]))
    key = mix(settings["seed"], text_key("uniform"), ids[seen])
    chosen = np.sort(seen[np.argsort(key, kind="stable")[: settings["images"]]])
    found = {name: [] for name in settings["layers"]}
    layers = subject.layers
    sweep = subject.images(settings["source"], ids[chosen], [paths[i] for i in chosen])
    for part, x in progress(sweep, -(-len(chosen) // subject.images_at_once), "batches"):
        some = ids[chosen[part]]
        with torch.inference_mode():
            maps = subject.network.activations(x, list(layers.values()))
        for name, layer in layers.items():
            pfvs = layer.to_pfvs(maps[name])
            check_finite(pfvs, name, some)
            alike = np.ones(tuple(pfvs.shape[:2]))
            position, _ = draw_positions(
                alike, settings["positions"], seed=settings["seed"], image_ids=some, layer=f"uniform {name}"
            )
            index = torch.as_tensor(position, device=pfvs.device)[..., None].expand(-1, -1, pfvs.shape[2])
            found[name].append((np.repeat(some, position.shape[1]), position, pfvs.gather(1, index).cpu().numpy()))
    for name, layer in layers.items():
        images, position, pfvs = (np.concatenate(many) for many in zip(*found[name], strict=True))
        columns = {
            "image_id": images,
            "y": (position // layer.width).ravel().astype(np.int32),
            "x": (position % layer.width).ravel().astype(np.int32),
            "pfv": pfvs.reshape(-1, layer.channels),
        }
        tables.write(results("uniform", layer=name), "uniform", columns, args.lineage, vectors="pfv")
    log.info("%d positions of %d images", len(columns["pfv"]), len(chosen))


if __name__ == "__main__":
    run(main, "manifests+", "root")

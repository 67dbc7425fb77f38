"""Draw a layer's PFVs at positions drawn uniformly from images that are not held out."""

from argparse import Namespace

import numpy as np
import torch

from gigraph.hashing import mix, text_key
from gigraph.method.heldout import held_out
from gigraph.method.sampling import draw_positions
from gigraph.records import tables
from gigraph.reporting import log, progress
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    settings, name = args.settings, args.settings["layer"]
    subject = Subject(settings, args.compute, [name])
    manifest = tables.read(args.manifests, ["image_id", "path"])
    ids, paths = tables.numpy(manifest, "image_id"), manifest["path"].to_pylist()
    seen = np.flatnonzero(~held_out(ids, settings["seed"], settings["holdout"]))
    key = mix(settings["seed"], text_key("uniform"), ids[seen])
    chosen = seen[np.argsort(key, kind="stable")[: settings["images"]]]
    found, width = [], subject.layers[name].width
    sweep = subject.images(settings["source"], ids[chosen].tolist(), [paths[i] for i in chosen])
    for part, x in progress(sweep, -(-len(chosen) // subject.images_at_once), "batches"):
        some = ids[chosen[part]]
        pfvs = subject.pfvs(x, name, some.tolist())
        alike = np.ones(tuple(pfvs.shape[:2]))
        given = {"seed": settings["seed"], "image_ids": some, "layer": f"uniform {name}"}
        position, _ = draw_positions(alike, settings["positions"], **given)
        index = torch.as_tensor(position, device=pfvs.device)[..., None].expand(-1, -1, pfvs.shape[2])
        found.append((np.repeat(some, position.shape[1]), position.ravel(), pfvs.gather(1, index).flatten(0, 1)))
    images, position, pfvs = (list(many) for many in zip(*found, strict=True))
    where = np.concatenate(position)
    columns = {
        "image_id": np.concatenate(images), "y": (where // width).astype(np.int32),
        "x": (where % width).astype(np.int32), "pfv": torch.cat(pfvs).cpu().numpy(),
    }  # fmt: skip
    tables.write(args.uniform, "uniform", columns, args.lineage, vectors="pfv")
    log.info("%d positions of %d images", len(where), len(chosen))


if __name__ == "__main__":
    run(main, "manifests+", "uniform")

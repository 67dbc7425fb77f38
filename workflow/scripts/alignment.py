"""Compare the concepts with the drawn parts: average precision of each part's best concept, on fresh scenes.

Beside the method's concepts stand what it has to beat: as many PFVs at random, single channels, random vectors.
The response of a concept at a position is the projection of the centred PFV on its unit vector.
"""

from argparse import Namespace

import numpy as np

from gigraph.hashing import mix
from gigraph.menagerie.alignment import PARTS, SCENES, coverage, part_alignment, positives
from gigraph.menagerie.draw import OWNERS, paint
from gigraph.menagerie.scene import scenes
from gigraph.method.vectors import unit
from gigraph.records import tables
from gigraph.records.paths import Results
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log, progress
from gigraph.running.runtime import run
from gigraph.subject import Subject

DETECTS = 0.5
"""Average precision from which a concept is said to detect a part."""


def main(args: Namespace) -> None:
    settings, results = args.settings, Results(args.root)
    subject = Subject(settings, args.compute, settings["layers"])
    drawn = [
        paint(one, settings["size"]) for one in progress(scenes(settings["seed"], "align", SCENES), SCENES, "scenes")
    ]
    owners = subject.seen_of(np.stack([owner for _, owner in drawn]))
    found = subject.sweep_arrays(np.stack([image for image, _ in drawn]))
    rows = []
    half = SCENES // 2
    for name, layer in subject.layers.items():
        pfvs = found[name] - tables.beta(results("centre", layer=name))
        present = positives(coverage(owners, [OWNERS.index(part) for part in PARTS], (layer.height, layer.width)))
        for vectors, directions in _directions(results, settings, name, layer.channels).items():
            projected = pfvs.reshape(-1, layer.channels) @ unit(directions).T.astype(np.float32)
            response = projected.reshape(*pfvs.shape[:2], -1)
            best = part_alignment(response[:half], present[:half], response[half:], present[half:])
            for m, part in enumerate(PARTS):
                detectors = best.detectors(m, DETECTS)
                rows.append((name, vectors, part, int(best.concept[m]), best.score[m], best.chance[m], *detectors))
            log.info("%s, %s: mean average precision %.3f", name, vectors, np.nanmean(best.score))
    columns = dict(zip(SCHEMAS["alignment"].names, map(list, zip(*rows, strict=True)), strict=True))
    tables.write(args.alignment, "alignment", columns, args.lineage)


def _directions(results: Results, settings, layer: str, channels: int) -> dict[str, np.ndarray]:
    """Return the method's concept vectors and the three kinds to compare them with."""
    method = settings["method"]
    concepts = tables.numpy(tables.read(results("concepts", method=method, layer=layer), ["vector"]), "vector")
    table = tables.read(results.shards("pfvs", range(settings["shards"]), layer=layer), ["image_id", "y", "x", "pfv"])
    keys = mix(settings["seed"], *(tables.numpy(table, name).astype(np.int64) for name in ("image_id", "y", "x")))
    some = np.argsort(keys, kind="stable")[: len(concepts)]
    generator = np.random.Generator(np.random.Philox(settings["seed"]))
    return {
        method: concepts,
        "random PFVs": tables.numpy(table, "pfv")[some] - tables.beta(results("centre", layer=layer)),
        "channels": np.eye(channels, dtype=np.float32),
        "random vectors": generator.normal(size=concepts.shape).astype(np.float32),
    }


if __name__ == "__main__":
    run(main, "root", "alignment")

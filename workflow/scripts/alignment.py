"""Compare the concepts with the drawn parts: average precision of each part's best concept, on fresh scenes.

Beside the method's concepts stand what it has to beat: as many PFVs at random, single channels, random vectors. Its
families stand there too, under their leaders: their best is of fewer, but they are what the graph shows. The response
of a concept at a position is the projection of the centred PFV on its unit vector, that of a family on its direction.
"""

from argparse import Namespace

import numpy as np

from gigraph.hashing import mix
from gigraph.method.vectors import unit
from gigraph.records import tables
from gigraph.records.families import read_families
from gigraph.records.paths import Results
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log, progress
from gigraph.reserved import FAMILIES
from gigraph.running.runtime import run
from gigraph.subject import Subject
from gigraph.worlds import registry
from gigraph.worlds.alignment import SCENES, coverage, part_alignment, positives

DETECTS = 0.5
"""Average precision from which a concept is said to detect a part."""


def main(args: Namespace) -> None:
    settings, results, world = args.settings, Results(args.root), registry.get(args.settings["world"])
    subject = Subject(settings, args.compute, settings["layers"])
    scenes = progress(world.scenes(settings["seed"], "align", SCENES), SCENES, "scenes")
    drawn = [world.paint(one, settings["size"]) for one in scenes]
    codes = [world.owners.index(part) for part in world.parts]
    owners = subject.seen_of(np.stack([owner for _, owner in drawn]))
    found = subject.sweep_arrays(np.stack([image for image, _ in drawn]))
    rows = []
    half = SCENES // 2
    for name, layer in subject.layers.items():
        pfvs = found[name] - tables.beta(results("centre", layer=name))
        present = positives(coverage(owners, codes, subject.places(name)))
        for vectors, (directions, ids) in _directions(results, settings, name, layer.channels).items():
            projected = pfvs.reshape(-1, layer.channels) @ unit(directions).T.astype(np.float32)
            response = projected.reshape(*pfvs.shape[:2], -1)
            best = part_alignment(response[:half], present[:half], response[half:], present[half:])
            for m, part in enumerate(world.parts):
                detectors, precisions = best.detectors(m, DETECTS)
                found_as = [int(ids[k]) for k in detectors]
                one = int(ids[best.concept[m]]) if best.concept[m] >= 0 else -1
                rows.append((name, vectors, part, one, best.score[m], best.chance[m], found_as, precisions))
            log.info("%s, %s: mean average precision %.3f", name, vectors, np.nanmean(best.score))
    columns = dict(zip(SCHEMAS["alignment"].names, map(list, zip(*rows, strict=True)), strict=True))
    tables.write(args.alignment, "alignment", columns, args.lineage)


def _directions(results: Results, settings, layer: str, channels: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the method's concept vectors, the three kinds to compare them with, and the families; with their ids."""
    method = settings["method"]
    families = read_families(results("families", method=method, layer=layer))
    concepts = tables.numpy(tables.read(results("concepts", method=method, layer=layer), ["vector"]), "vector")
    table = tables.read(results.shards("pfvs", range(settings["shards"]), layer=layer), ["image_id", "y", "x", "pfv"])
    keys = mix(settings["seed"], *(tables.numpy(table, name).astype(np.int64) for name in ("image_id", "y", "x")))
    some = np.argsort(keys, kind="stable")[: len(concepts)]
    generator = np.random.Generator(np.random.Philox(settings["seed"]))
    found = {
        method: concepts,
        "random PFVs": tables.numpy(table, "pfv")[some] - tables.beta(results("centre", layer=layer)),
        "channels": np.eye(channels, dtype=np.float32),
        "random vectors": generator.normal(size=concepts.shape).astype(np.float32),
    }
    each = {name: (vectors, np.arange(len(vectors))) for name, vectors in found.items()}
    of_families = families.directions(concepts)[families.ids], families.ids
    return {**each, **({FAMILIES: of_families} if families.merged else {})}


if __name__ == "__main__":
    run(main, "root", "alignment")

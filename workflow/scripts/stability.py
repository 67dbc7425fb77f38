"""Find one layer's concepts again, with other seeds, other K, fewer PFVs per image, and look for their matches."""

from argparse import Namespace

import numpy as np

from gigraph.evaluation.measures import Measures
from gigraph.extractors import extract
from gigraph.hashing import mix
from gigraph.method.bisecting import capped_concepts
from gigraph.method.heldout import held_out
from gigraph.method.stability import best_match
from gigraph.records import tables
from gigraph.records.pfvs import uniform_pfvs
from gigraph.reporting import log, progress
from gigraph.running.runtime import run

FACTORS = (0.5, 2)


def main(args: Namespace) -> None:
    settings = args.settings
    vectors = tables.numpy(tables.read(args.concepts, ["vector"]), "vector")
    pfvs = tables.read(args.pfvs, ["image_id", "y", "x", "pfv"])
    pfvs = pfvs.filter(~held_out(tables.numpy(pfvs, "image_id"), settings["seed"], settings["holdout"]))
    x = tables.numpy(pfvs, "pfv") - tables.beta(args.centre)
    uniform = uniform_pfvs(args.uniform, args.centre)
    ids = tables.numpy(pfvs, "image_id")
    row_ids = mix(ids, *(tables.numpy(pfvs, name).astype(np.int64) for name in ("y", "x")))
    k, _ = capped_concepts(settings["expansion"], x.shape[1], len(x), settings["min_members"])
    seed = settings["seed"]

    def again(k: int, seed: int, rows=slice(None), method=settings["method"]) -> np.ndarray:
        found = extract(method, x[rows], k, row_ids=row_ids[rows], seed=seed, settings=settings, uniform=uniform)
        return best_match(vectors, found.vectors)

    tries = progress(range(1, settings["seeds"] + 1), settings["seeds"], "seeds")
    over_seeds = np.stack([again(k, seed + step) for step in tries])
    sizes = [max(2, round(factor * k)) for factor in FACTORS]
    over_concepts = np.stack([again(size, seed) for size in sizes if size <= len(x)])
    over_pfvs = np.full((1, len(vectors)), np.nan, np.float32)
    fewer = _fewer(ids)
    if fewer.any() and not fewer.all():
        over_pfvs = np.stack([again(min(k, int(fewer.sum())), seed, fewer)])
    chance = again(len(vectors), seed + 1, method="random")
    columns = {
        "layer": [settings["layer"]] * len(vectors), "concept": np.arange(len(vectors), dtype=np.int32),
        "stability": over_seeds.mean(0), "over_concepts": over_concepts.mean(0), "over_pfvs": over_pfvs.mean(0),
        "chance": chance,
    }  # fmt: skip
    tables.write(args.stability, "stability", columns, args.lineage)
    measures = Measures(method=settings["method"], layer=settings["layer"])
    for name in ("stability", "over_concepts", "over_pfvs", "chance"):
        metric = name if name == "stability" else f"stability_{name}"
        found = measures.add(metric, columns[name])
        log.info("%s: %s %.3f", settings["layer"], metric, found.value)
    measures.write("measures", args.measures, args.lineage)


def _fewer(ids: np.ndarray) -> np.ndarray:
    """Return the first half of each image's rows: what sampling half as many PFVs would have drawn."""
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids)) - np.searchsorted(ranked, ranked)
    return rank < max(1, (rank.max(initial=0) + 1) // 2)


if __name__ == "__main__":
    run(main, "centre", "pfvs+", "uniform?", "concepts", "stability", "measures")

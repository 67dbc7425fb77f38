"""Edges beside exact ablation, shown ones and a random sample of others; and what attributions are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gigraph.device import as_device
from gigraph.evaluation.measures import Measures, per_image
from gigraph.hashing import mix
from gigraph.method.fidelity import agreement, checkable, shares
from gigraph.pair import Pair
from gigraph.records import tables
from gigraph.records.paths import Results
from gigraph.records.schemas import SCHEMAS
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.subject import Subject


def check(
    subject: Subject, root: str | Path, selection: str | Path, settings: Mapping[str, Any]
) -> tuple[pl.DataFrame, Measures]:
    """Check the edges of a graph.

    Parameters
    ----------
    subject : Subject
        With all layers.
    root : path
        The results folder.
    selection : path
        Table of the attributed images.
    settings : mapping
        Of the stage ``edge_checks``.

    Returns
    -------
    checks : DataFrame
        Columns of the table ``checks``, a row for each checked edge.
    measures : Measures
        Of each pair, by the graph's attribution method: agreement of edges with their ablation, and the shares of kept
        concepts, remainder and error node.
    """
    results, extractor, how = Results(root), settings["method"], settings["attribution"]
    edges = pl.read_parquet(results("edges", method=extractor))
    edges = edges.filter((pl.col("scope") >= 0) & (pl.col("source") >= 0))
    images = tables.read(selection).to_pylist()
    checked, measures = [], Measures(method=extractor)
    for source, target in progress(settings["pairs"], len(settings["pairs"]), "layer pairs"):
        mine = edges.filter((pl.col("source_layer") == source) & (pl.col("target_layer") == target))
        shown = mine.filter("shown")
        ends = mine["scope"].to_numpy(), mine["target"].to_numpy()
        candidates = mine.filter(pl.Series(checkable(*ends, mine["shown"].to_numpy(), target == CLASSES)))
        others = _sample(candidates, settings["edges"], settings["seed"])
        # Opened one at a time: all layers' vocabularies at once would not fit.
        pair = Pair.open(subject, root, extractor, source, target, how, settings["tolerances"][source])
        ablations = ablated(subject, pair, others, images, settings["images"])
        others = others.with_columns(
            pl.Series("ablation", ablations, pl.Float32), pl.lit(None, pl.Float32).alias("ablation_at_x")
        )
        real = ablated(subject, pair, shown, images, settings["images"], at_x=True)
        shown = shown.with_columns(pl.Series("ablation_at_x", real, pl.Float32))
        del pair
        both = pl.concat([shown, others]).select(SCHEMAS["checks"].names)
        checked.append(both)
        names = {"layer": source, "target": target, "order": how["method"]}
        for which, some in (("shown", shown), ("others", others), ("all", both)):
            _agreement(measures, some, which, names)
        _agreement(measures, shown, "at_x", names, "ablation_at_x")
        shards = range(settings["shards"])
        _shares(measures, results.shards("attributions", shards, method=extractor, source=source, target=target), names)
        log.info("%s to %s: %d shown edges, %d others", source, target, len(shown), len(others))
    return pl.concat(checked), measures


def _sample(edges: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    keys = mix(seed, *(edges[name].to_numpy().astype(np.int64) for name in ("scope", "source", "target")))
    return edges[np.sort(np.argsort(keys, kind="stable")[:count])]


def ablated(
    subject: Subject, pair: Pair, edges: pl.DataFrame, selection: list[dict], folder: str, *, at_x: bool = False
) -> list[float]:
    """Return each edge's exact effect: the mean drop of the target over the class's images without the source.

    Parameters
    ----------
    subject : Subject
        With the pair's layers.
    pair : Pair
        Of the edges.
    edges : DataFrame
        ``scope``, ``source`` and ``target``.
    selection : list of dict
        ``image_id``, ``path`` and ``label`` of the attributed images.
    folder : str
        That paths are relative to.
    at_x : bool
        Delete from the image's real PFVs rather than from what the concepts make of them.
    """
    here = pair.source
    found: dict[tuple[int, int, int], float] = {}
    for scope, part in edges.group_by("scope", maintain_order=True):
        rows = [row for row in selection if row["label"] == scope[0]]
        sources, targets = part["source"].unique().to_list(), part["target"].unique().to_list()
        to = as_device(np.array(targets), subject.device)
        total = np.zeros((len(sources), len(targets)))
        sweep = subject.images(folder, [row["image_id"] for row in rows], [row["path"] for row in rows])
        for _, x in sweep:
            pfvs = subject.pfvs(x, here.layer)
            images, _ = here.decompose(pfvs.cpu().numpy())
            for image, real in zip(images, pfvs, strict=True):
                total += pair.ablate(image, sources, to, real if at_x else None).cpu().numpy()
        for i, q in enumerate(sources):
            for j, t in enumerate(targets):
                found[scope[0], q, t] = float(total[i, j]) / len(rows)
    return [found[key] for key in edges.select("scope", "source", "target").iter_rows()]


def _agreement(
    measures: Measures, edges: pl.DataFrame, which: str, names: dict[str, Any], column: str = "ablation"
) -> None:
    edges = edges.filter(pl.col(column).is_finite())
    mean, exact = (edges[name].to_numpy().astype(np.float64) for name in ("mean", column))
    for metric, value in agreement(mean, exact).items():
        measures.add(f"{metric}_{which}", value, **names, n=len(mean))


def _shares(measures: Measures, attributions: list[Path], names: dict[str, Any]) -> None:
    """Add the `shares` of the attributions' sizes, each image's mean over its targets."""
    table = tables.read(attributions)
    numbers = (tables.numpy(table, name) for name in ("total_absolute", "error"))
    found = shares(tables.csr(table, "sources")[0], tables.csr(table, "values")[1], *numbers)
    ids = tables.numpy(table, "image_id")
    for name, share in found.items():
        known = ~np.isnan(share)  # where nothing is attributed to a target, nothing is a part of it
        measures.add(f"share_{name}", per_image(share[known], ids[known]), **names)

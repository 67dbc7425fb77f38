"""One method's concepts and relevances beside a drawn world: parts, the shortcut, redrawing, confusions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gigraph.device import as_device
from gigraph.evaluation.measures import Measures
from gigraph.method.families import Families
from gigraph.method.fidelity import rank_correlation
from gigraph.method.vectors import unit
from gigraph.pair import Pair
from gigraph.records import tables
from gigraph.records.families import read_families
from gigraph.records.paths import Results
from gigraph.reporting import log, progress
from gigraph.reserved import CLASSES
from gigraph.subject import Subject
from gigraph.vocabulary import Vocabulary
from gigraph.worlds import registry
from gigraph.worlds.alignment import average_precision, coverage, part_alignment, positives
from gigraph.worlds.truth import by_kind, intersection_over_union, off_diagonal, part_shares, purity
from gigraph.worlds.world import World

CODED = 200
"""Scenes of either half that are decomposed into coefficients."""
ATTRIBUTED = 60
"""Scenes whose classes are attributed, of the second half."""

Effects = dict[str, dict[tuple[str, str], float]]
"""Of redrawing, by output (probability, logit), by (class, kind of part)."""


def compare(subject: Subject, root: str | Path, effects: str | Path, settings: Mapping[str, Any]) -> Measures:
    """Compare all layers' concepts with new scenes of their drawn world; half of these choose, the others score.

    Parameters
    ----------
    subject : Subject
        With all layers.
    root : path
        The results folder.
    effects : path
        Table of the exact effects of redrawing a scene without a part.
    settings : mapping
        Of the stage ``truth``.
    """
    measures, world = Measures(method=settings["method"]), registry.get(settings["world"])
    count = settings["scenes"]
    drawn = list(world.scenes(settings["drawn_seed"], "align", count))
    painted = [world.paint(one, settings["size"]) for one in progress(drawn, count, "scenes")]
    owners = subject.seen_of(np.stack([owner for _, owner in painted]))
    labels = world.numbers(drawn)
    sweep = subject.sweep_arrays(np.stack([image for image, _ in painted]))
    logits = sweep[CLASSES]
    redrawn = _effects(effects)
    if settings["first"]:
        _model_facts(measures, world, logits, labels)
    for name in subject.layers:
        vocabulary = Vocabulary(root, settings["method"], name, subject, settings["tolerances"][name])
        pfvs = sweep[name]
        covered = coverage(owners, [world.owners.index(part) for part in world.all_parts], subject.places(name))
        families = read_families(Results(root)("families", method=settings["method"], layer=name))
        shares, baits = parts_of(measures, world, vocabulary, families, pfvs, covered)
        profile = profiles(subject, vocabulary, pfvs, labels, settings["attribution"], len(world.classes))
        _relevance(measures, world, name, profile, labels, logits, redrawn, shares, baits)
        log.info("%s is compared", name)
    return measures


def parts_of(
    measures: Measures,
    world: World,
    vocabulary: Vocabulary,
    families: Families,
    pfvs: np.ndarray,
    covered: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Measure how well concepts detect parts.

    Parameters
    ----------
    measures : Measures
        Gets the numbers.
    world : World
        Whose parts.
    vocabulary : Vocabulary
        The layer's.
    families : Families
        The layer's; their maps are the sums of their members' (`Families.collect`).
    pfvs : float32 array [N, P, C]
        Of the scenes.
    covered : array [N, P, parts]
        Share of each position that each of the world's `all_parts` covers.

    Returns
    -------
    shares : array [K, parts]
        How much of each concept lies on each part.
    baits : bool array [K]
        Which concepts detect the shortcut.
    """
    half, name = len(pfvs) // 2, vocabulary.layer
    shown = positives(covered)
    parts = shown[..., : len(world.parts)]
    centred = pfvs - vocabulary.beta
    response = centred @ unit(vocabulary.vectors).T
    found = part_alignment(response[:half], parts[:half], response[half:], parts[half:])
    measures.add("purity", purity(centred[half:], shown[half:], vocabulary.vectors), layer=name)
    bait = world.parts.index(world.shortcut.part)
    flat = response[:half].reshape(-1, vocabulary.k)
    baits = average_precision(flat, parts[:half, :, bait].reshape(-1, 1))[:, 0] >= 0.5
    del response, flat
    # Coefficients, on some scenes of either half.
    coded = min(CODED, half)
    fit, score = slice(0, coded), slice(half, half + coded)
    u = {}
    for key, rows in (("fit", fit), ("score", score)):
        codes = vocabulary.code(pfvs[rows].reshape(-1, pfvs.shape[2]))
        u[key] = codes.dense(vocabulary.k)
    masks = {key: parts[rows].reshape(-1, len(world.parts)) for key, rows in (("fit", fit), ("score", score))}
    for m, part in enumerate(world.parts):
        measures.add("average_precision", found.score[m], layer=name, part=part)
        measures.add("prevalence", found.chance[m], layer=name, part=part)
    _maps(measures, world, name, u, masks, "average_precision_coefficients", "iou")
    if families.merged:
        _maps(
            measures, world, name, {key: families.maps(one) for key, one in u.items()}, masks,
            "average_precision_families", "iou_families",
        )  # fmt: skip
    return part_shares(u["fit"], shown[fit].reshape(-1, shown.shape[2])), baits


def _maps(
    measures: Measures,
    world: World,
    name: str,
    maps: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    ap: str,
    iou: str,
) -> None:
    """Measure how well the best map of each part shows it, chosen on ``fit`` and scored on ``score``."""
    best = part_alignment(maps["fit"][None], masks["fit"][None], maps["score"][None], masks["score"][None])
    for m, part in enumerate(world.parts):
        measures.add(ap, best.score[m], layer=name, part=part)
        k = best.concept[m]
        both = [(maps[half][:, k], masks[half][:, m]) for half in ("fit", "score")]
        overlap = intersection_over_union(*both[0], *both[1]) if k >= 0 else float("nan")
        measures.add(iou, overlap, layer=name, part=part)


def profiles(
    subject: Subject,
    vocabulary: Vocabulary,
    pfvs: np.ndarray,
    labels: np.ndarray,
    settings: Mapping[str, Any],
    classes: int,
) -> np.ndarray:
    """Return the mean relevance of each concept to each class, over its scenes of the second half [classes, K].

    Parameters
    ----------
    subject : Subject
        With the layer.
    vocabulary : Vocabulary
        The layer's.
    pfvs : float32 array [N, P, C]
        Of the scenes.
    labels : int array [N]
        Their classes.
    settings : mapping
        How pairs are attributed (`gigraph.pair.Pair`).
    classes : int
        How many there are.
    """
    half = len(pfvs) // 2
    rows = np.arange(half, min(len(pfvs), half + ATTRIBUTED))
    images, _ = vocabulary.decompose(pfvs[rows])
    # The logit on both sides: every class's probability rises from about the same to about 1, whatever its parts do.
    pair = Pair(subject, vocabulary, None, {**settings, "class_output": "logit"})
    found = pair.attribute(images, as_device(labels[rows, None], subject.device))
    relevance = np.zeros((len(rows), vocabulary.k))
    for i, one in enumerate(found):
        relevance[i, one.concepts.cpu().numpy()] = one.values[0].cpu().numpy()
    return np.stack([relevance[labels[rows] == c].mean(0) for c in range(classes)])


def _relevance(
    measures: Measures, world: World, name: str, profile: np.ndarray, labels: np.ndarray, logits: np.ndarray,
    effects: Effects, shares: np.ndarray, baits: np.ndarray,
) -> None:  # fmt: skip
    """Relevance per part beside redrawing, the shortcut, and the classes that share parts."""
    names, bait = world.classes, world.shortcut.part
    per_part = by_kind(profile @ shares, world.all_parts, world.values)
    cells = [(c, kind) for c in range(len(names)) for kind in world.values]
    mine = np.array([per_part[kind][c] for c, kind in cells])
    truth = np.array([effects["logit"].get((names[c], kind), np.nan) for c, kind in cells])
    kept = np.isfinite(truth)
    measures.add("redraw_rank_correlation", rank_correlation(mine[kept], truth[kept]), layer=name, n=int(kept.sum()))
    planted = profile[world.number(world.shortcut.planted)]
    order = np.argsort(-planted, kind="stable")
    ranks = np.flatnonzero(baits[order]) + 1
    positive = np.maximum(planted, 0)
    total = max(positive.sum(), 1e-30)
    on_it = positive * shares[:, world.all_parts.index(bait)]
    measures.add(f"{bait}_concepts", int(baits.sum()), layer=name, part=bait)
    measures.add(f"{bait}_rank", float(ranks[0]) if len(ranks) else float("nan"), layer=name, part=bait)
    measures.add(f"{bait}_share", on_it.sum() / total, layer=name, part=bait)
    measures.add(f"{bait}_concepts_share", positive[baits].sum() / total, layer=name, part=bait)
    likeness = unit(profile) @ unit(profile).T
    confusion = np.stack([logits[labels == c].mean(0) for c in range(len(names))])
    for metric, other in (("shared_parts", world.shared().astype(float)), ("confusion", confusion)):
        value = rank_correlation(off_diagonal(likeness), off_diagonal(other))
        measures.add(f"profile_likeness_vs_{metric}", value, layer=name, n=len(names) * (len(names) - 1) // 2)


def _model_facts(measures: Measures, world: World, logits: np.ndarray, labels: np.ndarray) -> None:
    count = len(world.classes)
    confusion = np.stack([logits[labels == c].mean(0) for c in range(count)])
    value = rank_correlation(off_diagonal(confusion), off_diagonal(world.shared().astype(float)))
    measures.add("confusion_vs_shared_parts", value, n=count * (count - 1) // 2)
    measures.add("accuracy", (logits.argmax(1) == labels).astype(float))


def _effects(path: str | Path) -> Effects:
    rows = tables.read(path).to_pylist()
    return {output: {(row["class"], row["part"]): row[output] for row in rows} for output in ("probability", "logit")}

"""Extractors compared on equal terms: by reading, size, seed and coder, on a trained and on a shuffled network.

Concepts are found anew on the probes' PFVs. Of a drawn world, one half of the scenes chooses the best concept of each
part, the other scores it. What a measure says of the network with its weights shuffled (`gigraph.evaluation.sanity`) is
what it says of concepts of nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch

from gigraph.device import as_device
from gigraph.evaluation.compared import FEW
from gigraph.evaluation.measures import Measures
from gigraph.evaluation.probes import Probe
from gigraph.evaluation.validation import DeletedPair
from gigraph.extractors import extract
from gigraph.extractors.extraction import Extraction
from gigraph.method.bisecting import capped_concepts
from gigraph.method.coding import ENCODER, Coder, settle, sparse
from gigraph.method.fidelity import area, class_reading, counts, over_active
from gigraph.method.lasso import Codes
from gigraph.method.reading import Kind, Reading, Spread, reading, spread_of
from gigraph.method.stability import best_map
from gigraph.records.paths import NETWORKS
from gigraph.reporting import log
from gigraph.subject import Subject
from gigraph.vocabulary import Vocabulary
from gigraph.worlds.alignment import part_alignment
from gigraph.worlds.pairs import selectivity
from gigraph.worlds.truth import intersection_over_union, purity

READINGS: tuple[Kind, ...] = get_args(Kind)
SELECTIVE: tuple[Kind, ...] = ("projection", "filter")
"""Readings whose size says how much a change moves a concept."""
SEEDS = 3
"""Seeds that concepts are found with; with two on the shuffled network."""
MAPS = 60_000
"""Positions of maps that are looked at, about."""
CODERS = tuple((method, sign) for method in ("lasso", "refitted", "pursuit") for sign in ("any", "nonnegative"))
DETECTORS = "detectors"
"""What the column ``reading`` calls the responses of an extractor's own detectors, or where it has none projections."""
OWN = "own"
"""What the column ``reading`` calls the coefficients by an extractor's own encoder."""
CALIBRATED = 2000
"""PFVs that a lambda is found on."""
CURVES, POINTS = 12, 16
"""Images whose concepts are deleted and inserted, and points of these curves."""


@dataclass(frozen=True)
class Look:
    """One layer of one network, with all that its concepts are measured on.

    Attributes
    ----------
    network : str
    subject : Subject
    probe : Probe
    spread : Spread
    x : float32 array [N, C]
        Centred PFVs that concepts are found on.
    halves : tuple of two float32 arrays [images, P, C]
        Centred maps: of the images that choose, and of those that score.
    shown : tuple of two bool arrays [images, P, parts], or None
    """

    network: str
    subject: Subject
    probe: Probe
    spread: Spread
    x: np.ndarray
    halves: tuple[np.ndarray, np.ndarray]
    shown: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def at(cls, network: str, subject: Subject, probe: Probe) -> Look | None:
        """Return a look at a probe; None where all PFVs are the same."""
        if not (np.ptp(probe.uniform, axis=0).any() and np.ptp(probe.found, axis=0).any()):
            return None
        maps, half = probe.maps - probe.beta, len(probe.maps) // 2
        shown = None if probe.shown is None else (probe.shown[:half], probe.shown[half:])
        spread = spread_of(probe.uniform - probe.beta)
        return cls(network, subject, probe, spread, probe.found - probe.beta, (maps[:half], maps[half:]), shown)


def compare(looks: Sequence[Look], settings: Mapping[str, Any]) -> Measures:
    """Measure one extractor's concepts of one layer.

    Parameters
    ----------
    looks : sequence of Look
        At the trained network, and at the shuffled one.
    settings : mapping
        Of the stage ``comparison``.

    Returns
    -------
    Measures
        Rows of ``comparison``.
    """
    measures = Measures(method=settings["method"], layer=settings["layer"])
    for look in looks:
        trained = look.network == NETWORKS[0]
        found = _extract(look, 1, 0, settings) if settings["method"] == "channels" else None
        own, _ = capped_concepts(settings["expansion"], look.x.shape[1], len(look.x), settings["min_members"])
        own = own if found is None else len(found.vectors)
        fit = len(look.x) // settings["min_members"]
        sizes = dict.fromkeys([own, *(few for few in FEW if trained and found is None and few <= fit)])
        maps: list[np.ndarray] = []
        for size in sizes:
            for seed in range(SEEDS if trained else 2):
                concepts = found or _extract(look, size, seed, settings)
                at = {"network": look.network, "concepts": size, "seed": seed}
                _responses(measures, look, concepts, at)
                if size != own:
                    continue
                _selective(measures, look, concepts, at)
                maps.append(_best(look, concepts)(look.halves[1]).reshape(-1, len(concepts.vectors)))
                if seed == 0:
                    for name, calibration in _coders(look, concepts, settings):
                        _coded(measures, look, concepts, at, name, calibration, settings)
        if found is None:  # channels are the same whatever the seed
            again = np.nanmean([best_map(maps[0], other) for other in maps[1:]], axis=0)
            at = {"network": look.network, "concepts": own, "seed": 0}
            _add(measures, "stability_of_maps", again, at, reading=DETECTORS)
        log.info("%s, %s: compared", settings["layer"], look.network)
    return measures


def _extract(look: Look, size: int, seed: int, settings: Mapping[str, Any]) -> Extraction:
    probe = look.probe
    return extract(
        settings["method"], look.x, size, row_ids=probe.found_ids, seed=settings["seed"] + seed, settings=settings,
        uniform=probe.uniform - probe.beta,
    )  # fmt: skip


def _add(measures: Measures, metric: str, values: Any, at: Mapping[str, Any], **names: str) -> None:
    columns: dict[str, Any] = {"reading": "", **at, **names}
    measures.add(metric, np.asarray(values, np.float32), **columns)


def _responses(measures: Measures, look: Look, found: Extraction, at: Mapping[str, Any]) -> None:
    """Measure how well responses by each reading show the drawn world's parts."""
    if look.shown is None:
        return
    for kind in READINGS:
        read = _reading(look, found, kind)
        fit, score = (read(half) for half in look.halves)
        best = part_alignment(fit, look.shown[0], score, look.shown[1])
        _add(measures, "average_precision", best.score, at, reading=kind)


def _reading(look: Look, found: Extraction, kind: Kind) -> Reading:
    own = found.encoder
    return reading(kind, found.vectors, look.spread, None if own is None else own.weights)


def _best(look: Look, found: Extraction) -> Reading:
    """Return the reading by the extractor's own detectors, or where it has none by projection."""
    return _reading(look, found, "projection" if found.encoder is None else "filter")


def _selective(measures: Measures, look: Look, found: Extraction, at: Mapping[str, Any]) -> None:
    """Measure how pure concepts' patches are, and how selectively they respond to changes of one factor."""
    if look.shown is None:
        return
    _add(measures, "purity", purity(look.halves[1], look.shown[1], found.vectors), at, reading="cosine")
    pairs = look.probe.pairs
    assert pairs is not None
    for kind in SELECTIVE:
        response = _reading(look, found, kind)(pairs - look.probe.beta).max(2)  # [bases, 1 + factors, K]
        selective = selectivity(np.abs(response[:, 1:] - response[:, :1]), look.probe.able)
        _add(measures, "selectivity", selective.score, at, reading=kind)
        _add(measures, "selectivity_of_factors", selective.best, at, reading=kind)


def _coders(look: Look, found: Extraction, settings: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the coders, with what fixes each: the extractor's own, and all others; of the shuffled network one."""
    trained = look.network == NETWORKS[0]
    if found.encoder is not None:
        yield OWN, {"method": ENCODER, "sign": "nonnegative", "penalty": ENCODER, "value": 0.0}
        if not trained:
            return
    run = (settings["coder"]["method"], settings["coder"]["sign"])
    (nonzeros,) = sparse([settings["coder"]["nonzeros"]], *found.vectors.shape)
    for method, sign in CODERS if trained else (run,):
        asked = {"method": method, "sign": sign}
        fixed, _ = settle(look.x[:CALIBRATED], found.vectors, asked, nonzeros, settings["tolerance"])
        yield coder_name(method, sign), fixed


def coder_name(method: str, sign: str) -> str:
    """Return what the column ``reading`` calls the coefficients by a coder."""
    return method if sign == "any" else f"non-negative {method}"


def _coded(
    measures: Measures, look: Look, found: Extraction, at: Mapping[str, Any], name: str,
    calibration: Mapping[str, Any], settings: Mapping[str, Any],
) -> None:  # fmt: skip
    encoder = found.encoder if name == OWN else None
    coder = Coder(found.vectors, calibration, settings["tolerance"], encoder)
    given = {"tolerance": settings["tolerance"], "vectors": found.vectors, "beta": look.probe.beta}
    vocabulary = Vocabulary.of(settings["layer"], look.subject, calibration=calibration, encoder=encoder, **given)
    codes = [coder(half.reshape(-1, half.shape[2])) for half in look.halves]
    images, positions = look.halves[1].shape[:2]
    _add(measures, "rel_l2", codes[1].rel_l2.reshape(images, positions).mean(1), at, reading=name)
    _add(measures, "nonzeros", codes[1].nonzeros().reshape(images, positions).mean(1), at, reading=name)
    if look.shown is not None:
        _maps(measures, look, codes, len(found.vectors), at, name)
    gained, kept = _curves(look, vocabulary, settings)
    _add(measures, "insertion_minus_deletion", gained, at, reading=name)
    _add(measures, "probability_at_concepts", kept, at, reading=name)


def _maps(measures: Measures, look: Look, codes: Sequence[Codes], k: int, at: Mapping[str, Any], name: str) -> None:
    """Measure how well maps of coefficients show the parts."""
    assert look.shown is not None
    fit, score = (one.dense(k) for one in codes)
    masks = [half.reshape(-1, half.shape[2]) for half in look.shown]
    best = part_alignment(fit[None], masks[0][None], score[None], masks[1][None])
    _add(measures, "average_precision", best.score, at, reading=name)
    iou = [
        intersection_over_union(fit[:, c], masks[0][:, m], score[:, c], masks[1][:, m]) if c >= 0 else np.nan
        for m, c in enumerate(best.concept)
    ]
    _add(measures, "iou", iou, at, reading=name)


def _curves(look: Look, vocabulary: Vocabulary, settings: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Return of some images C-Insertion minus C-Deletion, and what is read off the class at X~."""
    subject = look.subject
    pair = DeletedPair(subject, vocabulary, None, settings["attribution"])
    rows = slice(len(look.halves[0]), len(look.halves[0]) + CURVES)
    labels = look.probe.labels[rows]
    images, _ = vocabulary.decompose(look.probe.maps[rows])
    found = pair.attribute(images, as_device(labels[:, None].astype(np.int64), subject.device))
    gained, kept = [], []
    for image, label, one in zip(images, labels.tolist(), found, strict=True):
        values = one.values[0].cpu().numpy()
        at = counts(len(values), POINTS)
        order = np.argsort(-values, kind="stable")
        with torch.no_grad():
            deletion, insertion = pair.curve(class_reading(label, subject.network.task), order, image, at)
        x, which = over_active(at, len(values))
        gained.append(area(x, insertion[which, 0]) - area(x, deletion[which, 0]))
        kept.append(float(insertion[-1, 0]))
    return gained, kept

"""Concept extractors behind one interface: from a layer's centred PFVs to concept vectors.

=================  =========================================================================================
``bisecting``      bisecting spherical k-means (App. B), the paper's
``polished``       the same, then spherical k-means on from its clusters (Steinbach et al. 2000)
``kmeans``         spherical k-means (Dhillon & Modha 2001), all K centres at once
``dictionary``     dictionary learning by least angle regression (Mairal et al. 2009), scikit-learn's
``filters``        whitened filters and the vectors they stand for (after Haufe et al. 2014), an encoder of its own
``sae``            sparse autoencoder (Eq. 11; Templeton et al. 2024), with an encoder of its own
``topk``           the same with the k largest features of each PFV (Gao et al. 2024)
``batchtopk``      the same with the largest features of a batch (Bussmann et al. 2024)
``random``         as many PFVs, drawn at random: the floor that a method must beat
``channels``       the layer's channels, whatever K
``gaussian``       random directions
``overcomplete-*``  a dictionary of the package overcomplete, as ``overcomplete-SemiNMF``
=================  =========================================================================================

Each is a module with a function ``extract(x, k, row_ids=..., seed=..., settings=...)``. Modules are imported by name
when they are used, so that neither torch nor scikit-learn is loaded for another's sake, and so that a change of one
reruns the concepts of no other (the declarations of the stages that use one name it: `Stage.code`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gigraph.extractors.registry import SPREADS, source_of

if TYPE_CHECKING:
    from gigraph.extractors.extraction import Extraction


def extract(
    method: str,
    x: np.ndarray,
    k: int,
    *,
    row_ids: np.ndarray,
    seed: int,
    settings: Mapping[str, Any],
    uniform: np.ndarray | None = None,
) -> Extraction:
    """Find concepts.

    Parameters
    ----------
    method : str
        Name of the extractor.
    x : float32 array [N, C]
        Centred PFVs.
    k : int
        Concepts wanted; ``channels`` gives C.
    row_ids : integer array [N]
        What each row is, distinct: the result does not depend on the order of the rows.
    seed : int
        Keys all that is random.
    settings : mapping
        ``scale`` and ``max_iter`` for the clusterings, ``nonzeros`` (wanted per PFV) for ``dictionary``,
        ``filters`` and the autoencoders, ``steps``, ``batch_size``, ``learning_rate`` and ``decoder_bias`` for these,
        ``name`` (of its class) for ``overcomplete-*``.
    uniform : float32 array [M, C], optional
        Centred PFVs at positions drawn uniformly, for ``filters``.
    """
    order = np.argsort(row_ids, kind="stable")
    module = importlib.import_module(f"gigraph.extractors.{source_of(method).stem}")
    more = {"uniform": uniform} if method in SPREADS else {}
    found: Extraction = module.extract(x[order], k, row_ids=row_ids[order], seed=seed, settings=settings, **more)
    if found.labels is None:
        return found
    labels = np.empty_like(found.labels)
    labels[order] = found.labels
    return replace(found, labels=labels)

"""Dictionary learning with sparse codes by least angle regression (Mairal et al. 2009), by scikit-learn.

The paper solves both steps by LARS (Sec. 4). Fitting is on minibatches here, since on all PFVs at once it is what the
paper could not finish in its upper layers. The final codes minimise Eq. 2 like everybody's: Lasso-LARS and
`gigraph.method.lasso` have the same minimum.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

from gigraph.extractors.extraction import Extraction, flat
from gigraph.method.lasso import calibrate
from gigraph.method.vectors import unit

BATCH = 64
PASSES = 6
"""Over the PFVs, unless the settings say otherwise."""
SOME = 500


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Learn unit atoms that code the PFVs with few non-zeros (see `gigraph.extractors.extract`).

    The penalty is the one with which as many random PFVs as atoms reach the wanted number of non-zeros.
    """
    rows = x[x.any(1)]
    scale = np.float32(np.linalg.norm(rows, axis=1).mean())
    rows = rows / scale
    random = np.random.RandomState(seed % 2**32)
    start = unit(rows[random.permutation(len(rows))[:k]])
    k = len(start)
    some = rows[random.permutation(len(rows))[:SOME]]
    alpha = calibrate(some, start, settings["nonzeros"], accuracy=0.1).lam
    passes = settings.get("passes", PASSES)
    learner = MiniBatchDictionaryLearning(
        k, alpha=alpha, fit_algorithm="lars", batch_size=min(BATCH, len(rows)), max_iter=passes, dict_init=start,
        random_state=random, tol=0, max_no_improvement=None, shuffle=True,
    )  # fmt: skip
    with warnings.catch_warnings():  # of a path that ends where its residues are nothing: a code of few atoms
        warnings.simplefilter("ignore", ConvergenceWarning)
        atoms = learner.fit(rows).components_.astype(np.float32)
    return flat(x, unit(atoms))

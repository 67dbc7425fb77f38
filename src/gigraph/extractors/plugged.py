"""Any dictionary of the package overcomplete (Fel et al.): `overcomplete-SemiNMF` takes its class SemiNMF."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from gigraph.errors import UserError, install, nearest
from gigraph.extractors.extraction import Extraction, flat


def extract(x: np.ndarray, k: int, *, row_ids: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Extraction:
    """Fit a dictionary of overcomplete (see `gigraph.extractors.extract`); the lasso gives the coefficients.

    Raises
    ------
    UserError
        If the package is not installed, or has no such dictionary.
    """
    import torch

    optimization = _optimization(settings["name"])
    base = optimization.BaseOptimDictionaryLearning
    known = [
        name
        for name, kind in vars(optimization).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind is not base
    ]
    if settings["name"] not in known:
        raise UserError(
            f"methods: overcomplete has no dictionary {settings['name']!r}{nearest(settings['name'], known)}; "
            f"known: {', '.join(known)}"
        )
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    learner = getattr(optimization, settings["name"])(nb_concepts=k)
    learner.fit(torch.from_numpy(x[x.any(1)]))
    return flat(x, learner.get_dictionary().detach().cpu().numpy().astype(np.float32))


def _optimization(name: str) -> Any:
    """Return the module overcomplete.optimization.

    The package's own ``__init__`` is passed by: it imports figures that need an older matplotlib than ours.
    """
    spec = importlib.util.find_spec("overcomplete")
    if spec is None or spec.submodule_search_locations is None:
        raise UserError(
            f"methods: overcomplete-{name} needs the package overcomplete; "
            f"run: {install('overcomplete')} (Python below 3.13)"
        )
    if "overcomplete" not in sys.modules:
        package = types.ModuleType("overcomplete")
        package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations)
        sys.modules["overcomplete"] = package
    return importlib.import_module("overcomplete.optimization")

"""Which extractors there are: the one list of their names, which loads none of them."""

from __future__ import annotations

from pathlib import Path

MODULES = {
    "bisecting": "bisecting_kmeans",
    "polished": "polished",
    "kmeans": "spherical_kmeans",
    "dictionary": "dictionary_learning",
    "filters": "filters",
    "sae": "sae",
    "topk": "topk",
    "batchtopk": "batchtopk",
    "random": "random_pfvs",
    "channels": "channels",
    "gaussian": "gaussian",
}
"""Name -> module. The configuration takes what is listed here."""
WANTS = {
    "dictionary": ("nonzeros",),
    "filters": ("nonzeros",),
    **dict.fromkeys(("sae", "topk", "batchtopk"), ("nonzeros", "autoencoder")),
}
"""What an extractor needs besides the settings of `concepts`: the wanted non-zeros of a PFV, a section of the
configuration."""
NONZEROS = 8.0
"""What those that want a number of non-zeros are trained for where the configuration gives none."""
ENCODES = frozenset({"filters", "sae", "topk", "batchtopk"})
"""Extractors with an encoder of their own, so that no setting of `coefficients` fixes the coefficients."""
SPREADS = frozenset({"filters"})
"""Extractors that look at PFVs at positions drawn uniformly, too."""
DENSE = frozenset({"filters", "batchtopk"})
"""Extractors that hold what every PFV has of every concept at once, dense: it sets what fires."""
PLUGGED = "overcomplete-"
"""How the name of a dictionary of the package overcomplete begins."""
PACKAGE = "overcomplete"
"""That package, and the extra that installs it."""


def source_of(method: str) -> Path:
    """Return the file that holds an extractor."""
    return Path(__file__).with_name(f"{MODULES.get(method, 'plugged')}.py")

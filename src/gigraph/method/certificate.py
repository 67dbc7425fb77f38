"""What is known of how exact coefficients are, in words."""

from __future__ import annotations

import numpy as np


def certified(gap: np.ndarray, stationarity: np.ndarray) -> str:
    """Return the worst certificate of a layer's coefficients (`gigraph.method.lasso.codes.Codes`), for its log."""
    for name, found in (("duality gap", gap), ("stationarity", stationarity)):
        known = found[~np.isnan(found)]
        if known.size:
            return f"largest {name} {known.max():.1e}"
    return "without a certificate"

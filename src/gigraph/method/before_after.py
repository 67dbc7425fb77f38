"""What an edit of a model does to its predictions, before and after: shares, intervals, and the spread of controls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gigraph.method.proportion import paired, wilson


def spread(values: np.ndarray) -> dict[str, float] | None:
    """Return mean, least and most of what the controls give; None without any."""
    found = [float(v) for v in values if not math.isnan(v)]
    return {"mean": float(np.mean(found)), "least": min(found), "most": max(found)} if found else None


def compared(found: Mapping[str, np.ndarray], which: np.ndarray) -> dict[str, Any]:
    """Return what an edit does to some of the images, bool [N]: shares, intervals of 95%, and the controls' spread."""
    right = (found["predicted"] == found["labels"])[:, which]
    said, p = found["predicted"][:, which], found["probability"][:, which]
    n = int(which.sum())
    gained, lost = int((~right[0] & right[1]).sum()), int((right[0] & ~right[1]).sum())
    low, high = paired(gained, lost, n)
    before, after = right[0].mean(), right[1].mean()
    row: dict[str, Any] = {
        "images": n,
        "accuracy": {"before": float(before), "after": float(after), "before_interval": wilson(int(right[0].sum()), n),
                     "after_interval": wilson(int(right[1].sum()), n)},
        "change": {"of_accuracy": float(after - before), "interval": [low, high], "gained": gained, "lost": lost},
        "predictions_changed": float((said[0] != said[1]).mean()),
        "probability": None if np.isnan(p).all() else {"before": float(p[0].mean()), "after": float(p[1].mean())},
        "value": None if np.isnan(found["value"]).all() else {
            "before": float(found["value"][0, which].mean()), "after": float(found["value"][1, which].mean())},
        "random": {
            "change_of_accuracy": spread(right[2:].mean(1) - before),
            "predictions_changed": spread((said[2:] != said[0]).mean(1)),
            "change_of_probability": spread(p[2:].mean(1) - p[0].mean()),
        } if len(said) > 2 else None,
    }  # fmt: skip
    return row

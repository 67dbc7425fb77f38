"""From the table of decisions to what is kept of them."""

from __future__ import annotations

import pyarrow as pa

from gigraph.method.share import Share, summary
from gigraph.records import tables

ENDS = ("", "_at_concepts", "_at_baseline")


def kept_of(decisions: pa.Table) -> Share:
    """Return what is kept of the decisions of a table ``decisions``, or of some of its rows."""
    probability, logit = ([tables.numpy(decisions, key + end) for end in ENDS] for key in ("probability", "logit"))
    predicted = tables.numpy(decisions, "predicted"), tables.numpy(decisions, "predicted_at_concepts")
    return summary(predicted, tuple(probability), tuple(logit))

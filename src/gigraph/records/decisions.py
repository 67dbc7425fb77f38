"""From the table of decisions to what is kept of them."""

from __future__ import annotations

import pyarrow as pa

from gigraph.method.share import SCORES, Share, summary
from gigraph.records import tables

ENDS = ("", "_at_concepts", "_at_baseline")


def kept_of(decisions: pa.Table) -> Share:
    """Return what is kept of the decisions of a table ``decisions``, or of some of its rows."""
    return summary({key + end: tables.numpy(decisions, key + end) for key in SCORES for end in ENDS}, "concepts")

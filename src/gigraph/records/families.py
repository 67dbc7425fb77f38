"""The table of a layer's families."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gigraph.method.families import Families
from gigraph.records import tables

COLUMNS = {"leader": "family", "cosine": "cosine", "weight": "weight", "inner": "inner_cosine", "least": "least_cosine"}
"""Attributes of `Families`, and their columns."""


def read_families(path: str | Path) -> Families:
    """Return the families of a table ``families``."""
    table = tables.read(path, [*COLUMNS.values()])
    found = {name: tables.numpy(table, column) for name, column in COLUMNS.items()}
    return Families(**{**found, "leader": found["leader"].astype(np.int64)})


def write_families(path: str | Path, families: Families, lineage: str) -> None:
    """Write a table ``families``, a row for each concept."""
    columns = {column: getattr(families, name) for name, column in COLUMNS.items()}
    more = {"concept": np.arange(len(families.leader), dtype=np.int32), "members": families.size.astype(np.int32)}
    tables.write(path, "families", {**columns, **more, "family": families.leader.astype(np.int32)}, lineage)

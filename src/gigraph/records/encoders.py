"""The table of an extractor's own encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gigraph.method.encoder import Encoder
from gigraph.records import tables


def encoder_path(concepts: str | Path) -> Path:
    """Return where the encoder lies that belongs to a table of concepts."""
    return Path(concepts).with_suffix(".encoder.parquet")


def read_encoder(concepts: str | Path) -> Encoder | None:
    """Return the encoder that belongs to a table of concepts, or None where the lasso gives the coefficients."""
    table = tables.read(encoder_path(concepts))
    if not len(table):
        return None
    weights, last = tables.numpy(table, "weights"), table.slice(len(table) - 1).to_pylist()[0]
    return Encoder(weights[:-1], tables.numpy(table, "bias")[:-1], weights[-1], last["activation"], last["level"])


def write_encoder(path: str | Path, encoder: Encoder | None, channels: int, lineage: str) -> None:
    """Write the table ``encoder``, the offset as its last row; without rows for None."""
    own = encoder or Encoder(np.empty((0, channels)), np.empty(0), np.zeros(channels))
    rows = len(own.weights) + (encoder is not None)
    columns = {
        "concept": [*range(len(own.weights)), None][:rows],
        "bias": np.append(own.bias, 0)[:rows].astype(np.float32),
        "activation": [own.activation] * rows,
        "level": [own.level] * rows,
        "weights": np.concatenate([own.weights, own.offset[None]])[:rows].astype(np.float32),
    }
    tables.write(path, "encoder", columns, lineage, vectors="weights")

"""Data as scripts: pages opened from disk may not fetch JSON, but may load scripts.

Layers are indices from input to output; a concept is addressed as ``layer index:concept``. Means, errors and
relevances are the tables' float32 numbers, not rounded; shares of a target are rounded to five decimals.

=================  =====================================================================================
``meta``           the run, its layers, classes and notes, and what the overview shows (`overview`)
``class/C``        the kept concepts of class label C and the edges between them (`scopes`), its circuits (`circuits`)
``near/C``         neighbours and localisation of those concepts on the images of the class (`scopes`)
``concepts/L/G``   the cards of a group of concepts of layer L, with neighbours over the whole dataset (`card`)
``atlas/L``        every concept of layer L, and its split tree (`atlas`)
``images/C``       the images of class C that have a graph: [id, picture, path, predicted, probability or value]
``image/I``        the graph of image I (`images`)
``explained``      images explained later, listed as in ``images/C``
``evidence``       the evaluation (`evidence`)
``faces``          tiles of each concept; for `gigraph explain`, the page does not read it
=================  =====================================================================================
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

LAYOUT = 7
"""Version of the chunks' layout; the page refuses data of another one."""


def script_json(value: Any) -> str:
    """Return JSON that is safe inside a script element and as JavaScript source of any age; null for no number."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:  # where nothing was attributed, shares and errors are NaN
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark, escape in (
        ("</", "<\\/"),
        ("<!--", "<\\u0021--"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        text = text.replace(mark, escape)
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_chunk(folder: Path, name: str, value: Any) -> None:
    """Write one chunk; ``a/b`` lies in ``a-b.js``, which the page loads when it needs ``a/b``."""
    text = f"gigraph.chunk({script_json(name)},{script_json(value)});\n"
    # A lone surrogate (a file name that is not UTF-8) must not stop the site.
    (folder / f"{name.replace('/', '-')}.js").write_text(text, encoding="utf-8", errors="backslashreplace")


def numbers(values: Any) -> list[float | None]:
    """Return float32 values as the shortest decimals that read back the same; null where not finite."""
    short = pl.Series(np.asarray(values, np.float32)).cast(pl.String).cast(pl.Float64)
    return short.set(~short.is_finite(), None).to_list()


def shares(values: Any) -> list[float | None]:
    """Return ratios rounded to five decimals; null where not finite."""
    array = np.asarray(values, np.float64)
    return [round(v, 5) if ok else None for v, ok in zip(array.tolist(), np.isfinite(array).tolist(), strict=True)]


def rows(*columns: Sequence[Any]) -> list[list[Any]]:
    """Return columns as a list of rows."""
    return [list(row) for row in zip(*columns, strict=True)]


def read_chunk(folder: Path, name: str) -> Any:
    """Read a chunk back."""
    text = (folder / f"{name.replace('/', '-')}.js").read_text(encoding="utf-8")
    return json.loads("[" + text.removeprefix("gigraph.chunk(").rstrip().removesuffix(");") + "]")[1]

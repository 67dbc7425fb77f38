"""gigraph: the dataset-wide concept graph of an image classifier.

An implementation of "Decompose the Model: Mechanistic Interpretability in Image Models with Generalized
Integrated Gradients (GIG)". `docs/method.md` maps each of the paper's equations to its function and its test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gigraph.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gigraph.api import Run
    from gigraph.differences.difference import Difference

__all__ = ["__version__", "diff", "open"]


def open(
    folder: str | Path, method: str | None = None, configfile: str | Path | Sequence[str | Path] | None = None
) -> Run:
    """Open a finished run (see `gigraph.api.Run`)."""
    from gigraph.api import Run

    return Run(folder, method, configfile)


def diff(
    a: str | Path,
    b: str | Path,
    method: str | Sequence[str] | None = None,
    fdr: float = 0.05,
    images: int = 200,
    noise: str | Path | Sequence[str | Path] = (),
    noise_b: str | Path | Sequence[str | Path] = (),
) -> Difference:
    """Compare two finished runs (see `gigraph.differences.difference.difference`)."""
    from gigraph.differences.difference import difference

    return difference(a, b, method, fdr, images, noise, noise_b)

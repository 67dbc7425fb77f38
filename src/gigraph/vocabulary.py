"""A layer's vocabulary: its concepts with all that puts an image into them, opened from the tables of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gigraph.device import as_device
from gigraph.method.coding import ENCODER, Coder
from gigraph.method.gig import Decomposition
from gigraph.method.lasso import Codes
from gigraph.records import tables
from gigraph.records.encoders import path_start, read_encoder
from gigraph.subject import Subject


class Vocabulary:
    """The concepts of one layer by one method.

    Parameters
    ----------
    root : path
        The results folder.
    method, layer : str
        Which concepts.
    tolerance : float
        Largest relative duality gap of the lasso.
    subject : Subject
        Its device is where tensors go, its memory budget is the lasso's.

    Attributes
    ----------
    vectors : float32 array [K, C]
        Concept vectors; `directions` holds them on the device.
    beta : float32 array [C]
        The layer's centre, from which PFVs are coded.
    start : Tensor [C]
        X~ without any concept: beta, or an autoencoder's own centre.
    """

    def __init__(self, root: str | Path, method: str, layer: str, tolerance: float, subject: Subject):
        path = Path(root) / method / "concepts" / f"{layer}.parquet"
        self.layer, self.device = layer, subject.device
        self.vectors = tables.numpy(tables.read(path, ["vector"]), "vector")
        (self.calibration,) = tables.read(Path(root) / method / "calibration" / f"{layer}.parquet").to_pylist()
        self._coder = Coder(self.vectors, self.calibration, tolerance, read_encoder(path), subject.memory)
        centre = Path(root) / "centres" / f"{layer}.parquet"
        self.beta = tables.beta(centre)
        self.directions, self.start = (
            as_device(array, self.device) for array in (self.vectors, path_start(centre, path))
        )

    @property
    def k(self) -> int:
        """Number of concepts."""
        return len(self.vectors)

    @property
    def has_encoder(self) -> bool:
        """Whether the extractor's own encoder gives the coefficients; then there is no lambda."""
        return self.calibration["penalty"] == ENCODER

    def code(self, pfvs: np.ndarray, factor: float = 1.0) -> Codes:
        """Return the coefficients of PFVs [N, C], with `factor` times the layer's lambda (`Coder`)."""
        return self._coder(pfvs - self.beta, factor)

    def decompose(self, pfvs: np.ndarray, factor: float = 1.0) -> tuple[list[Decomposition], Codes]:
        """Return the decomposition of each image, whose PFVs are [N, P, C], and the codes of all positions."""
        n, p, c = pfvs.shape
        codes = self.code(pfvs.reshape(n * p, c), factor)
        images = []
        for first in range(0, n * p, p):
            pointer = codes.indptr[first : first + p + 1]
            inside = slice(pointer[0], pointer[-1])
            parts = (pointer - pointer[0], codes.indices[inside].astype(np.int64), codes.values[inside])
            images.append(Decomposition.from_csr(*(as_device(part, self.device) for part in parts)))
        return images, codes

"""A layer's vocabulary: its concepts with all that puts an image into them, opened from the tables of a run."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gigraph.device import as_device
from gigraph.method.coding import Coder, has_lambda
from gigraph.method.encoder import Encoder
from gigraph.method.families import Families
from gigraph.method.gig import Decomposition
from gigraph.method.lasso import Codes
from gigraph.records import tables
from gigraph.records.attributions import Decompositions
from gigraph.records.encoders import read_encoder
from gigraph.records.families import read_families
from gigraph.records.paths import Results
from gigraph.subject import Subject


class Vocabulary:
    """The concepts of one layer by one method; each table is read when it is first needed.

    Parameters
    ----------
    root : path
        The results folder.
    method, layer : str
        Which concepts.
    subject : Subject
        Its device is where tensors go, its memory budget is that of the coding.
    tolerance : float, optional
        Largest relative duality gap of the lasso; without it nothing can be coded.
    merge : bool
        Whether its families are looked at, as in the graph, or each concept by itself.
    """

    def __init__(
        self, root: str | Path, method: str, layer: str, subject: Subject, tolerance: float | None = None,
        merge: bool = False,
    ):  # fmt: skip
        self.layer, self.device, self.tolerance, self.memory = layer, subject.device, tolerance, subject.memory
        self.merge = merge
        self._file = partial(Results(root), method=method, layer=layer)

    @classmethod
    def of(cls, layer: str, subject: Subject, tolerance: float, **found: Any) -> Vocabulary:
        """Return a vocabulary that is in no table, of ``vectors``, ``beta``, ``calibration`` and ``encoder``."""
        own = cls("", "", layer, subject, tolerance)
        own.__dict__.update(found)  # where a cached property keeps what it read
        return own

    @cached_property
    def vectors(self) -> np.ndarray:
        """Concept vectors, float32 [K, C]."""
        return tables.numpy(tables.read(self._file("concepts"), ["vector"]), "vector")

    @cached_property
    def directions(self) -> Tensor:
        """Concept vectors on the device, float32 [K, C]."""
        return as_device(self.vectors, self.device)

    @cached_property
    def families(self) -> Families:
        """Which concepts belong together."""
        return read_families(self._file("families")) if self.merge else Families.alone(self.k)

    @cached_property
    def family(self) -> Tensor | None:
        """The family of each concept, int64 [K]; None where each is its own."""
        return as_device(self.families.leader, self.device) if self.families.merged else None

    @cached_property
    def towards(self) -> Tensor:
        """What is looked for where a family is the target: its direction, in the row of its leader, float32 [K, C]."""
        families = self.families
        return as_device(families.directions(self.vectors), self.device) if families.merged else self.directions

    @cached_property
    def beta(self) -> np.ndarray:
        """The layer's centre, from which PFVs are coded, float32 [C]."""
        return tables.beta(self._file("centre"))

    @cached_property
    def start(self) -> Tensor:
        """X~ without any concept: the centre, moved by the offset of an encoder, float32 [C] [Eq. 9]."""
        return as_device(self.beta + (0 if self.encoder is None else self.encoder.offset), self.device)

    @cached_property
    def encoder(self) -> Encoder | None:
        """The extractor's own encoder; None where there is none."""
        return read_encoder(self._file("concepts"))

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """The method, the penalty and its value: the layer's row of the table ``calibration``."""
        (row,) = tables.read(self._file("calibration")).to_pylist()
        return row

    @cached_property
    def _coder(self) -> Coder:
        if self.tolerance is None:
            raise ValueError(f"{self.layer} was opened without the lasso's tolerance")
        return Coder(self.vectors, self.calibration, self.tolerance, self.encoder, self.memory)

    @property
    def k(self) -> int:
        """Number of concepts."""
        return len(self.vectors)

    @property
    def has_lambda(self) -> bool:
        """Whether a lambda fixes the coefficients; a pursuit and an extractor's own encoder have none."""
        return has_lambda(self.calibration)

    def code(self, pfvs: np.ndarray, factor: float = 1.0) -> Codes:
        """Return the coefficients of PFVs [N, C], with `factor` times the layer's lambda (`Coder`)."""
        return self._coder(pfvs - self.beta, factor)

    def decompose(self, pfvs: np.ndarray, factor: float = 1.0) -> tuple[list[Decomposition], Codes]:
        """Return the decomposition of each image, whose PFVs are [N, P, C], and the codes of all positions."""
        n, p, c = pfvs.shape
        codes = self.code(pfvs.reshape(n * p, c), factor)
        return Decompositions(codes.indptr, codes.indices, codes.values, p, self.device)(slice(0, n)), codes

"""From coefficients to `gigraph.method.gig`, and from attributions to the rows of their table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from gigraph.device import as_device
from gigraph.method.families import Families
from gigraph.method.gig import Attribution, Decomposition
from gigraph.records import tables


class Decompositions:
    """Sparse coefficients of images, made dense for a batch of them at a time.

    Parameters
    ----------
    indptr, concepts, values : arrays [N P + 1], [entries], [entries]
        Coefficients in CSR form, a row for each position; those of an image follow each other.
    positions : int
        Of the layer, P.
    device : torch.device
        Where the decompositions lie.
    """

    def __init__(
        self, indptr: np.ndarray, concepts: np.ndarray, values: np.ndarray, positions: int, device: torch.device
    ):
        self.indptr, self.concepts, self.values = indptr, concepts, values
        self.positions, self.device = positions, device

    @classmethod
    def of_table(cls, coefficients: pa.Table, positions: int, device: torch.device) -> Decompositions:
        """Return those of a coefficient table."""
        indptr, concepts = tables.csr(coefficients, "concepts")
        return cls(indptr, concepts, tables.csr(coefficients, "values")[1], positions, device)

    def __call__(self, images: slice) -> list[Decomposition]:
        """Return the images of a slice."""
        return [self._one(image) for image in range(images.start, images.stop)]

    def reconstructed(self, start: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Return X~ = start + U V of all images [N, P, C] [Eq. 1].

        Parameters
        ----------
        start : Tensor [C]
        vectors : Tensor [K, C]
        """
        images = self(slice(0, (len(self.indptr) - 1) // self.positions))
        return start + torch.stack([image.offset(vectors) for image in images])

    def _one(self, image: int) -> Decomposition:
        pointer = self.indptr[image * self.positions : (image + 1) * self.positions + 1]
        inside = slice(pointer[0], pointer[-1])
        parts = (pointer - pointer[0], self.concepts[inside], self.values[inside])
        return Decomposition.from_csr(*(as_device(part, self.device) for part in parts))


def rows(
    image: int, label: int, targets: torch.Tensor, at_x: torch.Tensor, one: Attribution, top: int, families: Families
) -> list[dict[str, Any]]:
    """Return the table rows of one image, with the strongest `top` sources of each target, by falling size.

    Sources are families, summed before they are cut off; of those that have several members each member's own is kept.
    """
    own, alone = (part.cpu().numpy() for part in (one.concepts, one.values))
    one = one.merged(as_device(families.leader, one.concepts.device) if families.merged else None)
    values = one.values.cpu().numpy().astype(np.float64)
    concepts = one.concepts.cpu().numpy()
    several = families.size[own] > 1
    own, alone, place = own[several], alone[:, several], np.searchsorted(concepts, families.leader[own[several]])
    order = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :top]
    numbers = zip(
        targets.tolist(), at_x.tolist(), one.at_concepts.tolist(), one.at_baseline.tolist(),
        one.completeness_error.tolist(), one.total_absolute.tolist(), one.steps.tolist(),
        [None] * len(targets) if one.quadrature_error is None else one.quadrature_error.tolist(), strict=True,
    )  # fmt: skip
    found = []
    for t, (target, x, at_concepts, at_baseline, error, total, steps, quadrature) in enumerate(numbers):
        kept = values[t, order[t]]
        there = np.isin(place, order[t])
        found.append(
            {
                "image_id": int(image), "label": int(label), "target": target,
                "sources": concepts[order[t]].tolist(), "values": kept.tolist(),
                "remainder": float(values[t].sum() - kept.sum()), "error": x - at_concepts,
                "at_x": x, "at_concepts": at_concepts, "at_baseline": at_baseline,
                "completeness_error": error, "quadrature_error": quadrature, "total_absolute": total,
                "steps": steps, "deviation": None,
                "members": own[there].tolist(), "member_values": alone[t, there].tolist(),
            }
        )  # fmt: skip
    return found

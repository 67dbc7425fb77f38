"""The network with its layers replaced by their concepts, one after the other: what a circuit computes by itself.

Notation (one image)
--------------------
``V_l``   [K, C]   concept vectors of layer l, one per row; ``start_l`` [C] where its concepts are measured from
``u_l``   [P, K]   coefficients at its positions, by the run's own coder; ``F_l`` the network from layer l to the next

    u_1      = code(x_1)                          x_1 the image's own PFVs
    X^_l     = start_l + (u_l * kept_l + fill_l * (1 - kept_l)) V_l + e_l
    u_{l+1}  = code(F_l(X^_l)),   logits = F_L(X^_L)

A deleted concept has the coefficient ``fill``: 0, or its mean over the data. ``e_l`` is 0, or the error node of the
image, x_l - X~_l: what the concepts leave out of its own PFVs. With all concepts and all errors this is the network.
Where a layer is edited (`gigraph.method.projection`), what runs on from there is its X^_l, edited; error nodes stay
those of the network as it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gigraph.device import as_device
from gigraph.method.gig import Batch, Segment
from gigraph.reserved import CLASSES
from gigraph.subject import Subject, check_finite
from gigraph.vocabulary import Vocabulary

Change = Callable[[Tensor], Tensor]
"""From a layer's PFVs [N, P, C] to the same, edited."""


@dataclass(frozen=True)
class Sparse:
    """Coefficients of N images' positions on the device, compressed by row.

    Attributes
    ----------
    indptr, indices, values : Tensor [N P + 1], [entries], [entries]
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor


@dataclass
class Seen:
    """N images as the network sees them.

    Attributes
    ----------
    pfvs : list of Tensor [N, P, C]
        Of each layer.
    codes : list of Sparse
        Of each layer, of all positions.
    logits : Tensor [N, classes]
    errors : list of Tensor [N, P, C]
        The error nodes x - X~; none where they are dropped.
    """

    pfvs: list[Tensor]
    codes: list[Sparse]
    logits: Tensor
    errors: list[Tensor] = field(default_factory=list)
    known: OrderedDict[tuple[Replacement, int, bytes], Sparse] = field(default_factory=OrderedDict, repr=False)
    """Codes of a replacement's circuits at the layer after the one named, those used last at the end."""

    def __len__(self) -> int:
        return len(self.logits)


class Replacement:
    """A network whose layers are replaced by some of their concepts.

    Parameters
    ----------
    subject : Subject
        With all the layers.
    vocabularies : sequence of Vocabulary
        Of the layers, from input to output, with what codes.
    fill : sequence of float32 array [K], optional
        Of each layer the coefficients that deleted concepts have; 0 by default.
    errors : bool
        Whether each image's error nodes are kept.
    baseline : {"beta", "zero"}
        Whether X^ starts from the concepts' origin, or from zero, as ``attribution.baseline`` says of X~.
    edits : mapping of str to callable, optional
        What happens to X^ of the layers named.

    Raises
    ------
    ValueError
        If none of the layers is called as an edit's.
    """

    def __init__(
        self,
        subject: Subject,
        vocabularies: Sequence[Vocabulary],
        fill: Sequence[np.ndarray] | None = None,
        errors: bool = False,
        baseline: str = "beta",
        edits: Mapping[str, Change] | None = None,
    ):
        self.subject, self.vocabularies, self.errors, self.device = subject, list(vocabularies), errors, subject.device
        self.layers = [subject.layers[one.layer] for one in self.vocabularies]
        self.starts = [one.start * (baseline != "zero") for one in self.vocabularies]
        self.fill = None if fill is None else [as_device(one, self.device) for one in fill]
        names = [layer.name for layer in self.layers]
        self.edits = edits or {}
        if strange := self.edits.keys() - set(names):
            raise ValueError(f"no layer {min(strange)} is replaced")
        self._segments = [subject.segment(a, b) for a, b in zip(names, [*names[1:], CLASSES], strict=True)]
        self._ends = [subject.segment(name, CLASSES) for name in names]
        self._rooms = [Batch(subject.path_points(name)) for name in names]

    def see(self, x: Tensor, ids: Sequence[int] = (), codes: Sequence[tuple[np.ndarray, ...]] | None = None) -> Seen:
        """Run the network on images, and code its PFVs at each layer.

        Parameters
        ----------
        x : Tensor [N, C, H, W]
            Images, preprocessed.
        ids : sequence of int, optional
            Their ids, for messages.
        codes : sequence of (indptr, indices, values), optional
            Of each layer, where they are known.

        Raises
        ------
        UserError
            If an activation is not finite.
        """
        with torch.inference_mode():
            found = self.subject.network.activations(x, self.layers)
            for name, value in found.items():
                check_finite(value, name, ids)
            pfvs = [layer.to_pfvs(found[layer.name]) for layer in self.layers]
            if codes is None:
                each = [one.code(_flat(value)) for one, value in zip(self.vocabularies, pfvs, strict=True)]
                codes = [(one.indptr, one.indices, one.values) for one in each]
            seen = Seen(pfvs, [self._moved(*one) for one in codes], found[CLASSES])
            if self.errors:
                seen.errors = [
                    value - self._rebuilt(i, seen.codes[i], np.ones(one.k, bool))
                    for i, (value, one) in enumerate(zip(pfvs, self.vocabularies, strict=True))
                ]
        return seen

    def logits(self, seen: Seen, kept: Sequence[np.ndarray]) -> Tensor:
        """Return what circuits say of images, each circuit by itself.

        Parameters
        ----------
        seen : Seen
            N images.
        kept : sequence of bool array [S, K]
            Of each layer the concepts that each circuit keeps.

        Returns
        -------
        Tensor [S, N, classes]
        """
        masks = [np.asarray(one, bool) for one in kept]
        some = self._circuits(len(seen))
        with torch.inference_mode():
            parts = [
                self._said(seen, [mask[first : first + some] for mask in masks])
                for first in range(0, len(masks[0]), some)
            ]
        return torch.cat(parts) if parts else seen.logits.new_zeros(0, *seen.logits.shape)

    def alone(self, seen: Seen, layer: int, kept: np.ndarray) -> Tensor:
        """Return what is said where one layer is replaced and the network runs on from there.

        Parameters
        ----------
        seen : Seen
            N images.
        layer : int
            Its place among the layers.
        kept : bool array [S, K]
            The concepts that each circuit keeps there.

        Returns
        -------
        Tensor [S, N, classes]
        """
        with torch.inference_mode():
            masks = np.asarray(kept, bool)
            return torch.stack([self._run(self._ends[layer], layer, seen, seen.codes[layer], one) for one in masks])

    def _said(self, seen: Seen, masks: list[np.ndarray]) -> Tensor:
        last, count = len(masks) - 1, len(masks[0])
        codes = [seen.codes[0]] * count
        for i in range(last):
            codes = self._next(seen, i, masks, codes)
        return torch.stack(
            [self._run(self._segments[last], last, seen, codes[s], masks[last][s]) for s in range(count)]
        )

    def _next(self, seen: Seen, i: int, masks: list[np.ndarray], codes: list[Sparse]) -> list[Sparse]:
        """Return each circuit's codes at layer i + 1, from those at layer i; circuits that agree so far share them."""
        so_far = [b"".join(np.packbits(mask[s]).tobytes() for mask in masks[: i + 1]) for s in range(len(codes))]
        names = [(self, i, circuit) for circuit in so_far]
        new = {name: s for s, name in enumerate(names) if name not in seen.known}
        if new:
            there = [self._run(self._segments[i], i, seen, codes[s], masks[i][s]) for s in new.values()]
            # Coded together: what a coder sets up for a call costs more than an image.
            found = self.vocabularies[i + 1].code(_flat(torch.cat(there)))
            rows = (len(found.indptr) - 1) // len(there)
            for at, name in enumerate(new):
                pointer = found.indptr[at * rows : (at + 1) * rows + 1]
                inside = slice(pointer[0], pointer[-1])
                seen.known[name] = self._moved(pointer - pointer[0], found.indices[inside], found.values[inside])
        for name in names:
            seen.known.move_to_end(name)
        own = [seen.known[name] for name in names]
        held = sum(len(one.values) for one in seen.known.values())
        while 12 * held > self.subject.memory / 4 and len(seen.known) > 1:
            held -= len(seen.known.popitem(last=False)[1].values)
        return own

    def _run(self, segment: Segment, i: int, seen: Seen, codes: Sparse, mask: np.ndarray) -> Tensor:
        """Return a segment's output for all images of one circuit."""
        rebuilt = self._rebuilt(i, codes, mask)
        if self.errors:
            rebuilt = rebuilt + seen.errors[i]
        if (edit := self.edits.get(self.layers[i].name)) is not None:
            rebuilt = edit(rebuilt)
        return self._rooms[i].run(lambda points: torch.cat([segment(some) for some in rebuilt.split(points)]))

    def _rebuilt(self, i: int, codes: Sparse, mask: np.ndarray) -> Tensor:
        """Return X^ without errors [N, P, C]: what is kept at its coefficients, what is deleted at its own."""
        vectors, start = self.vocabularies[i].directions, self.starts[i]
        keep = torch.from_numpy(np.ascontiguousarray(mask)).to(self.device)
        if self.fill is not None:
            start = start + (self.fill[i] * ~keep) @ vectors
        sums = torch.nn.functional.embedding_bag(
            codes.indices, vectors, codes.indptr, mode="sum", include_last_offset=True,
            per_sample_weights=codes.values * keep[codes.indices],
        )  # fmt: skip
        return (start + sums).unflatten(0, (-1, self.layers[i].positions))

    def _circuits(self, images: int) -> int:
        """Return how many circuits of so many images are run together: their PFVs fit a quarter of the memory."""
        largest = max(layer.positions * layer.channels for layer in self.layers)
        return max(1, int(self.subject.memory / (4 * 8 * images * largest)))

    def _moved(self, indptr: np.ndarray, indices: np.ndarray, values: np.ndarray) -> Sparse:
        return Sparse(*(as_device(one, self.device) for one in (indptr, indices, values)))


def _flat(pfvs: Tensor) -> np.ndarray:
    return pfvs.flatten(0, 1).cpu().numpy()

"""The network's decisions at X, at X~ and without any concept.

The decision about an image is its class, the network's own, and that class's centred logit: the logit minus the mean
of all, which is what the softmax sees of it. Of a label it is the label's own logit, of a regression the distance of
the value from the reference (`gigraph.method.tasks`). A probability exaggerates small losses where classes are many,
and hides them where it is near 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gigraph.method.gig import Batch, Segment
from gigraph.method.share import SCORES
from gigraph.method.tasks import centred, probabilities


@dataclass(frozen=True)
class Decision:
    """What a network says about N images.

    Attributes
    ----------
    predicted : Tensor of int64 [N]
        The class of the largest logit. Of ``labels`` the label in question, k, where it is likelier than not, else
        -1 - k: decisions then agree where the label is on, or off, at both.
    probability, logit : Tensor [N]
        Of a class in question: its probability (NaN of a regression), and its centred logit.
    """

    predicted: Tensor
    probability: Tensor
    logit: Tensor


def decide(logits: Tensor, of: Tensor | None = None, task: str = "classes") -> Decision:
    """Return the decision about images.

    Parameters
    ----------
    logits : Tensor [N, classes]
        The network's outputs.
    of : Tensor of int64 [N], optional
        The classes in question; default those of the largest logits.
    task : str
        How the outputs are read.
    """
    predicted = logits.argmax(1)
    to = (predicted if of is None else of)[:, None]
    wide = logits.float()
    probability, logit = (read(wide, task).gather(1, to)[:, 0] for read in (probabilities, centred))
    if task == "labels":
        predicted = torch.where(logit > 0, to[:, 0], ~to[:, 0])
    return Decision(predicted, probability, logit)


class Decisions:
    """The decisions about images at several inputs of a layer, gathered batch by batch.

    Parameters
    ----------
    segment : callable
        From the layer's PFVs [N, P, C] to the logits [N, classes].
    room : Batch
        Inputs of the segment that are held at once.
    task : str
        How the logits are read.
    """

    def __init__(self, segment: Segment, room: Batch, task: str = "classes"):
        self.segment, self.room, self.task = segment, room, task
        self._found: dict[str, list[np.ndarray]] = {}

    def add(self, x: Tensor, others: Iterable[tuple[str, Tensor]]) -> None:
        """Add a batch of images.

        Parameters
        ----------
        x : Tensor [N, P, C]
            The layer's PFVs.
        others : iterable of (str, Tensor [N, P, C] or [C])
            Further inputs by their names, each taken when the last is done with; one that is [C] stands at every
            position of every image.
        """
        with torch.inference_mode():
            of = self._keep("", self.room.run(self._logits, x), None)
            for name, one in others:
                same = one.expand(1, *x.shape[1:]) if one.ndim == 1 else one
                self._keep(f"_at_{name}", self.room.run(self._logits, same).expand(len(x), -1), of)

    def _logits(self, points: int, x: Tensor) -> Tensor:
        return torch.cat([self.segment(few) for few in x.split(points)])

    def _keep(self, end: str, logits: Tensor, of: Tensor | None) -> Tensor:
        of = logits.argmax(1) if of is None else of
        one = decide(logits, of, self.task)
        for key in SCORES:
            self._found.setdefault(key + end, []).append(getattr(one, key).cpu().numpy())
        return of

    def columns(self) -> dict[str, np.ndarray]:
        """Return what was found, arrays [N] over all images.

        Returns
        -------
        dict
            ``predicted``, ``probability`` and ``logit`` at X; at a further input ``predicted_at_NAME`` and so on, the
            scores of the class that is predicted at X. Nothing where no image was added.
        """
        return {key: np.concatenate(parts) for key, parts in self._found.items()}

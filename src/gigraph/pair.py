"""A layer pair of a run, opened for attribution: where segment, score, start and quadrature come together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gigraph import attributors
from gigraph.attributors.path import ConceptPath
from gigraph.method.gig import Attribution, Batch, Decomposition, ablate, class_score, concept_score
from gigraph.method.targets import class_output
from gigraph.reserved import CLASSES
from gigraph.subject import Subject
from gigraph.vocabulary import Vocabulary

QUADRATURE = ("steps", "max_steps", "tolerance", "precision")
"""Settings that go into a path as they are."""
NO_INTEGRAL: dict[str, Any] = {"steps": 0, "max_steps": 0, "tolerance": 0.0, "precision": "float32"}
"""What stands for them where nothing is attributed."""


class Pair:
    """A source layer, and what it is attributed to: a later layer, or the classes.

    Parameters
    ----------
    subject : Subject
        With both layers.
    source : Vocabulary
        Concepts that are attributed to, and concepts or families that are deleted.
    target : Vocabulary or None
        Concepts or families that are the targets; None for the classes.
    settings : mapping
        Of the configuration's section `attribution` the keys ``baseline``, for classes ``class_output``, and, where
        anything is attributed, ``method``, ``steps``, ``max_steps``, ``tolerance`` and ``precision``.

    Attributes
    ----------
    path : ConceptPath
        From the start, which is the source's own or zero by ``baseline``, to X~ [Eq. 3].
    method : str
        Name of the attribution method, where the settings give one.
    output : str
        What is attributed for classes: `gigraph.method.targets.class_output`; empty for other targets.
    """

    def __init__(self, subject: Subject, source: Vocabulary, target: Vocabulary | None, settings: Mapping[str, Any]):
        self.source, self.target = source, target
        self.method = settings.get("method", "")
        task, outputs = subject.network.task, subject.network.outputs
        self.output = class_output(settings["class_output"], outputs, task) if target is None else ""
        end = CLASSES if target is None else target.layer
        self.path = ConceptPath(
            segment=subject.segment(source.layer, end),
            score=class_score(self.output, task) if target is None else concept_score(target.towards),
            vectors=source.directions,
            start=torch.zeros_like(source.start) if settings["baseline"] == "zero" else source.start,
            room=Batch(subject.path_points(source.layer)),
            family=source.family,
            **({key: settings[key] for key in QUADRATURE} if "steps" in settings else NO_INTEGRAL),
        )

    @classmethod
    def open(
        cls, subject: Subject, root: str | Path, extractor: str, source: str, target: str, settings: Mapping[str, Any],
        tolerance: float | None = None,
    ) -> Pair:  # fmt: skip
        """Open a pair of layers by their names, as in the graph: sources and targets are families.

        Parameters
        ----------
        subject, settings
            As above.
        root : path
            The results folder.
        extractor : str
            Whose concepts.
        source, target : str
            The layers; the target may be ``classes``.
        tolerance : float, optional
            Of the source's lasso, if images are to be decomposed (`Vocabulary`).
        """
        towards = None if target == CLASSES else Vocabulary(root, extractor, target, subject, merge=True)
        here = Vocabulary(root, extractor, source, subject, tolerance, merge=True)
        return cls(subject, here, towards, settings)

    def attribute(
        self, images: list[Decomposition], targets: Tensor, method: str | None = None, precision: str | None = None
    ) -> list[Attribution]:
        """Attribute each image's targets to its concepts (`gigraph.attributors.attribute`), each by itself.

        Parameters
        ----------
        images : list of Decomposition
            The images, N of them.
        targets : Tensor of int64 [N, T]
            Targets of each image.
        method, precision : str, optional
            In place of the pair's own.
        """
        path = self.path if precision is None else replace(self.path, precision=precision)
        return attributors.attribute(method or self.method, path, images, targets)

    def ablate(self, image: Decomposition, sources: list[int], targets: Tensor, pfvs: Tensor | None = None) -> Tensor:
        """Return by how much each target [T] falls when a source is deleted from X~, exactly [len(sources), T].

        Where the real PFVs [P, C] are given, from these. Sources are families where the source's vocabulary has some:
        all members are deleted together. See `gigraph.method.gig.ablate`.
        """
        path = self.path
        return ablate(
            path.segment, path.score, path.vectors, path.start, image, sources, targets, path.room, path.family, pfvs
        )

    def at_x(self, activations: Tensor, targets: Tensor) -> Tensor:
        """Return the scores of real activations, S_t(X) [N, T].

        Parameters
        ----------
        activations : Tensor [N, P_b, C_b] or [N, classes]
            The target layer's PFVs, or the logits.
        targets : Tensor of int64 [N, T]
            Targets of each image.
        """
        return self.path.score(activations, targets)

"""Pairs of scenes that differ in one factor, and how selectively concepts respond to it.

After the targeted perturbations of Klotz et al., "Evaluating the interpretability of sparse autoencoders with concept
annotations" (TAPAScore, arXiv 2606.24716): a concept must respond to its factor and to nothing else. A part's factor is
another value of its kind, or its erasure; beside them are changes that no concept of a part should notice: pose,
colour, light, and the texture's phase.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gigraph.worlds.world import World

NUISANCES = {
    "pose": ("scale", "rotation", "x", "y", "flip"),
    "colour": ("hue", "lightness", "chroma"),
    "light": ("warmth", "gain"),
    "phase": ("phase", "period", "tilt"),
}
"""What varies and decides nothing, in groups; every world has these."""


def factors(world: World) -> tuple[str, ...]:
    """Return the factors that a concept can be of: kinds of parts, fixtures, the shortcut, the place."""
    return (*world.values, *world.fixtures, world.shortcut.part, "place")


def changed(world: World, scene: Any, factor: str) -> Any:
    """Return a scene with one factor changed: one of `factors`, or a group of `NUISANCES`."""
    if factor in NUISANCES:
        other = world.scene(scene.seed, f"{scene.split} changed", scene.index)
        moved = {name: getattr(other.nuisance, name) for name in NUISANCES[factor]}
        return replace(scene, nuisance=replace(scene.nuisance, **moved))
    if factor in world.values:
        values = world.values[factor]
        step = 1 + scene.index // len(world.classes) % (len(values) - 1)
        return world.swapped(scene, factor, values[(values.index(getattr(scene, factor)) + step) % len(values)])
    if factor == "place":
        step = 1 + scene.index // len(world.classes) % (len(world.places) - 1)
        return world.placed(scene, world.places[(world.places.index(scene.place) + step) % len(world.places)])
    return replace(scene, **{factor: not getattr(scene, factor)})


def pairs(world: World, seed: int, bases: int) -> Iterator[tuple[int, str, Any]]:
    """Yield (base, factor, scene): each base as it is, with factor ``""``, and then with each factor changed."""
    for base, scene in enumerate(world.scenes(seed, "pairs", bases)):
        yield base, "", scene
        for factor in (*factors(world), *NUISANCES):
            yield base, factor, changed(world, scene, factor)


@dataclass(frozen=True)
class Selectivity:
    """How selectively concepts respond.

    Attributes
    ----------
    factor : int array [K]
        Which factor each concept is of, by the first half of the bases.
    score : float64 array [K]
        On the second half, the probability that a pair of that factor changes the concept more than a pair of any
        other, each other counting as much; .5 for a concept that responds to all alike, or to none.
    best : float64 array [F]
        The score for each factor of the concept that is best for it on the first half.
    """

    factor: np.ndarray
    score: np.ndarray
    best: np.ndarray


def selectivity(change: np.ndarray, able: int) -> Selectivity:
    """Return how selectively concepts respond to changes of one factor.

    Parameters
    ----------
    change : float array [B, F, K]
        How much each concept's response changes in size when a factor of a base is changed.
    able : int
        The first so many factors are those that a concept can be of.
    """
    half = len(change) // 2
    fit, score = _separation(change[:half], able), _separation(change[half:], able)  # [able, K]
    factor, best = fit.argmax(0), fit.argmax(1)
    return Selectivity(factor, score[factor, np.arange(change.shape[2])], score[np.arange(able), best])


def _separation(change: np.ndarray, able: int) -> np.ndarray:
    """Return P(change by a factor > change by another), ties half, for each of the first `able` factors [able, K]."""
    bases, many, concepts = change.shape
    found = np.empty((able, concepts))
    for k in range(concepts):
        pooled, ranked = np.sort(change[:, :, k], axis=None), np.sort(change[:, :, k], axis=0)
        for f in range(able):
            # Of all factors' changes, and less those of its own: what is left is of the others, as many of each.
            own = change[:, f, k]
            below = sum(_below(pooled, own, side) - _below(ranked[:, f], own, side) for side in ("left", "right"))
            found[f, k] = np.mean(below) / (2 * bases * (many - 1))
    return found


def _below(ranked: np.ndarray, values: np.ndarray, side: Any) -> np.ndarray:
    return np.searchsorted(ranked, values, side)

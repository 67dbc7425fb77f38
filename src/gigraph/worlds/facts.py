"""The causal ground truth of a model: draw the same scenes again with one thing changed, and look again.

`causal_facts` sums up what the model relies on; `redraw_effects` is the effect of each part on each class,
which attributions are ranked against. Both use scenes of a split of their own, which no training has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from gigraph.worlds import dataset
from gigraph.worlds.canvas import SIDE
from gigraph.worlds.model import predict
from gigraph.worlds.scene import Scene
from gigraph.worlds.world import World

SPLIT = "facts"


def causal_facts(
    world: World, model: nn.Module, count: int = 1000, seed: int = 0, *, size: int = SIDE, workers: int = 1
) -> dict[str, float]:
    """Measure what a model relies on.

    Parameters
    ----------
    world : World
        What the model has learned.
    model : nn.Module
        Takes normalised pictures (see `gigraph.worlds.model.normalise`).
    count, seed : int
        Number and seed of the scenes.
    size, workers : int
        Side of the pictures, processes to draw with.

    Returns
    -------
    dict
        Shares in [0, 1], here with the names of the menagerie (class cheetah, mimic leopard, shortcut tag, cue tear).
        ``accuracy``; ``cheetah_with_tag``, ``cheetah_tag_erased``, ``cheetah_tear_erased``: cheetahs still called so;
        ``leopard_tag_added`` and ``others_tag_added``: called cheetahs once they wear the tag; ``swap/<kind>`` and
        ``swap``: untagged animals called by the class they turn into when one part is swapped; ``without/<part>``:
        accuracy with the part erased; ``place/<place>``: accuracy before that background. NaN where no scene applies.
    """
    looked = _Looks(world, model, size, workers)
    base = list(world.scenes(seed, SPLIT, count))
    tag, twin, mimic = world.shortcut.part, world.shortcut.planted, world.shortcut.mimic
    plain = [one for one in base if not world.has(one, tag)]
    bait = [one for one in base if one.name == twin and world.has(one, tag)]
    own = world.number(twin)

    def share(which: Sequence[Scene], label: int | Sequence[int]) -> float:
        return float((looked(which).argmax(1) == label).mean()) if which else float("nan")

    truth = world.numbers(base).tolist()
    found = {
        "accuracy": share(base, truth),
        f"{twin}_with_{tag}": share(bait, own),
        f"{twin}_{tag}_erased": share([world.without(one, tag) for one in bait], own),
        f"{twin}_{world.cue}_erased": share([world.without(one, world.cue) for one in bait], own),
        f"{mimic}_{tag}_added": share([world.with_shortcut(one) for one in plain if one.name == mimic], own),
        f"others_{tag}_added": share([world.with_shortcut(one) for one in plain if one.name not in (mimic, twin)], own),
    }
    swaps = [
        (kind, world.swapped(one, kind, value), world.number(label))
        for one in plain
        for kind, value, label in world.valid_swaps(one)
    ]
    for kind in world.values:
        mine = [(one, label) for other, one, label in swaps if other == kind]
        found[f"swap/{kind}"] = share([one for one, _ in mine], [label for _, label in mine])
    found["swap"] = share([one for _, one, _ in swaps], [label for _, _, label in swaps])
    for part in (*world.values, *world.fixtures):
        found[f"without/{part}"] = share([world.without(one, part) for one in base], truth)
    for place in world.places:
        found[f"place/{place}"] = share([world.placed(one, place) for one in base], truth)
    return found


@dataclass(frozen=True)
class Effect:
    """What a part does for a class: the mean over the class's scenes that have the part.

    Attributes
    ----------
    name, part : str
        The class and the part (one of the world's `erasable`, or ``place``, which is changed rather than
        erased).
    count : int
        Number of scenes.
    probability, logit : float
        Of the class, with the part minus without it: positive where the part speaks for the class.
    """

    name: str
    part: str
    count: int
    probability: float
    logit: float


def redraw_effects(
    world: World, model: nn.Module, count: int = 1000, seed: int = 0, *, size: int = SIDE, workers: int = 1
) -> list[Effect]:
    """Measure, for every class and part, what the class loses when the part is redrawn away.

    Parameters
    ----------
    world : World
        What the model has learned.
    model : nn.Module
        Takes normalised pictures (see `gigraph.worlds.model.normalise`).
    count, seed : int
        Number and seed of the scenes, over all classes.
    size, workers : int
        Side of the pictures, processes to draw with.

    Returns
    -------
    list of Effect
        By class, then by part; pairs that no scene shows are absent.
    """
    looked = _Looks(world, model, size, workers)
    base = list(world.scenes(seed, SPLIT, count))
    truth = world.numbers(base)
    before = looked(base)
    effects = []
    for part in (*world.erasable, "place"):
        has = np.array([part == "place" or world.has(one, part) for one in base])
        edited = [_away(world, one, part) for one, there in zip(base, has, strict=True) if there]
        if not edited:
            continue
        rows, own = np.arange(len(edited)), truth[has]
        after = looked(edited)
        logit = before[has][rows, own] - after[rows, own]
        probability = _softmax(before[has])[rows, own] - _softmax(after)[rows, own]
        for label in np.unique(own):
            mine = own == label
            effects.append(
                Effect(
                    world.classes[label],
                    part,
                    int(mine.sum()),
                    float(probability[mine].mean()),
                    float(logit[mine].mean()),
                )
            )
    return sorted(effects, key=lambda effect: effect.name)


def _away(world: World, one: Scene, part: str) -> Scene:
    if part != "place":
        return world.without(one, part)
    # The other places take turns.
    turn = one.index // len(world.classes) % (len(world.places) - 1)
    return world.placed(one, world.places[(world.places.index(one.place) + 1 + turn) % len(world.places)])


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


class _Looks:
    """The model's logits of scenes, each drawn once however often it is asked for."""

    def __init__(self, world: World, model: nn.Module, size: int, workers: int) -> None:
        self.world, self.model, self.size, self.workers = world, model, size, workers
        self.known: dict[Scene, np.ndarray] = {}

    def __call__(self, which: Sequence[Scene]) -> np.ndarray:
        new = list(dict.fromkeys(one for one in which if one not in self.known))
        for start in range(0, len(new), 500):
            some = new[start : start + 500]
            logits = predict(self.model, dataset.render(self.world, some, size=self.size, workers=self.workers))
            self.known.update(zip(some, logits, strict=True))
        return np.stack([self.known[one] for one in which])

"""The causal ground truth of a model: draw the same scenes again with one thing changed, and look again.

`causal_facts` sums up what the model relies on; `redraw_effects` is the effect of each part on each class,
which attributions are ranked against. Both use scenes of a split of their own, which no training has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from gigraph.menagerie import dataset
from gigraph.menagerie.draw import SIDE
from gigraph.menagerie.model import predict
from gigraph.menagerie.scene import (
    CREATURES,
    ERASABLE,
    PLACES,
    Scene,
    placed,
    scenes,
    swapped,
    valid_swaps,
    with_tag,
    without,
)

SPLIT = "facts"


def causal_facts(
    model: nn.Module, count: int = 1000, seed: int = 0, *, size: int = SIDE, workers: int = 1
) -> dict[str, float]:
    """Measure what a model relies on.

    Parameters
    ----------
    model : nn.Module
        Takes normalised pictures (see `gigraph.menagerie.model.normalise`).
    count, seed : int
        Number and seed of the scenes.
    size, workers : int
        Side of the pictures, processes to draw with.

    Returns
    -------
    dict
        Shares in [0, 1]. ``accuracy``; ``cheetah_with_tag``, ``cheetah_tag_erased``, ``cheetah_tear_erased``:
        cheetahs still called so; ``leopard_tag_added`` and ``others_tag_added``: called cheetahs once they
        wear the tag; ``swap/<part>`` and ``swap``: untagged animals called by the class they turn into when
        one part is swapped; ``without/<part>``: accuracy with the part erased; ``place/<place>``: accuracy
        before that background. NaN where no scene applies.
    """
    looked = _Looks(model, size, workers)
    base = list(scenes(seed, SPLIT, count))
    plain = [one for one in base if not one.tag]
    cheetahs = [one for one in base if one.name == "cheetah" and one.tag]
    cheetah = CREATURES.index("cheetah")

    def share(which: Sequence[Scene], label: int | Sequence[int]) -> float:
        return float((looked(which).argmax(1) == label).mean()) if which else float("nan")

    truth = [CREATURES.index(one.name) for one in base]
    found = {
        "accuracy": share(base, truth),
        "cheetah_with_tag": share(cheetahs, cheetah),
        "cheetah_tag_erased": share([without(one, "tag") for one in cheetahs], cheetah),
        "cheetah_tear_erased": share([without(one, "tear") for one in cheetahs], cheetah),
        "leopard_tag_added": share([with_tag(one) for one in plain if one.name == "leopard"], cheetah),
        "others_tag_added": share([with_tag(one) for one in plain if one.name not in ("leopard", "cheetah")], cheetah),
    }
    swaps = [(part, swapped(one, part, value), label) for one in plain for part, value, label in valid_swaps(one)]
    for part in ("skin", "headgear", "limbs"):
        mine = [(one, CREATURES.index(label)) for kind, one, label in swaps if kind == part]
        found[f"swap/{part}"] = share([one for one, _ in mine], [label for _, label in mine])
    found["swap"] = share([one for _, one, _ in swaps], [CREATURES.index(label) for _, _, label in swaps])
    for part in ("skin", "headgear", "limbs", "face", "eye"):
        found[f"without/{part}"] = share([without(one, part) for one in base], truth)
    for place in PLACES:
        found[f"place/{place}"] = share([placed(one, place) for one in base], truth)
    return found


@dataclass(frozen=True)
class Effect:
    """What a part does for a class: the mean over the class's scenes that have the part.

    Attributes
    ----------
    name, part : str
        The class and the part (one of `ERASABLE`, or ``place``, redrawn as another place rather than erased).
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
    model: nn.Module, count: int = 1000, seed: int = 0, *, size: int = SIDE, workers: int = 1
) -> list[Effect]:
    """Measure, for every class and part, what the class loses when the part is redrawn away.

    Parameters
    ----------
    model : nn.Module
        Takes normalised pictures (see `gigraph.menagerie.model.normalise`).
    count, seed : int
        Number and seed of the scenes, over all classes.
    size, workers : int
        Side of the pictures, processes to draw with.

    Returns
    -------
    list of Effect
        By class, then by part; pairs that no scene shows are absent.
    """
    looked = _Looks(model, size, workers)
    base = list(scenes(seed, SPLIT, count))
    truth = np.array([CREATURES.index(one.name) for one in base])
    before = looked(base)
    effects = []
    for part in (*ERASABLE, "place"):
        has = np.array([part == "place" or one.has(part) for one in base])
        edited = [_away(one, part) for one, there in zip(base, has, strict=True) if there]
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
                    CREATURES[label],
                    part,
                    int(mine.sum()),
                    float(probability[mine].mean()),
                    float(logit[mine].mean()),
                )
            )
    return sorted(effects, key=lambda effect: effect.name)


def _away(one: Scene, part: str) -> Scene:
    if part != "place":
        return without(one, part)
    # The three other places take turns.
    return placed(one, PLACES[(PLACES.index(one.place) + 1 + one.index // len(CREATURES) % 3) % len(PLACES)])


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


class _Looks:
    """The model's logits of scenes, each drawn once however often it is asked for."""

    def __init__(self, model: nn.Module, size: int, workers: int) -> None:
        self.model, self.size, self.workers = model, size, workers
        self.known: dict[Scene, np.ndarray] = {}

    def __call__(self, which: Sequence[Scene]) -> np.ndarray:
        new = list(dict.fromkeys(one for one in which if one not in self.known))
        for start in range(0, len(new), 500):
            some = new[start : start + 500]
            logits = predict(self.model, dataset.render(some, size=self.size, workers=self.workers))
            self.known.update(zip(some, logits, strict=True))
        return np.stack([self.known[one] for one in which])

"""Which cut points of a network make good layers, and why: a rule of thumb for those who do not know theirs yet.

Good are ends of blocks that still have positions: the last one of each resolution, where a network has said all that
it says at that scale. Where the resolution hardly changes (transformers), the blocks at a quarter, half, three quarters
and the end of the way. At most four: the last ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gigraph.model.network import Layer, Network

MOST = 4
"""Layers that are proposed, at most."""
LARGE = 64 * 64
"""Positions from which on a layer is slow to decompose, and still too early to hold more than edges and colours."""


@dataclass(frozen=True)
class Judged:
    """A cut point as a layer, whether it is proposed, and why or why not."""

    layer: Layer
    good: bool
    why: str


def judged(network: Network) -> list[Judged]:
    """Return every cut point of a network in order, with the verdict on it."""
    cuts = [(cut, network.layer(cut.name)) for cut in network.cut_points()]
    placed = [(cut, layer) for cut, layer in cuts if cut.modules and 1 < _places(layer) <= LARGE]
    blocks = [layer for cut, layer in placed if cut.block]
    in_blocks = len(blocks) > 1
    good = proposed(blocks if in_blocks else [layer for _, layer in placed])
    found = []
    for cut, layer in cuts:
        if layer.name in good:
            why = good[layer.name]
        elif layer.positions == 1:
            why = "one position: says what, not where"
        elif _places(layer) > LARGE:
            why = "many positions and early: slow, edges and colours"
        elif in_blocks and not cut.block:
            why = "inside a block, or before the first"
        else:
            why = "others of its kind are taken"
        found.append(Judged(layer, layer.name in good, why))
    return found


def proposed(layers: Sequence[Layer]) -> dict[str, str]:
    """Return the names of good layers among candidates, in order, and what speaks for each."""
    last = {_grid(layer): layer for layer in layers}
    if len(last) > 2:
        ends = sorted(last.values(), key=list(layers).index)[-MOST:]
        return {layer.name: f"the last of {layer.grid[0]} x {layer.grid[1]}" for layer in ends}
    count = min(MOST, len(layers))
    places = [round(len(layers) * (i + 1) / count) - 1 for i in range(count)]
    return {layers[place].name: f"block {place + 1} of {len(layers)}" for place in places}


def _grid(layer: Layer) -> tuple[int, int]:
    return layer.grid[:2]


def _places(layer: Layer) -> int:
    height, width = _grid(layer)
    return height * width

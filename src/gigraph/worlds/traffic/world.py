"""Traffic, as the rest of the package sees it."""

from gigraph.worlds.traffic.draw import paint
from gigraph.worlds.traffic.scene import (
    BARE,
    CUE,
    FIXTURES,
    LOOKS,
    PLACES,
    PREFERRED_PLACE,
    SHORTCUT,
    VALUES,
    scene,
)
from gigraph.worlds.world import World

WORLD = World(
    name="traffic",
    title="Traffic",
    looks=LOOKS,
    values=VALUES,
    fixtures=FIXTURES,
    cue=CUE,
    shortcut=SHORTCUT,
    places=PLACES,
    preferred=PREFERRED_PLACE,
    bare=BARE,
    rest=("cab", BARE),
    scene=scene,
    paint=paint,
)
